"""Choosing a mixture with a fitted regressor: simulate candidates, optimise, say how far to trust it."""

from regmix_hf.choice.choose import COVERAGE, ChoiceProblem, choose_mixture
from regmix_hf.choice.chosen import Candidate, ChosenMixture, Predicted
from regmix_hf.choice.fitted import FittedRuns
from regmix_hf.choice.record import read_chosen, write_chosen

__all__ = [
    "COVERAGE",
    "Candidate",
    "ChoiceProblem",
    "ChosenMixture",
    "FittedRuns",
    "Predicted",
    "choose_mixture",
    "read_chosen",
    "write_chosen",
]
