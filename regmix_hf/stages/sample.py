"""Stage 2, `sample`: draw the mixtures of the swarm around the prior."""

from __future__ import annotations

from regmix_hf.files import write_parquet
from regmix_hf.mixtures import count_zeros, sample_mixtures, sampling_constraints
from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study
from regmix_hf.study.corpus_facts import CorpusFacts

STAGE = Stage(
    verb="sample",
    folder="2-mixtures",
    keys=("seed", "domains", "sampling", "proxy.num_train_tokens"),
    inputs=("1-corpus/corpus.json",),
    outputs=("mixtures.parquet",),
)


def run(study: Study, progress: Progress) -> None:
    """Write the table of mixtures, and say which domains are rare or lost in them.

    Raises:
        MixtureError: The bounds leave nothing, or too little, to sample.
        StudyError: The corpus is not prepared yet.
    """
    recipe = study.recipe
    tokens = CorpusFacts.load(study.corpus).available_tokens(recipe)
    constraints = sampling_constraints(
        recipe.sampling, tokens, num_train_tokens=recipe.proxy.num_train_tokens
    )
    mixtures = sample_mixtures(tokens, recipe.sampling, constraints=constraints, random_state=recipe.seed)
    zeros = count_zeros(mixtures)
    for domain, count in zeros.items():
        if message := _missing(domain, count, recipe.sampling.num_mixtures, recipe.sampling.min_weight):
            progress.note(message)
    write_parquet(study.mixtures, mixtures)
    progress.note(
        f"{recipe.sampling.num_mixtures} mixtures of {len(tokens)} domains to fit on, "
        f"{recipe.sampling.num_holdout} held out"
    )
    study.finish(STAGE, {"num_mixtures": len(mixtures), "zero_weights": zeros})


def _missing(domain: str, zeros: int, count: int, min_weight: float) -> str | None:
    """What to say about a domain that too few mixtures give a weight, or `None`."""
    if zeros == count:
        return (
            f"warning: no mixture to fit on gives domain {domain!r} a weight, so nothing is learnt about it; "
            f"lower sampling.min_weight {min_weight:g}, set sampling.min.{domain}, or sample more mixtures"
        )
    if zeros > 0.9 * count:
        return (
            f"note: only {count - zeros} of {count} mixtures to fit on give domain {domain!r} a weight; "
            f"lower sampling.min_weight {min_weight:g} or set sampling.min.{domain} to learn more about it"
        )
    return None
