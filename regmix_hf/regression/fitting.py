"""Fit several regressors on one set of runs, compare them on runs they never saw, and keep what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from regmix_hf.errors import RegressionError
from regmix_hf.files import write_json, write_parquet
from regmix_hf.progress import Progress, Silent
from regmix_hf.recipe.target import TARGET_WORDS
from regmix_hf.regression.absurd import find_absurd
from regmix_hf.regression.agreement import DO_NOT_TELL, Agreement, size_agreement
from regmix_hf.regression.assessment import (
    BASELINE,
    CROSS_VALIDATION,
    FITTED,
    HOLDOUT,
    MANY_TO_RANK,
    NOTHING,
    Promise,
    cross_validation,
    number_mixtures,
    predict,
    predictions_table,
    quality_table,
    seed_noise,
    speaks_of,
)
from regmix_hf.regression.by_size import counts_of, fit_one, fitted_on, judged_runs, scale_of
from regmix_hf.regression.carrying import carries
from regmix_hf.regression.expert_tokens import not_asked
from regmix_hf.regression.learning_curve import LearningCurve, learning_curve
from regmix_hf.regression.registry import estimator_class
from regmix_hf.regression.regressor import MixtureRegressor
from regmix_hf.regression.selection import Selection, select
from regmix_hf.regression.target import Target, TargetValue, scales_of
from regmix_hf.regression.verdict import Verdict
from regmix_hf.runs.runs import Runs
from regmix_hf.study import names
from regmix_hf.tables import PREDICTIONS, QUALITY

#: With fewer holdout runs than this, estimators are compared by cross-validation of the fitted runs instead.
LEAST_HOLDOUT = 16


@dataclass(frozen=True, eq=False)
class Fit:
    """What `fit_runs` found. Everything in it also lies in `folder`.

    Attributes:
        folder: One saved regressor per estimator, and the tables.
        target: What a mixture will be judged on.
        selection: The estimator to choose mixtures with, and why.
        promises: What each family promises of the run it predicts best out of fold, and what that measured.
        verdict: Whether it knows enough to choose by.
        quality: `quality.parquet`, see `assessment.quality_table`.
        predictions: `predictions.parquet`, see `assessment.predictions_table`.
        curve: Held-out correlation against the number of runs; its `table()` is `learning_curve.parquet`.
        summary: `summary.json`.
    """

    folder: Path
    target: Target
    selection: Selection
    promises: Mapping[str, Promise | None]
    verdict: Verdict
    quality: pd.DataFrame
    predictions: pd.DataFrame
    curve: LearningCurve
    summary: Mapping[str, Any]


def fit_runs(
    runs: Runs,
    estimators: Sequence[str],
    target: TargetValue,
    folder: Path,
    *,
    test_sets: Mapping[str, Runs] | None = None,
    use: str | None = None,
    random_state: int = 0,
    progress: Progress | None = None,
) -> Fit:
    """Fit every estimator, and `own_weight` beside them, on the runs of the split `fit`; compare and save.

    Args:
        runs: The runs; those of the split `holdout` are only predicted.
        estimators: Names of families.
        target: What a mixture will be judged on: a loss, several (their mean), a map of weights, `mean` or
            `worst`.
        folder: Where to save: `<estimator>/`, `quality.parquet`, `predictions.parquet`,
            `learning_curve.parquet`, `runs.parquet` (all usable runs), `runs_beside.parquet` (those of other
            sizes) and, last, `summary.json`.
        test_sets: Further runs to predict, by name. They never decide which estimator is best.
        use: The estimator to choose mixtures with. `None`: the best on held-out runs.
        random_state: Seed of fits, folds and bootstrap.
        progress: Told what is being done.

    Raises:
        RegressionError: An estimator or target is unknown, or the runs are too few for an estimator.
        DataError: A test set has other columns than the runs.
    """
    progress = progress or Silent()
    question = Question.of(runs, estimators, target, test_sets or {}, use, progress)
    regressors = _fit_all(question, random_state, progress)
    if len(question.fitted) or len(question.holdout):
        fit = _judge(question, regressors, folder, random_state, progress)
    else:
        fit = _unjudged(question, regressors, folder)
    _save(fit, question, regressors)
    progress.note(fit.selection.reason)
    told = fit.summary["fitted_on"][fit.selection.estimator]
    progress.note(f"{fit.selection.estimator}: fitted on {told}; {fit.summary['outlook']}")
    progress.note(str(fit.verdict))
    for name, promise in fit.promises.items():
        if promise is not None:
            progress.note(f"{name}: {promise}")
    for agreement in Agreement.said_in(fit.summary):
        if agreement.target == str(fit.target) or agreement.word == DO_NOT_TELL:
            progress.note(str(agreement))
    progress.note(f"predictions and intervals are those of {speaks_of(fit.summary)}")
    return fit


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a set of runs, checked before anything is fitted.

    Attributes:
        runs: All that are judged, of one size and length.
        beside: Runs of other sizes and lengths, for families that can be fitted on them, too.
        fitted: Those to fit on, without their absurd losses.
        holdout: Those that are only predicted, without their absurd losses.
        tests: Further runs to predict, by name, with the columns of the fit.
        asked: Families that were asked for.
        use: The family to choose with; `None`: the best on held-out runs.
        value: The target as it was written.
        goal: The target.
    """

    runs: Runs
    beside: Runs | None
    fitted: Runs
    holdout: Runs
    tests: Mapping[str, Runs]
    asked: tuple[str, ...]
    use: str | None
    value: TargetValue
    goal: Target

    @classmethod
    def of(
        cls,
        runs: Runs,
        estimators: Sequence[str],
        target: TargetValue,
        test_sets: Mapping[str, Runs],
        use: str | None,
        progress: Progress,
    ) -> Self:
        """Check what is asked; raises as `fit_runs` does."""
        asked = tuple(dict.fromkeys([*estimators, *([use] if use else [])]))
        runs, beside = judged_runs(runs, asked, progress)
        usable = replace(runs, losses=runs.losses.mask(find_absurd(runs.losses.to_numpy())))
        fitted = usable.part("fit")
        scales = scales_of(fitted.losses)
        goal = Target.parse(target, runs.quantities, scales)
        if ruling := goal.ruled_by(scales):
            progress.note(
                f"warning: {goal}: {ruling[1]:.0%} of how far it moves is {ruling[0]}, and nothing says that "
                "all are in one unit; {mean_of: [...], scale: spread} counts each in spreads"
            )
        named = () if target in TARGET_WORDS else tuple(goal.weights)
        tests = {name: _test_set(name, test, fitted, named, progress) for name, test in test_sets.items()}
        question = cls(runs, beside, fitted, usable.part("holdout"), tests, asked, use, target, goal)
        for name in question.names:
            _check_enough(name, fitted, beside)
        needed = any(estimator_class(name).needs_experts for name in asked)
        if needed and runs.experts is not None and (lacking := not_asked(runs.experts, runs.targets)):
            progress.note(
                f"experts were not asked about {', '.join(lacking)}: told by runs on mixtures alone"
            )
        if runs.left_out():
            progress.note(f"runs left out of the fit: {runs.left_out()}")
        for run, losses in question.absurd.items():
            found = ", ".join(f"{loss:.4g} for {target}" for target, loss in losses.items())
            progress.note(f"run {run}: far beside the losses of all others, and left out: {found}")
        return question

    @property
    def absurd(self) -> dict[str, dict[str, float]]:
        """Run -> target -> a loss that stands far beside those of all other runs and counts as missing."""
        losses, absurd = self.runs.losses, find_absurd(self.runs.losses.to_numpy())
        return {
            str(run): {str(target): float(loss) for target, loss in row[beside].items()}
            for (run, row), beside in zip(losses.iterrows(), absurd, strict=True)
            if beside.any()
        }

    def agreement(self, random_state: int) -> list[Agreement]:
        """How runs of other sizes rank mixtures; nothing of runs of one size."""
        parts = [self.runs, *([self.beside.of_targets(self.runs.targets)] if self.beside else [])]
        return size_agreement(parts, self.goal, random_state)

    @property
    def curved(self) -> tuple[str, ...]:
        """The families with a learning curve: those whose runs are all in `fitted`."""
        return tuple(
            name for name in self.asked if self.beside is None or not estimator_class(name).takes_sizes
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The families to fit: those asked for, and the baseline beside them, where it can be."""
        enough = estimator_class(BASELINE).min_runs(len(self.fitted.domains))
        beside = (BASELINE,) if len(set(number_mixtures(self.fitted))) >= enough else ()
        return tuple(dict.fromkeys([*self.asked, *beside]))


def _fit_all(question: Question, random_state: int, progress: Progress) -> dict[str, MixtureRegressor]:
    regressors, fitted = {}, question.fitted
    with progress.bar("fit", total=len(question.names), unit="estimators") as bar:
        for done, name in enumerate(question.names):
            bar.update(done, detail=f"{name} on {fitted_on(name, fitted, question.beside)}")
            regressors[name] = fit_one(name, random_state, fitted, question.beside)
        bar.update(len(question.names))
    return regressors


def _judge(
    question: Question,
    regressors: Mapping[str, MixtureRegressor],
    folder: Path,
    random_state: int,
    progress: Progress,
) -> Fit:
    """Predict runs that no fit saw, and judge families by the last of them that is no test."""
    goal, holdout = question.goal, question.holdout
    parts = [predict(HOLDOUT, holdout, regressors)] if len(holdout) else []
    folds = cross_validation(question.fitted, regressors) if len(question.fitted) else None
    if folds is not None and len(holdout) < LEAST_HOLDOUT:
        parts.append(folds)
    judged = parts[-1]
    parts += [predict(name, test, regressors) for name, test in question.tests.items()]
    selection = select(judged, question.asked, goal, random_state, use=question.use)
    noise = seed_noise(question.runs)
    verdict = Verdict.of(judged, selection.estimator, goal, noise, random_state)
    curve = learning_curve(
        question.fitted if judged.test == HOLDOUT else judged.runs,
        judged.runs if judged.test == HOLDOUT else None,
        question.curved,
        goal,
        random_state=random_state,
        progress=progress,
    )
    promises = {
        name: Promise.of(folds, name, goal) if folds and len(question.fitted) >= MANY_TO_RANK else None
        for name in regressors
        if name != BASELINE
    }
    quality = quality_table(parts, goal, random_state)
    return Fit(
        folder=folder,
        target=goal,
        selection=selection,
        promises=promises,
        verdict=verdict,
        quality=quality,
        predictions=predictions_table(parts, goal),
        curve=curve,
        summary=_summary(question, selection, curve, regressors)
        | {
            "seed_noise": noise,
            "verdict": verdict.plain,
            "carries": _carries(question.runs, quality, selection),
            "size_agreement": [one.plain for one in question.agreement(random_state)],
            "promises": {name: promise and asdict(promise) for name, promise in promises.items()},
        },
    )


def _unjudged(question: Question, regressors: Mapping[str, MixtureRegressor], folder: Path) -> Fit:
    """What there is to say where experts alone were trained: nothing has been measured of any mixture."""
    name = question.use or question.asked[0]
    selection = Selection(name, NOTHING, f"{name} ranks mixtures by experts alone; none has been tried yet.")
    quality, predictions = (
        pd.DataFrame(columns=[*columns.texts, *columns.numbers]) for columns in (QUALITY, PREDICTIONS)
    )
    curve = LearningCurve.empty()
    verdict = Verdict.untried()
    return Fit(
        folder=folder,
        target=question.goal,
        selection=selection,
        promises={},
        verdict=verdict,
        quality=quality,
        predictions=predictions,
        curve=curve,
        summary=_summary(question, selection, curve, regressors)
        | {"seed_noise": {}, "verdict": verdict.plain, "carries": [], "size_agreement": [], "promises": {}},
    )


def _test_set(name: str, test: Runs, fitted: Runs, named: Sequence[str], progress: Progress) -> Runs:
    """Give a test set the columns of the fit; it may lack losses, but none that the target names."""
    if name in (HOLDOUT, CROSS_VALIDATION, FITTED):
        raise RegressionError(f"a test set cannot be called {name!r}.", "give it another name")
    aligned = test.aligned_to(fitted)
    absent = [target for target in fitted.targets if target not in aligned.targets]
    for target in (one for one in absent if one in named):
        raise RegressionError(
            f"test set {name!r} has no losses of the target {target!r}: no such column in {test.losses_from}."
        )
    if absent:
        progress.note(f"test set {name!r} has no losses of {', '.join(absent)}: not measured there")
    return aligned


def _check_enough(estimator: str, fitted: Runs, beside: Runs | None) -> None:
    needed = estimator_class(estimator).min_runs(len(fitted.domains))
    if len(fitted) < needed and beside is not None:
        raise RegressionError(
            f"{estimator} needs at least {needed} runs of one size and length to be judged by; "
            f"there are {counts_of([beside, fitted])}.",
            f"train more at one of them, or those that failed, until it has {needed}",
        )
    if len(fitted) < needed:
        raise RegressionError(
            f"{estimator} needs at least {needed} runs to fit on over {len(fitted.domains)} domains; "
            f"there are {len(fitted)}.",
            f"add {needed - len(fitted)} to them, or fit another estimator",
        )


def _summary(
    question: Question,
    selection: Selection,
    curve: LearningCurve,
    regressors: Mapping[str, MixtureRegressor],
) -> dict[str, Any]:
    runs, value = question.runs, question.value
    return {
        "target": str(question.goal),
        "target_value": dict(value) if isinstance(value, Mapping) else value,
        "estimator": selection.estimator,
        "estimators": list(question.names),
        "fitted_on": {name: fitted_on(name, question.fitted, question.beside) for name in regressors},
        "judged_on": selection.test,
        "reason": selection.reason,
        "num_runs": {
            "fit": len(question.fitted),
            "holdout": len(question.holdout),
            "diverged": runs.num_diverged,
            "failed": runs.num_failed,
            "duplicates": runs.num_duplicates,
        },
        "absurd_losses": question.absurd,
        "scale": scale_of(runs),
        "intervals_hold_seed_noise": regressors[selection.estimator].holds_seed_noise,
        "domains": list(runs.domains),
        "targets": list(runs.targets),
        "quantities": [quantity.plain for quantity in runs.quantities.values()],
        "dropped_targets": dict(runs.dropped),
        "scales": scales_of(question.fitted.losses),
        "outlook": curve.outlook(selection.estimator),
        "gains": [asdict(gain) for gain in curve.gains.get(selection.estimator, ())],
        "shares": {
            name: dict(zip(regressor.targets_, reasons, strict=True))
            for name, regressor in regressors.items()
            if (reasons := regressor.model.reasons_)
        },
    }


def _carries(runs: Runs, quality: pd.DataFrame, selection: Selection) -> list[dict[str, Any]]:
    """How far runs lie apart on every target, and how well the selected estimator ranks unseen ones."""
    of_one = quality[(quality["kind"] == "single") & (quality["estimator"] == selection.estimator)]
    of_one = of_one[of_one["test"] != FITTED]
    ranks = of_one[of_one["test"] == selection.test].set_index("target")["spearman"].dropna()
    return [replace(one, spearman=ranks.get(one.target)).plain for one in carries(runs)]


def _save(fit: Fit, question: Question, regressors: Mapping[str, MixtureRegressor]) -> None:
    for name, regressor in regressors.items():
        regressor.save_pretrained(fit.folder / name)
    write_parquet(fit.folder / names.QUALITY, fit.quality)
    write_parquet(fit.folder / names.PREDICTIONS, fit.predictions)
    write_parquet(fit.folder / names.LEARNING_CURVE, fit.curve.table())
    write_parquet(fit.folder / names.FITTED_RUNS, question.runs.to_results())
    (fit.folder / names.RUNS_BESIDE).unlink(missing_ok=True)
    if question.beside is not None:
        beside = question.beside.of_targets(question.runs.targets)
        write_parquet(fit.folder / names.RUNS_BESIDE, beside.to_results())
    write_json(fit.folder / names.FIT_SUMMARY, fit.summary)
