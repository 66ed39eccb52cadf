"""Mixtures: one of them, the constraints on them, and samples of many around a prior."""

from regmix_hf.mixtures.capped_sum import Array
from regmix_hf.mixtures.constraints import Constraints, EpochCap
from regmix_hf.mixtures.dirichlet import AroundPrior
from regmix_hf.mixtures.mixture import check_mixture, normalise, uniform
from regmix_hf.mixtures.sampling import around_prior, count_zeros, sample_mixtures, sampling_constraints

__all__ = [
    "AroundPrior",
    "Array",
    "Constraints",
    "EpochCap",
    "around_prior",
    "check_mixture",
    "count_zeros",
    "normalise",
    "sample_mixtures",
    "sampling_constraints",
    "uniform",
]
