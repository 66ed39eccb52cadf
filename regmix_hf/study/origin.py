"""Where a study was pulled from, and what its recipe would read outside of it: strangers wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import StudyError
from regmix_hf.files import read_json, write_json
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.study.folder import Study
from regmix_hf.study.names import PULLED

#: Addresses that everybody who pulls from the Hub has trusted already.
_OF_THE_HUB = ("hf://", "https://huggingface.co/")
#: Of `domains.*.path`: words for the kind of files, whatever else has that name here.
_KINDS = ("arrow", "csv", "json", "parquet", "text", "webdataset")
#: Of `train.training_args`: they may name files.
_FILES = ("deepspeed", "fsdp_config", "accelerator_config")


@dataclass(frozen=True)
class Origin:
    """What `.pulled.json` says of a study.

    Attributes:
        source: `NAMESPACE/NAME` of the published study.
        version: Which was pulled; `None` where it had none.
        commits: Commit of each repository by its id.
        asks: What its recipe names to read from and nobody has accepted; read is what of it is on the Hub.
    """

    source: str
    version: str | None
    commits: Mapping[str, str]
    asks: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Origin | None:
        """Read it; `None` for a study of one's own.

        Raises:
            StudyError: It cannot be read.
        """
        file = folder / PULLED
        if not file.exists():
            return None
        tree = read_json(file)
        commits = tree.get("commits", {}) if isinstance(tree, dict) else None
        asks = tree.get("asks", []) if isinstance(tree, dict) else None
        if not isinstance(commits, dict) or not isinstance(asks, list):
            raise StudyError(f"{file} does not say where the study was pulled from.", "pull it again")
        version = tree.get("version")
        return cls(str(tree.get("source")), version, commits, tuple(map(str, asks)))

    def write(self, folder: Path) -> None:
        """Write it."""
        tree = {"source": self.source, "version": self.version, "commits": dict(self.commits)}
        write_json(folder / PULLED, {**tree, "asks": list(self.asks)})


def require_accepted(study: Study) -> None:
    """Refuse to read what a pulled recipe names, until somebody has seen and accepted it.

    Raises:
        StudyError: The recipe still names it.
    """
    origin = Origin.read(study.root)
    asked = [place for place in outside_places(study.recipe) if origin and place in origin.asks]
    if origin and asked:
        raise StudyError(
            f"the recipe was pulled from {origin.source!r} and reads {', '.join(map(repr, asked))}.",
            f"if that is what you want, run `regmix pull {origin.source} {study.root} --accept-sources`; "
            "else name sources of your own",
        )


def named_places(recipe: Recipe) -> list[str]:
    """All that a recipe names to read from, in its order, wherever that leads."""
    places = []
    for domain in recipe.domains.values():
        places += [*([] if domain.path in _KINDS else [domain.path]), *_files_of(domain)]
    if isinstance(recipe.tokenizer, str):
        places.append(recipe.tokenizer)
    if recipe.evaluation.include_path:  # its files may name code
        places.append(recipe.evaluation.include_path)
    trainings = (*recipe.rungs.values(), recipe.train)
    places += [name for one in trainings if isinstance(name := one.model.pretrained, str)]
    places += _of_arguments(recipe)
    return list(dict.fromkeys(places))


def outside_places(recipe: Recipe) -> list[str]:
    """Those of `named_places` that are files of this machine, seen from here, or lie outside the Hub."""
    here = {recipe.evaluation.include_path, *_of_arguments(recipe)}
    for domain in recipe.domains.values():
        if domain.path in _KINDS or not ("/" in domain.path or _is_outside(domain.path)):
            here |= {file for file in _files_of(domain) if not file.startswith(_OF_THE_HUB)}
    return [place for place in named_places(recipe) if place in here or _is_outside(place)]


def _of_arguments(recipe: Recipe) -> list[str]:
    trainings = (*recipe.rungs.values(), recipe.train)
    named = [recipe.train.accelerate_config]
    named += [one.training_args.get(key) for one in trainings for key in _FILES]
    return [value for value in named if isinstance(value, str) and ("/" in value or "." in value)]


def _files_of(domain: Domain) -> list[str]:
    by_split = domain.data_files if isinstance(domain.data_files, dict) else {"": domain.data_files}
    files = [name for names in by_split.values() for name in (names if isinstance(names, list) else [names])]
    return [place for place in (*files, domain.data_dir) if place]


def _is_outside(place: str) -> bool:
    if "://" in place:
        return not place.startswith(_OF_THE_HUB)
    path = Path(place)
    return path.is_absolute() or place.startswith("~") or ".." in path.parts or path.exists()
