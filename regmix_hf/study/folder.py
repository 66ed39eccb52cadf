"""The folder of one study: where each stage writes, and what has been finished with which inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from regmix_hf.errors import StudyError
from regmix_hf.files import hash_file, hash_value, read_record, write_json
from regmix_hf.mixtures.final import final_names
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.outcome import decisive, decisive_but_name, decisive_in_0_1
from regmix_hf.study import names
from regmix_hf.study.reported import Reported

#: Stages of a swarm of one's own: a study that takes its runs from others does without them.
SWARM_VERBS = ("sample", "proxies")
#: Files up to this size, in bytes, are known by their content.
_HASHED_BYTES = 1 << 24
#: How markers of today say what decides; those of version 0.1 have no such number.
_RULES = 2


class State(StrEnum):
    """How far a stage is."""

    MISSING = "missing"
    #: Started, not finished: what is done is kept.
    PARTIAL = "partial"
    #: Finished, but with other inputs than the recipe and the files now say.
    STALE = "stale"
    DONE = "done"


@dataclass(frozen=True)
class Stage:
    """What one stage reads and writes. Everything it reads that is not named here must not change numbers.

    Attributes:
        verb: The command, e.g. `sample`.
        folder: Its folder under `output_dir`.
        keys: The recipe's keys it reads, e.g. `("seed", "sampling")`; a dot reaches into a section.
        inputs: Files of earlier stages it reads, relative to `output_dir`.
        outputs: Files it must have written, relative to its folder, before it counts as finished; what a
            pattern with `*` matches is only held to what it was.
        outside: Names and hashes of what it reads outside the study, where there is such a thing.
        outside_as_0_1: The same as version 0.1 noted it, where that was something else.
    """

    verb: str
    folder: str
    keys: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    outside: Callable[[Recipe], Mapping[str, str]] | None = None
    outside_as_0_1: Callable[[Recipe], Mapping[str, str]] | None = None


@dataclass(frozen=True)
class Standing:
    """How far a stage is, seen together with the stages before it.

    Attributes:
        state: Stale also where the stage itself is done, but one whose files it reads is not.
        changes: Recipe keys and files that changed since it finished, where it is stale itself.
        after: Verbs of the stages whose files it reads and that may yet change.
        lost: Files that it wrote when it finished and that are gone or others now.
    """

    state: State
    changes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why it is stale, in words; empty where it is not."""
        parts = [f"{', '.join(self.changes)} changed"] if self.changes else []
        parts += [f"it depends on {', '.join(self.after)}"] if self.after else []
        parts += [f"{', '.join(self.lost)} is not what was written"] if self.lost else []
        return " and ".join(parts)


