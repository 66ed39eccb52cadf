"""Fit several regressors on one set of runs, compare them on runs they never saw, and keep what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from regmix_hf.files import write_json, write_parquet
from regmix_hf.progress import Progress, Silent
from regmix_hf.regression.agreement import DO_NOT_TELL, Agreement, size_agreement
from regmix_hf.regression.assessment import (
    BASELINE,
    FITTED,
    HOLDOUT,
    MANY_TO_RANK,
    NOTHING,
    Promise,
    cross_validation,
    predict,
    predictions_table,
    quality_table,
    seed_noise,
    speaks_of,
)
from regmix_hf.regression.by_size import fit_one, fitted_on, scale_of
from regmix_hf.regression.carrying import carries
from regmix_hf.regression.learning_curve import LearningCurve, learning_curve
from regmix_hf.regression.question import Question
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
    learnt, unseen = (question.fitted, judged.runs) if judged.test == HOLDOUT else (judged.runs, None)
    curve = learning_curve(
        learnt, unseen, question.curved, goal, random_state=random_state, progress=progress
    )
    promises = {
        name: Promise.of(folds, name, goal) if folds and len(question.fitted) >= MANY_TO_RANK else None
        for name in regressors
        if name != BASELINE
    }
    quality = quality_table(parts, goal, random_state)
    sizes = [question.runs, *([question.beside.of_targets(question.runs.targets)] if question.beside else [])]
    return Fit(
        folder=folder,
        target=goal,
        selection=selection,
        promises=promises,
        verdict=verdict,
        quality=quality,
        predictions=predictions_table(parts, goal),
        curve=curve,
        summary=_summary(
            *(question, regressors, selection, curve),
            seed_noise=noise,
            verdict=verdict.plain,
            carries=_carries(question.runs, quality, selection),
            size_agreement=[one.plain for one in size_agreement(sizes, goal, random_state)],
            promises={name: promise and asdict(promise) for name, promise in promises.items()},
        ),
    )


def _unjudged(question: Question, regressors: Mapping[str, MixtureRegressor], folder: Path) -> Fit:
    """What there is to say where experts alone were trained: nothing has been measured of any mixture."""
    name = question.use or question.asked[0]
    selection = Selection(name, NOTHING, f"{name} ranks mixtures by experts alone; none has been tried yet.")
    verdict, curve = Verdict.untried(), LearningCurve.empty()
    noted = {"seed_noise": {}, "verdict": verdict.plain, "carries": [], "size_agreement": [], "promises": {}}
    return Fit(
        folder=folder,
        target=question.goal,
        selection=selection,
        promises={},
        verdict=verdict,
        quality=pd.DataFrame(columns=[*QUALITY.texts, *QUALITY.numbers]),
        predictions=pd.DataFrame(columns=[*PREDICTIONS.texts, *PREDICTIONS.numbers]),
        curve=curve,
        summary=_summary(question, regressors, selection, curve, **noted),
    )


def _summary(
    question: Question,
    regressors: Mapping[str, MixtureRegressor],
    selection: Selection,
    curve: LearningCurve,
    **judged: Any,
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
        **judged,
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
