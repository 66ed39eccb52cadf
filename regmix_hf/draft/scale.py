"""How large a first study may be: models and runs for the text there is and the machine it runs on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from regmix_hf.corpus.read_facts import size_of
from regmix_hf.errors import DataError
from regmix_hf.runs.spending import experts_win


@dataclass(frozen=True)
class Scale:
    """Models and arguments that were tried together.

    Attributes:
        origin: The recipe that they are taken from.
        context_length: Tokens of a block.
        vocab_size: Of the BPE that is trained on the text.
        bytes_per_token: About, with such a vocabulary.
        model: Of proxies and final models.
        num_blocks: Of one step.
        most_tokens: Of a proxy run.
        training_args: Beside the batch.
        max_validation_tokens: Per domain.
        hours: What proxies and final models may take on this machine.
    """

    origin: str
    context_length: int
    vocab_size: int
    bytes_per_token: float
    model: str
    num_blocks: int
    most_tokens: int
    training_args: tuple[str, ...]
    max_validation_tokens: int
    hours: float

    @property
    def tokens_of_step(self) -> int:
        """Tokens of one step on one device."""
        return self.num_blocks * self.context_length

    def num_tokens(self, num_bytes: int) -> int:
        """Tokens of so much text, about."""
        return int(num_bytes / self.bytes_per_token)


#: Values of recipes/quickstart and recipes/pile-17, whose READMEs say how they were found.
CPU = Scale(
    *("recipes/quickstart", 128, 2048, 3.0, "{preset: tiny, num_hidden_layers: 1}", 8, 409_600),
    ("learning_rate: 3e-3", "adam_beta2: 0.99", "use_cpu: true"),
    *(8_192, 0.25),
)
GPU = Scale(
    *("recipes/pile-17", 2048, 32_768, 4.0, "{preset: regmix-1m}", 64, 1_048_576_000),
    ("learning_rate: 4e-4", "adam_beta2: 0.95", "weight_decay: 0.1", "bf16: true"),
    *(1_048_576, 8.0),
)
#: How often a final model may read a domain; a uniform mixture that reads a small one more often is left out.
MAX_EPOCHS = 4
#: Steps below which a run says little.
_LEAST_STEPS = 100


@dataclass(frozen=True)
class Budget:
    """Runs of a study.

    Attributes:
        num_tokens: Of all the text, about.
        proxy_tokens: Of a proxy run.
        num_mixtures: To fit on.
        num_holdout: To test on.
        experts: Whether there is an expert of each domain, too.
    """

    scale: Scale
    num_tokens: int
    proxy_tokens: int
    num_mixtures: int
    num_holdout: int
    experts: bool

    @property
    def final_tokens(self) -> int:
        """Of a final run, half as much again as of a proxy: little text is read more than once."""
        return self.proxy_tokens + self.proxy_tokens // 2

    @property
    def max_epochs(self) -> float:
        """Of a mixture of the swarm over all the text: no proxy reads a domain more often than a final model.

        So it may have half as much again of one as `choice` may give it: its tokens are not counted yet.
        """
        length = max(self.num_tokens, self.proxy_tokens)
        return math.floor(10 * MAX_EPOCHS * length / self.proxy_tokens) / 10

    @property
    def warmup_steps(self) -> int:
        """A tenth of a proxy's steps."""
        return self.proxy_tokens // self.scale.tokens_of_step // 10

    def within(self, seconds: float) -> Budget:
        """Shorter runs, if all of them take `seconds` and that is more than the scale allows."""
        share = min(1.0, self.scale.hours * 3600 / seconds)
        return replace(self, proxy_tokens=_runs(self.scale, share * self.proxy_tokens))


def first_budget(num_bytes: int, num_domains: int, *, num_gpus: int) -> Budget:
    """What the text suffices for: no proxy reads more than there is.

    Args:
        num_bytes: Of text in all domains.
        num_domains: Domains that are trained on.
        num_gpus: GPUs that can be used. With too little text for a GPU's models, it is the CPU's.

    Raises:
        DataError: There is too little text for any study.
    """
    scale = GPU if num_gpus and _steps(GPU, num_bytes) >= _LEAST_STEPS else CPU
    if _steps(scale, num_bytes) < _LEAST_STEPS:
        least = _LEAST_STEPS * scale.tokens_of_step * scale.bytes_per_token
        raise DataError(
            f"{size_of(num_bytes)} of text are too little: {_LEAST_STEPS} steps of the smallest model "
            f"read {size_of(round(least))}.",
            "give it more text",
        )
    num_runs = max(20, 3 * num_domains)
    tokens = _runs(scale, min(scale.most_tokens, scale.num_tokens(num_bytes)))
    experts = experts_win(num_domains, num_runs, tokens)
    num_mixtures = num_runs - num_domains if experts else num_runs
    return Budget(scale, scale.num_tokens(num_bytes), tokens, num_mixtures, max(4, num_runs // 8), experts)


def _steps(scale: Scale, num_bytes: int) -> int:
    return scale.num_tokens(num_bytes) // scale.tokens_of_step


def _runs(scale: Scale, num_tokens: float) -> int:
    """Tokens in whole steps, not too few of them."""
    return max(_LEAST_STEPS, int(num_tokens) // scale.tokens_of_step) * scale.tokens_of_step
