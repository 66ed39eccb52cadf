"""Where a study was pulled from, and what its recipe would read outside of it: strangers wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regmix_hf.errors import StudyError
from regmix_hf.files import read_json, write_json
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.study.folder import Study
from regmix_hf.study.names import PULLED

#: Addresses that everybody who pulls from the Hub has trusted already.
_OF_THE_HUB = ("hf://", "https://huggingface.co/")
#: Of `train.training_args`: they may name files.
_FILES = ("deepspeed", "fsdp_config", "accelerator_config")


@dataclass(frozen=True)
class Origin:
    """What `.pulled.json` says of a study.

    Attributes:
        source: `NAMESPACE/NAME` of the published study.
        version: Which was pulled; `None` where it had none.
        commits: Commit of each repository by its id.
        asks: Files of this machine and addresses that its recipe names and nobody has accepted.
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


def outside_places(recipe: Recipe) -> list[str]:
    """Files of this machine and addresses outside the Hub that a recipe names, in its order."""
    places = [place for domain in recipe.domains.values() for place in _of_domain(domain)]
    if isinstance(recipe.tokenizer, str) and _is_outside(recipe.tokenizer):
        places.append(recipe.tokenizer)
    if recipe.evaluation.include_path:  # its files may name code
        places.append(recipe.evaluation.include_path)
    trainings = (*recipe.rungs.values(), recipe.train)
    starts = [training.model.pretrained for training in trainings]
    places += [start for start in starts if isinstance(start, str) and _is_outside(start)]
    named: list[Any] = [recipe.train.accelerate_config] if recipe.train.accelerate_config else []
    for training in trainings:
        named += [training.training_args.get(key) for key in _FILES]
    places += [str(value) for value in named if isinstance(value, str) and ("/" in value or "." in value)]
    return list(dict.fromkeys(places))


def _of_domain(domain: Domain) -> Iterator[str]:
    by_split = domain.data_files if isinstance(domain.data_files, dict) else {"": domain.data_files}
    files = [name for names in by_split.values() for name in (names if isinstance(names, list) else [names])]
    is_kind = "/" not in domain.path and not _is_outside(domain.path)  # `json`: its files lie here
    if _is_outside(domain.path):
        yield domain.path
    for place in [*files, domain.data_dir]:
        if place and (_is_outside(place) or (is_kind and not place.startswith(_OF_THE_HUB))):
            yield place


def _is_outside(place: str) -> bool:
    if "://" in place:
        return not place.startswith(_OF_THE_HUB)
    path = Path(place)
    return path.is_absolute() or place.startswith("~") or ".." in path.parts or path.exists()
