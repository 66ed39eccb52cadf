"""The models that a recipe asks for, as far as they are known before there is a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regmix_hf.recipe import Recipe, TrainedTokenizer
from regmix_hf.recipe.schema import Training
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.presets import model_config

if TYPE_CHECKING:
    from regmix_hf.training.models import ModelFacts


def known_facts(study: Study) -> CorpusFacts | None:
    """What is known of the corpus: all once it is prepared, else the size of the vocabulary at best."""
    recipe = study.recipe
    if (study.corpus / names.CORPUS_FACTS).exists():
        facts = CorpusFacts.load(study.corpus)
        return facts.model_copy(update={"context_length": recipe.context_length})
    if isinstance(recipe.tokenizer, TrainedTokenizer):
        vocab_size = recipe.tokenizer.train.vocab_size
    elif "vocab_size" in recipe.proxy.model.config:
        vocab_size = int(recipe.proxy.model.config["vocab_size"])
    else:
        return None
    return CorpusFacts(
        context_length=recipe.context_length,
        vocab_size=vocab_size,
        eos_token_id=0,
        tokenizer_sha256="",
        domains={},
    )


def planned_model(recipe: Recipe, training: Training, facts: CorpusFacts) -> ModelFacts:
    """Return the size and cost of the model that `training` asks for.

    Args:
        recipe: The recipe.
        training: Its `proxy` or `train`.
        facts: Of its corpus: at least the size of the vocabulary.

    Raises:
        TrainingError: There is no such preset or architecture.
    """
    from regmix_hf.training.models import build_config, model_facts

    config = build_config(model_config(training.model, facts), recipe.context_length)
    return model_facts(config, recipe.context_length)
