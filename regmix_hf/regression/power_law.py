"""The effective-token power law: a domain's loss falls with the tokens that help it, and help saturates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from regmix_hf.regression.base import MANY_RUNS, Array, MixtureEstimator
from regmix_hf.regression.least_squares import Curve, Prior, minimise, standardised
from regmix_hf.regression.repetition import Repeats
from regmix_hf.regression.shared_help import SharedHelp

#: Added to every weight, so that a weight of 0 has a logarithm. Well below any weight that matters.
WEIGHT_OFFSET = 1e-4
#: By how much the size of what a law misses grows, as a logarithm, when the loss rises by its own standard
#: deviation: mixtures that are bad for a target differ more between runs, and laws bend there.
MISS_GROWTH = 0.25
#: Standard deviations from the mean loss beyond which that growth is not followed.
_FARTHEST = 2.5
#: Times the fit is repeated with weights of the runs and a prior from the fit before; more change nothing.
_SWEEPS = 3


@dataclass(frozen=True)
class Layout:
    """Where the raw, unbounded parameters of one law stand in a row.

    The first five are E, log C, log alpha, log eps and the common logit of beta; then, per domain, log k,
    what is added to the common logit, and h.
    """

    domains: int

    floor, scale, exponent, offset, saturation = range(5)
    #: Parameters before those of domains, and how many each domain has.
    heads, per_domain = 5, 3

    @property
    def affinities(self) -> slice:
        """log k."""
        return self._block(0)

    @property
    def saturations(self) -> slice:
        """What each domain adds to the common logit of beta."""
        return self._block(1)

    @property
    def harms(self) -> slice:
        """h."""
        return self._block(2)

    @property
    def count(self) -> int:
        """How many parameters a row has."""
        return self.heads + self.per_domain * self.domains

    def prior(self, num_problems: int) -> Prior:
        """A Gaussian on each parameter for losses of mean 0 and variance 1, the same for all problems.

        Its precisions were chosen once, by cross-validation on the runs RegMix published to fit on; a
        factor of three in any of them changes little.
        """
        mean, precision = np.zeros(self.count), np.empty(self.count)
        mean[:5] = -3.0, 0.5, -1.0, -2.0, 0.0
        precision[:5] = 1e-3, 1e-3, 1e-1, 1e-3, 1e-1
        precision[self.affinities], precision[self.saturations], precision[self.harms] = 1e-3, 0.1, 0.3
        return Prior(np.tile(mean, (num_problems, 1)), np.tile(precision, (num_problems, 1)))

    def informed(self, prior: Prior, fitted: Array, shared: SharedHelp) -> Prior:
        """Replace in a prior what the fitted parameters of all problems tell of each other's."""
        mean, precision = prior.mean.copy(), prior.precision.copy()
        mean[:, self.affinities], precision[:, self.affinities] = shared.expect(fitted[:, self.affinities])
        mean[:, self.harms] = shared.expect_harms(fitted[:, self.harms])
        return Prior(mean, precision)

    def plain(self, raw: Array, mean: Array, spread: Array) -> dict[str, Array]:
        """The law's arrays, as `PowerLaw` names them, of raw parameters for losses standardised by these."""
        return {
            "floor_": mean + spread * raw[:, self.floor],
            "harm_": spread[:, None] * raw[:, self.harms],
            "scale_": spread * np.exp(raw[:, self.scale]),
            "exponent_": np.exp(raw[:, self.exponent]),
            "offset_": np.exp(raw[:, self.offset]),
            "affinity_": np.exp(raw[:, self.affinities]),
            "saturation_": self.beta(raw),
        }

    def beta(self, raw: Array) -> Array:
        """How the help of each domain saturates, problems x domains."""
        return np.asarray(expit(raw[:, [self.saturation]] + raw[:, self.saturations]))

    def _block(self, number: int) -> slice:
        first = self.heads + number * self.domains
        return slice(first, first + self.domains)


