"""What is asked of a set of runs: checked, and their odd losses left out, before anything is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from regmix_hf.errors import RegressionError
from regmix_hf.progress import Progress
from regmix_hf.recipe.target import TARGET_WORDS
from regmix_hf.regression.absurd import find_absurd
from regmix_hf.regression.assessment import BASELINE, CROSS_VALIDATION, FITTED, HOLDOUT, number_mixtures
from regmix_hf.regression.by_size import counts_of, judged_runs
from regmix_hf.regression.expert_tokens import not_asked
from regmix_hf.regression.registry import estimator_class
from regmix_hf.regression.target import Target, TargetValue, scales_of
from regmix_hf.runs.runs import Runs


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


def _test_set(name: str, test: Runs, fitted: Runs, named: Sequence[str], progress: Progress) -> Runs:
    """Give a test set the columns of the fit; it may lack losses, but none that the target names."""
    if name in (HOLDOUT, CROSS_VALIDATION, FITTED):
        raise RegressionError(f"a test set cannot be called {name!r}.", "give it another name")
    aligned = test.aligned_to(fitted)
    absent = [target for target in fitted.targets if target not in aligned.targets]
    for target in absent:
        if target in named:
            raise RegressionError(
                f"test set {name!r} has no losses of the target {target!r}: "
                f"{test.losses_from} has no such column."
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
