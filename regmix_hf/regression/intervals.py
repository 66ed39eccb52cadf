"""Prediction intervals from cross-validation: what a fit missed on runs it did not see, it will miss again.

Conformal quantiles of out-of-fold residuals, each divided by the size a residual usually has where it lies
(Lei et al. 2018, "Distribution-free predictive inference for regression", sections 2 and 5.2), the folds
being those of a K-fold cross-validation. The scaling matters: runs with a high loss, far from their
target's own domain, are missed by far more than those a choice looks for, and mixtures of two domains by
more than mixtures of ten. Without it, intervals that cover nine of ten runs of the swarm cover too many of
mixtures that are more even than the swarm's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import entr

from regmix_hf.errors import RegressionError
from regmix_hf.regression.target import Target

Array = NDArray[np.float64]

#: Runs whose worth of evidence for residuals of one size everywhere is added to the fit of their sizes.
_EVENNESS = 10.0
#: What floating point may add to a quotient that is a whole number.
_ROUNDING = 1e-9
#: Standard deviations from the mean of the fitted runs beyond which sizes are not extrapolated.
FARTHEST = 3.0
#: Least share of the evidence at a run's place that is taken to be left when the run is left out.
_LEAST_LEFT = 0.3


@dataclass(frozen=True)
class OutOfFold:
    """Losses of the fitted runs beside their predictions by fits that saw neither them nor their mixture.

    Attributes:
        losses: Runs x targets; NaN where there was none.
        predicted: Runs x targets.
        entropy: Of each run's mixture, see `entropy`; one per run.
    """

    losses: Array
    predicted: Array
    entropy: Array

    @property
    def residuals(self) -> Array:
        """Loss minus prediction, runs x targets; NaN where there was no loss."""
        return self.losses - self.predicted

    def combined(self, target: Target) -> Self:
        """The same for what `target` makes of the losses: runs x 1."""
        losses, predicted = (target.combine(table)[:, None] for table in (self.losses, self.predicted))
        return type(self)(losses, predicted, self.entropy)

    def half_widths(self, coverage: float, predicted: Array, weights: Array) -> Array:
        """Half the width of the interval around each of new predictions, runs x targets, in the losses' unit.

        Args:
            coverage: Share of new runs that the intervals shall hold.
            predicted: Runs x targets.
            weights: The mixtures they are predicted for, runs x domains.

        Raises:
            RegressionError: The coverage is not between 0 and 1, or the runs are too few for it.
        """
        here = entropy(weights)
        columns = [
            quantile * size(_places(column, here))
            for (size, quantile), column in zip(self.sizes(coverage), predicted.T, strict=True)
        ]
        return np.stack(columns, axis=1)

    def sizes(self, coverage: float) -> list[tuple[ResidualSize, float]]:
        """For each target the size of residuals by place, and how many of it half an interval is wide.

        Raises:
            RegressionError: As `half_widths`.
        """
        if not 0 < coverage < 1:
            raise RegressionError(f"coverage is {coverage}; write a number between 0 and 1, e.g. 0.9.")
        sizes = []
        for seen, residual in zip(self.predicted.T, self.residuals.T, strict=True):
            known = ~np.isnan(residual)
            missed, places = np.abs(residual[known]), _places(seen[known], self.entropy[known])
            size = ResidualSize.fit(places, missed)
            sizes.append((size, _quantile(missed / size.without_own(places, missed), coverage)))
        return sizes


@dataclass(frozen=True)
class ResidualSize:
    """The usual size of a residual: `level * exp(growth . (place - mean) / spread)`.

    Attributes:
        mean: Of each coordinate of a place, over the fitted runs.
        spread: The standard deviation of each.
        level: The size at the mean place.
        growth: What a standard deviation of each adds to the logarithm of the size.
    """

    mean: Array
    spread: Array
    level: float
    growth: Array

    @classmethod
    def fit(cls, places: Array, missed: Array) -> Self:
        """Regress sizes on places: a gamma regression with a logarithmic link, drawn towards no growth.

        The mean absolute residual is what is fitted, not the mean of its logarithm, for intervals depend on
        large residuals and not on how close to 0 the smallest happen to be.

        Args:
            places: Runs x coordinates.
            missed: Absolute residuals, one per run.
        """
        mean, spread = places.mean(axis=0), places.std(axis=0)
        spread[spread <= _ROUNDING * np.abs(mean)] = np.inf  # all alike: says nothing
        if typical := float(missed.mean()):
            level, *growth = _gamma_regression((places - mean) / spread, missed / typical)
            return cls(mean, spread, typical * math.exp(level), np.array(growth))
        return cls(mean, spread, 1.0, np.zeros(places.shape[1]))

    def __call__(self, places: Array) -> Array:
        """Size at each place, runs x coordinates."""
        return np.asarray(self.level * np.exp(self._away(places) @ self.growth))

    def without_own(self, places: Array, missed: Array) -> Array:
        """Size at the place of each fitted run, had the growth been fitted without it; one Newton step.

        A run that was missed by much raises the size at its own place, the more the fewer runs there are.
        Measured by such sizes, the residuals of 32 runs would look smaller than those of new runs.
        """
        away, share = self._away(places), missed / self(places)
        curvature = (away * share[:, None]).T @ away + _EVENNESS * np.eye(away.shape[1])
        leverage = np.einsum("ij,ji->i", away, np.linalg.solve(curvature, away.T))
        step = leverage * (1 - share) / np.maximum(1 - leverage * share, _LEAST_LEFT)
        return np.asarray(self(places) * np.exp(step))

    def _away(self, places: Array) -> Array:
        return np.clip((places - self.mean) / self.spread, -FARTHEST, FARTHEST)


def _gamma_regression(away: Array, missed: Array) -> Array:
    """Level and coefficients of the logarithm of `missed`, of mean 1; convex, so there is one minimum."""
    columns = np.column_stack([np.ones(len(away)), away])
    pull = np.append(0.0, np.full(away.shape[1], _EVENNESS))

    def misfit(coefficients: Array) -> tuple[float, Array]:
        logs = columns @ coefficients
        share = missed * np.exp(-logs)
        value = (logs + share).sum() + 0.5 * pull @ coefficients**2
        return float(value), columns.T @ (1 - share) + pull * coefficients

    return np.asarray(minimize(misfit, np.zeros(len(pull)), jac=True, method="L-BFGS-B").x)


def entropy(weights: Array) -> Array:
    """Entropy of each mixture in nats: 0 for a single domain, `log(n)` for `n` equal ones."""
    return np.asarray(entr(weights).sum(axis=1))


def _places(predicted: Array, entropies: Array) -> Array:
    return np.stack([predicted, entropies], axis=1)


def _quantile(sizes: Array, coverage: float) -> float:
    """The size at rank `(n + 1) * coverage`, between two where that is no whole number.

    The rank rounded up, which guarantees the coverage, gives 32 runs 94 % intervals where 90 % are asked for.
    """
    needed = math.ceil(coverage / (1 - coverage) - _ROUNDING)
    if len(sizes) < needed:
        raise RegressionError(
            f"an interval of coverage {coverage} needs {needed} runs; there are {len(sizes)}.",
            "ask for a lower coverage, or train more proxies",
        )
    return float(np.quantile(sizes, coverage, method="weibull"))