@dataclass(frozen=True)
class Study(Reported):
    """A recipe and the folder that holds everything it produced."""

    recipe: Recipe

    @property
    def root(self) -> Path:
        """The recipe's `output_dir`."""
        return self.recipe.output_dir

    @property
    def corpus(self) -> Path:
        """Blocks of every domain, and `corpus.json`, which counts and names them."""
        return self.root / names.CORPUS

    @property
    def mixtures(self) -> Path:
        """Table of the sampled mixtures."""
        return self.root / names.MIXTURES / names.MIXTURES_TABLE

    @property
    def proxies(self) -> Path:
        """One folder per proxy run, `results.parquet` and `trajectories.parquet`."""
        return self.root / names.PROXIES

    @property
    def regression(self) -> Path:
        """Fitted regressors and their quality on unseen runs."""
        return self.root / names.REGRESSION

    @property
    def mixture(self) -> Path:
        """The chosen mixture."""
        return self.root / names.MIXTURE / names.CHOSEN_MIXTURE

    @property
    def models(self) -> Path:
        """One folder per final model."""
        return self.root / names.MODELS

    @property
    def evaluation(self) -> Path:
        """Losses and scores of the final models."""
        return self.root / names.EVALUATION

    @property
    def final_mixtures(self) -> list[str]:
        """Names of the mixtures that final models are trained on, in the recipe's order.

        Raises:
            StudyError: Held-out mixtures are among them, and none are sampled yet.
        """
        return final_names(self.recipe, self.mixtures)

    @property
    def is_pulled(self) -> bool:
        """Whether it was fetched from the Hub: then it may lack what is too large, or not for others."""
        return (self.root / names.PULLED).exists()

    def open(self) -> None:
        """Create the folder, or check that it belongs to this recipe.

        Raises:
            StudyError: Another recipe made the folder.
        """
        self.check_owner()
        self.sign()

    def sign(self) -> None:
        """Write in the folder whose it is: the recipe's name, and what else of it decides anything."""
        write_json(self._owner, {"name": self.recipe.name, "identity": self._identity})

    @property
    def _owner(self) -> Path:
        return self.root / names.OWNER

    @property
    def _identity(self) -> str:
        """Hash of all of the recipe that decides a number: equal for a study that only has another name."""
        return hash_value(decisive_but_name(self.recipe))

    @property
    def _holds_stages(self) -> bool:
        """Whether a study is here that has lost its `study.json`: its markers say what it is of."""
        return any(self.root.glob("[1-7]-*/.*.json"))

    def check_owner(self) -> None:
        """Check that the folder belongs to this recipe, or is not there yet.

        Raises:
            StudyError: Another recipe made the folder, it holds other things, or it is a file.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StudyError(f"output_dir {self.root} is a file.", "give the recipe another output_dir")
        if self._owner.exists():
            owner = read_record(self._owner, name=str)
            if self.recipe.name != owner["name"] and self._identity != owner.get("identity"):
                raise StudyError(
                    f"{self.root} was made by the recipe {owner['name']!r}, not by {self.recipe.name!r}.",
                    "give this recipe another output_dir, or remove the folder. To give the study another "
                    "name, change nothing else in its recipe at the same time",
                )
        elif self.root.exists() and any(self.root.iterdir()) and not self._holds_stages:
            raise StudyError(
                f"{self.root} is not empty and holds no study.", "give the recipe another output_dir"
            )

    def state(self, stage: Stage) -> State:
        """Tell how far `stage` is, from its marker, its outputs and its inputs."""
        folder = self.root / stage.folder
        marker = self.marker(stage)
        if not marker.exists():
            return State.PARTIAL if folder.exists() and any(folder.iterdir()) else State.MISSING
        written = self._marker_of(stage)
        if written is None or self.damaged(stage):
            return State.PARTIAL
        return State.STALE if self.changes(stage) else State.DONE

    def standings(self, stages: Sequence[Stage]) -> dict[str, Standing]:
        """Tell by verb how far each of these stages is, which come in the order in which they run.

        A stage whose own inputs are those it finished with is stale all the same where one before it is not
        done: what that gives when it is done again may be something else.
        """
        found: dict[str, Standing] = {}
        for stage in stages:
            folders = {name.split("/")[0] for name in stage.inputs}
            before = [one for one in stages if one.verb in found and one.folder in folders]
            after = tuple(one.verb for one in before if self._may_change(one, found[one.verb]))
            state = self.state(stage)
            changes = tuple(self.changes(stage)) if state is State.STALE else ()
            if after and state is State.DONE:
                state = State.STALE
            after = after if state is State.STALE else ()
            found[stage.verb] = Standing(state, changes, after, self._lost(stage, state))
        return found

    def _lost(self, stage: Stage, state: State) -> tuple[str, ...]:
        if state is not State.PARTIAL or self.is_pulled or not self.marker(stage).exists():
            return ()
        return tuple(self.damaged(stage))

    def _may_change(self, stage: Stage, standing: Standing) -> bool:
        """Whether a stage may yet give something else than it has.

        One that finished and lost a file since writes the same again. In a study that was pulled a file that
        was not brought along moves nothing; what has changed does. One that takes its runs from others has no
        swarm of its own to wait for.
        """
        if standing.state is State.DONE or (self.recipe.runs and stage.verb in SWARM_VERBS):
            return False
        if standing.state is State.PARTIAL and self.marker(stage).exists():
            return False
        if not self.is_pulled or standing.after:
            return True
        return any(name not in stage.inputs or (self.root / name).exists() for name in standing.changes)

    def changes(self, stage: Stage) -> list[str]:
        """Name the recipe keys and input files that are not what they were when `stage` finished.

        A file that the marker does not name was not read by the version that wrote it, so it changed nothing.
        """
        marker = self._marker_of(stage) or {"fingerprint": {}}
        rule = decisive if marker.get("rules") == _RULES else decisive_in_0_1
        before, now = marker["fingerprint"], self._fingerprint(stage, rule)
        known = (before.keys() | now.keys()) - (set(stage.inputs) - before.keys())
        return sorted(name for name in known if before.get(name) != now.get(name))

    def keys_changed(self, stage: Stage, marker: Mapping[str, Any]) -> list[str]:
        """Name the recipe keys that are not what they were when a marker was written, here or elsewhere."""
        rule = decisive if marker.get("rules") == _RULES else decisive_in_0_1
        before = marker["fingerprint"]
        return [key for key in stage.keys if before.get(key) != hash_value(rule(self.recipe, key))]

    def seen_from_here(self, stage: Stage, marker: Mapping[str, Any]) -> dict[str, str | None]:
        """What a marker from elsewhere says, without the text that was read there and is not here."""
        rule = decisive if marker.get("rules") == _RULES else decisive_in_0_1
        now, before = self._fingerprint(stage, rule), marker["fingerprint"]
        return {name: before.get(name, value) for name, value in now.items()}

    def finish(self, stage: Stage, facts: Mapping[str, Any] | None = None) -> None:
        """Write the marker of `stage`: from now on it is done with the inputs of this moment."""
        fingerprint = self._fingerprint(stage, decisive)
        marker = {"rules": _RULES, "fingerprint": fingerprint, **(facts or {})}
        write_json(self.marker(stage), {**marker, "outputs": self.written(stage)})

    def add_to(self, stage: Stage) -> None:
        """Note that a finished stage's files are what they are now: a later one has added rows to them."""
        if (marker := self._marker_of(stage) if self.marker(stage).exists() else None) is not None:
            write_json(self.marker(stage), {**marker, "outputs": self.written(stage)})

    def written(self, stage: Stage) -> dict[str, str]:
        """What tells each file that `stage` wrote from any other, by its name; of a folder, each file in it.

        That is the hash of what it holds, and of large files their size and when they were written.
        """
        folder = self.root / stage.folder
        found: dict[str, str] = {}
        for output in stage.outputs:
            for path in sorted(folder.glob(output)):
                files = sorted(path.rglob("*")) if path.is_dir() else [path]
                found |= {str(one.relative_to(folder)): _stamp(one) for one in files if one.is_file()}
        return found

    def damaged(self, stage: Stage) -> list[str]:
        """Name the files that a finished stage wrote and that are gone or not what it wrote any more.

        Version 0.1 did not say what was written; of its studies only what is gone is found.
        """
        folder = self.root / stage.folder
        gone = [name for name in stage.outputs if "*" not in name and not (folder / name).exists()]
        before = (self._marker_of(stage) or {}).get("outputs", {})
        if gone or not isinstance(before, dict):
            return gone
        now = self.written(stage)
        return [name for name, digest in before.items() if now.get(name) != digest]

    def _marker_of(self, stage: Stage) -> dict[str, Any] | None:
        """What the marker says; `None` where it is damaged: doing the stage again writes it anew."""
        try:
            return read_record(self.marker(stage), fingerprint=dict)
        except StudyError:
            return None

    def _fingerprint(self, stage: Stage, rule: Callable[[Recipe, str], Any]) -> dict[str, str | None]:
        """Hash every recipe key and input file that `stage` reads, by name; a missing file is `None`."""
        keys = {key: hash_value(rule(self.recipe, key)) for key in stage.keys}
        files = {
            name: hash_file(path) if (path := self.root / name).exists() else None for name in stage.inputs
        }
        outside = (rule is decisive_in_0_1 and stage.outside_as_0_1) or stage.outside
        return {**keys, **files, **(outside(self.recipe) if outside else {})}

    def require(self, path: Path, verb: str) -> Path:
        """Return `path`, or say which stage writes it.

        Raises:
            StudyError: The file is not there yet.
        """
        if not path.exists():
            raise StudyError(f"{path} is not there yet.", f"run `regmix {verb}` first")
        return path

    def marker(self, stage: Stage) -> Path:
        """The file that says with which inputs `stage` finished."""
        return self.root / stage.folder / f".{stage.verb}.json"


def _stamp(file: Path) -> str:
    status = file.stat()
    if status.st_size <= _HASHED_BYTES:
        return hash_file(file)
    return f"{status.st_size} bytes of {status.st_mtime_ns}"
