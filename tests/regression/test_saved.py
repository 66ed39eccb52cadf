"""A saved regressor says the same to the last bit, whatever it was last asked for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regmix_hf.quantities import read_names
from regmix_hf.regression import ESTIMATORS, MixtureRegressor
from regmix_hf.regression.registry import WITH_EXPERTS
from regmix_hf.regression.target import Target
from regmix_hf.tables import SIZES
from tests.mixed_experts import DOMAINS

pytestmark = pytest.mark.long

#: Settings that make fits quick.
QUICK = {"lightgbm": {"num_iterations": 20}, "auto": {"members": ["ridge", "lightgbm"]}}


def check_saved(model, weights, folder):
    """Save it, and compare all that it says with what is read."""
    model.save_pretrained(folder)
    again = MixtureRegressor.from_pretrained(folder)
    target = Target.parse(
        {"mean_of": list(model.targets_), "scale": "spread"}, model.quantities_, model.scales
    )

    def said(one):
        yield one.predict(weights)
        yield one.predict_target(weights, target)
        for coverage in (0.5, 0.9):
            yield from one.predict_interval(weights, coverage)
        yield pd.DataFrame(one.out_of_fold_residuals)
        if one.is_smooth:
            yield pd.DataFrame(one.gradient(weights).reshape(len(weights), -1))

    for mine, theirs in zip(said(model), said(again), strict=True):
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
    kept = ("domains_", "targets_", "quantities_", "num_runs_", "num_dropped_", "holds_seed_noise")
    assert [getattr(again, name) for name in kept] == [getattr(model, name) for name in kept]
    assert again.model.reasons_ == model.model.reasons_
    assert repr(again) == repr(model)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".txt"}
    return again


def swarm_of(mixtures):
    """Runs on these and on three of them again: a loss, one that a run lacks, and a score."""
    rng = np.random.default_rng(0)
    weights = pd.DataFrame(np.vstack([mixtures, mixtures[-3:]]), columns=list(DOMAINS))
    first = 3 - np.sqrt(weights["code"]) + 0.1 * weights["web"] + rng.normal(scale=0.01, size=len(weights))
    losses = pd.DataFrame({"web": first, "other": first**2, "bpb/quiz": 5 - first})
    losses.iloc[3, 1] = np.nan
    return weights, losses, read_names(losses, DOMAINS, {"bpb/quiz": "higher"})


@pytest.mark.parametrize("estimator", [*ESTIMATORS, *WITH_EXPERTS])
def test_every_family_comes_back(estimator, asked, tmp_path):
    weights, losses, known = swarm_of(np.random.default_rng(1).dirichlet(np.ones(3), 20))
    model = MixtureRegressor(estimator, random_state=3, **QUICK.get(estimator, {}))
    again = check_saved(model.fit(weights, losses, known, experts=asked), weights, tmp_path)
    assert again.num_dropped_ == {"web": 0, "other": 1, "bpb/quiz": 0}
    if estimator == "auto":
        assert list(again.model.members_) == QUICK["auto"]["members"]


@pytest.fixture(scope="module")
def sized():
    """A law of two sizes and lengths, whose longer runs repeat."""
    weights, losses, known = swarm_of(np.random.default_rng(2).dirichlet(np.ones(3), 12))
    sizes = pd.DataFrame(np.repeat([[1e6, 1e9], [8e6, 2e9]], len(weights), axis=0), columns=list(SIZES))
    larger = losses * [0.8, 0.7, 1.1]
    weights, losses = (pd.concat(both, ignore_index=True) for both in ([weights] * 2, [losses, larger]))
    epochs = weights * sizes[["num_train_tokens"]].to_numpy() / 2e8
    return weights, MixtureRegressor("scaled_law").fit(weights, losses, known, sizes=sizes, epochs=epochs)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at"), st.sampled_from([1e6, 8e6, 1e9]), st.sampled_from([1e9, 2e9, 3e10])),
            st.tuples(st.just("reading"), st.just(dict.fromkeys(DOMAINS, 1e7)), st.sampled_from([2e9, 3e10])),
        ),
        max_size=3,
    )
)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_so_does_a_law_that_was_asked_for_other_runs(sized, tmp_path, asked_for):
    weights, model = sized
    for ask, *runs in asked_for:
        model = getattr(model, ask)(*runs)
    check_saved(model, weights[:5], tmp_path)


def test_so_does_one_of_runs_of_one_length_at_another(sized, tmp_path):
    weights, _ = sized
    one = weights[:15]
    losses = pd.DataFrame({"web": 3 - np.sqrt(one["code"]), "other": 2 + one["web"]})
    sizes = pd.DataFrame(np.tile([1e6, 1e9], (15, 1)), columns=list(SIZES))
    model = MixtureRegressor("scaled_law").fit(one, losses, sizes=sizes).at(1e6, 4e9)
    check_saved(model, one[:5], tmp_path)
    lower, upper = model.predict_interval(one[:5])
    assert (lower + 0.5 < upper).all(axis=None), "no run tells what another length does"
