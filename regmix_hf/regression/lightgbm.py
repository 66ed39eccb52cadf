"""Gradient-boosted trees with the settings of RegMix, and leaf sizes that suit few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.files import write_text
from regmix_hf.regression.base import Array, MixtureEstimator, Segment
from regmix_hf.regression.storage import within
from regmix_hf.regression.threads import side_by_side

#: LightGBM's own smallest leaf, which the paper keeps: right for 500 runs, too large for 64.
_MAX_LEAF_RUNS = 20
_MIN_LEAF_RUNS = 2
#: Of each domain's weights. LightGBM's 255 hold two of 512 runs each and rank no better (98.73 % Spearman
#: out of fold on the published runs, 98.75 % with 63); trees over 100 domains then take three times as long.
_MOST_BINS = 63
#: With fewer runs than this a model keeps what it was trained with: a few hundred kilobytes. To let go of it,
#: LightGBM writes all trees as text and reads them again, which takes as long as growing them.
_FEW_RUNS = 100
#: Trees after which a search looks whether to go on; the first ones carry most of the prediction.
_STOPS = (50, 100, 200, 300, 500, 700)


class LightGBM(MixtureEstimator):
    """One ensemble of regression trees per target (RegMix, section 3.2 and its published notebook).

    1000 iterations at a learning rate of 1e-2, without early stopping: there is no set to stop on that is
    neither fitted nor tested. Each domain's weights go into 63 bins at most.

    Args:
        num_iterations: Trees of one target.
        learning_rate: Share of each tree's correction that is taken.
        min_leaf_runs: Smallest number of runs in a leaf. `None`: three quarters of the square root of the
            number of runs, from 2 to LightGBM's default of 20.
        num_threads: Targets worked on side by side, one thread each; the numbers do not depend on it.
            `None`: one per core this process may use.
        random_state: LightGBM's seed.

    Attributes:
        boosters_: LightGBM's own models, one per target.

    >>> weights = np.random.default_rng(0).dirichlet([1, 1, 1], 24)
    >>> model = LightGBM().fit(weights, 3 - np.sqrt(weights[:, 0]))
    >>> model.predict([[0.5, 0.3, 0.2]]).round(2)
    array([2.31])
    """

    def __init__(
        self,
        num_iterations: int = 1000,
        learning_rate: float = 1e-2,
        min_leaf_runs: int | None = None,
        num_threads: int | None = None,
        *,
        random_state: int = 0,
    ):
        self.num_iterations = num_iterations
        self.learning_rate = learning_rate
        self.min_leaf_runs = min_leaf_runs
        self.num_threads = num_threads
        self.random_state = random_state

    def _fit(self, weights: Array, losses: Array, own: NDArray[np.intp]) -> None:
        import lightgbm

        def boost(loss: Array) -> lightgbm.Booster:
            known = ~np.isnan(loss)
            num_runs = int(known.sum())
            settings = self._settings(num_runs)
            data = lightgbm.Dataset(weights[known], label=loss[known], params=settings)
            return lightgbm.train(
                settings,
                data,
                num_boost_round=self.num_iterations,
                keep_training_booster=num_runs < _FEW_RUNS,
            )

        self.boosters_ = side_by_side(boost, losses.T, self.num_threads)

    def _settings(self, num_runs: int) -> dict[str, Any]:
        leaf = self.min_leaf_runs
        if leaf is None:
            leaf = min(_MAX_LEAF_RUNS, max(_MIN_LEAF_RUNS, round(0.75 * math.sqrt(num_runs))))
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": leaf,
            # A bin is no leaf: the default of 3 runs a bin would hide most values of few runs.
            "min_data_in_bin": 1,
            "max_bin": _MOST_BINS,
            "num_threads": 1,
            "seed": self.random_state,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def _predict(self, weights: Array) -> Array:
        def predict(booster: Any) -> Array:
            return np.asarray(booster.predict(weights, num_threads=1))

        return np.column_stack(side_by_side(predict, self.boosters_, self.num_threads))

    def segments(self) -> list[Segment]:
        """Return the trees up to each stop from the one before.

        The trees still to come add the sum of their smallest leaves at least. On RegMix's published runs, for
        one domain's loss, 8 % of a million candidates are left after 100 of 1000 trees.
        """
        import lightgbm

        smallest = [_smallest_leaves(booster.model_to_string()) for booster in self.boosters_]
        segments = []
        for start, stop in pairwise((0, *_STOPS)):
            # Models of their own: LightGBM keeps the range of trees a prediction asks for in the model, where
            # another thread may change it before the prediction is made.
            texts = (
                booster.model_to_string(num_iteration=stop - start, start_iteration=start)
                for booster in self.boosters_
            )
            parts = [lightgbm.Booster(model_str=text) for text in texts]
            left = np.array([leaves[stop:].sum() for leaves in smallest])
            segments.append(Segment(partial(_predict_side_by_side, parts), left))
        return segments

    def select_targets(self, targets: Sequence[int]) -> Self:
        """Return a fitted copy that predicts only the targets at these positions."""
        part = super().select_targets(targets)
        part.boosters_ = [self.boosters_[target] for target in targets]
        return part

    def save(self, folder: Path, part: str = "") -> None:
        """Write each target's trees in LightGBM's text format."""
        for target, booster in enumerate(self.boosters_):
            write_text(_trees(folder, part, target), booster.model_to_string())

    def load(self, folder: Path, part: str = "", *, num_domains: int, num_targets: int) -> Self:
        """Read the trees that `save` wrote.

        Raises:
            RegressionError: A file is missing, is no LightGBM model, or was fitted on other domains.
        """
        import lightgbm

        super().load(folder, part, num_domains=num_domains, num_targets=num_targets)
        self.boosters_ = []
        for target in range(num_targets):
            path = _trees(folder, part, target)
            if not path.is_file():
                raise RegressionError(f"{path} is missing.")
            try:
                booster = lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
            except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
                raise RegressionError(f"{path} holds no trees: {error}") from error
            if booster.num_feature() != num_domains:
                raise RegressionError(
                    f"{path}: trees over {booster.num_feature()} domains; there are {num_domains}."
                )
            self.boosters_.append(booster)
        return self


def _trees(folder: Path, part: str, target: int) -> Path:
    return folder / f"{within('trees', part, f'{target:03d}')}.txt"


def _predict_side_by_side(boosters: Sequence[Any], weights: Array) -> Array:
    return np.column_stack([booster.predict(weights, num_threads=1) for booster in boosters])


def _smallest_leaves(model: str) -> Array:
    """Smallest value of each tree, from LightGBM's text format."""
    label = "leaf_value="
    lines = (line for line in model.splitlines() if line.startswith(label))
    return np.array([min(map(float, line.removeprefix(label).split())) for line in lines])
