"""Which runs are judged and which only fitted, where runs are of several sizes and lengths."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.recipe import Recipe
from regmix_hf.regression.assessment import seed_noise
from regmix_hf.regression.base import of_largest
from regmix_hf.regression.registry import estimator_class
from regmix_hf.regression.regressor import MixtureRegressor
from regmix_hf.runs.runs import Runs
from regmix_hf.runs.sizes import scale_words
from regmix_hf.tables import SIZES

#: The family that is fitted on proxies of several sizes or lengths where the recipe names none that can be.
_OF_SIZES = "scaled_law"
#: So many targets are named with their noise.
_FEW = 3


def families_of(recipe: Recipe) -> list[str]:
    """Families to fit on a study's proxies: those of the recipe, of several sizes those that can be fitted.

    Experts can: they order mixtures alike at every size, and the runs of the largest give the scale.

    Raises:
        RegressionError: A family is unknown.
    """
    asked = list(recipe.regression.estimators)
    if len(recipe.rungs) == 1:
        return asked
    return [name for name in asked if _is_of_several(name)] or [_OF_SIZES]


def _is_of_several(name: str) -> bool:
    family = estimator_class(name)
    return family.takes_sizes or family.ranks_all_sizes


def of_study(runs: Runs, recipe: Recipe, progress: Progress) -> Runs:
    """Leave out runs of others of another size or length, where a study's proxies are of one and stay so.

    The study's own come first.
    """
    tells = any(estimator_class(name).takes_sizes for name in recipe.regression.estimators)
    return runs if len(recipe.rungs) > 1 or tells else of_one_scale(runs, progress)


def judged_runs(runs: Runs, estimators: Collection[str], progress: Progress) -> tuple[Runs, Runs | None]:
    """Part the runs of one size and length, which families are judged on, from others to fit beside them.

    Args:
        runs: All.
        estimators: Families; where one `takes_sizes`, or listens to experts first of all, the largest size is
            judged, else that of the first run.
        progress: Told what is not judged.

    Raises:
        RegressionError: A family is unknown, or needs sizes that are not known.
    """
    takes_sizes = any(estimator_class(name).takes_sizes for name in estimators)
    if takes_sizes or (runs.sizes is not None and any(map(_is_of_several, estimators))):
        return by_size(runs, progress)
    return of_one_scale(runs, progress), None


def by_size(runs: Runs, progress: Progress) -> tuple[Runs, Runs | None]:
    """Part the runs of the largest size, which are judged, from those that are only fitted beside them.

    Raises:
        RegressionError: It is not known how large the runs are.
    """
    if runs.sizes is None:
        raise RegressionError(
            "the runs do not say how many parameters and tokens each had.",
            f"give them in columns {' and '.join(SIZES)}, or fit a family that needs no sizes",
        )
    largest = of_largest(runs.sizes.to_numpy())
    if largest.all():
        return runs, None
    own, beside = _part(runs, largest), runs.take(np.flatnonzero(~largest)).part("fit")
    others = f"beside: {len(beside)} of other sizes and lengths"
    progress.note(f"judged: {count_of(len(own), 'run')} of {scale_of(own)}; {others}")
    lacking = [name for name in own.targets if own.losses[name].isna().all()]
    if 0 < len(lacking) < len(own.targets):
        progress.note(f"left out, as no run of {scale_of(own)} has a value of it: {', '.join(lacking)}")
        own = own.of_targets([name for name in own.targets if name not in lacking])
    for said in _noise_of(beside) if not seed_noise(own) else ():
        progress.note(f"{said}; of {scale_of(own)} no mixture was run with two seeds")
    return own, beside


def _part(runs: Runs, rows: NDArray[np.bool_]) -> Runs:
    """Some of the runs, and the counts of all that were left out."""
    counts = {name: getattr(runs, name) for name in ("num_diverged", "num_failed", "num_duplicates")}
    return replace(runs.take(np.flatnonzero(rows)), **counts)


def _noise_of(runs: Runs) -> Iterator[str]:
    """Say for every size and length of which a mixture was run again how far two seeds lie apart."""
    assert runs.sizes is not None, "that is how they are parted"
    alike = runs.sizes.groupby(list(SIZES)).indices
    for part in (runs.take(np.sort(rows)) for rows in alike.values()):
        if noise := seed_noise(part):
            named = ", ".join(f"{name} {value:.4f}" for name, value in islice(noise.items(), _FEW))
            more = f" and {len(noise) - _FEW} more" if len(noise) > _FEW else ""
            yield f"noise between seeds of {scale_of(part)}: {named}{more}"


def scale_of(runs: Runs) -> str | None:
    """What the runs, which are of one size and length, trained for how long; `None`: not known."""
    if not len(runs):
        return None
    if runs.scale is not None:
        return str(runs.scale.iloc[0])
    return None if runs.sizes is None else scale_words(*runs.sizes.iloc[0])


def counts_of(parts: Sequence[Runs]) -> str:
    """How many runs there are of each size and length, in words, the smallest first."""
    tables = [runs.sizes[list(SIZES)].to_numpy() for runs in parts if runs.sizes is not None]
    sizes, counts = np.unique(np.concatenate(tables), axis=0, return_counts=True)
    return ", ".join(f"{count} of {scale_words(*size)}" for size, count in zip(sizes, counts, strict=True))


def usual_scale(runs: Runs) -> str | None:
    """The size and length that most runs are of, of several the largest; `None` where all are alike."""
    if runs.scale is None or runs.sizes is None or runs.scale.nunique() <= 1:
        return None
    _, first, counts = np.unique(
        runs.sizes[list(SIZES)].to_numpy(), axis=0, return_index=True, return_counts=True
    )
    largest = np.flatnonzero(counts == counts.max())[-1]  # they are sorted
    return str(runs.scale.iloc[first[largest]])


def of_one_scale(runs: Runs, progress: Progress, own: str | None = None) -> Runs:
    """Leave out runs of other models or lengths than `own` (see `Runs.scale`), or else the first run's."""
    if runs.scale is None or not len(runs):
        return runs
    own = own or str(runs.scale.iloc[0])
    others = runs.scale[runs.scale != own].value_counts()
    if len(others):
        scale, count = others.index[0], others.iloc[0]
        more = (
            f" and {others.iloc[1:].sum():,} of {count_of(len(others) - 1, 'more scale')}"
            if len(others) > 1
            else ""
        )
        progress.note(
            f"{count_of(count, 'run')} of {scale}{more}: no part of the fit, which is of {own}; losses differ"
        )
    return _part(runs, (runs.scale == own).to_numpy())


