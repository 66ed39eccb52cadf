"""How much likelier every word is than the label, for a loss that passes over its logits once.

With `c` the logit of a label, the odds of the words are `exp(logit - c)`: their sum is `exp(loss)`, and
over that sum they are the softmax. So the product that makes the logits can write odds in their place and sum
them up on its way, and nothing passes over them again but the two products of the gradient, whose small sides
are scaled.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch

#: Odds are at most e to the power of this many nats, so that bf16 holds them and float32 their sum. A token
#: with a greater loss counts as if it had about this one.
HIGHEST = 75.0
#: Rows of matrices are read in pieces that begin at multiples of this many bf16.
_ALIGNED = 8


def fits(weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    """Tell whether the kernel takes a head of this weight, `(words, width)`. It was tried on Hopper."""
    on_gpu = weight.device.type == "cuda" and not torch.version.hip
    if not on_gpu or torch.cuda.get_device_capability(weight.device)[0] != 9:
        return False
    has_triton = find_spec("triton") is not None and find_spec("triton.tools.tensor_descriptor") is not None
    return has_triton and bias is None and all(size % _ALIGNED == 0 for size in weight.shape)


@torch.library.custom_op("regmix_hf::odds", mutates_args=())
def odds_and_sums(
    rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the odds of all words against the labels.

    Args:
        rows: Hidden states, shape `(tokens, width)`.
        weight: Of the head, shape `(words, width)`, of the same type.
        chosen: Logit of every label, float32, shape `(tokens,)`.
        places: The labels, shape `(tokens,)`.

    Returns:
        The odds, of the type of `rows` and shape `(tokens, words)`, where in the place of the label stands 1
        less their sum: over the sum they are the gradient of the loss to the logits. And the sums, float32.
    """
    made = (rows.float() @ weight.float().T).sub_(chosen[:, None]).clamp_(max=HIGHEST).exp_()
    sums = made.sum(1)
    made.scatter_(1, places[:, None], (1 - sums)[:, None])
    return made.to(rows.dtype), sums


@odds_and_sums.register_kernel("cuda")
def _(
    rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    from regmix_hf.training.odds_kernel import launch

    made = rows.new_empty(len(rows), len(weight))
    sums = launch(rows, weight, chosen, made, HIGHEST)
    made.scatter_(1, places[:, None], (1 - sums).to(made.dtype)[:, None])
    return made, sums


@odds_and_sums.register_fake
def _(
    rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return rows.new_empty(rows.shape[0], weight.shape[0]), torch.empty_like(chosen)


@torch.library.custom_op("regmix_hf::sums_of_odds", mutates_args=())
def sums_of_odds(rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Sum up the odds of all words against the labels, and keep none of them; see `odds_and_sums`."""
    return odds_and_sums(rows, weight, chosen, torch.zeros_like(chosen, dtype=torch.int64))[1]


@sums_of_odds.register_kernel("cuda")
def _(rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    from regmix_hf.training.odds_kernel import launch

    return launch(rows, weight, chosen, None, HIGHEST)


@sums_of_odds.register_fake
def _(rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(chosen)
