"""Rebuild a study's folder from its repositories, so that `fit`, `choose` and `report` go on from there."""

from __future__ import annotations

import io
import math
import re
import shutil
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from regmix_hf.errors import HubError, RecipeError, RegmixError, StudyError, UnreachableError, did_you_mean
from regmix_hf.files import hash_value, read_json, read_parquet, write_json, write_parquet, write_text
from regmix_hf.hub import Expected, Hub, Reference, Repository, Snapshot, fetch
from regmix_hf.jobs.claims import claim
from regmix_hf.mixtures.final import final_names
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe import Recipe
from regmix_hf.runs.published import CORPUS, MIXTURES, RESULTS, TRAJECTORIES
from regmix_hf.sharing.incoming import (
    MIXTURE_FILES,
    REGRESSOR_FILES,
    RUNS_FILES,
    check_mixture,
    check_regressors,
    check_runs,
    read_fit_table,
    read_stages,
)
from regmix_hf.sharing.incoming_model import DeclaredModel
from regmix_hf.sharing.other_parts import FINAL_TABLES, FIT_TABLES
from regmix_hf.study import Stage, Study
from regmix_hf.study.address import Address
from regmix_hf.study.names import PULLED, RESULT, TRAJECTORY
from regmix_hf.study.promises import PROMISES
from regmix_hf.training.spec import run_seed

