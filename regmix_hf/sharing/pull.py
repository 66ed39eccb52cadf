"""Rebuild a study's folder from its repositories, so that `fit`, `choose` and `report` go on from there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from regmix_hf.errors import HubError, RecipeError, RegmixError, StudyError, UnreachableError, did_you_mean
from regmix_hf.files import hash_value
from regmix_hf.hub import Hub, Reference, Repository, Snapshot
from regmix_hf.jobs.claims import Watch
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe import RECIPE_FILE
from regmix_hf.sharing.arrivals import Arrivals
from regmix_hf.sharing.incoming import distrusting
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.origin import Origin, named_places, outside_places

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
    accept_sources: bool = False,
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
        accept_sources: Whether the recipe may read the files of this machine and the addresses outside the
            Hub that it names; without, they are told, and `prepare` refuses to read them.
        progress: Told what is fetched.

    Raises:
        HubError: There is no such study or version, or a file of it cannot be trusted.
        StudyError: The folder holds something else.
        RecipeError: No part has a name in `only`.
    """
    for name in set(only) - set(PULLED_PARTS):
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
    _check_study(found[address.runs], version)
    with _staging(folder, found) as place:
        with distrusting(source):
            arrivals = Arrivals.fetch(hub, found, place, address)
            if "model" in only and arrivals.has_mixture:
                models = [address.model(name) for name in arrivals.final_mixtures]
                wanted += models
                found |= arrivals.fetch_models(hub, _at(hub, models, version))
            arrivals.make(stages, folder)
        commits = {repository: snapshot.commit for repository, snapshot in found.items()}
        asks = [] if accept_sources else named_places(arrivals.recipe)
        named = {repository.id: commit for repository, commit in commits.items()}
        Origin(f"{address.namespace}/{address.name}", version, named, tuple(asks)).write(folder)
        study = arrivals.place(stages, folder)
    if asks and (outside := outside_places(arrivals.recipe)):
        hub.progress.note(
            f"warning: the recipe reads {', '.join(map(repr, outside))}; `prepare` does so only after "
            "`regmix pull` with --accept-sources"
        )
    return Pulled(study, version, commits, tuple(one for one in wanted if one not in found))


@contextmanager
def _staging(folder: Path, found: Mapping[Repository, Snapshot]) -> Iterator[Path]:
    """Yield a folder beside the study's files for what is fetched, which is removed in the end.

    After a kill or a lost connection it stays, and the next pull of the same commits goes on with it.
    """
    commits = hash_value({repository.id: snapshot.commit for repository, snapshot in found.items()})
    staging, is_new = folder / _STAGING, not folder.exists()
    with Watch().claim(staging) as granted:
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
            if is_new:
                folder.rmdir()
            raise
        shutil.rmtree(staging)


def _check_folder(folder: Path, address: Address) -> None:
    if folder.exists() and not folder.is_dir():
        raise StudyError(f"{folder} is a file.", "name another folder")
    if not folder.exists() or not any(path.name != _STAGING for path in folder.iterdir()):
        return
    origin = Origin.read(folder)
    source = origin.source if origin is not None else None
    if source != f"{address.namespace}/{address.name}":
        raise StudyError(
            f"{folder} is not empty" + (f": it was pulled from {source}." if source else "."),
            "name another folder, e.g. `regmix pull NAMESPACE/NAME DIR`",
        )


def _check_study(runs: Snapshot, version: str | None) -> None:
    """Refuse runs that somebody read from tables: there is no study behind them."""
    if names.RESULTS in runs.files and not {RECIPE_FILE, names.CORPUS_FACTS} & set(runs.files):
        name = runs.repository.id + (f"@{version}" if version else "")
        raise HubError(
            f"{runs.repository.id} holds runs that were read from tables, and no study to go on with.",
            f"fit on them: regmix fit --runs {name}",
        )


def _check_unmoved(folder: Path, version: str | None, found: Mapping[Repository, Snapshot]) -> None:
    """Refuse a version that is not what it was when it was pulled into this folder before."""
    before = Origin.read(folder)
    if version is None or before is None:
        return
    for repository, snapshot in found.items():
        commit = before.commits.get(repository.id, snapshot.commit)
        if before.version == version and commit != snapshot.commit:
            was, now = str(commit)[:10], snapshot.commit[:10]
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
    tags = hub.find_tags(address.runs) or {}
    versions = sorted(int(match[1]) for tag in tags if (match := _VERSION.fullmatch(tag)))
    if version is None and versions:
        version = f"v{versions[-1]}"
    if version is not None and version in tags:
        runs = {address.runs: hub.snapshot(address.runs, tags[version])}
        return version, runs | _at(hub, [one for one in wanted if one != address.runs], version)
    newest = hub.snapshot(address.runs)  # says so where there are no runs
    if version is None:
        return None, {address.runs: newest}
    known = ", ".join(f"v{number}" for number in versions) or "none yet"
    raise HubError(f"{address.runs} has no version {version!r}.", f"its versions: {known}")


def _at(hub: Hub, repositories: Sequence[Repository], version: str | None) -> dict[Repository, Snapshot]:
    """The state of each repository that has this version."""
    found = {}
    for repository in repositories:
        if commit := (hub.find_tags(repository) or {}).get(version or ""):
            found[repository] = hub.snapshot(repository, commit)
    return found
