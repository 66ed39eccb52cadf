"""A trained model as it has to be asked, and the numbers that come of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

#: Logits of one batch stay below this, so that memory does not depend on the vocabulary.
_LOGITS_BYTES = {"cpu": 32 << 20, "cuda": 2 << 30}


@dataclass(frozen=True)
class LanguageModel:
    """Where a model lies and how it was trained, which is how it has to be asked.

    Attributes:
        folder: A folder that `AutoModelForCausalLM.from_pretrained` loads.
        tokenizer: A folder that `AutoTokenizer.from_pretrained` loads.
        context_length: Tokens of a training block; never asked with more.
        eos_token_id: What stood before every document in training, so also here.
        device: `cpu` or `cuda`.
        halvings: How often `batch_size` is halved, down to 1: for a model that leaves too little memory.
    """

    folder: Path
    tokenizer: Path
    context_length: int
    eos_token_id: int
    device: str
    halvings: int = 0

    @cached_property
    def batch_size(self) -> int:
        """Texts of `context_length` tokens at once."""
        from transformers import AutoConfig

        vocab_size = AutoConfig.from_pretrained(self.folder, trust_remote_code=False).vocab_size
        most = _LOGITS_BYTES[self.device] // (4 * vocab_size * self.context_length)
        return max(1, most >> self.halvings)


@dataclass(frozen=True)
class Score:
    """One number that was measured on one model.

    Attributes:
        task: `validation` for the losses over whole validation sets, else the task's name in lm-eval or
            in the recipe (`held_out_text`).
        domain: The domain whose text was scored, or `None` for tasks that have none.
        num_fewshot: Solved examples shown before each question.
        metric: Its name in lm-eval; `loss` is in nats per token, `bits_per_byte` in bits per byte.
        value: `None` when it was not finite.
        stderr: Standard error of `value` over documents (or blocks), `None` where there is none.
        num_samples: Documents (or blocks) it was measured on.
        higher_is_better: Which way is up, `None` when the task does not say.
    """

    task: str
    domain: str | None
    num_fewshot: int
    metric: str
    value: float | None
    stderr: float | None
    num_samples: int
    higher_is_better: bool | None


def finite(value: Any) -> float | None:
    """A float, or `None` for NaN, infinities and lm-eval's "N/A"."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
