"""Publish a study: what is finished goes to its repositories, one commit each, one version on all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.hub_card import hub_sources
from regmix_hf.errors import HubError, RecipeError, did_you_mean
from regmix_hf.files import read_record
from regmix_hf.hub import Hub, Publication, Repository, draft, publish
from regmix_hf.progress import Progress, Silent
from regmix_hf.readable import count_of
from regmix_hf.sharing.collection import collect_repositories
from regmix_hf.sharing.exporting import mixture_to_publish
from regmix_hf.sharing.other_parts import mixture_publication, model_publications, regressor_publication
from regmix_hf.sharing.runs_part import OwnRuns
from regmix_hf.study import Stage, State, Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.folder import Standing

#: What can be published, in the order of the tags: where the runs have a version, all others have it, too.
PART_NAMES = ("model", "mixture", "regressor", "runs")
#: The stage that finishes each part.
_STAGE_OF = {"model": "train", "mixture": "choose", "regressor": "fit", "runs": "proxies"}


@dataclass(frozen=True)
class Push:
    """What a push did, or would do.

    Attributes:
        files: For every repository how many files change, of how many; of a dry run, else empty.
        repositories: Everything that is published now.
        changed: Those that got a new commit.
        version: The tag on all of them; `None` when none was asked for.
        collection: Address of the collection; `None` when there is none.
    """

    files: Mapping[Repository, tuple[int, int]]
    repositories: tuple[Repository, ...]
    changed: frozenset[Repository]
    version: str | None
    collection: str | None

    def summary(self, repository: Repository) -> str:
        """What became of a repository, or would."""
        if repository in self.files:
            changed, total = self.files[repository]
            return f"{changed} of {count_of(total, 'file')}"
        return "yes" if repository in self.changed else "no"


def push_study(
    study: Study,
    stages: Sequence[Stage],
    *,
    only: Collection[str] = PART_NAMES,
    tag: bool = True,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Push:
    """Publish the parts of a study that are finished with the recipe and the files of now.

    Runs are published as far as they have ended. A part that is not finished is left out, and so is one that
    is stale: a card must not say what its files do not hold.

    Args:
        study: With a section `hub` in its recipe.
        stages: All stages of a study.
        only: Parts to publish, of `PART_NAMES`.
        tag: Whether to give what is published a version.
        dry_run: Only look what would change.
        progress: Told what is left out.

    Raises:
        HubError: Not logged in, not permitted, a name taken, or nothing to publish.
        RecipeError: No part has a name in `only`.
    """
    progress, address = progress or Silent(), Address.of(study.recipe)
    for name in only:
        if name not in PART_NAMES:
            raise RecipeError(f"--only {name!r} is no part of a study; {did_you_mean(name, PART_NAMES)}")
    hub = Hub(progress=progress)
    # Without a version nobody takes what is published for all there is.
    standings = study.standings(stages)
    done = {
        stage.verb: _without_outputs(read_record(study.marker(stage)))
        for stage in stages
        if standings[stage.verb].state is State.DONE
    }
    _say_what_is_left_out(standings, only, progress if tag else Silent())
    if any(standings[verb].state is State.STALE for verb in ("prepare", "sample")):
        only = set(only) - {"runs"}  # none of the runs there are is one that the recipe asks for
    publications = _publications(study, address, hub, done, only)
    if not publications:
        raise HubError(
            f"{study.root} holds nothing to publish that is of this recipe.",
            "run `regmix run` first, or at least `regmix fit`",
        )
    beside = _all_repositories(study, address)
    return (
        would_publish(hub, publications, beside)
        if dry_run
        else publish_all(hub, publications, beside, address, tag=tag)
    )


def would_publish(hub: Hub, publications: Sequence[Publication], beside: Sequence[Repository]) -> Push:
    """Only look what would change."""
    _, drafts = draft(hub, publications, beside)
    counts = {one.publication.repository: (len(one.changes), len(one.files)) for one in drafts}
    return Push(counts, tuple(one.repository for one in publications), frozenset(), None, None)


def publish_all(
    hub: Hub,
    publications: Sequence[Publication],
    beside: Sequence[Repository],
    address: Address,
    *,
    tag: bool = True,
) -> Push:
    """Publish, and put what has a version into the collection of its name.

    Args:
        hub: The connection.
        publications: One per repository.
        beside: All repositories of the name, published now or not.
        address: Whose they are.
        tag: Whether to give what is published a version.

    Raises:
        HubError: As `push_study`.
    """
    repositories = tuple(publication.repository for publication in publications)
    published = publish(hub, publications, tag=tag, beside=beside)
    private = any(publication.private for publication in publications)
    collection = _collect(hub, address, repositories, private=private) if tag else None
    return Push({}, repositories, published.changed, published.version, collection)


def _without_outputs(marker: Mapping[str, Any]) -> dict[str, Any]:
    """A marker as it is published: what is pulled is written anew, in another form here and there."""
    return {key: value for key, value in marker.items() if key != "outputs"}


def _say_what_is_left_out(
    standings: Mapping[str, Standing], only: Collection[str], progress: Progress
) -> None:
    """Note the parts that are begun and not done with the inputs of now."""
    parts = {stage: part for part, stage in _STAGE_OF.items()}
    for verb, standing in standings.items():
        part = parts.get(verb)
        if part not in only or standing.state in (State.DONE, State.MISSING):
            continue
        reason = f"stale, because {standing.reason}" if standing.reason else "not finished"
        ended = part == "runs" and not standing.after
        verdict = "only the runs that have ended are published" if ended else "left out"
        progress.note(f"{part}: `{verb}` is {reason}; {verdict}")


def _publications(
    study: Study, address: Address, hub: Hub, done: Mapping[str, Any], only: Collection[str]
) -> list[Publication]:
    facts = _without_unfinished(StudyFacts.read(study), done)
    found: list[Publication] = []
    sources = hub_sources(study.recipe, hub.is_public)
    if "model" in only and facts.final is not None:
        found += model_publications(study, address, facts, sources)
    if "mixture" in only and facts.choice is not None:
        stages = _only(done, "choose", "train", "evaluate")
        mixture = mixture_to_publish(study, facts.corpus, sources)
        found.append(mixture_publication(study, address, facts, facts.choice, stages, mixture))
    if "regressor" in only and facts.regression is not None:
        found.append(regressor_publication(study, address, facts, facts.regression, _only(done, "fit")))
    if "runs" in only and (runs := OwnRuns.read(study, address, _only(done, "sample", "proxies"), sources)):
        private = study.recipe.hub is not None and study.recipe.hub.private
        found.append(
            Publication(
                address.runs,
                lambda snapshot: runs.beside(hub, snapshot),
                f"Add runs: {len(runs.tables[names.RESULTS])} of this study",
                private,
            )
        )
    return found


def _without_unfinished(facts: StudyFacts, done: Mapping[str, Any]) -> StudyFacts:
    """The facts without those of stages that are not done: their files may be of another recipe."""
    return replace(
        facts,
        regression=facts.regression if "fit" in done else None,
        choice=facts.choice if "choose" in done else None,
        final=facts.final if "train" in done else None,
        scores=facts.scores if "evaluate" in done else None,
        promises=facts.promises if "evaluate" in done else None,
    )


def _only(done: Mapping[str, Any], *verbs: str) -> dict[str, Any]:
    return {verb: done[verb] for verb in verbs if verb in done}


def _all_repositories(study: Study, address: Address) -> list[Repository]:
    """Every repository of the study, published now or not: their versions are kept in step."""
    models = [address.model(mixture) for mixture in study.final_mixtures]
    return [*models, address.mixture, address.regressor, address.runs]


def _collect(hub: Hub, address: Address, repositories: Sequence[Repository], *, private: bool) -> str | None:
    """Put all into the collection. What is published is published without it, too."""
    try:
        return collect_repositories(hub, address, repositories, private=private)
    except HubError as error:
        hub.progress.note(f"warning: not in a collection: {error.message}")
        return None
