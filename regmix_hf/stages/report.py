"""The verb `report`: what a study or a fit on tables found, in pictures and words, from files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.table_fit import TableFit

if TYPE_CHECKING:
    from regmix_hf.cards.facts import StudyFacts

STAGE = Stage(
    verb="report",
    folder=names.REPORT,
    keys=(
        *("name", "seed", "context_length", "tokenizer", "domains", "corpus", "sampling", "proxy"),
        *("regression", "choice", "train", "baselines", "evaluation"),
    ),
    inputs=(
        f"{names.CORPUS}/{names.CORPUS_FACTS}",
        f"{names.MIXTURES}/{names.MIXTURES_TABLE}",
        f"{names.PROXIES}/{names.RESULTS}",
        f"{names.REGRESSION}/{names.FIT_SUMMARY}",
        f"{names.REGRESSION}/{names.QUALITY}",
        f"{names.REGRESSION}/{names.PREDICTIONS}",
        f"{names.REGRESSION}/{names.LEARNING_CURVE}",
        f"{names.MIXTURE}/{names.CHOSEN_TABLE}",
        f"{names.MIXTURE}/{names.CHOSEN_MIXTURE}",
        f"{names.MODELS}/{names.RESULTS}",
        f"{names.MODELS}/{names.TRAJECTORIES}",
        f"{names.EVALUATION}/{names.RESULTS}",
        f"{names.EVALUATION}/{names.PROMISES}",
    ),
    outputs=(names.PAGE,),
)


def run(study: Study, progress: Progress) -> None:
    """Write `report/README.md`, its pictures and a page to explore; what there is not yet is left out."""
    from regmix_hf.cards.facts import StudyFacts

    facts = StudyFacts.read(study)
    if facts.chosen_for_another is not None:
        progress.note(
            f"warning: the recipe asks for {facts.target}, and the mixture was chosen for "
            f"{facts.chosen_for_another}: `regmix run` chooses again"
        )
    _write(study, facts, progress)
    study.finish(STAGE)


def report_fit(fit: TableFit, progress: Progress) -> None:
    """Write the same of a fit on tables, beside its choice."""
    from regmix_hf.cards.facts import StudyFacts

    _write(fit, StudyFacts.of_fit(fit), progress)
    fit.sign_report()


def _write(place: Study | TableFit, facts: StudyFacts, progress: Progress) -> None:
    from regmix_hf.cards.explorer_page import explorer_page
    from regmix_hf.cards.report import write_report

    explorer = explorer_page(place, facts)
    if explorer.page is None:
        progress.note(f"no page to explore mixtures: {explorer.missing}")
    write_report(facts, place.report, explorer.page)
