"""The models that a recipe asks for, as far as they are known before there is a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regmix_hf.recipe import Recipe, TrainedTokenizer
from regmix_hf.recipe.training import Training
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CheckpointFacts, CorpusFacts
from regmix_hf.training.presets import model_config
from regmix_hf.training.pretrained import check_vocabulary, models_from_elsewhere, open_source, read_shape
from regmix_hf.training.spec import planned_spec

if TYPE_CHECKING:
    from regmix_hf.training.models import ModelFacts

#: Words of a vocabulary that no token of a published config lies beyond.
_ANY_VOCABULARY = 1 << 20


def known_facts(study: Study) -> CorpusFacts | None:
    """What is known of the corpus: all once it is prepared, else the size of the vocabulary at best."""
    recipe = study.recipe
    facts = CorpusFacts.find(study.corpus)
    shapes = _shapes(recipe, facts)
    if facts is not None:
        checkpoints = {**shapes, **facts.checkpoints}
        told = {"context_length": recipe.context_length, "checkpoints": checkpoints}
        return facts.model_copy(update=told)
    own = shapes.get(recipe.proxy.model.checkpoint or "")
    if isinstance(recipe.tokenizer, TrainedTokenizer):
        vocab_size = recipe.tokenizer.train.vocab_size
    elif "vocab_size" in recipe.proxy.model.config:
        vocab_size = int(recipe.proxy.model.config["vocab_size"])
    elif own is not None:
        vocab_size = int(own.config["vocab_size"])
    else:
        return None
    return _facts_of(recipe, vocab_size, shapes)


def _shapes(recipe: Recipe, facts: CorpusFacts | None) -> dict[str, CheckpointFacts]:
    """The shapes of models from elsewhere whose weights nobody has fetched.

    Raises:
        TrainingError: One is none to start from.
        HubError: It cannot be had.
    """
    vocab_size = facts.vocab_size if facts else 0
    if isinstance(recipe.tokenizer, TrainedTokenizer):
        vocab_size = recipe.tokenizer.train.vocab_size
    found = {}
    for key, model in models_from_elsewhere(recipe).items():
        if facts is not None and key in facts.checkpoints:
            continue
        source = open_source(model)
        keys = read_shape(source, recipe.context_length)
        check_vocabulary(source, keys, vocab_size)
        found[key] = CheckpointFacts(sha256="", config=keys)
    return found


def _facts_of(
    recipe: Recipe, vocab_size: int, checkpoints: dict[str, CheckpointFacts] | None = None
) -> CorpusFacts:
    return CorpusFacts(
        context_length=recipe.context_length,
        vocab_size=vocab_size,
        eos_token_id=0,
        tokenizer_sha256="",
        domains={},
        checkpoints=checkpoints or {},
    )


def rehearse_runs(recipe: Recipe, section: str, training: Training, facts: CorpusFacts | None) -> None:
    """Build once, with hardly a weight, what every run of a section builds before its first step.

    Args:
        recipe: The recipe.
        section: What to call it: `proxy`, `proxies.1` or `train`.
        training: The section.
        facts: Of its corpus, if known; else the size of its vocabulary is anything.

    Raises:
        TrainingError: Model, arguments, optimiser or schedule cannot be built as asked, or the loss of the
            model is not the mean over a step.
    """
    from regmix_hf.training.models import build_config, check_loss, skeleton
    from regmix_hf.training.rehearsal import rehearse

    spec = planned_spec(recipe, facts or _facts_of(recipe, _ANY_VOCABULARY), training)
    config = build_config(spec.model, spec.context_length)
    check_loss(config)
    rehearse(spec, skeleton(config), training.training_args, section=section)


def planned_model(recipe: Recipe, training: Training, facts: CorpusFacts) -> ModelFacts:
    """Return the size and cost of the model that `training` asks for.

    Args:
        recipe: The recipe.
        training: One of its `rungs`, or its `train`.
        facts: Of its corpus: at least the size of the vocabulary.

    Raises:
        TrainingError: There is no such preset or architecture.
    """
    from regmix_hf.training.models import build_config, model_facts

    config = build_config(model_config(training.model, facts), recipe.context_length)
    return model_facts(config, recipe.context_length)


def planned_size(recipe: Recipe, training: Training, facts: CorpusFacts) -> tuple[int, int]:
    """Return parameters (all weights) and tokens of every run that `training` asks for, as results say them.

    Raises:
        TrainingError: There is no such preset or architecture.
    """
    num_parameters = planned_model(recipe, training, facts).num_parameters
    return num_parameters, planned_spec(recipe, facts, training).num_tokens
