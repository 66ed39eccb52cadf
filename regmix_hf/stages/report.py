"""The verb `report`: what a study found, in pictures and words, from its files alone."""

from __future__ import annotations

from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study

STAGE = Stage(
    verb="report",
    folder="report",
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
        "1-corpus/corpus.json",
        "2-mixtures/mixtures.parquet",
        "3-proxies/results.parquet",
        "4-regression/summary.json",
        "4-regression/quality.parquet",
        "4-regression/predictions.parquet",
        "4-regression/learning_curve.parquet",
        "5-mixture/mixture.parquet",
        "5-mixture/mixture.yaml",
        "6-models/results.parquet",
        "6-models/trajectories.parquet",
        "7-evaluation/results.parquet",
        "7-evaluation/promises.json",
    ),
    outputs=("README.md",),
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
