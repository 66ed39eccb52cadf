"""Swarms whose losses follow a known law, for everything that fits them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from regmix_hf.runs.runs import Runs

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
