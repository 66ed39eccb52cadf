"""What a choice is tried at before anybody relies on it: a few more proxies where the law is used."""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np

from regmix_hf.choice.choose import ChoiceProblem
from regmix_hf.choice.chosen import ChosenMixture
from regmix_hf.mixtures import AroundPrior, Array
from regmix_hf.mixtures.dirichlet import NUM_STRENGTHS
from regmix_hf.seeds import generator
from regmix_hf.study.rounds import Kind

#: What is tried, in this order and again from its beginning: two seeds at the chosen mixture with four runs.
_IN_TURN: tuple[Kind, ...] = ("chosen", "prior", "near", "chosen")
#: Concentration of the Dirichlet around the chosen mixture, and about the share of the tokens by which its
#: draws differ from it.
_NEARNESS, NEAR = 100.0, 0.1


def mixtures_to_try(
    problem: ChoiceProblem, chosen: ChosenMixture, count: int, number: int
) -> list[tuple[Kind, Array]]:
    """Return `count` mixtures that tell whether a choice keeps its promise, equal ones with equal names.

    The prior is taken as near as the swarm's mixtures could come to it, for more text may not be there.

    `number` is that of the round: each has a mixture of its own near the chosen one.
    """
    domains = problem.regressor.domains_
    at = np.array([chosen.weights[name] for name in domains])
    prior = problem.sampled.constraints.project(
        np.array([problem.sampled.prior[name] for name in domains])[None]
    )
    around = AroundPrior(
        chosen.weights, problem.reach, temperature=1.0, min_strength=_NEARNESS, max_strength=_NEARNESS
    )
    drawn = around.chunks(generator(problem.random_state, "confirm", number), NUM_STRENGTHS)
    mixtures = {"chosen": at, "prior": prior[0], "near": next(row for rows in drawn for row in rows)}
    return [(kind, mixtures[kind]) for kind in islice(cycle(_IN_TURN), count)]