def miss_size(standard: Array) -> Array:
    """How far a run may lie from a law, up to a factor, at each predicted loss in standard deviations."""
    return np.asarray(np.exp(MISS_GROWTH * np.clip(standard, -_FARTHEST, _FARTHEST)))


class PowerLaw(MixtureEstimator):
    """`loss_t(w) = E_t + h_t . w + C_t * (eps_t + sum_i k_ti * (w_i + 1e-4)^beta_ti)^(-alpha_t)`.

    `C`, `k`, `alpha`, `eps` are positive, `0 < beta < 1`. The sum counts the effective tokens: those of each
    domain, saturating, times how much the domain helps the target. The linear term is what a domain costs (or
    gives) beside that. The fit minimises a robust loss of the standardised losses with a weak Gaussian
    prior on the raw parameters (`Layout.prior`), which also pulls the beta of a target's domains together.
    Starts drawn from the prior end in the same minimum, so the fit starts once, at the prior's mean. Then it
    is repeated, each run weighted by how closely a law can be expected to meet it (`miss_size`), with what
    the targets tell about each other for a prior (`SharedHelp`).

    Args:
        robust_scale: Residuals well above this many standard deviations of the losses count linearly.
        max_steps: Most Levenberg-Marquardt steps of a fit.
        random_state: Unused; every estimator has one.

    Attributes:
        floor_: E, one per target.
        harm_: h, targets x domains.
        scale_: C, one per target.
        exponent_: alpha, one per target.
        offset_: eps, one per target.
        affinity_: k, targets x domains.
        saturation_: beta, targets x domains.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = PowerLaw().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.29])
    """

    is_smooth = True
    takes_epochs = True
    arrays = {
        "floor_": ("targets",),
        "harm_": ("targets", "domains"),
        "scale_": ("targets",),
        "exponent_": ("targets",),
        "offset_": ("targets",),
        "affinity_": ("targets", "domains"),
        "saturation_": ("targets", "domains"),
    }

    floor_: Array
    harm_: Array
    scale_: Array
    exponent_: Array
    offset_: Array
    affinity_: Array
    saturation_: Array

    #: Raw parameters the fit starts at, targets x parameters; `None` is the prior's mean.
    _start: Array | None = None
    _raw: Array
    #: The prior to fit with instead of learning it.
    _given: Prior | None = None
    _prior: Prior
    _num_runs: int

    def __init__(self, robust_scale: float = 0.1, max_steps: int = 200, *, random_state: int = 0):
        self.robust_scale = robust_scale
        self.max_steps = max_steps
        self.random_state = random_state

    def _for_fold(self) -> Self:
        """Each fold's fit starts where the fit of all runs ended; of many runs it takes its prior, too."""
        part = super()._for_fold()
        part._start = self._raw
        if self._num_runs >= MANY_RUNS:
            part._given = self._prior
        return part

    def fit_raw(
        self, weights: Array, losses: Array, own: NDArray[np.intp], repeats: Repeats | None = None
    ) -> tuple[Array, Array, Array]:
        """Return raw parameters, targets x parameters, of standardised losses; their means and deviations.

        Args:
            weights: Runs x domains.
            losses: Runs x targets.
            own: The column of each target's own domain, or -1.
            repeats: How often the runs read what they repeated: its term is then fitted, too.
        """
        observed, mean, spread = standardised(losses, self.robust_scale)
        layout = Layout(weights.shape[1])
        curve: Curve = PowerLawCurve(weights)
        prior = layout.prior(losses.shape[1])
        if repeats is not None:
            curve, prior = repeats.added_to(curve, prior)
        raw = self._start
        if raw is None:
            raw = minimise(curve, prior.mean, prior, observed, max_steps=self.max_steps)
        shared = SharedHelp.of(own, weights.shape[1])
        for _ in range(_SWEEPS):
            prior = self._given or layout.informed(prior, raw, shared)
            weighted = replace(observed, precision=observed.precision / miss_size(curve(raw)[0]) ** 2)
            raw = minimise(curve, raw, prior, weighted, max_steps=self.max_steps)
        self._prior, self._num_runs, self._raw = prior, len(weights), raw
        return raw, mean, spread

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        for name, array in Layout(weights.shape[1]).plain(*self.fit_raw(weights, losses, own)).items():
            setattr(self, name, array)

    def effective_tokens(self, weights: Array, target: int) -> Array:
        """Effective tokens of each domain for one target, runs x domains: the terms of the law's sum."""
        helps: Array = np.exp(np.log(weights + WEIGHT_OFFSET) * self.saturation_[target])
        return helps * self.affinity_[target]

    def _predict(self, weights: Array) -> Array:
        logs = np.log(weights + WEIGHT_OFFSET)
        helps = np.empty_like(logs)
        losses = self.floor_ + weights @ self.harm_.T
        for target in range(self.num_targets_):
            np.exp(np.multiply(logs, self.saturation_[target], out=helps), out=helps)
            tokens = self.offset_[target] + helps @ self.affinity_[target]
            losses[:, target] += self.scale_[target] * tokens ** -self.exponent_[target]
        return losses

    def _gradient(self, weights: Array) -> Array:
        slope = np.empty((len(weights), self.num_targets_, self.n_features_in_))
        for target in range(self.num_targets_):
            alpha = self.exponent_[target]
            helps = self.effective_tokens(weights, target)
            tokens = self.offset_[target] + helps.sum(axis=1)
            per_token = -alpha * self.scale_[target] * tokens ** (-alpha - 1)
            slope[:, target] = per_token[:, None] * helps * self.saturation_[target]
        return slope / (weights + WEIGHT_OFFSET)[:, None, :] + self.harm_


