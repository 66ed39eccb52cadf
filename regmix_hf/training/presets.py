"""Model shapes by name, and the whole model configuration of a run. Imports no torch."""

from __future__ import annotations

from typing import Any

from regmix_hf.errors import TrainingError, did_you_mean
from regmix_hf.recipe import Model
from regmix_hf.study.corpus_facts import CheckpointFacts, CorpusFacts

#: What all presets share: Llama with SwiGLU, RMSNorm, an untied head and no biases.
_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}


def _llama(layers: int, width: int, heads: int, mlp_width: int) -> dict[str, Any]:
    return {
        **_LLAMA,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": mlp_width,
    }


#: Shapes of RegMix's proxies and 1B model (table 7 of the paper), Llama 2's 7B, and one for a CPU.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": _llama(layers=2, width=64, heads=2, mlp_width=192),
    "regmix-1m": _llama(layers=2, width=256, heads=8, mlp_width=512),
    "regmix-60m": _llama(layers=10, width=768, heads=8, mlp_width=1536),
    "regmix-1b": _llama(layers=22, width=2048, heads=16, mlp_width=5632),
    "llama-7b": _llama(layers=32, width=4096, heads=32, mlp_width=11008),
}


def checkpoint_facts(model: Model, facts: CorpusFacts) -> CheckpointFacts:
    """What is known of the model from elsewhere that `model` starts from.

    Raises:
        TrainingError: Nothing is: the corpus was prepared for another one.
    """
    found = facts.checkpoints.get(model.checkpoint or "")
    if found is None:
        raise TrainingError(
            f"model.pretrained: the corpus does not hold {model.pretrained!r}.", "run `regmix prepare`"
        )
    return found


def model_config(model: Model, facts: CorpusFacts) -> dict[str, Any]:
    """Return the keys of the `transformers` config of `model`, `model_type` included.

    The preset's keys come first, the recipe's own override them. What the corpus decides (`vocab_size`,
    `max_position_embeddings`, `bos_token_id`, `eos_token_id`) is filled in where the recipe is silent.
    A model that starts from one from elsewhere has the config of that.
    Only the names of presets are checked here; `models.build_config` checks the rest.

    Raises:
        TrainingError: The preset does not exist, or nobody has looked yet at what training starts from.
    """
    if model.checkpoint is not None:
        return {**checkpoint_facts(model, facts).config, **model.config}
    if model.preset is not None and model.preset not in PRESETS:
        raise TrainingError(
            f"model.preset: {model.preset!r} is no preset; {did_you_mean(model.preset, PRESETS)}"
        )
    shape = PRESETS[model.preset] if model.preset else {}
    named = {"model_type": model.model_type} if model.model_type else {}
    corpus = {
        "vocab_size": facts.vocab_size,
        "max_position_embeddings": facts.context_length,
        "bos_token_id": facts.eos_token_id,
        "eos_token_id": facts.eos_token_id,
    }
    return {**corpus, **shape, **named, **model.config}
