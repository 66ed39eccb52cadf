"""Every family of causal language models, tried small: `python -m tests.families [TYPE ...]`.

Prints a line for each: `ok`, `refused` with the reason that a recipe is told, `cannot be built tiny`, or what
is WRONG with one that is not refused; then it exits with 1.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections import Counter
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from regmix_hf.errors import TrainingError
from regmix_hf.training.models import build_config, build_model, check_loss, model_facts

#: A few of each kind, for the gate: dense, experts, windows, recurrence, encoders, encoder-decoders.
SAMPLE = (
    "llama",
    "gpt2",
    "gpt_neox",
    "qwen3_moe",
    "mixtral",
    "bloom",
    "gemma2",
    "mamba",
    "bert",
    "bart",
    "cpmant",
)
CONTEXT_LENGTH = 16
#: What a recipe's model is told by its corpus.
CORPUS = {"vocab_size": 64, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 0}
#: Keys that make a model small, where it has them; the first set that gives a model that runs is taken.
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
HEADS = {"head_dim": 8, "rotary_dim": 8}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
TRIALS = (
    {**SIZES, **HEADS, **EXPERTS, **LATENT},
    {**SIZES, **EXPERTS},
    SIZES,
    {"num_hidden_layers": 2, "pad_token_id": 0},
    {},
)
#: Parameters above which a model is not tried.
MOST_PARAMETERS = 300_000_000


def judge(model_type: str) -> str:
    """Say of a family whether recipes may use it, and whether that is right."""
    extra = {"is_decoder": True} if _has(model_type, "is_decoder") else {}
    reason = "cannot be built tiny"
    for sizes in TRIALS:
        keys = {key: size for key, size in sizes.items() if _has(model_type, key)}
        try:
            config = build_config({**CORPUS, "model_type": model_type, **extra, **keys}, CONTEXT_LENGTH)
            if model_facts(config, CONTEXT_LENGTH).num_parameters > MOST_PARAMETERS:
                continue
            check_loss(config)
            return _measure(build_model(config, 0))
        except Exception as error:  # each family has its own; the last is shown
            said = " ".join(str(error).split())[:150]
            if isinstance(error, TrainingError) and error.message.startswith("model.model_type:"):
                return f"refused: {said}"
            reason = f"cannot be built tiny: {type(error).__name__}: {said}"
    return reason


def _has(model_type: str, key: str) -> bool:
    config_class = CONFIG_MAPPING[model_type]
    taken = inspect.signature(config_class.__init__).parameters
    return key in taken or config_class.attribute_map.get(key) in taken


def _measure(model: PreTrainedModel) -> str:
    model.eval()
    model.config.use_cache = False
    blocks = torch.arange(2 * CONTEXT_LENGTH).view(2, CONTEXT_LENGTH) % 60 + 1
    one, two = (
        model(input_ids=blocks, labels=blocks, num_items_in_batch=torch.tensor(count)).loss
        for count in (30, 60)
    )
    if not torch.allclose(one, 2 * two, rtol=1e-4):
        return "WRONG: its loss does not follow the tokens of a step"
    one.backward()
    if not any(p.grad is not None and p.grad.isfinite().all() for p in model.parameters()):
        return "WRONG: no gradient"
    other = blocks.clone()
    other[:, -1] = 61
    with torch.no_grad():
        seen, kept = model(input_ids=blocks).logits, model(input_ids=other).logits
    if not torch.allclose(seen[:, :-1], kept[:, :-1], atol=1e-4):
        return "WRONG: it sees tokens that are still to come"
    return "ok"


def main(model_types: list[str]) -> int:
    """Judge families, all of them by default; return the exit code."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    counts: Counter[str] = Counter()
    for model_type in model_types or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        verdict = judge(model_type)
        counts[verdict.split(":")[0]] += 1
        print(f"{model_type:<28}{verdict}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return int("WRONG" in counts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
