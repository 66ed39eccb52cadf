"""A chosen mixture with all that is known of it: what it promises, against what, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from regmix_hf.mixtures.group_shares import GroupShare
from regmix_hf.quantities import Quantity
from regmix_hf.regression.verdict import Verdict


@dataclass(frozen=True)
class Predicted:
    """A predicted value of the target with the interval that holds it with probability `COVERAGE`."""

    loss: float
    lower: float
    upper: float

    def is_clearly_better_than(self, other: Predicted, target: Quantity) -> bool:
        """Whether the other one's value lies outside this interval, on the worse side."""
        return self.upper < other.loss if target.direction == "lower" else self.lower > other.loss


@dataclass(frozen=True)
class Candidate:
    """A mixture that one method found.

    Attributes:
        method: `simulated` (the mean of the best of many random mixtures), `optimised` (the optimum) or
            `prior` (where the predictions cannot tell mixtures apart).
        weights: Domain -> share of training tokens.
        predicted: The target under these weights.
        distance: Share of the tokens by which the nearest run differs; NaN when the runs are not known.
    """

    method: str
    weights: Mapping[str, float]
    predicted: Predicted
    distance: float


@dataclass(frozen=True, eq=False)
class ChosenMixture:
    """What `choose_mixture` answers.

    Attributes:
        weights: Domain -> share of training tokens; rounded to a millionth, sums to 1.
        prior: Domain -> share of the available tokens.
        target: What was made good, in words.
        quantity: The same with its unit and direction.
        estimator: The family of regressors that predicted it.
        method: Of the candidate that was chosen.
        reason: Why that one.
        predicted: The target under the chosen mixture.
        prior_predicted: The target under the prior.
        candidates: What every method found, the chosen one among them.
        widest_gap: Largest distance of a run to its nearest other run, as a share of the tokens; NaN when
            the runs are not known.
        losses: The trade-off: a row per target with `loss`, `loss_lower`, `loss_upper` under the chosen
            mixture, the same with `prior_` in front, `change` (chosen minus prior) and `is_clear` (whether
            the prior's loss lies outside the chosen's interval), each in its `unit`, with its `direction`.
        warnings: What speaks against trusting the choice.
        verdict: Whether the regressor knows enough to choose by; `None` where nobody judged it.
        kl_strength: What a nat of divergence from the prior cost in the choice, in the target's unit.
        speaks_of: Of what runs the predicted losses and their intervals are, in words.
        size: Their parameters and tokens, where it was chosen for a size that was asked for.
        groups: What domains have that are bounded together.
    """

    weights: Mapping[str, float]
    prior: Mapping[str, float]
    target: str
    quantity: Quantity
    estimator: str
    method: str
    reason: str
    predicted: Predicted
    prior_predicted: Predicted
    candidates: tuple[Candidate, ...]
    widest_gap: float
    losses: pd.DataFrame
    warnings: tuple[str, ...]
    verdict: Verdict | None = None
    kl_strength: float = 0.0
    speaks_of: str = ""
    size: tuple[float, float] | None = None
    groups: tuple[GroupShare, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What to say of it where the verdict was said: all of that again only where it was the reason."""
        said = [f"chosen: {self.reason}", f"predictions and intervals are those of {self.speaks_of}"]
        for warning in self.warnings:
            if self.verdict is None or warning != str(self.verdict):
                said.append(f"warning: {warning}")
            elif self.method != "prior":
                said.append(f"warning: {self.verdict.says}")
        return said

    @property
    def is_better_than_prior(self) -> bool:
        """Whether the prior's predicted target lies outside the chosen mixture's interval, and is worse."""
        return self.predicted.is_clearly_better_than(self.prior_predicted, self.quantity)

    def table(self, epochs: Mapping[str, float] | None = None) -> pd.DataFrame:
        """Return a row per domain and target: weights, epochs and the trade-off side by side.

        Columns: `domain`, `weight`, `prior`, `epochs` (times a final run sees it, NaN where not given), and
        those of `losses`. A target that is not trained on has weight 0; one without a loss has NaN there.
        """
        names = list(dict.fromkeys([*self.weights, *self.losses.index]))
        weights = pd.DataFrame(
            {
                "domain": names,
                "weight": [self.weights.get(name, 0.0) for name in names],
                "prior": [self.prior.get(name, 0.0) for name in names],
                "epochs": [(epochs or {}).get(name, np.nan) for name in names],
            }
        )
        losses = self.losses.astype({"is_clear": "boolean"})
        return weights.merge(losses.rename_axis("domain").reset_index(), on="domain", how="left")


def doubts(
    chosen: Candidate, prior: Predicted, target: Quantity, gap: float, *, prior_is_allowed: bool
) -> Iterator[str]:
    """What speaks against a mixture whose prediction may be no better, or no more than a guess."""
    if math.isnan(chosen.predicted.lower):
        yield "not tried: without a run on a mixture nobody knows the scale of what experts say"
    elif not chosen.predicted.is_clearly_better_than(prior, target):
        yield (
            f"not better than the prior beyond its interval: predicted {chosen.predicted.loss:.4f} "
            f"(90 % interval {chosen.predicted.lower:.4f} to {chosen.predicted.upper:.4f}), the prior"
            f"{'' if prior_is_allowed else ', which the bounds do not allow,'} {prior.loss:.4f}; more or "
            "longer proxies would tell"
        )
    if chosen.distance > gap:
        yield (
            f"no run was near: the nearest differs in {100 * chosen.distance:.0f} % of the tokens, while "
            f"every run has another within {100 * gap:.0f} %; the prediction is extrapolated"
        )
