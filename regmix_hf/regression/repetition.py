"""What it costs to read text again: a term of the laws over how often a run saw each domain.

    cost_t(e) = sum_i h_ti * (N / N_0)^c_t * softplus(log(1 + e_i) - tau_t)^2

`e_i` are the epochs of domain i: its weight times the tokens of the run over the tokens that there are of it.
Up to `exp(tau) - 1` epochs, of which about four are nearly as good as new text (Muennighoff et al. 2023,
arXiv 2305.16264), it costs next to nothing, and beyond ever more. Where runs are of several sizes, larger
models take more harm. A domain that no run read more than once has no term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from regmix_hf.regression.least_squares import Curve, Prior
from regmix_hf.regression.storage import read_arrays, write_arrays

Array = NDArray[np.float64]

#: What is expected of tau, of c and of log h, losses standardised: mean and precision. The first two are near
#: what the 182 runs of `repetition` say: 1.4 and 0.3 beside the trend of `scaled_law`
#: (`python -m tests.benchmarks.repetition`), 1.9 and 0.5 beside `E + A N^-a + B D^-b`. Ten epochs of a domain
#: then cost a tenth of what runs of a swarm differ by.
_THRESHOLD, _GROWTH, _HARM = (1.8, 0.04), (0.5, 0.1), (float(np.log(0.1)), 0.005)
#: Parameters of a target before its log h.
_HEADS = 2


@dataclass(frozen=True, eq=False)
class Repeats:
    """How often runs read the domains that any of them repeated.

    Attributes:
        logs: `log(1 + epochs)`, runs x repeated domains.
        larger: Logarithm of each run's parameters over their geometric mean; 0 where all are of one size.
    """

    logs: Array
    larger: Array

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """Return those of some of the runs."""
        return replace(self, logs=self.logs[rows], larger=self.larger[rows])

    def added_to(self, curve: Curve, prior: Prior) -> tuple[Curve, Prior]:
        """Return a law with the term, and a prior with what is expected of its parameters behind."""
        means, precisions = zip(_THRESHOLD, _GROWTH, *[_HARM] * self.logs.shape[1], strict=True)
        problems = (len(prior.mean), 1)
        wider = Prior(
            np.hstack([prior.mean, np.tile(means, problems)]),
            np.hstack([prior.precision, np.tile(precisions, problems)]),
        )
        return RepeatedCurve(curve, self), wider


@dataclass(frozen=True, eq=False)
class RepeatedCurve:
    """A law's curve plus the term; behind its raw parameters stand tau, c and the log h of each domain."""

    curve: Curve
    repeats: Repeats

    def __call__(self, parameters: Array) -> tuple[Array, Array]:
        """Return values, problems x runs, and derivatives, problems x runs x raw parameters."""
        own = parameters.shape[1] - _HEADS - self.repeats.logs.shape[1]
        values, jacobian = self.curve(parameters[:, :own])
        threshold, growth, harm = parameters[:, own], parameters[:, own + 1], parameters[:, own + _HEADS :]
        over = self.repeats.logs - threshold[:, None, None]
        soft, larger = np.logaddexp(0.0, over), self.repeats.larger
        size = np.exp(harm[:, None, :] + growth[:, None, None] * larger[:, None])
        costs = size * soft**2
        by_threshold = -2 * (size * soft * expit(over)).sum(axis=2)
        cost = costs.sum(axis=2)
        heads = np.stack([by_threshold, cost * larger], axis=2)
        return values + cost, np.concatenate([jacobian, heads, costs], axis=2)


@dataclass(frozen=True, eq=False)
class Repetition:
    """The fitted term, and how often the runs that are predicted read each domain.

    Attributes:
        harm: h in the unit of the targets, targets x domains; 0 for a domain that no run repeated.
        threshold: tau, one per target.
        growth: c, one per target.
        at: Logarithm of the parameters of the runs that are predicted over N_0, and of their tokens; `(2,)`.
        rates: One over the available tokens of each domain, `(d,)`. Where nobody counts tokens a run has one.
        most: The most epochs of each domain that a fitted run read, `(d,)`; `None`: not known, as in what was
            saved before.
    """

    arrays: ClassVar = {
        "harm": ("targets", "domains"),
        "threshold": ("targets",),
        "growth": ("targets",),
        "at": ("size",),
        "rates": ("domains",),
        "most": ("domains",),
    }

    harm: Array
    threshold: Array
    growth: Array
    at: Array
    rates: Array
    most: Array | None = None

    @property
    def passes(self) -> Array:
        """Epochs of each domain if it had all the weight, `(d,)`."""
        return np.asarray(np.exp(self.at[1]) * self.rates)

    def __call__(self, weights: Array) -> Array:
        """What repeating costs each mixture, runs x targets, in the targets' units."""
        return self.costs(weights * self.passes, np.full(len(weights), self.at[0]))

    def beyond(self, weights: Array) -> Array:
        """What of that rests on more epochs than any fitted run read, runs x targets: it may be all wrong."""
        epochs, larger = weights * self.passes, np.full(len(weights), self.at[0])
        known = epochs if self.most is None else np.minimum(epochs, self.most)
        return self.costs(epochs, larger) - self.costs(known, larger)

    def costs(self, epochs: Array, larger: Array) -> Array:
        """What reading domains so often, runs x domains, costs runs `log(N / N_0)` larger; runs x targets."""
        soft = np.logaddexp(0.0, np.log1p(epochs)[:, None, :] - self.threshold[:, None])
        size = np.exp(self.growth * larger[:, None])
        return np.asarray(size * np.einsum("ntd,td->nt", soft**2, self.harm))

    def slope(self, weights: Array) -> Array:
        """Derivatives of the cost with respect to the weights, runs x targets x domains."""
        epochs = weights * self.passes
        over = np.log1p(epochs)[:, None, :] - self.threshold[:, None]
        by_log = 2 * self.harm * np.logaddexp(0.0, over) * expit(over)
        size = np.exp(self.growth * self.at[0])
        return np.asarray(size[:, None] * by_log * (self.passes / (1 + epochs))[:, None, :])

    def sized(self, larger: float, log_tokens: float) -> Self:
        """Return the term for runs of another size and length over the same text."""
        return replace(self, at=np.array([larger, log_tokens]))

    def reading(self, available: Array, num_train_tokens: float) -> Self:
        """Return the term for runs of this length over so much text of each domain."""
        at = np.array([self.at[0], np.log(num_train_tokens)])
        return replace(self, rates=1 / available, at=at)

    def select_targets(self, targets: Sequence[int]) -> Self:
        """Return the term of the targets at these positions."""
        rows = list(targets)
        return replace(self, harm=self.harm[rows], threshold=self.threshold[rows], growth=self.growth[rows])

    def save(self, folder: Path) -> None:
        """Write it beside the regressor that it belongs to."""
        write_arrays(folder / _FILE, {name: getattr(self, name) for name in self.arrays})

    @classmethod
    def load(cls, folder: Path, *, num_domains: int, num_targets: int) -> Self | None:
        """Read what `save` wrote; `None` where a regressor has no such term.

        Raises:
            RegressionError: An array has another shape, or is not finite.
        """
        if not (folder / _FILE).exists():
            return None
        sizes = {"domains": num_domains, "targets": num_targets, "size": 2}
        return cls(**read_arrays(folder / _FILE, cls.arrays, sizes, may_lack=("most",)))


_FILE = "estimator-repetition.safetensors"
