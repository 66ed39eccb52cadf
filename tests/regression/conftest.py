"""Swarms whose losses follow a known law, for everything that fits them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from regmix_hf.regression.expert_tokens import ExpertTokens
from regmix_hf.runs import experts as kept
from regmix_hf.runs.experts import TargetText
from regmix_hf.runs.runs import Runs
from tests import mixed_experts
from tests.mixed_experts import NUM_TOKENS, log_probabilities

DOMAINS = ["code", "prose", "sums"]


@pytest.fixture(scope="session")
def swarm() -> Callable[..., Runs]:
    """Make runs over three domains, with losses of these domains that fall with the tokens that help.

    Called with the number of runs to fit on, of holdout runs, and a seed.
    """

    def make(num_fit: int, num_holdout: int = 0, seed: int = 0) -> Runs:
        rng = np.random.default_rng(seed)
        count = num_fit + num_holdout
        weights = rng.dirichlet(np.full(3, 0.7), count)
        help_ = np.array([[1.0, 0.2, 0.0], [0.1, 1.0, 0.05], [0.0, 0.1, 1.0]])
        losses = 2.0 + (0.02 + weights @ help_.T) ** -0.4 + rng.normal(scale=0.01, size=(count, 3))
        index = pd.Index([f"r{row}" for row in range(count)], name="run_id")
        return Runs(
            weights=pd.DataFrame(weights, index, DOMAINS),
            losses=pd.DataFrame(losses, index, DOMAINS),
            split=pd.Series(["fit"] * num_fit + ["holdout"] * num_holdout, index, name="split"),
        )

    return make


@pytest.fixture(scope="module")
def tokens():
    """Three experts and two targets: one with more tokens than are computed at once."""
    logs = tuple(log_probabilities(3, count, seed) for seed, count in enumerate(NUM_TOKENS))
    return ExpertTokens(np.eye(3), logs, (1.0, 0.5))


@pytest.fixture(scope="module")
def mixtures():
    return np.concatenate([np.eye(3), np.random.default_rng(1).dirichlet(np.ones(3), 12)])


@pytest.fixture(scope="module")
def asked(tokens):
    """The same experts, as a study keeps them."""
    texts = {
        name: TargetText(sha256=name, num_tokens=count, bits_per_nat=0.5)
        for name, count in zip(("web", "bpb/quiz"), NUM_TOKENS, strict=True)
    }
    table = pd.DataFrame(np.eye(3), ["x", "y", "z"], mixed_experts.DOMAINS)
    return kept.Experts(table, dict(zip(texts, tokens.logs, strict=True)), texts)
