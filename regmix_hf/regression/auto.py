"""Several families weighed against each other, per target, by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from regmix_hf.errors import RegressionError
from regmix_hf.regression.base import Array, MixtureEstimator
from regmix_hf.regression.storage import within

#: The last one takes part where there are experts.
MEMBERS = ("kriged_power_law", "gaussian_process", "lightgbm", "experts")
#: A fifth of the paper's trees with five times its learning rate: a quarter of the time, and out of fold on
#: 64 of the runs on six languages 84.2 % Spearman, as with all of them.
_SETTINGS: dict[str, dict[str, Any]] = {"lightgbm": {"num_iterations": 200, "learning_rate": 5e-2}}

#: The first member keeps the whole of the shares that all targets have in common until the evidence of the
#: runs, counted once for each target, outweighs this many.
_TRUST_IN_FIRST = 10.0
#: A target's shares are the common ones until its own evidence outweighs this many runs. Five folds of runs
#: on six languages, average and mean of 8 targets: 32 runs 79.6 and 77.7 % Spearman (each target on its own
#: 77.8 and 76.6), 64 runs 86.4 and 85.0 (86.0 and 84.7); on RegMix's fitted runs nothing moves.
_TRUST_IN_COMMON = 20.0
#: Smaller shares are luck as often as not, and become 0.
_SMALLEST_SHARE = 0.15
#: What the smooth members together have at least in every target, so that there is something to polish on.
_LEAST_SMOOTH = 0.05
#: Errors further out than this many robust standard deviations of all members' count as if there.
_FARTHEST = 4.0
#: What counts as no error, in the usual one.
_EXACT = 1e-6


class Auto(MixtureEstimator):
    """A weighted mean of several families, its shares chosen for each target by cross-validation.

    Shares are positive, sum to 1 and minimise the squared error of the out-of-fold predictions (stacking:
    Breiman 1996, "Stacked regressions"). Those that all targets have in common are drawn towards the first
    member as if by 10 runs, those of one target towards the common ones as if by 20: what few runs say of
    families is nearly the same for all targets, and many decide freely. `reasons_` says why, per target.
    Trees among the members leave no gradient; the others together stand in for all where one is needed
    (`smooth`), and have a share in every target.

    Args:
        members: Names of the families, the most trusted first.
        random_state: Seed of the members and of the folds.

    Attributes:
        shares_: Targets x members.
        errors_: Root mean squared out-of-fold error of each member alone, targets x members.
        error_: The same of their weighted mean, one per target.
        members_: Name -> fitted estimator of the targets in which it has a share, in their order.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = Auto().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.29])
    """

    takes_epochs = True
    takes_experts: ClassVar = True
    arrays: ClassVar = {
        "shares_": ("targets", "members"),
        "errors_": ("targets", "members"),
        "error_": ("targets",),
    }

    shares_: Array
    errors_: Array
    error_: Array
    members_: dict[str, MixtureEstimator]
    _predicted: Array

    def __init__(self, members: Sequence[str] = MEMBERS, *, random_state: int = 0):
        self.members = members
        self.random_state = random_state

    @classmethod
    def min_runs(cls, num_domains: int) -> int:
        """Return 16: fewer cannot tell which family errs less."""
        return 16

    @property
    def is_smooth(self) -> bool:
        """Whether all members that have a share have a gradient."""
        return all(model.is_smooth for model in self.members_.values())

    @property
    def reasons_(self) -> list[str]:
        """Why each target has the shares it has, in words."""
        return [self._reason(target) for target in range(len(self.shares_))]

    def smooth(self) -> MixtureEstimator | None:
        """Return the mean of the members that have a gradient, their shares scaled to sum to 1."""
        members = {name: model for name, model in self.members_.items() if model.is_smooth}
        shares = self.shares_ * np.isin(self._names, list(members))
        if not shares.any(axis=1).all():
            return None
        part = copy(self)
        part.members_, part.shares_ = members, shares / shares.sum(axis=1, keepdims=True)
        return part

    def out_of_fold(self, X: ArrayLike, y: ArrayLike, own: Sequence[int]) -> Array:
        """Combine the members' predictions, by the shares that were chosen on all of them."""
        return self._predicted

    def select_targets(self, targets: Sequence[int]) -> Self:
        """Return a fitted copy that predicts only the targets at these positions."""
        part = super().select_targets(targets)
        part.members_ = {}
        for name, model in self.members_.items():
            mine = self._targets_of(name)
            if wanted := [mine.index(target) for target in targets if target in mine]:
                part.members_[name] = model.select_targets(wanted)
        return part

    def save(self, folder: Path, part: str = "") -> None:
        """Write the shares, and each member that has one as a part."""
        super().save(folder, part)
        for name, model in self.members_.items():
            model.save(folder, within(part, name))

    def load(self, folder: Path, part: str = "", *, num_domains: int, num_targets: int) -> Self:
        """Read what `save` wrote."""
        super().load(folder, part, num_domains=num_domains, num_targets=num_targets)
        if self.shares_.shape[1] > len(self.members):
            raise RegressionError(
                f"{folder}: {self.shares_.shape[1]} shares for {len(self.members)} members."
            )
        self.members_ = {
            name: model.load(folder, within(part, name), num_domains=num_domains, num_targets=len(targets))
            for name, model in self._unfitted().items()
            if name in self._names and (targets := self._targets_of(name))
        }
        return self

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        models = self._unfitted()
        last = list(models)[-1]
        if self._experts is None and len(models) > 1 and models[last].needs_experts:
            del models[last]
        predicted = []
        for model in models.values():
            model.fit(weights, losses, own_domains=own, experts=self._experts)
            predicted.append(model.out_of_fold(weights, losses, own.tolist()))
        by_member = np.stack(predicted, axis=2)
        error = by_member - losses[:, :, None]
        shares = stack([missed[~np.isnan(missed[:, 0])] for missed in error.transpose(1, 0, 2)])
        self.shares_ = _leave_some_to_smooth(shares, [model.is_smooth for model in models.values()])
        self._predicted = np.einsum("ntm,tm->nt", by_member, self.shares_)
        self.errors_ = np.sqrt(np.nanmean(error**2, axis=0))
        self.error_ = np.sqrt(np.nanmean((self._predicted - losses) ** 2, axis=0))
        self.members_ = {
            name: model.select_targets(targets)
            for name, model in models.items()
            if (targets := self._targets_of(name))
        }

    def _predict(self, weights: Array) -> Array:
        losses = np.zeros((len(weights), self.num_targets_))
        for name, model in self.members_.items():
            targets = self._targets_of(name)
            losses[:, targets] += self._share(name)[targets] * model.predict(weights)
        return losses

    def _gradient(self, weights: Array) -> Array:
        slope = np.zeros((len(weights), self.num_targets_, self.n_features_in_))
        for name, model in self.members_.items():
            targets = self._targets_of(name)
            slope[:, targets] += self._share(name)[targets][:, None] * model.gradient(weights)
        return slope

    def _unfitted(self) -> dict[str, MixtureEstimator]:
        from regmix_hf.regression.registry import build_estimator

        return {
            name: build_estimator(name, self.random_state, _SETTINGS.get(name, {})) for name in self.members
        }

    @property
    def _names(self) -> list[str]:
        """The members that were fitted: those of version 0.1 were the first two, without experts three."""
        return list(self.members)[: self.shares_.shape[1]]

    def _share(self, member: str) -> Array:
        return self.shares_[:, self._names.index(member)]

    def _targets_of(self, member: str) -> list[int]:
        return [int(target) for target in np.flatnonzero(self._share(member))]

    def _reason(self, target: int) -> str:
        shares, errors = self.shares_[target], self.errors_[target]
        alone = ", ".join(f"{name} {error:.4g}" for name, error in zip(self._names, errors, strict=True))
        if shares.max() == 1.0:
            chosen = self._names[int(shares.argmax())]
            return f"{chosen} alone; cross-validated errors: {alone}."
        mixed = " + ".join(
            f"{share:.2f} {name}" for name, share in zip(self._names, shares, strict=True) if share > 0
        )
        return f"{mixed}, cross-validated error {self.error_[target]:.4g}; alone: {alone}."


