"""The verb `report`: what a study found, in pictures and words, from its files alone."""

from __future__ import annotations

from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study, names

STAGE = Stage(
    verb="report",
    folder=names.REPORT,
    keys=(
        "name",
        "seed",
        "context_length",
        "tokenizer",
        "domains",
        "corpus",
        "sampling",
        "proxy",
        "regression",
        "choice",
        "train",
        "baselines",
        "evaluation",
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
    from regmix_hf.cards.explorer_page import explorer_page
    from regmix_hf.cards.facts import StudyFacts
    from regmix_hf.cards.report import write_report

    facts = StudyFacts.read(study)
    explorer = explorer_page(study, facts)
    if explorer.page is None:
        progress.note(f"no page to explore mixtures: {explorer.missing}")
    write_report(facts, study.report, explorer.page)
    study.finish(STAGE)
