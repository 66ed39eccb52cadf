"""Stage 1, `prepare`: turn the text of every domain into shuffled blocks of tokens."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.corpus.local_files import stamp_local_files
from regmix_hf.mixtures.budgets import stamp_budgets, token_budgets
from regmix_hf.mixtures.constraints import short_count
from regmix_hf.progress import Progress
from regmix_hf.recipe import Recipe
from regmix_hf.study import Stage, Study
from regmix_hf.study.origin import require_accepted


def _stamp(recipe: Recipe) -> dict[str, str]:
    """What decides what is read, beside the keys: local files, and how much of a stream is needed."""
    return {**stamp_local_files(recipe), **stamp_budgets(recipe)}


STAGE = Stage(
    verb="prepare",
    folder="1-corpus",
    keys=("seed", "context_length", "tokenizer", "domains", "corpus"),
    outputs=("corpus.json", "tokenizer"),
    outside=_stamp,
)


def run(study: Study, progress: Progress) -> None:
    """Prepare the corpus, going on from what is done, and say what it holds.

    Raises:
        DataError: A source or the tokenizer cannot be had or read, or a domain is too small.
        RecipeError: A domain's name or the validation budget does not work.
        StudyError: A pulled recipe names files or addresses that nobody has accepted.
        MixtureError: The bounds of mixtures, from which follows how much is read, leave none.
    """
    from regmix_hf.corpus.prepare import prepare_corpus

    require_accepted(study)
    recipe = study.recipe
    budgets = token_budgets(recipe)
    streaming = [name for name in recipe.training_domains if recipe.domains[name].streaming]
    if streaming and budgets is None:
        progress.note(
            f"{len(streaming)} domains are streamed to their ends, because not every training domain says "
            "what it has; give all of them `num_tokens` to read only what the study needs"
        )
    facts = prepare_corpus(recipe, study.corpus, progress, budgets)
    trained = [domain.train for domain in facts.domains.values() if domain.train]
    progress.note(
        f"{sum(split.num_tokens for split in trained):,} training tokens in {len(trained)} domains, "
        f"{sum(split.num_bytes for split in trained) / 1e6:,.1f} MB of text, {facts.vocab_size:,} token ids"
    )
    if parts := [name for name, domain in facts.domains.items() if domain.part_of]:
        progress.note(f"of {', '.join(parts)} as much was read as the runs of this recipe can need")
    if samples := facts.samples(recipe):
        progress.note(_sample_warning(recipe, samples))
    study.finish(STAGE)


def _sample_warning(recipe: Recipe, samples: Mapping[str, int]) -> str:
    name = min(samples, key=lambda name: samples[name] / (recipe.domains[name].num_tokens or 1))
    said = short_count(recipe.domains[name].num_tokens or 0)
    return (
        f"warning: {len(samples)} of {len(recipe.training_domains)} sources ended before their num_tokens, "
        f"{name!r} after {short_count(samples[name])} of {said}: they are samples. Mixtures are drawn around "
        "the shares that the recipe says; leave num_tokens out to have them counted"
    )
