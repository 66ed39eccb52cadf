"""The next-token loss of a causal language model without all of its logits at once.

A micro-batch of 64 blocks of 2,048 tokens over 50,432 words has 6.6e9 logits, 26 GB in float32, and as much
again for their gradient: more than the model itself by far. The loss needs them only a part at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss
from transformers.modeling_outputs import CausalLMOutput

from regmix_hf.training import odds
from regmix_hf.training.blocks import IGNORED

#: Logits that may exist at once (1 GiB in float32). A micro-batch with more of them is scored in parts.
LOGITS_AT_ONCE = 1 << 28
#: As many times more of them in a part that is compiled, where they exist in bf16 only. One part more takes
#: a third of a second to compile, and the compiler holds several at once.
_COMPILED_FACTOR = 4
#: Parts are a multiple of this many tokens, which matrix units like.
_TOKENS_MULTIPLE = 128
#: Powers of two, so that they leave every weight as it was: see `_splits`.
_LARGE, _LARGE_INVERSE = 2.0**10, 2.0**-10


class LossHead(nn.Linear):
    """A linear output head that answers with losses where labels are given.

    As a module of its own it is called for every loss, so that what shards, gathers or casts weights around
    calls of modules does it here as well.

    Attributes:
        backend: Of `torch.compile`, for losses without a gradient, which nobody else compiles; `None`: none.
        by_odds: Whether losses in bf16 are computed by the kernel that passes over logits once.
    """

    backend: str | None = None
    by_odds: bool = False

    @classmethod
    def around(cls, head: nn.Linear, backend: str | None = None) -> LossHead:
        """Make one with the very weights of `head`."""
        made = cls(head.in_features, head.out_features, head.bias is not None, device="meta")
        made.weight, made.bias, made.backend = head.weight, head.bias, backend
        made.by_odds = odds.fits(head.weight, head.bias)
        return made

    def forward(
        self, hidden: torch.Tensor, labels: torch.Tensor | None = None, reduction: str = "none"
    ) -> torch.Tensor:
        """Return logits without `labels`, losses with them.

        Args:
            hidden: Last hidden states, shape `(..., in_features)`.
            labels: What each position is to predict, of shape `(...)`; `IGNORED` counts nothing.
            reduction: `sum`, a scalar with a gradient; or without one `none`, of the shape of `labels`, or
                `rivals`, twice that: the losses, and how far the likeliest logit is above the label's.
        """
        if labels is None:
            return super().forward(hidden)
        rows, targets = hidden.flatten(0, -2), labels.flatten()
        by_odds = self.by_odds and _dtype_of_products(hidden) == torch.bfloat16
        if reduction == "sum":
            summed = _SummedByOdds if by_odds else _SummedLoss
            loss: torch.Tensor = summed.apply(rows, self.weight, self.bias, targets)
            return loss
        plain = _with_rivals if reduction == "rivals" else _losses_by_odds if by_odds else _losses
        losses_of = _compiled(plain, self.backend) if self.backend else plain
        with torch.no_grad():
            step = tokens_at_once(len(rows), self.out_features, compiled=self.backend is not None)
            parts = zip(rows.detach().split(step), targets.split(step), strict=True)
            losses = [losses_of(part, self.weight, self.bias, target) for part, target in parts]
        return torch.cat(losses, dim=-1).unflatten(-1, labels.shape)


def _losses(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    logits = functional.linear(hidden, weight, bias).float()
    return functional.cross_entropy(logits, targets, reduction="none")


def _losses_by_odds(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    rows, factor = hidden.to(torch.bfloat16), weight.to(torch.bfloat16)
    sums = odds.sums_of_odds(rows, factor, _chosen(rows, factor, targets))
    return torch.where(targets != IGNORED, sums.log(), 0.0)


def _chosen(rows: torch.Tensor, factor: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits of the labels alone, in float32."""
    return (rows.float() * factor[labels.clamp_min(0)].float()).sum(1)


