"""On the runs that RegMix published, few runs suffice: what the README claims, held by a test."""

from pathlib import Path

import numpy as np
import pytest

from regmix_hf.regression import MixtureRegressor
from regmix_hf.runs.runs import load_runs

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "regmix-published-runs"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"RegMix's published runs are not at {PUBLISHED}"),
]


def published(split, scale):
    tables = {"mixtures": "mixture", "losses": "pile_loss"}
    return load_runs(**{key: PUBLISHED / f"{split}_{word}_{scale}.csv" for key, word in tables.items()})


@pytest.fixture(scope="module")
def unseen():
    return published("test", "1m"), published("test", "60m")


def spearman(predicted, true):
    return 100 * predicted.corrwith(true, method="spearman").mean()


@pytest.mark.parametrize(
    ("num_runs", "at_1m", "at_60m"), [(512, 99.2, 98.7), (64, 98.6, 98.1), (32, 98.0, 97.4)]
)
def test_the_power_law_ranks_unseen_mixtures_at_two_scales(num_runs, at_1m, at_60m, unseen):
    fitted = published("train", "1m")
    small, large = unseen
    found = []
    for subset in range(1 if num_runs == 512 else 3):
        rows = np.random.default_rng([num_runs, subset]).permutation(len(fitted))[:num_runs]
        model = MixtureRegressor("power_law").fit(fitted.weights.iloc[rows], fitted.losses.iloc[rows])
        predicted = model.predict(small.weights)
        found.append([spearman(predicted, small.losses), spearman(predicted, large.losses)])
    assert np.mean(found, axis=0)[0] >= at_1m
    assert np.mean(found, axis=0)[1] >= at_60m


def test_the_trivial_predictor_ranks_as_the_published_files_say(unseen):
    fitted = published("train", "1m")
    model = MixtureRegressor("own_weight").fit(fitted.weights, fitted.losses)
    predicted = model.predict(unseen[0].weights)
    assert spearman(predicted, unseen[0].losses) == pytest.approx(89.0, abs=0.15)
    assert spearman(predicted[["pile_cc"]], unseen[0].losses) == pytest.approx(81.7, abs=0.05)
