"""What `fit` left in a folder, ready to choose with: the selected regressor, its target and its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from regmix_hf.choice.choose import ChoiceProblem
from regmix_hf.errors import RegressionError, StudyError, did_you_mean
from regmix_hf.files import damaged, read_json
from regmix_hf.mixtures import AroundPrior, Constraints, around_prior, sampling_constraints
from regmix_hf.mixtures.final import choice_constraints
from regmix_hf.recipe import Choice, Sampling
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.agreement import DO_NOT_TELL, Agreement
from regmix_hf.regression.assessment import BASELINE, HOLDOUT, cross_validation, predict, seed_noise
from regmix_hf.regression.target import Target, TargetValue
from regmix_hf.regression.verdict import Verdict
from regmix_hf.runs.runs import Runs, load_runs
from regmix_hf.runs.sizes import scale_words
from regmix_hf.study import names

#: What a choice needs of `summary.json`.
_SUMMARY = ("estimator", "estimators", "target_value")
#: Lengths that differ by no more than this share are taken for one.
_ALIKE = 0.1


@dataclass(frozen=True, eq=False)
class FittedRuns:
    """A fit on disk.

    Attributes:
        regressor: The one to choose with.
        target: What it is to make good.
        runs: The runs of the fit, holdout included.
        scale: What these runs trained for how long, where that is known.
        size: Parameters and tokens of the runs that it speaks of, where it was asked for a size (`at`).
        verdict: Whether the regressor knows enough to choose by: that of the fit, or, for another estimator
            or target than the fit was for, and for fits of version 0.1, one by cross-validation.
        is_judged_anew: The verdict is not what `fit` said.
        agreement: How proxies of several sizes rank the same mixtures; nothing where all are of one.
    """

    regressor: MixtureRegressor
    target: Target
    runs: Runs
    verdict: Verdict
    scale: str | None = None
    size: tuple[float, float] | None = None
    agreement: tuple[Agreement, ...] = ()
    is_judged_anew: bool = False

    @classmethod
    def load(cls, folder: Path, *, estimator: str | None = None, target: TargetValue | None = None) -> Self:
        """Read what `regmix fit` wrote.

        Args:
            folder: `4-regression` of a study, or the folder of a fit on outside runs.
            estimator: Another estimator than the one that was selected.
            target: Another target than the one that was fitted for.

        Raises:
            StudyError: There is no fit in the folder, or what says so is damaged.
            RegressionError: The estimator was not fitted, or the target is unknown.
        """
        summary_file = folder / names.FIT_SUMMARY
        if not summary_file.exists():
            raise StudyError(f"{folder} holds no fit: {summary_file} is not there.", "run `regmix fit` first")
        summary = _read_summary(summary_file)
        name = estimator or summary["estimator"]
        if name not in summary["estimators"]:
            raise RegressionError(
                f"{name!r} was not fitted in {folder}.", did_you_mean(name, summary["estimators"])
            )
        regressor = MixtureRegressor.from_pretrained(folder / name)
        known = (regressor.quantities_, regressor.scales)
        goal = Target.parse(summary["target_value"] if target is None else target, *known)
        runs = load_runs(folder)
        is_judged = (name, goal) == (
            summary["estimator"],
            Target.parse(summary["target_value"], *known),
        )
        said = Verdict.said_in(summary, summary_file) if is_judged else None
        if (verdict := said) is None:
            trivial = (BASELINE,) if BASELINE in summary["estimators"] else ()
            beside = {one: MixtureRegressor.from_pretrained(folder / one) for one in trivial}
            verdict = _judged(runs, name, {name: regressor, **beside}, goal)
        try:
            agreement = tuple(Agreement.said_in(summary))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(summary_file, "holds an agreement of sizes that cannot be read") from error
        known_scale, is_new = summary.get("scale"), said is None
        return cls(regressor, goal, runs, verdict, known_scale, agreement=agreement, is_judged_anew=is_new)

    def at(self, num_parameters: float, num_train_tokens: float) -> Self:
        """Return the fit as it speaks of runs of this size and length.

        Raises:
            RegressionError: The regressor knows one size only.
        """
        regressor = self.regressor.at(num_parameters, num_train_tokens)
        size = num_parameters, num_train_tokens
        return replace(self, regressor=regressor, scale=scale_words(*size), size=size)

    def reading(self, available_tokens: Mapping[str, float], num_train_tokens: float) -> Self:
        """Return the fit as it speaks of runs so long over so much text of each domain.

        Raises:
            RegressionError: What repeating costs is not known, or a number is missing.
        """
        return replace(self, regressor=self.regressor.reading(available_tokens, num_train_tokens))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the target is made of that small models do not tell, and a length that no run tells of."""
        used = {str(self.target), *self.target.weights}
        found = [str(one) for one in self.agreement if one.word == DO_NOT_TELL and one.target in used]
        had, asked = self.regressor.model.only_length, self.size[1] if self.size else None
        if had is not None and asked is not None and not math.isclose(had, asked, rel_tol=_ALIKE):
            found.append(
                f"all runs trained on {had:,.0f} tokens, and {asked:,.0f} are asked for: no run tells "
                "what that does to the loss; the interval is as wide as one length left it where another "
                "was measured, by a fifth of the loss for each e-fold of tokens; two lengths would tell"
            )
        return tuple(found)

    @property
    def mean_weights(self) -> dict[str, float]:
        """Mean of the runs' weights: stands in for a prior that is not known."""
        means = self.runs.weights[list(self.regressor.domains_)].mean()
        return {str(domain): float(share) for domain, share in means.items()}

    def problem(
        self,
        sampled: AroundPrior | None = None,
        constraints: Constraints | None = None,
        *,
        prior: Mapping[str, float] | None = None,
        choice: Choice | None = None,
        random_state: int = 0,
    ) -> ChoiceProblem:
        """Return the choice to be made with this fit.

        Args:
            sampled: What the runs' mixtures were drawn from. Default: RegMix's distribution around their
                mean.
            constraints: Bounds; default those of `choice`, without a cap on epochs.
            prior: Where `sampled` is not given, the prior to compare with, as shares or tokens by domain.
                Default: the runs' mean.
            choice: Number of candidates, bounds.
            random_state: Seed of the candidates.

        Raises:
            MixtureError: Other domains than the regressor's, or no mixture meets the bounds; or the prior
                names a domain that is none.
        """
        domains, settings = self.regressor.domains_, choice or Choice()
        if sampled is None:
            usual = Sampling()
            # How much a domain could have in the swarm follows from what that was drawn around.
            drawn_within = sampling_constraints(usual, self.mean_weights)
            sampled = around_prior(prior or self.mean_weights, usual, drawn_within)
        return ChoiceProblem(
            regressor=self.regressor,
            target=self.target,
            constraints=constraints or choice_constraints(settings, domains),
            sampled=sampled,
            swarm=self.runs.part("fit").weights,
            choice=settings,
            verdict=self.verdict,
            doubts=self.doubts,
            scale=self.scale,
            size=self.size,
            random_state=random_state,
        )


def _judged(runs: Runs, name: str, regressors: Mapping[str, MixtureRegressor], goal: Target) -> Verdict:
    """What runs say of the regressor of this name, where `fit` judged another, or for another target."""
    fitted, held_out = runs.part("fit"), runs.part("holdout")
    if not len(fitted) and not len(held_out):
        return Verdict.untried()
    judged = cross_validation(fitted, regressors) if len(fitted) else predict(HOLDOUT, held_out, regressors)
    return Verdict.of(judged, name, goal, seed_noise(runs), random_state=0)


def _read_summary(file: Path) -> dict[str, Any]:
    summary = read_json(file)
    missing = [key for key in _SUMMARY if not isinstance(summary, dict) or key not in summary]
    if missing:
        raise damaged(file, f"does not say {missing[0]!r}")
    return dict(summary)
