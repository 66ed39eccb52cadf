"""Stage 4: fit and compare regressors from mixtures to losses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from regmix_hf.errors import StudyError
from regmix_hf.progress import Progress
from regmix_hf.quantities import BPB
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.target import AskedTarget
from regmix_hf.seeds import FIT, seed_of
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts

if TYPE_CHECKING:
    from regmix_hf.runs.runs import Runs

STAGE = Stage(
    verb="fit",
    folder=names.REGRESSION,
    keys=("seed", "regression", "runs"),
    inputs=(f"{names.CORPUS}/{names.CORPUS_FACTS}", f"{names.PROXIES}/{names.RESULTS}"),
    outputs=(names.FIT_SUMMARY, *names.FIT_TABLES),
)


def run(study: Study, progress: Progress) -> None:
    """Fit the recipe's estimators on the proxies of the split `fit`, and judge them on the others.

    Raises:
        StudyError: There are no results yet, or none of a target that the recipe has since.
        HubError: The recipe names runs that cannot be had or compared.
        RegressionError: An estimator or target is unknown, or the runs are too few for an estimator.
    """
    from regmix_hf.regression.by_size import families_of, of_study
    from regmix_hf.regression.carrying import carrying
    from regmix_hf.regression.fitting import fit_runs
    from regmix_hf.runs.pooled import pooled_runs

    recipe, corpus = study.recipe, CorpusFacts.find(study.corpus)
    estimators = families_of(recipe)
    if dropped := [name for name in recipe.regression.estimators if name not in estimators]:
        progress.note(
            f"proxies are of {len(recipe.rungs)} sizes or lengths, so {', '.join(estimators)} is fitted, not "
            f"{', '.join(dropped)}"
        )
    runs = of_study(pooled_runs(study, progress), recipe, progress)
    _check_measured(runs.targets, recipe)
    runs = _measured_enough(runs, estimators, recipe, progress)
    runs = replace(runs, token_entropy=corpus.token_entropy if corpus else {})
    fit = fit_runs(
        carrying(
            runs,
            recipe.regression.min_signal,
            progress,
            estimators=estimators,
            target=recipe.regression.target,
        ),
        estimators,
        recipe.regression.target,
        study.regression,
        use=recipe.regression.estimator,
        random_state=seed_of(recipe.seed, FIT),
        progress=progress,
    )
    study.finish(STAGE, {"estimator": fit.selection.estimator})


def _check_measured(targets: Collection[str], recipe: Recipe) -> None:
    """Refuse a target that is asked for by its name and that the recipe had not when runs ended.

    Raises:
        StudyError: No run has a value of it.
    """
    measured = {*recipe.domains, *(f"{BPB}{name}" for name in recipe.domains), *recipe.proxy.scored}
    for name in AskedTarget.of(recipe.regression.target).names:
        if name in measured and name not in targets:
            raise StudyError(
                f"regression.target: no run has a value of {name!r}: they ended before the recipe had it.",
                "remove their folders and run `regmix proxies`, which trains them again; with "
                "`proxy.keep_models: all` later targets cost no training",
            )


def _measured_enough(runs: Runs, estimators: Sequence[str], recipe: Recipe, progress: Progress) -> Runs:
    """Leave out what too few runs have a value of, for the recipe got it later, unless it is asked for."""
    from regmix_hf.regression.registry import estimator_class

    fitted, asked = runs.part("fit"), AskedTarget.of(recipe.regression.target)
    needed = max(estimator_class(name).min_runs(len(runs.domains)) for name in estimators)
    counts = {
        name: len(fitted.weights[fitted.losses[name].notna()].drop_duplicates()) for name in runs.targets
    }
    named = [] if asked.members is None else asked.among(runs.targets)
    few = [name for name, count in counts.items() if count < needed and name not in named]
    kept = [name for name in runs.targets if name not in few]
    if not few or not kept:
        return runs
    told = ", ".join(f"{name} ({counts[name]})" for name in few)
    progress.note(f"left out, as fewer than {needed} different mixtures have a value of it: {told}")
    return runs.of_targets(kept)