def fit_one(name: str, random_state: int, fitted: Runs, beside: Runs | None) -> MixtureRegressor:
    """Fit on the judged runs, and on those of other sizes where the family can be."""
    regressor, family = MixtureRegressor(name, random_state=random_state), estimator_class(name)
    both = [fitted]
    if beside is not None and family.takes_sizes:
        both.append(beside.of_targets(fitted.targets))
    weights, losses = (pd.concat([getattr(runs, part) for runs in both]) for part in ("weights", "losses"))
    sizes, epochs = (_of_all([getattr(runs, part) for runs in both]) for part in ("sizes", "epochs"))
    epochs = epochs if family.takes_epochs else None
    return regressor.fit(
        weights, losses, fitted.quantities, sizes=sizes, epochs=epochs, experts=fitted.experts
    )


def fitted_on(name: str, fitted: Runs, beside: Runs | None) -> str:
    """What a family is fitted on, in words: `20 runs and 8 experts`."""
    family, experts = estimator_class(name), fitted.experts
    told = [count_of(len(fitted), "run")] if len(fitted) else []
    if beside is not None and family.takes_sizes:
        told.append(f"{len(beside):,} of other sizes or lengths")
    if experts is not None and family.takes_experts:
        told.append(count_of(len(experts.weights), "expert"))
    return " and ".join(told)


def _of_all(tables: list[pd.DataFrame | None]) -> pd.DataFrame | None:
    """Tables below each other; `None` where one is missing."""
    known = [table for table in tables if table is not None]
    return pd.concat(known) if len(known) == len(tables) else None