#: What can be pulled beside the runs, which always come: whoever needs no weights spares their gigabytes.
PULLED_PARTS = ("runs", "regressor", "mixture", "model")
DEFAULT_PARTS = ("runs", "regressor", "mixture")
#: Where files arrive, beside those of the study.
_STAGING = ".pull"
_VERSION = re.compile(r"v([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        study: The rebuilt study.
        version: Of all its repositories; `None` where the runs had none yet.
        commits: The commit of each repository that was fetched.
        missing: Repositories that do not have this version.
    """

    study: Study
    version: str | None
    commits: Mapping[Repository, str]
    missing: tuple[Repository, ...]


def pull_study(
    source: str,
    stages: Sequence[Stage],
    folder: Path | None = None,
    *,
    only: Collection[str] = DEFAULT_PARTS,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch the runs, the regressors and the chosen mixture of a study, and its models if asked; one version.

    What is fetched is checked before any of it takes its place. Interrupted, the same pull goes on from the
    files that had arrived.

    Args:
        source: `NAMESPACE/NAME[@VERSION]`, the name as in the recipe; default: the newest version.
        stages: All stages of a study.
        folder: Where to; empty, missing, or pulled from the same study before. Default: `runs/NAME`.
        only: Parts, of `PULLED_PARTS`. The runs always come; models bring the mixture along.
        progress: Told what is fetched.

    Raises:
        HubError: There is no such study or version, or a file of it cannot be trusted.
        StudyError: The folder holds something else.
        RecipeError: No part has a name in `only`.
    """
    for name in only:
        if name not in PULLED_PARTS:
            raise RecipeError(f"--only {name!r} is no part of a study; {did_you_mean(name, PULLED_PARTS)}")
    reference = Reference.parse(source, "dataset")
    address = Address(reference.repository.namespace, reference.repository.id.split("/")[1])
    folder = folder or Path("runs") / address.name
    _check_folder(folder, address)
    hub = Hub(progress=progress or Silent())
    wanted = [address.runs]
    wanted += [address.regressor] if "regressor" in only else []
    wanted += [address.mixture] if {"mixture", "model"} & set(only) else []
    version, found = _find(hub, address, reference.revision, wanted)
    _check_unmoved(folder, version, found)
    with _staging(folder, found) as place:
        incoming = Incoming(place, folder, address)
        incoming.fetch(hub, found)
        if "model" in only and incoming.has_mixture:
            models = [address.model(name) for name in incoming.final_mixtures]
            wanted += models
            found |= incoming.fetch_models(hub, _at(hub, models, version))
        commits = {repository: snapshot.commit for repository, snapshot in found.items()}
        write_json(
            folder / PULLED,
            {
                "source": f"{address.namespace}/{address.name}",
                "version": version,
                "commits": {repository.id: commit for repository, commit in commits.items()},
            },
        )
        study = incoming.place(stages)
    return Pulled(study, version, commits, tuple(one for one in wanted if one not in found))


@contextmanager
def _staging(folder: Path, found: Mapping[Repository, Snapshot]) -> Iterator[Path]:
    """Yield a folder beside the study's files for what is fetched, which is removed in the end.

    After a kill or a lost connection it stays, and the next pull of the same commits goes on with it.
    """
    commits = hash_value({repository.id: snapshot.commit for repository, snapshot in found.items()})
    staging = folder / _STAGING
    with claim(staging) as granted:
        if not granted:
            raise StudyError(f"{folder} is being pulled into by another process.")
        for place in staging.iterdir():
            if place.is_dir() and place.name != commits[:16]:
                shutil.rmtree(place)
        try:
            (staging / commits[:16]).mkdir(exist_ok=True)
            yield staging / commits[:16]
        except UnreachableError:
            raise
        except RegmixError:
            shutil.rmtree(staging)
            raise
        shutil.rmtree(staging)


def _check_folder(folder: Path, address: Address) -> None:
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file.", "name another folder")
    if not folder.exists() or not any(path.name != _STAGING for path in folder.iterdir()):
        return
    origin = folder / PULLED
    source = read_json(origin).get("source") if origin.exists() else None
    if source != f"{address.namespace}/{address.name}":
        raise StudyError(
            f"{folder} is not empty" + (f": it was pulled from {source}." if source else "."),
            "name another folder, e.g. `regmix pull NAMESPACE/NAME DIR`",
        )


def _check_unmoved(folder: Path, version: str | None, found: Mapping[Repository, Snapshot]) -> None:
    """Refuse a version that is not what it was when it was pulled into this folder before."""
    if version is None or not (folder / PULLED).exists():
        return
    before = read_json(folder / PULLED)
    for repository, snapshot in found.items():
        commit = before["commits"].get(repository.id, snapshot.commit)
        if before["version"] == version and commit != snapshot.commit:
            was, now = commit[:10], snapshot.commit[:10]
            raise HubError(
                f"{version} of {repository} is {now}, and was {was} when it was pulled.",
                "somebody has moved the tag; pull into another folder to compare",
            )


def _find(
    hub: Hub, address: Address, version: str | None, wanted: Sequence[Repository]
) -> tuple[str | None, dict[Repository, Snapshot]]:
    """The version to fetch and the state of each wanted repository that has it; the runs are always there."""
    if version is not None and _VERSION.fullmatch(version) is None:
        raise HubError(f"{version!r} is no version of a study.", "write v1, v2, ...")
    newest = hub.snapshot(address.runs)
    tags = hub.tags(address.runs)
    versions = sorted(int(match[1]) for tag in tags if (match := _VERSION.fullmatch(tag)))
    if version is None and not versions:
        return None, {address.runs: newest}
    version = version or f"v{versions[-1]}"
    if version not in tags:
        known = ", ".join(f"v{number}" for number in versions) or "none yet"
        raise HubError(f"{address.runs} has no version {version!r}.", f"its versions: {known}")
    runs = {address.runs: hub.snapshot(address.runs, tags[version])}
    return version, runs | _at(hub, [one for one in wanted if one != address.runs], version)


def _at(hub: Hub, repositories: Sequence[Repository], version: str | None) -> dict[Repository, Snapshot]:
    """The state of each repository that has this version."""
    found = {}
    for repository in repositories:
        if hub.find(repository) is not None and (commit := hub.tags(repository).get(version or "")):
            found[repository] = hub.snapshot(repository, commit)
    return found


@dataclass
class Incoming:
    """Fetched files, beside the folder they are for."""

    staging: Path
    folder: Path
    address: Address
    #: Final models by mixture: the run of each.
    models: dict[str, dict[Hashable, Any]] = field(default_factory=dict)

    def fetch(self, hub: Hub, found: Mapping[Repository, Snapshot]) -> None:
        """Fetch and check all files but those of models; nothing of the study's folder is touched.

        Raises:
            RegmixError: A file is missing, too large, or not what it should be.
        """
        expected: dict[Repository, Sequence[Expected]] = {
            self.address.runs: RUNS_FILES,
            self.address.regressor: REGRESSOR_FILES,
            self.address.mixture: MIXTURE_FILES,
        }
        self.stages: dict[str, dict[str, Any]] = {}
        self.regressors: Mapping[str, Path] = {}
        self.has_mixture = self.address.mixture in found
        for repository, snapshot in found.items():
            place, name = self._fetch(hub, snapshot, expected[repository])
            self.stages |= read_stages(place, name)
            if repository == self.address.runs:
                self.recipe, self.corpus = check_runs(place, name)
            elif repository == self.address.regressor:
                self.regressors = check_regressors(place, name)
            else:
                check_mixture(place, self.recipe, name)

    @property
    def final_mixtures(self) -> list[str]:
        """Names of the mixtures that there may be final models of."""
        return final_names(self.recipe, self._place_of(self.address.runs) / MIXTURES)

    def fetch_models(self, hub: Hub, found: Mapping[Repository, Snapshot]) -> dict[Repository, Snapshot]:
        """Fetch and check final models, as far as the table of final results names them.

        Returns:
            Those of `found` that came.

        Raises:
            RegmixError: As `fetch`; or one is not what the recipe declares.
        """
        results = self._place_of(self.address.mixture) / "final_results.parquet"
        if not found or not results.exists():
            return {}
        declared = DeclaredModel(self.recipe, self.corpus)
        seed = run_seed(self.recipe.seed, 0)
        first = {
            str(row["mixture_id"]): row
            for row in read_parquet(results).to_dict("records")
            if row["seed"] == seed and row["status"] == "ok"
        }
        mixtures = {self.address.model(mixture): mixture for mixture in first}
        came = {}
        for repository in (one for one in found if one in mixtures):
            mixture = mixtures[repository]
            place, name = self._fetch(hub, found[repository], declared.files)
            declared.check(place, str(first[mixture]["run_id"]), name)
            self.models[mixture] = first[mixture]
            came[repository] = found[repository]
        return came

    def _fetch(self, hub: Hub, snapshot: Snapshot, expected: Sequence[Expected]) -> tuple[Path, str]:
        place = self._place_of(snapshot.repository)
        fetch(hub, snapshot, expected, place, via=self.staging / ".arriving" / place.name)
        return place, str(snapshot.repository)

    def place(self, stages: Sequence[Stage]) -> Study:
        """Put the files where a study has them; the markers of their stages go first and come last.

        Other stages, of an earlier pull, stay: their markers say whether they still fit.
        """
        root = self.folder.resolve()
        study = Study(self.recipe.model_copy(update={"output_dir": root}))
        for stage in stages:
            if stage.verb in self.stages:
                study.marker(stage).unlink(missing_ok=True)
        study.sign()
        write_text(root / "recipe.yaml", _with_output_dir(study.recipe))
        self._place_runs(study)
        if self.regressors:
            self._place_fit(study)
        if self.has_mixture:
            self._place_mixture(study)
        for mixture, row in self.models.items():
            self._place_model(study, mixture, row)
        for stage in stages:
            if stage.verb in self.stages:
                write_json(study.marker(stage), self.stages[stage.verb])
        return study

    def _place_runs(self, study: Study) -> None:
        place = self._place_of(self.address.runs)
        _move(place / CORPUS, study.corpus / CORPUS)
        _move(place / MIXTURES, study.mixtures)
        results, trajectories = (read_parquet(place / name) for name in (RESULTS, TRAJECTORIES))
        points = dict(tuple(trajectories.groupby("run_id", sort=False)))
        for row in results.to_dict("records"):
            run_id, run = str(row["run_id"]), study.proxies / str(row["run_id"])
            # With these, `proxies` trains no run again; those that failed it tries again.
            if row["status"] != "failed" and run_id in points and re.fullmatch("[0-9a-f]{16}", run_id):
                _write_run(run, row, points[run_id])
        for name in (TRAJECTORIES, RESULTS):
            _move(place / name, study.proxies / name)

    def _place_fit(self, study: Study) -> None:
        place, name = self._place_of(self.address.regressor), str(self.address.regressor)
        for estimator, source in self.regressors.items():
            for file in sorted(path for path in source.iterdir() if path.is_file()):
                if file.name == "config.json" or file.suffix in (".safetensors", ".txt"):
                    _move(file, study.regression / estimator / file.name)
        for table in FIT_TABLES:
            write_parquet(study.regression / f"{table}.parquet", read_fit_table(place, table, name))
        _move(place / "summary.json", study.regression / "summary.json")

    def _place_mixture(self, study: Study) -> None:
        place = self._place_of(self.address.mixture)
        _move(place / "mixture.parquet", study.mixture.with_suffix(".parquet"))
        _move(place / "mixture.yaml", study.mixture)
        for name, target in FINAL_TABLES.items():
            if (place / f"{name}.parquet").exists():
                _move(place / f"{name}.parquet", study.root / target)
        if (place / PROMISES).exists():
            _move(place / PROMISES, study.evaluation / PROMISES)

    def _place_model(self, study: Study, mixture: str, row: Mapping[Hashable, Any]) -> None:
        source = self._place_of(self.address.model(mixture))
        target = study.models / mixture
        if target.exists():  # of an earlier version
            shutil.rmtree(target)
        for file in sorted(path for path in source.iterdir() if path.is_file() and path.name != RESULT):
            _move(file, target / file.name)
        points = read_parquet(study.root / FINAL_TABLES["final_trajectories"])
        _write_run(target, row, points[points["run_id"] == row["run_id"]])

    def _place_of(self, repository: Repository) -> Path:
        return self.staging / repository.id.split("/")[1]


def _write_run(folder: Path, row: Mapping[Hashable, Any], points: pd.DataFrame) -> None:
    """Write what a run leaves in its folder, its result last."""
    write_parquet(folder / TRAJECTORY, points)
    write_json(folder / RESULT, {str(key): _plain(value) for key, value in row.items()})


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def _with_output_dir(recipe: Recipe) -> str:
    """The recipe as it was published, and where its study lies now; nothing of where to publish."""
    tree = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"hub"})
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump({**tree, "output_dir": str(recipe.output_dir)}, stream)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