def _with_rivals(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    return _losses_and_rivals(functional.linear(hidden, weight, bias).float(), targets)


def _losses_and_rivals(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    losses = functional.cross_entropy(logits, targets, reduction="none")
    chosen = logits.gather(1, targets.clamp_min(0)[:, None])[:, 0]
    return torch.stack([losses, logits.amax(1) - chosen])


@cache
def _compiled(function: Callable[..., torch.Tensor], backend: str) -> Callable[..., torch.Tensor]:
    """A function that has most of its time in passing over logits, in one pass."""
    compiled: Callable[..., torch.Tensor] = torch.compile(function, backend=backend)
    return compiled


def tokens_at_once(num_tokens: int, vocab_size: int, *, compiled: bool = False) -> int:
    """Cut `num_tokens` into equal parts of at most `LOGITS_AT_ONCE` logits; return the tokens of a part.

    Where parts are compiled they have `_COMPILED_FACTOR` times as many.
    """
    limit = LOGITS_AT_ONCE * (_COMPILED_FACTOR if compiled else 1)
    parts = -(-num_tokens * vocab_size // limit)
    if parts <= 1:
        return num_tokens
    # Rounded up, else a few tokens are left for a part.
    multiples = -(-num_tokens // (parts * _TOKENS_MULTIPLE))
    if multiples > 1 and multiples * _TOKENS_MULTIPLE * vocab_size > limit:
        multiples -= 1
    return multiples * _TOKENS_MULTIPLE


class _SummedLoss(torch.autograd.Function):
    """Sum of the cross-entropies of `hidden @ weight.T + bias`.

    The forward pass knows all that the gradient needs: it computes it part by part and keeps it, a matrix of
    the shape of `hidden` and one of `weight`, so no logit is computed twice. (Liger's kernel does the same,
    arXiv 2410.10989, section 3.2.)
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        dtype = _dtype_of_products(hidden)
        factor = weight.to(dtype)
        needs_hidden, needs_weight, needs_bias, _ = ctx.needs_input_grad
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias and bias is not None else None
        grad_hidden = []
        step = tokens_at_once(len(hidden), len(weight), compiled=torch.compiler.is_compiling())
        for rows, labels in zip(hidden.split(step), targets.split(step), strict=True):
            rows = rows.to(dtype)
            logits = functional.linear(rows, factor, None if bias is None else bias.to(dtype)).float()
            loss, grad = _loss_and_gradient(logits, labels)
            total = total + loss
            if needs_hidden:
                grad_hidden.append((grad.to(dtype) @ factor).to(hidden.dtype))
            if grad_weight is not None:
                grad_weight += grad.to(dtype).T @ rows
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        ctx.save_for_backward(
            torch.cat(grad_hidden) if needs_hidden else None,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor | None, ...]:
        saved = [None if kept is None else kept * grads[0].to(kept.dtype) for kept in ctx.saved_tensors]
        return (*saved, None)


class _SummedByOdds(_SummedLoss):
    """The same from odds, in bf16: see `regmix_hf.training.odds`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        factor = weight.to(torch.bfloat16)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_hidden = []
        # There are odds in bf16, and no logits.
        step = tokens_at_once(len(hidden), len(weight), compiled=True)
        for rows, labels in zip(hidden.split(step), targets.split(step), strict=True):
            rows = rows.to(torch.bfloat16)
            counted = labels != IGNORED
            found, sums = odds.odds_and_sums(rows, factor, _chosen(rows, factor, labels), labels.clamp_min(0))
            scale = torch.where(counted, 1 / sums, 0.0).unsqueeze(1)
            total = total + torch.where(counted, sums.log(), 0.0).sum()
            grad_hidden.append(((found @ factor) * scale).to(hidden.dtype))
            grad_weight += found.T @ (rows * scale).to(torch.bfloat16)
        ctx.save_for_backward(torch.cat(grad_hidden), grad_weight.to(weight.dtype), None)
        return total


def _dtype_of_products(hidden: torch.Tensor) -> torch.dtype:
    """What `nn.Linear` would multiply in: autocast's type where it is on."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _loss_and_gradient(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed loss of float32 `logits` (tokens, words) and its gradient to them.

    The gradient takes the place of `logits`. Compiled, words are compared and nothing is scattered, so that
    all of it is one kernel and no float32 logit is ever written.
    """
    counts = (labels != IGNORED).unsqueeze(1)
    places = labels.clamp_min(0).unsqueeze(1)
    normalisers = logits.logsumexp(1, keepdim=True)
    loss = ((normalisers - logits.gather(1, places)) * counts).sum()
    if torch.compiler.is_compiling():
        words = torch.arange(logits.shape[1], device=logits.device)
        return loss, ((logits - normalisers).exp() - (words == places).float()) * counts
    gradient = logits.sub_(normalisers).exp_()
    gradient.scatter_add_(1, places, gradient.new_full((1, 1), -1.0).expand_as(places))
    return loss, gradient.mul_(counts)


def score_in_parts(model: PreTrainedModel, *, train: bool = True, backend: str | None = None) -> None:
    """Let a causal language model answer with its loss alone, in parts where its logits would be too many.

    Afterwards `model(input_ids=..., labels=...)` gives a loss and no logits where the batch has more than
    `LOGITS_AT_ONCE`, and is what it was elsewhere. And `model(input_ids=..., labels=..., reduction="none")`
    gives the loss of every token in nats, of the shape of `labels`, 0 where a label is `IGNORED`; without a
    gradient. With `targets` in the place of `labels`, which say what each position itself is to predict, only
    those positions are scored that have one, and in the place of logits stands how far the likeliest one is
    above the target's: 0 where the model itself would have written it. A model whose logits are no linear map
    of its base model's output makes them all, as before.

    Args:
        model: On its device, not yet wrapped, sharded or compiled.
        train: Whether a loss with a gradient is computed in parts too; `False` leaves it to the model, for
            kernels that do it themselves.
        backend: Of `torch.compile`, for losses without a gradient; `None`: they are not compiled. Those with
            one are compiled by whoever compiles the model.
    """
    plain = model.forward
    head = model.get_output_embeddings()
    splits = _splits(model)
    if splits:
        model.set_output_embeddings(LossHead.around(head, backend))

    def forward(
        self: PreTrainedModel,
        input_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        reduction: str = "mean",
        targets: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if targets is not None:
            losses, rivals = _losses_of(self, plain, splits, input_ids, targets)
            return CausalLMOutput(loss=losses, logits=rivals)
        if labels is None:
            return plain(input_ids=input_ids, **kwargs)
        each = reduction == "none"
        many = train and labels.numel() * self.config.vocab_size > LOGITS_AT_ONCE
        if not each and not (splits and many):
            if num_items_in_batch is not None:
                kwargs["num_items_in_batch"] = num_items_in_batch
            return plain(input_ids=input_ids, labels=labels, **kwargs)
        targets = functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
        if not splits:
            logits = plain(input_ids=input_ids, **kwargs).logits.flatten(0, 1)
            losses = functional.cross_entropy(logits.float(), targets.flatten(), reduction="none")
            return CausalLMOutput(loss=losses.view_as(labels))
        hidden = self.base_model(input_ids=input_ids, **kwargs)[0]
        loss = self.get_output_embeddings()(hidden, targets, reduction="none" if each else "sum")
        if not each:
            counted = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            loss = loss / counted
        return CausalLMOutput(loss=loss)

    model.forward = MethodType(forward, model)


@torch.no_grad()
def _losses_of(
    model: PreTrainedModel,
    plain: Callable[..., Any],
    splits: bool,
    input_ids: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Losses and rivals of the positions that have a target, 0 elsewhere: twice the shape of `targets`."""
    scored = targets != IGNORED
    both = torch.zeros((2, *targets.shape), dtype=torch.float32, device=targets.device)
    if splits:
        hidden = model.base_model(input_ids=input_ids)[0][scored]
        both[:, scored] = model.get_output_embeddings()(hidden, targets[scored], reduction="rivals").float()
    else:
        logits = plain(input_ids=input_ids).logits[scored].float()
        both[:, scored] = _losses_and_rivals(logits, targets[scored])
    return both


@torch.no_grad()
def _splits(model: PreTrainedModel) -> bool:
    """Tell whether the logits are the head's product with the base model's output, by trying it.

    With large weights in the head, as what caps logits leaves small ones nearly alone.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or model.base_model is model or model.loss_function is not ForCausalLMLoss:
        return False
    was_training = model.training
    model.eval()
    head.weight *= _LARGE
    try:
        input_ids = torch.arange(4, device=head.weight.device)[None] % model.config.vocab_size
        logits = model(input_ids=input_ids).logits
        product = head(model.base_model(input_ids=input_ids)[0])
        return logits.shape == product.shape and torch.allclose(logits, product, rtol=1e-3)
    finally:
        head.weight *= _LARGE_INVERSE
        model.train(was_training)
