"""What the targets of a swarm tell about each other: how a domain helps one, given how it helps others.

For target t and domain i, `log k_ti = level_t + general_i + own * [i is t's own domain] + d_ti`.
`general_i` says how useful the domain's text is to any target; `d_ti` is what is particular to the two: a
Student t, for most domains are of no particular use to a target and a few are of much. Where both are domains
and targets, part of `d_ti` is expected from its mirror image, as far as mirror images are alike: where code
helps questions, questions help code. The linear terms of a law have a mean over the targets, too. All of it
is learned from a fit (empirical Bayes) and becomes the prior of the next. With a single target nothing is
shared, and the prior is about as weak as the first one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Precision of `d_ti` at its centre, its degrees of freedom and its scale.
_PRECISION, _FREEDOM, _SCALE = 5e-3, 2.0, 1.0
#: Precision of `general_i` around 0, and of `own` around `_OWN`.
_GENERAL_PRECISION, _OWN = 1e-3, 4.0
#: Pairs whose worth of evidence for mirror images that have nothing in common is added to their likeness.
_UNLIKE = 10.0
#: Alternations between the parts of the mean; they settle in a handful.
_ROUNDS = 20


@dataclass(frozen=True)
class SharedHelp:
    """Which entries of targets x domains belong together.

    Attributes:
        own: Whether the domain is the target's own, targets x domains.
        mirror: Index of the target whose own domain each domain is, or -1; one per domain.
        own_domain: The column of each target's own domain, or -1.
    """

    own: NDArray[np.bool_]
    mirror: NDArray[np.intp]
    own_domain: NDArray[np.intp]

    @classmethod
    def of(cls, own_domain: NDArray[np.intp], domains: int) -> SharedHelp:
        """Relate targets with these own domains (-1: none) to `domains` domains."""
        mirror = np.full(domains, -1)
        with_own = np.flatnonzero(own_domain >= 0)
        mirror[own_domain[with_own]] = with_own
        return cls(np.arange(domains) == own_domain[:, None], mirror, own_domain)

    def expect(self, affinities: Array) -> tuple[Array, Array]:
        """Return what to expect of each `log k`, given the others: mean and precision, targets x domains."""
        mean = np.where(self.own, _OWN, 0.0)
        precision = np.full(mean.shape, _PRECISION)
        for _ in range(2):  # the second time with the precisions that the first one's distances ask for
            mean = self._mean(affinities, precision)
            apart = (affinities - mean) / _SCALE
            precision = _PRECISION * (_FREEDOM + 1) / (_FREEDOM + apart**2)
        return mean + self._mirrored(affinities - mean), precision

    def expect_harms(self, harms: Array) -> Array:
        """Return the mean to expect of each linear term, targets x domains, from all but own domains."""
        others = np.where(self.own, 0.0, harms).sum(axis=0) / ((~self.own).sum(axis=0) + 1)
        return np.where(self.own, 0.0, others)

    def _mean(self, affinities: Array, precision: Array) -> Array:
        others = np.where(self.own, 0.0, precision)
        general, own = np.zeros(affinities.shape[1]), _OWN
        level = np.zeros((len(affinities), 1))
        for _ in range(_ROUNDS):
            level = ((affinities - general) * others).sum(axis=1, keepdims=True)
            level /= np.maximum(others.sum(axis=1, keepdims=True), _GENERAL_PRECISION)
            general = ((affinities - level) * others).sum(axis=0) / (others.sum(axis=0) + _GENERAL_PRECISION)
            left = (affinities - level - general)[self.own]
            own = (left.sum() * _PRECISION + _OWN * _GENERAL_PRECISION) / (
                len(left) * _PRECISION + _GENERAL_PRECISION
            )
        return np.asarray(level + general + own * self.own)

    def _mirrored(self, particular: Array) -> Array:
        """What each entry's mirror image lets expect: as much as mirror images are alike in this fit."""
        image = particular[self.mirror][:, self.own_domain].T
        known = (self.mirror >= 0) & (self.own_domain >= 0)[:, None] & ~self.own
        image = np.where(known, image, 0.0)
        alike = (image * particular).sum() / ((image**2).sum() + _SCALE**2 * _UNLIKE)
        return np.asarray(max(alike, 0.0) * image)
