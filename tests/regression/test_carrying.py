"""Targets on which mixtures differ by no more than noise are named, and left out where that is asked."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import RegressionError
from regmix_hf.quantities import Quantity
from regmix_hf.regression.carrying import carries, carrying
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.runs.runs import Runs
from regmix_hf.runs.sizes import words_of_sizes


class Notes:
    def __init__(self):
        self.all = []

    def note(self, text):
        self.all.append(text)


@pytest.fixture
def runs(swarm):
    """Fifteen mixtures with two seeds each; nothing of `noise` comes from them."""
    first = swarm(15)
    rng = np.random.default_rng(1)
    index = [f"{name}-{seed}" for seed in (0, 1) for name in first.weights.index]
    weights = pd.concat([first.weights] * 2).set_axis(index)
    losses = pd.concat([first.losses] * 2).set_axis(index) + rng.normal(scale=0.01, size=(30, 3))
    losses["noise"] = rng.normal(scale=0.2, size=30)
    known = {name: Quantity(name, "nats per token") for name in losses}
    return Runs(weights, losses, pd.Series("fit", index=index, name="split"), quantities=known)


def test_noise_is_that_between_seeds_and_signal_is_counted_in_it(runs):
    found = {one.target: one for one in carries(runs)}
    assert found["noise"].noise_from == "seeds"
    assert found["noise"].noise == pytest.approx(0.2, rel=0.4)
    assert found["noise"].signal < 1.5 < 5 < found["code"].signal
    assert found["code"].spread == pytest.approx(runs.losses["code"].std(ddof=0))


def test_without_a_second_seed_standard_errors_stand_in_and_without_them_nothing_is_said(swarm):
    table = swarm(12).to_results()
    table = table.assign(**{"loss_stderr/code": 0.05, "bpb/arc": 1.0, "bpb_stderr/arc": [0.03, 0.04] * 6})
    runs = Runs.from_results(table, "it")
    found = {one.target: one for one in carries(runs)}
    assert (found["code"].noise, found["code"].noise_from) == (pytest.approx(0.05), "standard errors")
    assert found["bpb/arc"].noise == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2))
    assert found["bpb/arc"].signal == 0
    assert found["prose"].signal is None
    again = Runs.from_results(runs.to_results(), "it")
    pd.testing.assert_frame_equal(again.errors, runs.errors)


def test_what_does_not_carry_is_named_and_left_out_of_the_mean_where_asked(runs, tmp_path):
    notes = Notes()
    assert carrying(runs, 0.0, notes) is runs
    kept = carrying(runs, 3.0, notes)
    assert kept.targets == ("code", "prose", "sums")
    assert "left out" in notes.all[-1]
    assert "noise (" in notes.all[-1]
    fit = fit_runs(kept, ["ridge"], "mean", tmp_path)
    assert str(fit.target) == "mean of 3 targets"
    assert list(fit.summary["dropped_targets"]) == ["noise"]
    carries = {row["target"]: row for row in fit.summary["carries"]}
    assert set(carries) == {"code", "prose", "sums"}
    judged = fit.quality[fit.quality["estimator"] == "ridge"].set_index("target")["spearman"]
    assert carries["code"]["spearman"] == judged["code"] > 0.5
    with pytest.raises(RegressionError, match="no target carries"):
        carrying(runs, 1e6, notes)
    for target in ("noise", ["code", "noise"], {"mean_of": ["code", "noi*"]}):
        with pytest.raises(RegressionError, match=r"min_signal 3 leaves out the target 'noi(se|\*)' itself"):
            carrying(runs, 3.0, notes, target=target)
    assert carrying(runs, 3.0, notes, target={"worst_of": ["*o*"]}).targets == kept.targets


def test_a_target_within_its_noise_is_named_without_being_asked(runs):
    notes = Notes()
    quiet = runs.of_targets(["code", "noise"])
    spoilt = Runs(
        quiet.weights,
        quiet.losses.assign(noise=np.r_[np.full(15, 0.1), np.full(15, -0.1)]),
        quiet.split,
        quantities=quiet.quantities,
    )
    assert carrying(spoilt, None, notes).targets == ("code", "noise")
    assert "no more than noise on noise (0.7)" in notes.all[0]


def test_sizes_are_no_seeds_and_the_largest_is_judged_where_a_family_knows_them(runs):
    smaller = runs.losses + 1.0
    sizes = pd.DataFrame({"num_parameters": 6e7, "num_train_tokens": 1e9}, index=runs.losses.index)
    names = [f"small-{name}" for name in runs.losses.index]
    both = Runs(
        pd.concat([runs.weights, runs.weights.set_axis(names)]),
        pd.concat([runs.losses, smaller.set_axis(names)]),
        pd.Series("fit", index=[*runs.losses.index, *names], name="split"),
        quantities=runs.quantities,
        sizes=pd.concat([sizes, sizes.assign(num_parameters=1e6).set_axis(names)]),
    )
    kept = carrying(both, 3.0, Notes(), estimators=["scaled_law"])
    assert kept.targets == ("code", "prose", "sums")
    assert dict(kept.dropped) == dict(carrying(runs, 3.0, Notes()).dropped)
    by_first = replace(both, scale=words_of_sizes(both.sizes))
    assert carrying(by_first, 3.0, Notes(), estimators=["ridge"]).targets == kept.targets
