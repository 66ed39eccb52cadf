"""Choose the mixture with the best predicted target: simulate, optimise where possible, and weigh the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from regmix_hf.choice.chosen import Candidate, ChosenMixture, Predicted, doubts
from regmix_hf.choice.nearest import NearestRuns
from regmix_hf.choice.objective import Objective
from regmix_hf.choice.optimise import optimise
from regmix_hf.choice.price import divergence, price_of_leaving
from regmix_hf.choice.reach import (
    WEIGHT_DECIMALS,
    beyond_reach,
    extrapolated,
    held_back,
    never_varied,
    unknown_shares,
    within_reach,
)
from regmix_hf.choice.simulate import Simulation, simulate
from regmix_hf.errors import MixtureError
from regmix_hf.mixtures import AroundPrior, Constraints, around_prior, check_mixture, sampling_constraints
from regmix_hf.mixtures.capped_sum import Array
from regmix_hf.mixtures.final import choice_constraints
from regmix_hf.mixtures.group_shares import GroupShare
from regmix_hf.progress import Progress
from regmix_hf.recipe import Choice, Sampling
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.assessment import OF_NO_MODEL, of_scale
from regmix_hf.regression.target import Target, TargetValue
from regmix_hf.regression.verdict import CANNOT, TELLS, Verdict

#: Probability with which the stated intervals hold the loss of a new run.
COVERAGE = 0.9
#: What a nat of divergence from the prior costs at least of convex predictions: it decides between equals,
#: to the last digits, and moves no prediction by more than itself times a few.
_BETWEEN_EQUALS = 1e-4


def choose_mixture(
    regressor: MixtureRegressor,
    target: TargetValue,
    constraints: Constraints | None = None,
    *,
    prior: Mapping[str, float],
    swarm: pd.DataFrame | None = None,
    choice: Choice | None = None,
    sampling: Sampling | None = None,
    random_state: int = 0,
) -> ChosenMixture:
    """Choose the mixture with the best predicted target within constraints.

    Args:
        regressor: Fitted.
        target: What is to be good: a target, several (their mean), a map of weights, `mean` or `worst`; see
            `Target.parse`.
        constraints: Bounds over the regressor's domains, in its order. Default: `min`, `max` and `fixed` of
            `choice`, without a cap on epochs.
        prior: Share of each domain in the available tokens.
        swarm: The runs' weights, runs x domains, to warn when the choice lies where no run was near.
        choice: Number of candidates, of those averaged, and the price of leaving the prior.
        sampling: How the swarm was drawn; its candidates are drawn alike, and no domain gets more than it
            could have there.
        random_state: Seed of the candidates.

    Raises:
        RegressionError: The target is none of the regressor's, or the runs are too few for intervals.
        MixtureError: No mixture meets the constraints, or the prior is none over the domains.
    """
    settings = choice or Choice()
    if constraints is None:
        constraints = choice_constraints(settings, regressor.domains_)
    check_mixture(prior, regressor.domains_, name="prior")
    drawn = sampling or Sampling()
    problem = ChoiceProblem(
        regressor=regressor,
        target=Target.parse(target, regressor.quantities_, regressor.scales),
        constraints=constraints,
        sampled=around_prior(prior, drawn, sampling_constraints(drawn, prior)),
        swarm=swarm,
        choice=settings,
        random_state=random_state,
    )
    return problem.solve()


@dataclass(frozen=True, eq=False)
class ChoiceProblem:
    """One choice to be made.

    Attributes:
        regressor: Fitted.
        target: What is to be good.
        constraints: What the mixture must meet.
        sampled: What the swarm was drawn from.
        swarm: The runs' weights, runs x domains, or `None` when they are not known.
        choice: Number of candidates, of those averaged, and the price of leaving the prior.
        verdict: Whether the regressor knows enough to choose by; where it cannot tell mixtures apart, the
            prior is chosen, unless `choice.force`. `None`: it is trusted.
        doubts: What else speaks against the predictions, in words.
        scale: What the swarm trained for how long, where that is known: what predictions speak of.
        size: Parameters and tokens of the runs that they speak of, where a law over sizes was asked for one.
        random_state: Seed of the candidates.
    """

    regressor: MixtureRegressor
    target: Target
    constraints: Constraints
    sampled: AroundPrior
    swarm: pd.DataFrame | None
    choice: Choice
    verdict: Verdict | None = None
    doubts: tuple[str, ...] = ()
    scale: str | None = None
    size: tuple[float, float] | None = None
    random_state: int = 0

    def __post_init__(self) -> None:
        for name, constraints in (("constraints", self.constraints), ("swarm", self.sampled.constraints)):
            if constraints.domains != self.regressor.domains_:
                raise MixtureError(
                    f"the {name} are over {list(constraints.domains)}, "
                    f"the regressor over {list(self.regressor.domains_)}.",
                    "give both the same domains in the same order",
                )

    def solve(self, progress: Progress | None = None) -> ChosenMixture:
        """Choose.

        RegMix draws its candidates as it drew the swarm: no domain gets more than it could have there, in
        the optimum neither, for a regression knows nothing beyond.

        Where the regressor has no derivatives but a part of it has, the best simulated mixtures are polished
        on that part, and what is found is dropped unless the whole predicts it to be no worse than their
        mean.

        Of the two, the optimum is chosen where there is one, unless it lies farther from every run than the
        swarm's widest gap and the simulated mixture does not, or the target is the worst of several losses.
        Measured on RegMix's published 1M runs, with power laws fitted to 64, 128 or 512 of them and a
        Gaussian process over all 768 as judge: for the mean of 13 domains optima were 0.003 to 0.007 nats
        better than simulated mixtures, for Pile-CC 0.001 to 0.006, for FreeLaw 0 to 0.002 worse. For the
        worst domain they were 0.02 to 0.03 worse: such an optimum makes several losses equally bad, and is
        as bad as the one that was predicted worst.
        """
        runs, swarm = self.swarm, None
        if runs is not None and len(runs):
            swarm = NearestRuns(runs, self.constraints.domains)
        bounds = self.reach
        objective = Objective.of(self.regressor, self.target, bounds, self.sampled.prior, self.kl_strength)
        search = self._exactly if objective.model.is_convex else self._among_many
        found = [
            self._candidate(method, _round(weights, bounds), swarm)
            for method, weights in search(objective, bounds, progress)
        ]
        if self.keeps_prior:
            found.append(self._candidate("prior", self._kept, swarm))
        return self._describe(tuple(found), bounds, swarm.widest_gap if swarm else np.nan)

    def _exactly(
        self, objective: Objective, bounds: Constraints, progress: Progress | None
    ) -> Iterator[tuple[str, Array]]:
        """The one optimum of convex predictions: what costs to leave the prior is convex, too.

        Several are as good where two domains are the same text, so leaving the prior costs something.
        """
        if (self._prior[bounds.upper > 0] > 0).all():
            objective = replace(objective, kl_strength=max(objective.kl_strength, _BETWEEN_EQUALS))
        number = len(self.regressor.domains_)
        yield "optimised", optimise(objective, bounds, np.stack([self._prior, np.full(number, 1 / number)]))

    def _among_many(
        self, objective: Objective, bounds: Constraints, progress: Progress | None
    ) -> Iterator[tuple[str, Array]]:
        """The mean of the best of many mixtures, and an optimum where predictions lead to one."""
        simulation = simulate(
            objective.below,
            replace(self.sampled, constraints=bounds, min_weight=0.0),
            num_candidates=self.choice.num_candidates,
            top_k=self.choice.top_k,
            random_state=self.random_state,
            progress=progress,
        )
        yield "simulated", simulation.weights
        if (stand_in := objective.model.smooth()) is not None:
            optimum = optimise(replace(objective, model=stand_in), bounds, self._starts(simulation))
            # A stand-in's optimum counts only where the regressor itself confirms it.
            if stand_in is objective.model or objective(optimum[None]) <= objective(simulation.weights[None]):
                yield "optimised", optimum

    @cached_property
    def kl_strength(self) -> float:
        """What one nat of divergence from the prior costs, in the target's unit.

        Raises:
            MixtureError: It is to follow from the runs, which are not known here.
        """
        asked = self.choice.kl_strength
        if asked != "auto":
            return asked
        measured, promised = self.regressor.out_of_fold(self.target)
        if self.swarm is None or len(self.swarm) != len(measured):
            raise MixtureError(
                "choice.kl_strength is 'auto', but the runs that the regressor was fitted on are not given.",
                "give them as `swarm`, or write a number",
            )
        weights = self.swarm[list(self.regressor.domains_)].to_numpy()
        sign = self.target.quantity.sign  # less is better of what is handed on
        return price_of_leaving(sign * measured, sign * promised, divergence(weights, self._prior))

    @property
    def _speaks_of(self) -> str:
        if not self.regressor.num_runs_:
            return OF_NO_MODEL
        return of_scale(self.scale, holds_seed_noise=self.regressor.holds_seed_noise)

    @property
    def keeps_prior(self) -> bool:
        """Whether the prior is chosen, whatever is predicted, because the predictions know nothing."""
        return self.verdict is not None and self.verdict.word == CANNOT and not self.choice.force

    @property
    def _prior(self) -> Array:
        return np.array([self.sampled.prior[domain] for domain in self.regressor.domains_])

    @property
    def _kept(self) -> Array:
        """The prior itself, so that it is one with the final mixture of this name, or the nearest allowed."""
        prior, bounds = self._prior, self.constraints
        return prior if bounds.allows(prior[None]).all() else _round(bounds.project(prior[None])[0], bounds)

    @cached_property
    def _never_varied(self) -> dict[str, float]:
        if self.swarm is None or self.regressor.model.reach is not None:
            return {}
        return never_varied(self.swarm[list(self.regressor.domains_)])

    @property
    def reach(self) -> Constraints:
        """The constraints and, on top, what `within_reach` of the swarm's bounds, or of experts, adds."""
        return within_reach(self.constraints, self._known, self._never_varied)

    @property
    def _known(self) -> Array:
        """The largest weight of each domain in mixtures as the swarm's, or in those of experts."""
        drawn, alone = self.sampled.constraints.upper, self.regressor.model.reach
        return drawn if alone is None else np.maximum(drawn, alone)

    def _starts(self, simulation: Simulation) -> Array:
        """Where to search the optimum from: good mixtures, and two that owe nothing to the predictions."""
        number = len(self.regressor.domains_)
        return np.stack([simulation.weights, simulation.best[0], self._prior, np.full(number, 1 / number)])

    def _candidate(self, method: str, weights: Array, swarm: NearestRuns | None) -> Candidate:
        return Candidate(
            method=method,
            weights=dict(zip(self.regressor.domains_, weights.tolist(), strict=True)),
            predicted=self.predict(weights),
            distance=float(swarm.distance(weights[None])[0]) if swarm else np.nan,
        )

    def predict(self, weights: Array) -> Predicted:
        """Predict the target of one mixture, `(d,)`, with the interval of a new run."""
        row = self.regressor.predict_target(weights[None], self.target, COVERAGE).iloc[0]
        return Predicted(float(row["loss"]), float(row["lower"]), float(row["upper"]))

    def _decide(self, found: tuple[Candidate, ...], gap: float) -> tuple[Candidate, str]:
        simulated, *others = found
        if others and others[-1].method == "prior":
            is_prior = np.array_equal(self._kept, self._prior)
            kept = "the prior" if is_prior else "as near to the prior as is allowed"
            return others[-1], f"{kept}: {self.verdict} To choose what is predicted, set choice.force"
        if self.regressor.model.is_convex:
            return simulated, f"the optimum of convex predictions: none is better{self._of_sample(simulated)}"
        settings = self.choice
        taken = min(settings.top_k, settings.num_candidates)
        mean = f"the mean of the {taken:,} best of {settings.num_candidates:,} simulated mixtures"
        if not others:
            return (
                simulated,
                f"{mean}: {self.regressor.estimator} has no derivatives that lead to a better one",
            )
        optimum = others[0]
        if optimum.distance > gap >= simulated.distance:
            return simulated, f"{mean}: the optimum of the predictions lies where no run was near"
        if not self.target.is_linear:
            return simulated, f"{mean}: an optimum of the worst target relies on all predictions at once"
        return optimum, f"the optimum of the predictions, rather than {mean}"

    def _of_sample(self, found: Candidate) -> str:
        """How well its lead is known where predictions rest on a sample of tokens; at most, for a mean."""
        pair = np.stack([list(found.weights.values()), self._prior])
        used = [self.regressor.targets_.index(name) for name in self.target.weights]
        errors = self.regressor.model.sampling_errors(pair)[used] * np.abs(self.target.factors)
        error = float(errors @ self.target.shares if self.target.is_linear else errors.max())
        return f" (sampled tokens leave {error:.1g} of doubt between it and the prior)" if error else ""

    def _describe(self, found: tuple[Candidate, ...], bounds: Constraints, gap: float) -> ChosenMixture:
        chosen, reason = self._decide(found, gap)
        weights = np.array([chosen.weights[domain] for domain in bounds.domains])
        prior = self._prior
        prior_predicted = self.predict(prior)
        warnings = [
            *self._unknown(),
            *unknown_shares(weights, bounds.domains, self._never_varied),
        ]
        if chosen.method != "prior":
            allowed = bool(self.constraints.allows(prior[None])[0])
            quantity = self.target.quantity
            warnings += doubts(chosen, prior_predicted, quantity, gap, prior_is_allowed=allowed)
            warnings += self._of_reach(weights, bounds)
        return ChosenMixture(
            weights=chosen.weights,
            prior=dict(zip(bounds.domains, prior.tolist(), strict=True)),
            target=str(self.target),
            quantity=self.target.quantity,
            estimator=self.regressor.estimator,
            method=chosen.method,
            reason=reason,
            predicted=chosen.predicted,
            prior_predicted=prior_predicted,
            candidates=found,
            widest_gap=gap,
            losses=self._trade_off(weights, prior),
            warnings=tuple(warnings),
            verdict=self.verdict,
            kl_strength=self.kl_strength,
            speaks_of=self._speaks_of,
            size=self.size,
            groups=GroupShare.of(self.constraints.groups, self.sampled.prior, chosen.weights),
        )

    def _of_reach(self, weights: Array, bounds: Constraints) -> list[str]:
        varied = np.array([name not in self._never_varied for name in bounds.domains])
        weights = np.where(varied, weights, 0.0)
        return [
            *held_back(weights, bounds, self.constraints, self._known),
            *extrapolated(weights, self.constraints, self._known),
            *beyond_reach(self.constraints, self._known),
        ]

    def _unknown(self) -> Iterator[str]:
        """What the runs say nothing about, whatever is chosen."""
        if self.verdict is not None and self.verdict.word != TELLS:
            yield str(self.verdict)
        yield from self.doubts
        if self.choice.kl_strength == "auto" and not self.regressor.num_runs_:
            yield "choice.kl_strength: auto: no run says what leaving the prior costs, so it costs nothing"

    def _trade_off(self, weights: Array, prior: Array) -> pd.DataFrame:
        both = np.stack([weights, prior])
        losses = self.regressor.predict(both)
        lower, upper = self.regressor.predict_interval(both, COVERAGE)
        quantities = self.regressor.quantities_.values()
        columns = {}
        for row, prefix in enumerate(("", "prior_")):
            columns[f"{prefix}loss"] = losses.iloc[row]
            columns[f"{prefix}loss_lower"] = lower.iloc[row]
            columns[f"{prefix}loss_upper"] = upper.iloc[row]
        table = pd.DataFrame(columns)
        table["change"] = table["loss"] - table["prior_loss"]
        table["is_clear"] = (table["prior_loss"] < table["loss_lower"]) | (
            table["prior_loss"] > table["loss_upper"]
        )
        table["unit"] = [quantity.unit for quantity in quantities]
        table["direction"] = [quantity.direction for quantity in quantities]
        return table.rename_axis("target")


def _round(weights: Array, bounds: Constraints) -> Array:
    """Round to `WEIGHT_DECIMALS`, the sum staying 1, and that of each group itself, rounded."""
    scaled = np.maximum(weights, 0.0) * 10**WEIGHT_DECIMALS
    sums = np.array([scaled[part.places].sum() for part in bounds.parts])
    floors = np.array([np.floor(scaled[part.places]).sum() for part in bounds.parts])
    whole = np.empty_like(scaled)
    for part, total in zip(bounds.parts, _to_sum(sums, floors, 10**WEIGHT_DECIMALS), strict=True):
        own = scaled[part.places]
        whole[part.places] = _to_sum(own, np.floor(own), total)
    return np.asarray(np.round(whole / 10**WEIGHT_DECIMALS, WEIGHT_DECIMALS))


def _to_sum(values: Array, floors: Array, total: float) -> Array:
    """Take what is whole of each, and 1 more where most remains, until they sum to `total`."""
    whole = np.maximum(np.floor(values), floors)
    up = np.argsort(whole - values, kind="stable")[: round(total - whole.sum())]
    whole[up] += 1
    return whole
