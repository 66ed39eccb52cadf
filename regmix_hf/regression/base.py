"""What every family of regressors shares: the scikit-learn contract, its checks, and how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_consistent_length, validate_data

from regmix_hf.errors import RegressionError
from regmix_hf.readable import count_of
from regmix_hf.regression.absurd import without_absurd
from regmix_hf.regression.expert_tokens import ExpertTokens
from regmix_hf.regression.folds import assign_folds
from regmix_hf.regression.intervals import Elsewhere
from regmix_hf.regression.repetition import Repetition
from regmix_hf.regression.storage import array_file, read_arrays, within, write_arrays
from regmix_hf.seeds import generator

Array = NDArray[np.float64]

#: From this many runs on, leaving out a tenth of them hardly changes a fit.
MANY_RUNS = 256
#: Fewer residuals than this tell no interval of 90 %.
ENOUGH_TO_JUDGE = 10
#: Numbers of one block of a prediction: what a family holds at once per array while it predicts.
_CHUNK_NUMBERS = 1 << 18


@dataclass(frozen=True, eq=False)
class Segment:
    """Some terms of a prediction that is a sum.

    Attributes:
        predict: Maps mixtures to the sum of these terms, `(n, d) -> (n, t)`.
        still_to_come: The least that all terms after them add to each target, `(t,)`.
    """

    predict: Callable[[Array], Array]
    still_to_come: Array


class UnfittedError(RegressionError, NotFittedError):
    """A regressor is asked for predictions before it was fitted."""


class MixtureEstimator(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A regressor from mixtures to losses, for all targets at once. Numpy in, numpy out.

    A family defines `_fit`, `_predict`, `arrays`, `min_runs` and, when its predictions are smooth in the
    weights, `_gradient`. Missing losses are NaN: each target is fitted on the runs that have it.
    """

    #: Learned arrays and the names of their dimensions; equal names mean equal lengths. `domains` and
    #: `targets` are those of the fit.
    arrays: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Those that earlier versions did not write.
    later_arrays: ClassVar[Collection[str]] = ()
    #: Learned estimators that this one is made of, by the name of their files: the attribute without its `_`.
    parts: ClassVar[Mapping[str, type[MixtureEstimator]]] = {}

    #: Whether runs of several sizes and lengths can be fitted together, and predicted `at` one.
    takes_sizes: ClassVar[bool] = False
    #: Whether what repeating text costs may be told apart from what the family fits, and added to it.
    takes_epochs: ClassVar[bool] = False

    #: Whether it listens to experts where there are some, and whether it cannot be fitted without.
    takes_experts: ClassVar[bool] = False
    needs_experts: ClassVar[bool] = False

    #: Whether it orders mixtures of runs of all sizes alike, and takes their scale from the largest.
    ranks_all_sizes: ClassVar[bool] = False

    #: Whether every target is convex in the weights, so that an optimum is the optimum.
    is_convex: ClassVar[bool] = False

    random_state: int
    n_features_in_: int
    num_targets_: int
    single_target_ = False
    #: Log parameters and log tokens of the runs to fit, runs x 2; `None` where all are of one size.
    _sizes: Array | None = None
    #: What models of single domains give each token of the targets; `None` where there are none.
    _experts: ExpertTokens | None = None
    #: What repeating text costs the runs that are predicted, beside what the family says.
    repetition_: Repetition | None = None

    @property
    def is_smooth(self) -> bool:
        """Whether `gradient` is there."""
        return False

    @property
    def reach(self) -> Array | None:
        """Largest weight of each domain up to which more than runs is known; `None`: these alone are."""
        return None

    @property
    def elsewhere(self) -> Elsewhere | None:
        """How predictions differ from those that `out_of_fold` judged; `None`: they are of the same runs."""
        return None

    def beyond(self, weights: Array) -> Array:
        """What of predictions rests on more repetition than any fitted run had, runs x targets."""
        again = self.repetition_
        return np.zeros((len(weights), self.num_targets_)) if again is None else again.beyond(weights)

    def at(self, num_parameters: float, num_train_tokens: float) -> Self:
        """Return a fitted copy whose predictions are those of runs of this size and length.

        Raises:
            RegressionError: This family knows one size only, or a number is not above 0.
        """
        raise RegressionError(
            f"{type(self).__name__} predicts runs of the size that it was fitted on.",
            "fit `scaled_law` on runs of several sizes",
        )

    @property
    def only_length(self) -> float | None:
        """Tokens that all fitted runs trained on, where `at` takes another length that no run tells of."""
        return None

    @property
    def reasons_(self) -> list[str]:
        """Why each target is predicted as it is, in words; empty for a family that has nothing to choose."""
        return []

    @classmethod
    def min_runs(cls, num_domains: int) -> int:
        """Return the fewest runs this family can be fitted on: ten, as an interval needs nine residuals."""
        return 10

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        own_domains: Sequence[int] | NDArray[np.intp] | None = None,
        sizes: ArrayLike | None = None,
        experts: ExpertTokens | None = None,
    ) -> Self:
        """Fit all targets.

        Args:
            X: Weights, runs x domains, finite and not negative.
            y: Losses, runs x targets, or one target's as a vector. NaN is a missing loss, and a loss far
                beside those of all other runs is taken for one (`find_absurd`).
            own_domains: For each target the column of `X` whose loss it is, or -1 where it is no
                domain's. Families may use it as prior knowledge. `None` is -1 everywhere.
            sizes: Parameters and training tokens of each run, runs x 2. `None`: all are alike in both.
            experts: What models of single domains give each token of the targets; families that know nothing
                of experts do without.

        Raises:
            RegressionError: Shapes that do not match, numbers that are not finite, too few runs, or runs of
                several sizes for a family that cannot tell them apart.
        """
        weights, losses = self._check_fittable(X, y)
        self.single_target_ = losses.ndim == 1
        self._sizes = (
            None if sizes is None else self._check_sizes(np.asarray(sizes, np.float64), len(weights))
        )
        self._experts = experts
        losses = without_absurd(losses[:, None] if self.single_target_ else losses, self._sizes)
        check_runs(type(self).__name__, self.min_runs(weights.shape[1]), weights, losses)
        own = np.full(losses.shape[1], -1) if own_domains is None else np.asarray(own_domains, dtype=int)
        if own.shape != (losses.shape[1],) or own.min() < -1 or own.max() >= weights.shape[1]:
            raise RegressionError(
                f"own_domains {own.tolist()}: give one column of the weights, or -1, per target."
            )
        return self._fit_unchecked(weights, losses, own)

    def predict(self, X: ArrayLike) -> Array:
        """Predict losses, runs x targets (a vector when fitted on one); large inputs go in chunks."""
        weights = self._check_predictable(X)
        rows = max(1, _CHUNK_NUMBERS // self._numbers_per_row())
        losses = np.empty((len(weights), self.num_targets_))
        for start in range(0, len(weights), rows):
            part = weights[start : start + rows]
            losses[start : start + rows] = self._predict(part)
            if self.repetition_ is not None:
                losses[start : start + rows] += self.repetition_(part)
        return losses[:, 0] if self.single_target_ else losses

    def gradient(self, X: ArrayLike) -> Array:
        """Derivatives of the predictions with respect to the weights, runs x targets x domains.

        Raises:
            RegressionError: This family's predictions are not smooth.
        """
        if not self.is_smooth:
            raise RegressionError(f"{type(self).__name__} has no gradient: its predictions are steps.")
        weights = self._check_predictable(X)
        slope = self._gradient(weights)
        return slope if self.repetition_ is None else slope + self.repetition_.slope(weights)

    def out_of_fold(self, X: ArrayLike, y: ArrayLike, own: Sequence[int]) -> Array:
        """Predict each run this was fitted on by a fit that saw neither it nor its mixture; runs x targets.

        Args:
            X: Weights, runs x domains, those of the fit.
            y: Losses, runs x targets, those of the fit.
            own: `own_domains` of the fit.
        """
        weights = self._check_predictable(X)
        losses = np.asarray(y, dtype=np.float64).reshape(len(weights), -1)
        folds = assign_folds(weights, self._num_folds(len(weights)), self.random_state, "out of fold")
        predicted = np.empty_like(losses)
        for fold in range(folds.max() + 1):
            held_out = folds == fold
            part = self._for_fold()._fit_unchecked(weights[~held_out], losses[~held_out], np.asarray(own))
            predicted[held_out] = part.predict(weights[held_out])
        return predicted

    def sampling_errors(self, weights: Array) -> Array:
        """Standard errors of the difference between two mixtures, `(2, d) -> (t,)`.

        They come from what was left out of the text that predictions rest on.
        """
        return np.zeros(self.num_targets_)

    def smooth(self) -> MixtureEstimator | None:
        """Return a fitted regressor with a gradient to stand in for this one; `None` where there is none."""
        return self if self.is_smooth else None

    def segments(self) -> list[Segment]:
        """Return the prediction as a sum, so that a search can leave a row early; empty where it is none."""
        return []

    def select_targets(self, targets: Sequence[int]) -> Self:
        """Return a fitted copy that predicts only the targets at these positions."""
        part = copy(self)
        for name, dimensions in self.arrays.items():
            if "targets" in dimensions:
                setattr(part, name, getattr(self, name).take(targets, axis=dimensions.index("targets")))
        for name in self.parts:
            setattr(part, f"{name}_", getattr(self, f"{name}_").select_targets(targets))
        if self.repetition_ is not None:
            part.repetition_ = self.repetition_.select_targets(targets)
        part.num_targets_, part.single_target_ = len(targets), False
        return part

    def save(self, folder: Path, part: str = "") -> None:
        """Write the learned state into `folder`, which exists.

        Args:
            folder: Where; all files of a regressor lie side by side.
            part: What this estimator is within the one that is saved; its files bear the name.
        """
        if self.arrays:
            write_arrays(array_file(folder, part), {name: getattr(self, name) for name in self.arrays})
        for name in self.parts:
            getattr(self, f"{name}_").save(folder, within(part, name))

    def load(self, folder: Path, part: str = "", *, num_domains: int, num_targets: int) -> Self:
        """Read the learned state that `save` wrote.

        Raises:
            RegressionError: A file is missing, or an array has another shape or is not finite.
        """
        self.n_features_in_, self.num_targets_, self.single_target_ = num_domains, num_targets, False
        sizes = {"domains": num_domains, "targets": num_targets}
        if self.arrays:
            file = array_file(folder, part)
            for name, array in read_arrays(file, self.arrays, sizes, may_lack=self.later_arrays).items():
                setattr(self, name, array)
        counts = {"num_domains": num_domains, "num_targets": num_targets}
        for name, family in self.parts.items():
            setattr(self, f"{name}_", family().load(folder, within(part, name), **counts))
        return self

    def _num_folds(self, num_runs: int) -> int:
        """Folds of `out_of_fold`: of few runs, leaving out a tenth makes fits that are clearly worse."""
        return 20 if num_runs < MANY_RUNS else 10

    def _for_fold(self) -> Self:
        """Return an unfitted estimator for a part of the runs this was fitted on."""
        part = clone(self)
        part._experts = self._experts
        return part

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        raise NotImplementedError

    def _predict(self, weights: Array) -> Array:
        raise NotImplementedError

    def _gradient(self, weights: Array) -> Array:
        raise NotImplementedError

    def _numbers_per_row(self) -> int:
        """How many numbers `_predict` holds per row in its largest array."""
        return self.n_features_in_

    def _fit_unchecked(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> Self:
        self.n_features_in_, self.num_targets_ = weights.shape[1], losses.shape[1]
        self._fit(weights, losses, own)
        return self

    def _check_fittable(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Check both as scikit-learn does, and remember the names of the columns, if they have any."""
        fewest = min(2, self.min_runs(1))
        both = {"dtype": np.float64, "ensure_min_samples": fewest}
        checks = (
            {**both, "order": "C", "ensure_non_negative": fewest > 0},  # which no runs would not pass
            {**both, "ensure_2d": False, "ensure_all_finite": "allow-nan"},
        )
        try:
            weights, losses = validate_data(self, X, y, validate_separately=checks)
            check_consistent_length(weights, losses)
        except ValueError as error:
            raise RegressionError(str(error)) from error
        if (weights < 0).any():
            raise RegressionError(f"Negative values in data passed to {type(self).__name__}.")
        return weights, losses

    def _check_sizes(self, sizes: Array, num_runs: int) -> Array:
        if sizes.shape != (num_runs, 2) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
            raise RegressionError("sizes: give parameters and tokens, each above 0, for every run.")
        if not self.takes_sizes and len(different := np.unique(sizes, axis=0)) > 1:
            raise RegressionError(
                f"{type(self).__name__} fits runs of one size and length; these are of {len(different)}.",
                "fit `scaled_law`, or runs of one size",
            )
        return np.log(sizes)

    def _check_predictable(self, X: ArrayLike) -> Array:
        if not hasattr(self, "n_features_in_"):
            raise UnfittedError(f"{type(self).__name__} is not fitted yet.", "call fit first")
        try:
            weights: Array = validate_data(
                self, X, reset=False, dtype=np.float64, order="C", ensure_non_negative=True
            )
        except ValueError as error:
            raise RegressionError(str(error)) from error
        return weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


def telling_runs(num_runs: int, random_state: int) -> NDArray[np.intp]:
    """Positions of the runs to learn the hyperparameters of a process from: all, or `MANY_RUNS` by chance.

    The time to learn them grows with the cube of the runs, what more runs tell of them hardly.
    """
    if num_runs <= MANY_RUNS:
        return np.arange(num_runs)
    return np.sort(generator(random_state, "hyperparameters").permutation(num_runs)[:MANY_RUNS])


def of_largest(sizes: Array) -> NDArray[np.bool_]:
    """Which runs a fit of several sizes is judged by: the longest of the largest size that has ten of them.

    Args:
        sizes: Parameters and tokens, or their logarithms, runs x 2.
    """
    if not len(sizes):
        return np.zeros(0, dtype=np.bool_)
    for size in np.unique(sizes[:, 0])[::-1]:
        of_size = sizes[:, 0] == size
        longest = of_size & (sizes[:, 1] == sizes[of_size, 1].max())
        if longest.sum() >= ENOUGH_TO_JUDGE:
            return np.asarray(longest)
    return np.asarray((sizes == sizes[sizes[:, 0] == sizes[:, 0].max()].max(axis=0)).all(axis=1))


def check_runs(estimator: str, needed: int, weights: Array, losses: Array, names: Sequence[str] = ()) -> None:
    """Check that every target has a loss in `needed` runs of different mixtures.

    Args:
        estimator: What to call the estimator in the message.
        needed: Its `min_runs`.
        weights: Runs x domains.
        losses: Runs x targets, at least one.
        names: Of the targets; default: their numbers.

    Raises:
        RegressionError: A target has too few.
    """
    mixture = np.unique(weights, axis=0, return_inverse=True)[1].reshape(-1)
    counts = np.array([len(np.unique(mixture[~np.isnan(loss)])) for loss in losses.T])
    if counts.min() < needed:
        fewest = int(counts.argmin())
        target = repr(names[fewest]) if names else fewest
        raise RegressionError(
            f"{estimator} needs at least {needed} runs of different mixtures with a loss for "
            f"{weights.shape[1]} domains; target {target} has {int(counts.min())}.",
            f"train {count_of(needed - int(counts.min()), 'more proxy')}, leave the target out (of tables: "
            "--ignore), or choose another estimator",
        )
