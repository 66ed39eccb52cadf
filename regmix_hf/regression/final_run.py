"""A study's regressor as it speaks of runs that repeat text as its final ones do."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.regression.regressor import MixtureRegressor


def as_final_runs_read(
    regressor: MixtureRegressor, num_train_tokens: float, available_tokens: Mapping[str, float]
) -> MixtureRegressor:
    """Predict runs that read each domain as often as final ones do, where that is known to matter."""
    if not regressor.knows_repetition:
        return regressor
    return regressor.reading(available_tokens, num_train_tokens)