def _leave_some_to_smooth(shares: Array, is_smooth: list[bool]) -> Array:
    """Give the first smooth member, if there is one, a small share of each target that none has one in."""
    smooth = np.flatnonzero(is_smooth)
    if len(smooth):
        without = ~shares[:, smooth].any(axis=1)
        shares[without] *= 1 - _LEAST_SMOOTH
        shares[without, smooth[0]] = _LEAST_SMOOTH
    return shares


def stack(missed: Sequence[Array]) -> Array:
    """Shares of the members, not negative, summing to 1, targets x members.

    Args:
        missed: For each target prediction minus loss, runs x members.
    """
    first = np.zeros(missed[0].shape[1])
    first[0] = 1.0
    each = [_comparable(errors) for errors in missed]
    common = _stack(np.concatenate(each), first, _TRUST_IN_FIRST)
    own = [common] if len(each) == 1 else [_stack(errors, common, _TRUST_IN_COMMON) for errors in each]
    shares = np.where(np.array(own) < _SMALLEST_SHARE, 0.0, own)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _stack(missed: Array, expected: Array, trust: float) -> Array:
    """Minimise `|missed v|^2 / unit^2 + trust * |v - expected|^2` over shares `v`."""
    # The member that errs least counts one a run; none is a million times better.
    unit = max(float((missed**2).mean(axis=0).min()), _EXACT**2)
    quadratic = missed.T @ missed / unit + trust * np.eye(len(expected))
    factor = np.linalg.cholesky(quadratic)
    heavy = 1e3 * np.sqrt(np.trace(quadratic))  # a heavy last row makes v sum to 1
    rows = np.vstack([factor.T, np.full((1, len(expected)), heavy)])
    shares, _ = nnls(rows, np.append(np.linalg.solve(factor, trust * expected), heavy))
    return np.asarray(shares / shares.sum())


def _comparable(missed: Array) -> Array:
    """Errors in units of the usual one, those far outside the others brought in."""
    usual = 1.4826 * float(np.median(np.abs(missed)))
    return np.clip(missed / usual, -_FARTHEST, _FARTHEST) if usual else missed
