"""A study's regressor as it speaks of runs that repeat text as its final ones do."""

from __future__ import annotations

from collections.abc import Mapping

from regmix_hf.regression.regressor import MixtureRegressor


def as_final_runs_read(
    regressor: MixtureRegressor, num_train_tokens: float, available_tokens: Mapping[str, float]
) -> MixtureRegressor:
    """Return predictions of runs that read each domain as often as final ones, where that is known to matter.

    Args:
        regressor: Fitted on the study's proxies.
        num_train_tokens: Of a final run.
        available_tokens: Tokens of every training domain.
    """
    if not regressor.knows_repetition:
        return regressor
    return regressor.reading(available_tokens, num_train_tokens)
