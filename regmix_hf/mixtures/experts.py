"""The mixtures of experts: one training domain each, as far as it has the text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.mixtures.table import EXPERT, append
from regmix_hf.tables import by_domain

#: Shares that differ by less are one share.
_EQUAL = 1e-9


def expert_mixtures(
    tokens: Mapping[str, float], max_epochs: float | None, num_train_tokens: float
) -> NDArray[np.float64]:
    """Return a mixture for each domain that holds as much of it as may be, `(d, d)`.

    A domain has the weight 1, or less where a run would see it more than `max_epochs` times; the rest are the
    other domains in their shares of the available tokens.

    Args:
        tokens: Available tokens of every training domain.
        max_epochs: Most times that a run may see a domain; `None`: as often as need be.
        num_train_tokens: Length of a run, in the unit of `tokens`.

    >>> expert_mixtures({"web": 60.0, "code": 30.0, "wiki": 10.0}, 4, num_train_tokens=80.0).round(3)
    array([[1.   , 0.   , 0.   ],
           [0.   , 1.   , 0.   ],
           [0.333, 0.167, 0.5  ]])
    """
    available = np.array(list(tokens.values()), dtype=np.float64)
    most = np.ones(len(available))
    if max_epochs is not None and num_train_tokens > 0:
        most = np.minimum(1.0, max_epochs * available / num_train_tokens)
    others = np.tile(available, (len(available), 1))
    np.fill_diagonal(others, 0.0)
    sums = others.sum(axis=1, keepdims=True)
    rest = np.divide(others, sums, out=np.zeros_like(others), where=sums > 0)
    return np.diag(most) + (1 - most)[:, None] * rest


def with_experts(
    mixtures: pd.DataFrame, tokens: Mapping[str, float], max_epochs: float | None, num_train_tokens: float
) -> pd.DataFrame:
    """Add the `expert_mixtures` that a table of mixtures over the same domains lacks, as its next round."""
    asked = expert_mixtures(tokens, max_epochs, num_train_tokens)
    there = by_domain(mixtures[mixtures["origin"] == EXPERT], "weight").to_numpy(dtype=np.float64)
    lacks = np.array([not (np.abs(there - row).max(axis=1) < _EQUAL).any() for row in asked])
    count = int(lacks.sum())
    return append(mixtures, asked[lacks], [EXPERT] * count, [EXPERT] * count)
