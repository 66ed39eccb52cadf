"""How a loss falls with mixture, parameters and tokens: the trend of `ScaledLaw`, with its derivatives."""

from __future__ import annotations

import numpy as np

from regmix_hf.regression.base import Array
from regmix_hf.regression.least_squares import Prior
from regmix_hf.regression.power_law import WEIGHT_OFFSET, Layout, PowerLawCurve

#: Exponents to expect of parameters and of tokens. Hoffmann et al. 2022 (arXiv 2203.15556, approach 3) found
#: 0.34 and 0.28 for a whole corpus. One domain's exponent of parameters was 0.22 to 0.28 on `scale-ladder`.
BY_PARAMETERS, _BY_TOKENS = 0.25, 0.34
#: Standard deviation of the first's logarithm: Hoffmann's lies about one from what is expected.
EXPONENT_SPREAD = 0.35
#: What a run loses at its beginning falls with about this power of the tokens.
_BY_EARLY_TOKENS = 2.0


class ScaledLayout(Layout):
    """Where the raw, unbounded parameters of one target's trend stand in a row.

    The first twelve are, in order, E, log C, log alpha, log eps and the common logit of beta, as in
    `Layout`; then log A, log a, log B, log b, log q, log Z, log z of `ScaledCurve`. Then, per
    domain, log k, what is added to the common logit, h, u and v.
    """

    size, by_size, length, by_length, joint, early, by_early = range(5, 12)
    heads, per_domain = 12, 5

    @property
    def sizes(self) -> slice:
        """u: what each domain adds to log A."""
        return self._block(3)

    @property
    def lengths(self) -> slice:
        """v: what each domain adds to log B."""
        return self._block(4)

    def prior(self, num_problems: int) -> Prior:
        """A Gaussian on each parameter for losses of mean 0 and variance 1, the same for all problems.

        Precisions of what the power law has, too, are its own, but for h: most of the variance is between
        lengths here. The others were chosen by predicting the 680M runs of `scale-ladder` from smaller ones.
        """
        mean, precision = np.zeros(self.count), np.empty(self.count)
        mean[: self.heads] = (
            *(-3.0, 0.5, -1.0, -2.0, 0.0),
            *(0.5, np.log(BY_PARAMETERS), 0.0, np.log(_BY_TOKENS), 0.0, -2.0, np.log(_BY_EARLY_TOKENS)),
        )
        precision[: self.heads] = (*(1e-3, 1e-3, 1e-1, 1e-3, 1e-1), *(1e-2, 1.0, 1e-2, 30.0, 1.0, 0.1, 10.0))
        precision[self.affinities], precision[self.saturations], precision[self.harms] = 1e-3, 0.1, 0.03
        precision[self.sizes], precision[self.lengths] = 10.0, 0.3
        return Prior(np.tile(mean, (num_problems, 1)), np.tile(precision, (num_problems, 1)))


class ScaledCurve(PowerLawCurve):
    """`E + h.w + C (eps + sum_i k_i (w_i + 1e-4)^beta_i)^-alpha + (S^(1/q) + L^(1/q))^q`, for `minimise`.

    `S = A exp(u.w) N^-a` is what too few parameters cost, `L = B exp(v.w) (D^-b + Z D^-z)` what too few
    tokens do; Z and z are for the steep beginning of a run. With `q = 1` both add up (Hoffmann et al. 2022,
    eq. 2, with the mixture in each term as in the joint law of Shukor et al. 2025, arXiv 2507.09404); with a
    smaller q one counts less, the more the other one costs (Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5).

    Args:
        weights: Runs x domains.
        sizes: Logarithms of parameters and of tokens, each minus a mean; runs x 2.
    """

    layout: ScaledLayout

    def __init__(self, weights: Array, sizes: Array):
        super().__init__(weights)
        self.parameters, self.tokens = sizes.T
        self.layout = ScaledLayout(weights.shape[1])

    def __call__(self, parameters: Array) -> tuple[Array, Array]:
        """Return values, problems x runs, and derivatives, problems x runs x raw parameters."""
        values, jacobian = super().__call__(parameters)
        return values + self._fill_size_and_length(parameters, jacobian), jacobian

    def by_weight(self, raw: Array) -> Array:
        """Derivatives of the values with respect to the weights, problems x runs x domains."""
        at, (_, jacobian) = self.layout, self(raw)
        helps = jacobian[:, :, at.affinities]
        by_weight = helps * at.beta(raw)[:, None, :] / (self.weights + WEIGHT_OFFSET) + raw[:, None, at.harms]
        by_weight += jacobian[:, :, [at.size]] * raw[:, None, at.sizes]
        by_weight += jacobian[:, :, [at.length]] * raw[:, None, at.lengths]
        return np.asarray(by_weight)

    def values(self, raw: Array) -> Array:
        """Values alone, problems x runs: what the derivatives need is a hundred times as large."""
        both = np.exp(np.exp(raw[:, [self.layout.joint]]) * self._joint(raw)[0])
        return self._plus_lines(raw, self._falling(raw)[0]) + both

    def _rates(self, raw: Array) -> Array:
        """Exponents a, b and z, each problems x 1."""
        at = self.layout
        return np.asarray(np.exp(raw[:, [at.by_size, at.by_length, at.by_early]]).T[:, :, None])

    def _joint(self, raw: Array) -> tuple[Array, Array, Array, Array]:
        """The joint term's logarithm over q, log S, log L, and the part of the steep beginning in L."""
        at = self.layout
        by_parameters, by_tokens, by_early = self._rates(raw)
        joint = np.exp(raw[:, [at.joint]])
        log_size = raw[:, [at.size]] + raw[:, at.sizes] @ self.weights.T - by_parameters * self.parameters
        late, early = -by_tokens * self.tokens, raw[:, [at.early]] - by_early * self.tokens
        shape = np.logaddexp(late, early)
        log_length = raw[:, [at.length]] + raw[:, at.lengths] @ self.weights.T + shape
        together = np.logaddexp(log_size / joint, log_length / joint)
        return together, log_size, log_length, np.exp(early - shape)

    def _fill_size_and_length(self, raw: Array, jacobian: Array) -> Array:
        """Fill in the derivatives of the joint term; return the term."""
        at = self.layout
        by_parameters, by_tokens, by_early = self._rates(raw)
        joint = np.exp(raw[:, [at.joint]])
        together, log_size, log_length, of_early = self._joint(raw)
        both = np.exp(joint * together)
        of_size, of_length = np.exp(log_size / joint - together), np.exp(log_length / joint - together)
        by_size, by_length = both * of_size, both * of_length
        jacobian[:, :, at.size] = by_size
        jacobian[:, :, at.by_size] = -by_size * by_parameters * self.parameters
        jacobian[:, :, at.length] = by_length
        jacobian[:, :, at.by_length] = -by_length * (1 - of_early) * by_tokens * self.tokens
        jacobian[:, :, at.joint] = both * (joint * together - of_size * log_size - of_length * log_length)
        jacobian[:, :, at.early] = by_length * of_early
        jacobian[:, :, at.by_early] = -by_length * of_early * by_early * self.tokens
        jacobian[:, :, at.sizes] = by_size[:, :, None] * self.weights
        jacobian[:, :, at.lengths] = by_length[:, :, None] * self.weights
        return np.asarray(both)
