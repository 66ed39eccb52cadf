"""The loss of a mixture of experts, on a line through the runs that there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.readable import count_of
from regmix_hf.regression.base import Array, MixtureEstimator
from regmix_hf.regression.expert_tokens import ExpertTokens, MixedLoss
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.storage import array_file, within

#: The slope is drawn to 1 as if by so many runs: a model trained on a mixture differs between mixtures about
#: as much as the mixture of experts does.
_RUNS_FOR_SLOPE_1 = 2.0
#: Where losses would fall as the formula rises, the slope is this: nearly nothing, and the formula's order.
_LEAST_SLOPE = 1e-3
#: And this where they rise far more than it does (0.68 to 1.62 in seven studies): runs hardly differ in it
#: there, and a line through them promised losses below 0 elsewhere.
_MOST_SLOPE = 3.0


class Experts(MixtureEstimator):
    """`loss_t(w) = offset_t + slope_t f_t(w)` with `f_t(w) = -mean_x log sum_d w_d p_d(x)`.

    `p_d(x)` is the probability that a model trained on domain `d` alone gives token `x` of the target's text
    (Belenki et al. 2025, arXiv 2502.15950; Thudi et al. 2025, "MixMin"). Offset and slope come from runs on
    mixtures, the slope drawn to 1 as if by two runs, for what the formula does not know is the scale: without
    any run it ranks mixtures, and its numbers are no promise. It is convex, so the best mixture is found.
    A run that is itself one of the experts has no part in the line, and judges nothing (`of_experts`).

    It is fitted beside experts (`fit(..., experts=...)`), and cannot be without. A target that they were not
    asked about is predicted by the mean of the runs.

    Args:
        random_state: Seed of the folds.

    Attributes:
        offset_: One per target, in its unit.
        slope_: One per target, above 0, and 3 at most.
        tokens_: What the experts give each token of the targets.

    >>> logs = np.log([[0.9, 0.2], [0.1, 0.6]]).astype(np.float16)  # two experts, two tokens
    >>> tokens = ExpertTokens(np.eye(2), (logs,), (1.0,))
    >>> model = Experts().fit(np.empty((0, 2)), np.empty((0, 1)), experts=tokens)
    >>> model.predict([[1.0, 0.0], [0.5, 0.5]]).round(2).ravel()
    array([0.86, 0.8 ])
    """

    takes_experts: ClassVar = True
    needs_experts: ClassVar = True
    ranks_all_sizes: ClassVar = True
    is_convex: ClassVar = True
    is_smooth = True
    arrays: ClassVar = {"offset_": ("targets",), "slope_": ("targets",)}

    offset_: Array
    slope_: Array
    tokens_: ExpertTokens
    _mixed: list[MixedLoss]

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    @classmethod
    def min_runs(cls, num_domains: int) -> int:
        """None: without runs it ranks mixtures."""
        return 0

    @property
    def reach(self) -> Array | None:
        """As much of each domain as an expert was trained on."""
        return np.asarray(self.tokens_.weights.max(axis=0))

    def out_of_fold(self, X: ArrayLike, y: ArrayLike, own: Sequence[int]) -> Array:
        """Predict each run by a line that saw neither it nor its mixture; the formula saw none of them."""
        if not np.size(X):
            return np.empty((0, self.num_targets_))
        weights = self._check_predictable(X)
        losses = np.asarray(y, dtype=np.float64).reshape(len(weights), -1)
        formula, predicted = self._formula(weights), np.empty_like(losses)
        folds = np.zeros(len(weights), dtype=np.intp)  # one mixture alone leaves no other runs
        if len(np.unique(weights, axis=0)) > 1:
            folds = assign_folds(weights, self._num_folds(len(weights)), self.random_state, "out of fold")
        for fold in range(folds.max() + 1):
            held_out = folds == fold
            offset, slope = fit_lines(formula[~held_out], losses[~held_out])
            predicted[held_out] = offset + slope * formula[held_out]
        return predicted

    def select_targets(self, targets: Sequence[int]) -> Self:
        """Return a fitted copy that predicts only the targets at these positions."""
        part = super().select_targets(targets)
        part.tokens_ = self.tokens_.of_targets(targets)
        part._mixed = [self._mixed[target] for target in targets]
        return part

    def save(self, folder: Path, part: str = "") -> None:
        """Write the lines, and what the experts give each token."""
        super().save(folder, part)
        self.tokens_.save(array_file(folder, within(part, "tokens")))

    def load(self, folder: Path, part: str = "", *, num_domains: int, num_targets: int) -> Self:
        """Read what `save` wrote."""
        super().load(folder, part, num_domains=num_domains, num_targets=num_targets)
        file = array_file(folder, within(part, "tokens"))
        self.tokens_ = ExpertTokens.load(file, num_domains=num_domains, num_targets=num_targets)
        if len(self.tokens_.without_expert):
            raise RegressionError(
                f"{file} lacks experts of {count_of(len(self.tokens_.without_expert), 'domain')}."
            )
        self._mixed = self.tokens_.mixed()
        return self

    def sampling_errors(self, weights: Array) -> Array:
        """Standard error of the difference between two mixtures, `(2, d) -> (t,)`, as tokens are a sample."""
        return np.array([mixed.sampling_error(weights) for mixed in self._mixed]) * self.slope_

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        if self._experts is None:
            raise RegressionError(
                "Experts cannot be fitted without experts.", "give them: fit(..., experts=...)"
            )
        if (self._experts.weights.shape[1], len(self._experts.logs)) != (weights.shape[1], losses.shape[1]):
            raise RegressionError("experts: give them for the domains and targets of the fit.")
        self.tokens_ = self._experts
        self._mixed = self.tokens_.mixed()
        self.offset_, self.slope_ = fit_lines(self._formula(weights), losses)

    def _formula(self, weights: Array) -> Array:
        """`f` of each target, runs x targets."""
        return np.stack([mixed(weights) for mixed in self._mixed], axis=1)

    def _predict(self, weights: Array) -> Array:
        return np.asarray(self.offset_ + self.slope_ * self._formula(weights))

    def _gradient(self, weights: Array) -> Array:
        slopes = np.stack([mixed.slope(weights) for mixed in self._mixed], axis=1)
        return np.asarray(self.slope_[:, None] * slopes)

    def _numbers_per_row(self) -> int:
        return max(1, min(4096, max(len(mixed.given.relative) for mixed in self._mixed)))


def fit_lines(formula: Array, losses: Array) -> tuple[Array, Array]:
    """Offset and slope of each target: least squares, drawn towards the slope 1."""
    lines = [_line(*pair) for pair in zip(formula.T, losses.T, strict=True)]
    return np.array([offset for offset, _ in lines]), np.array([slope for _, slope in lines])


def _line(formula: Array, loss: Array) -> tuple[float, float]:
    known = ~np.isnan(loss)
    if not known.any():
        return 0.0, 1.0
    mean, level = formula[known].mean(), loss[known].mean()
    away, count = formula[known] - mean, float(known.sum())
    squares = float(away @ away)
    slope = 1.0
    if squares > 0:
        fitted = float(away @ loss[known]) / squares
        slope = (count * fitted + _RUNS_FOR_SLOPE_1) / (count + _RUNS_FOR_SLOPE_1)
    slope = min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)
    return float(level - slope * mean), slope
