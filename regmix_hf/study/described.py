"""What a recipe and the counts of a corpus say of a mixture to those who train on it."""

from __future__ import annotations

from dataclasses import replace

from regmix_hf.exports import MixtureToTrain
from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts


def described(mixture: MixtureToTrain, recipe: Recipe, facts: CorpusFacts) -> MixtureToTrain:
    """Add what a recipe and the counts of a corpus say."""
    trained = {name: domain.train for name, domain in facts.domains.items() if domain.train}
    lengths = {name: split.num_tokens / split.num_documents for name, split in trained.items()}
    available = facts.available_tokens(recipe)
    return replace(
        mixture,
        num_train_tokens=recipe.train.num_train_tokens,
        context_length=recipe.context_length,
        tokenizer=recipe.tokenizer if isinstance(recipe.tokenizer, str) else None,
        seed=recipe.seed,
        domains=recipe.domains,
        tokens_per_document=lengths,
        num_documents={name: int(available[name] / lengths[name]) for name in lengths},
    )
