"""The kernel of `regmix_hf.training.odds` for GPUs from Hopper on: imported where Triton is."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

_LOG2_E = 1.4426950408889634
#: Tokens and words of a tile, and how much of the width is multiplied at once.
_TOKENS, _WORDS, _WIDTH = 128, 256, 64
_WARPS, _STAGES = 8, 3


@triton.jit
def _above(logits, label, inside, SCALE: tl.constexpr, HIGHEST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Odds of a tile; what is not a number stays so."""
    powers = tl.minimum(logits * SCALE - label[:, None], HIGHEST, propagate_nan=tl.PropagateNan.ALL)
    return tl.where(inside[None, :], tl.exp2(powers), 0.0)


@triton.jit
def _odds(  # type: ignore[no-untyped-def]
    rows, weight, odds, chosen, sums, num_tokens, num_words, width, num_programs,
    TOKENS: tl.constexpr, WORDS: tl.constexpr, WIDTH: tl.constexpr,
    SCALE: tl.constexpr, HIGHEST: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    HALF: tl.constexpr = WORDS // 2
    down = tl.cdiv(num_tokens, TOKENS)
    for tile in tl.range(tl.program_id(0), down * tl.cdiv(num_words, WORDS), num_programs, flatten=True):
        token, word = (tile % down) * TOKENS, (tile // down) * WORDS
        logits = tl.zeros((TOKENS, WORDS), dtype=tl.float32)
        for part in range(tl.cdiv(width, WIDTH)):
            some = rows.load([token, part * WIDTH])
            logits = tl.dot(some, weight.load([word, part * WIDTH]).T, logits)
        places = token + tl.arange(0, TOKENS)
        label = tl.load(chosen + places, mask=places < num_tokens, other=0.0) * SCALE
        # In two halves: the second is computed while the first is written.
        first, second = logits.reshape(TOKENS, 2, HALF).permute(0, 2, 1).split()
        words = word + tl.arange(0, HALF)
        left = _above(first, label, words < num_words, SCALE, HIGHEST)
        if KEPT:
            odds.store([token, word], left.to(odds.dtype))
        right = _above(second, label, words + HALF < num_words, SCALE, HIGHEST)
        if KEPT:
            odds.store([token, word + HALF], right.to(odds.dtype))
        total = tl.sum(left, 1) + tl.sum(right, 1)
        tl.store(sums + (tile // down) * num_tokens + places, total, mask=places < num_tokens)


def _aligned(matrix: torch.Tensor) -> torch.Tensor:
    """As tensor descriptors want it; a weight may be a part of a larger one that FSDP flattened."""
    matrix = matrix.contiguous()
    return matrix.clone() if matrix.data_ptr() % 16 else matrix


def launch(
    rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor, made: torch.Tensor | None, highest: float
) -> torch.Tensor:
    """Write the odds of all words against the labels into `made`, if it is there, and return their sums.

    Args:
        rows: bf16, shape `(tokens, width)`.
        weight: bf16, shape `(words, width)`.
        chosen: Logit of every label, float32, shape `(tokens,)`.
        made: bf16, shape `(tokens, words)`.
        highest: Odds are at most e to the power of this many nats.

    Returns:
        float32, shape `(tokens,)`.
    """
    (num_tokens, width), num_words = rows.shape, len(weight)
    across = triton.cdiv(num_words, _WORDS)
    sums = torch.empty((across, num_tokens), dtype=torch.float32, device=rows.device)
    tile = TensorDescriptor.from_tensor(_aligned(rows), [_TOKENS, _WIDTH])
    kept = tile if made is None else TensorDescriptor.from_tensor(made, [_TOKENS, _WORDS // 2])
    programs = torch.cuda.get_device_properties(rows.device).multi_processor_count if rows.is_cuda else 1
    _odds[(min(programs, triton.cdiv(num_tokens, _TOKENS) * across),)](
        tile,
        TensorDescriptor.from_tensor(_aligned(weight), [_WORDS, _WIDTH]),
        kept,
        chosen.contiguous(),
        sums,
        num_tokens,
        num_words,
        width,
        programs,
        _TOKENS,
        _WORDS,
        _WIDTH,
        _LOG2_E,
        highest * _LOG2_E,
        made is not None,
        num_warps=_WARPS,
        num_stages=_STAGES,
    )
    return sums.sum(0)