class PowerLawCurve:
    """The law of runs x domains over raw parameters (`Layout`), with its derivatives, for `minimise`."""

    def __init__(self, weights: Array):
        self.weights = weights
        self.logs = np.log(weights + WEIGHT_OFFSET)
        self.layout = Layout(weights.shape[1])

    def __call__(self, parameters: Array) -> tuple[Array, Array]:
        """Return values, problems x runs, and derivatives, problems x runs x raw parameters."""
        at = self.layout
        falling, tokens, helps, beta = self._falling(parameters)
        alpha, offset = np.exp(parameters[:, [at.exponent]]), np.exp(parameters[:, [at.offset]])
        per_token = -alpha * falling / tokens
        jacobian = np.empty((*falling.shape, parameters.shape[1]))
        jacobian[:, :, at.floor] = 1.0
        jacobian[:, :, at.scale] = falling
        jacobian[:, :, at.exponent] = -alpha * falling * np.log(tokens)
        jacobian[:, :, at.offset] = per_token * offset
        jacobian[:, :, at.affinities] = helps = helps * per_token[:, :, None]
        jacobian[:, :, at.saturations] = by_saturation = helps * self.logs * (beta * (1 - beta))[:, None, :]
        jacobian[:, :, at.saturation] = by_saturation.sum(axis=2)
        jacobian[:, :, at.harms] = self.weights
        return self._plus_lines(parameters, falling), jacobian

    def _falling(self, raw: Array) -> tuple[Array, Array, Array, Array]:
        """The term that falls with the weights, its effective tokens, those of each domain, and beta."""
        at = self.layout
        scale, alpha, offset = np.exp(raw[:, at.scale : at.offset + 1]).T[:, :, None]
        beta = at.beta(raw)
        helps = beta[:, None, :] * self.logs
        helps += raw[:, None, at.affinities]
        np.exp(helps, out=helps)
        tokens = offset + helps.sum(axis=2)
        return scale * tokens**-alpha, tokens, helps, beta

    def _plus_lines(self, raw: Array, falling: Array) -> Array:
        """Add `E + h . w` to the term that falls."""
        at = self.layout
        return np.asarray(raw[:, [at.floor]] + falling + raw[:, at.harms] @ self.weights.T)
