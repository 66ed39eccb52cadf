from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cli.console import Format
from regmix_hf.cli.views import quality_tables
from regmix_hf.quantities import read_names
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.assessment import (
    HeldOut,
    cross_validation,
    number_mixtures,
    predict,
    predictions_table,
    quality_table,
    seed_noise,
)
from regmix_hf.regression.metrics import METRICS
from regmix_hf.regression.selection import select
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs


@pytest.fixture(scope="module")
def fitted(swarm):
    runs = swarm(24, 20)
    fit = runs.part("fit")
    names = ("own_weight", "ridge")
    return runs, {name: MixtureRegressor(name).fit(fit.weights, fit.losses) for name in names}


def by_hand(true: dict[str, list[float]], predicted: dict[str, dict[str, list[float]]]) -> HeldOut:
    """Held-out runs with given losses and predictions, all of different mixtures."""
    losses = pd.DataFrame(true)
    share = np.linspace(0.1, 0.9, len(losses))
    runs = Runs(
        weights=pd.DataFrame({"a": share, "b": 1 - share}),
        losses=losses,
        split=pd.Series("holdout", index=losses.index),
    )
    return HeldOut("holdout", runs, {name: pd.DataFrame(values) for name, values in predicted.items()})


def test_every_estimator_is_measured_on_every_target_and_on_their_average(fitted):
    runs, regressors = fitted
    table = quality_table(
        [predict("holdout", runs.part("holdout"), regressors)], Target.parse("mean", runs.quantities), 0
    )
    assert table.groupby("estimator", sort=False)["target"].apply(list).to_dict() == {
        name: ["code", "prose", "sums", "mean of 3 targets", "average"] for name in ("own_weight", "ridge")
    }
    assert list(table["kind"].unique()) == ["single", "combined", "average"]
    assert (table["num_runs"] == 20).all()
    singles = table[table["kind"] == "single"].groupby("estimator")[list(METRICS)].mean()
    averages = table[table["kind"] == "average"].set_index("estimator")[list(METRICS)]
    pd.testing.assert_frame_equal(singles, averages)
    for metric in ("spearman", "mae", "mse"):
        assert (table[f"{metric}_low"] <= table[metric]).all()
        assert (table[metric] <= table[f"{metric}_high"]).all()


def test_a_single_target_is_not_combined_again(fitted):
    runs, regressors = fitted
    table = quality_table(
        [predict("holdout", runs.part("holdout"), regressors)], Target.parse("sums", runs.quantities), 0
    )
    assert "combined" not in set(table["kind"])


def test_predictions_stand_beside_the_true_losses_of_the_same_runs(fitted):
    runs, regressors = fitted
    target = Target.parse(["code", "sums"], runs.quantities)
    table = predictions_table([predict("holdout", runs.part("holdout"), regressors)], target)
    row = table.query("estimator == 'ridge' and target == 'mean of code, sums' and run_id == 'r30'").iloc[0]
    assert row["true"] == pytest.approx(runs.losses.loc["r30", ["code", "sums"]].mean())
    predicted = regressors["ridge"].predict(runs.weights.loc[["r30"]])
    assert row["predicted"] == pytest.approx(predicted[["code", "sums"]].to_numpy().mean())
    assert len(table) == 2 * 4 * 20


def test_fitted_runs_are_judged_by_fits_that_did_not_see_them(fitted):
    runs, regressors = fitted
    fit = runs.part("fit")
    held_out = cross_validation(fit, regressors)
    error = (held_out.predictions["ridge"] - fit.losses).abs().mean().mean()
    error_when_seen = (regressors["ridge"].predict(fit.weights) - fit.losses).abs().mean().mean()
    assert error > error_when_seen
    np.testing.assert_allclose(
        held_out.predictions["own_weight"], regressors["own_weight"].predict(fit.weights)
    )


def test_runs_without_a_loss_are_measured_where_they_have_one():
    held_out = by_hand(
        {"a": [1.0, 2.0, np.nan, 3.0], "b": [1.0, 2.0, 3.0, 4.0]},
        {"e": {"a": [1.0, 2.0, 9.0, 4.0], "b": [1.0, 2.0, 3.0, 4.0]}},
    )
    table = quality_table([held_out], Target.parse("mean", read_names(["a", "b"])), 0).set_index("target")
    assert table["num_runs"].to_dict() == {"a": 3, "b": 4, "mean of 2 targets": 3, "average": 4}
    assert table.loc["a", "mse"] == pytest.approx(1 / 3)


def test_a_target_that_was_not_measured_has_no_row():
    held_out = by_hand({"b": [1.0, 2.0, 3.0]}, {"e": {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}})
    assert set(quality_table([held_out], Target.parse("mean", read_names(["a", "b"])), 0)["target"]) == {"b"}


def test_the_average_of_a_correlation_that_does_not_exist_does_not_exist():
    held_out = by_hand(
        {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}, {"e": {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.0, 2.0]}}
    )
    table = quality_table([held_out], Target.parse("a", read_names(["a", "b"])), 0).set_index("target")
    assert table.loc["a", "spearman"] == 1.0
    assert table.loc[["b", "average"], ["spearman", "spearman_low"]].isna().all(axis=None)
    assert table.loc["average", "mae"] == pytest.approx((0 + 2 / 3) / 2)


def test_the_noise_between_seeds_is_the_deviation_within_mixtures():
    index = pd.Index(["r0", "r1", "r2"])
    runs = Runs(
        weights=pd.DataFrame({"a": [0.5, 0.5, 1.0], "b": [0.5, 0.5, 0.0]}, index),
        losses=pd.DataFrame({"a": [1.0, 1.2, 9.0], "b": [1.0, np.nan, 2.0]}, index),
        split=pd.Series("fit", index),
    )
    assert list(number_mixtures(runs)) == [0, 0, 1]
    assert seed_noise(runs) == {"a": pytest.approx(np.sqrt(0.02))}


def test_the_best_ranking_is_selected_and_a_draw_is_called_one():
    truth = list(np.linspace(1, 2, 24))
    swapped = [truth[1], truth[0], *truth[2:]]
    held_out = by_hand(
        {"a": truth}, {"good": {"a": swapped}, "bad": {"a": truth[::-1]}, "exact": {"a": truth}}
    )
    target = Target.parse("a", read_names(["a"]))
    clear = select(held_out, ["bad", "good"], target, 0)
    assert clear.estimator == "good"
    assert "too few to tell" not in clear.reason
    assert clear.reason.startswith(
        "good is used: of all but the baseline it ranks runs best, "
        "Spearman 99.9 % on a over 24 runs (holdout), bad -100.0 %"
    )
    close = select(held_out, ["good", "exact"], target, 0)
    assert close.estimator == "exact"
    assert close.reason.endswith("; 24 runs are too few to tell the two apart.")


def test_a_law_is_preferred_where_few_runs_cannot_tell_it_from_a_line():
    def choice(count, law):
        truth = list(np.linspace(1, 2, count))
        line = [truth[1], truth[0], *truth[2:]]
        order = truth[::-1] if law == "bad" else [truth[2], truth[1], truth[0], *truth[3:]]
        held_out = by_hand({"a": truth}, {"ridge": {"a": line}, "power_law": {"a": order}})
        return select(held_out, ["ridge", "power_law"], Target.parse("a", read_names(["a"])), 0)

    few = choice(12, "good")
    assert few.estimator == "power_law"
    assert few.reason.startswith(
        "power_law is used: a law is preferred to what so few runs cannot tell from it, here ridge, Spearman "
    )
    assert choice(12, "bad").estimator == "ridge"
    assert choice(40, "good").estimator == "ridge"


def test_a_law_of_all_sizes_is_a_law_that_one_of_few_runs_of_the_largest_does_not_replace():
    truth = list(np.linspace(1, 2, 12))
    worse = {"a": [truth[1], truth[0], *truth[2:]]}
    held_out = by_hand({"a": truth}, {"power_law": worse, "scaled_law": {"a": truth}})
    target = Target.parse("a", read_names(["a"]))
    assert select(held_out, ["power_law", "scaled_law"], target, 0).estimator == "scaled_law"


def test_where_no_correlation_exists_the_smaller_error_is_selected():
    held_out = by_hand(
        {"a": [1.0, 2.0, 3.0]}, {"far": {"a": [9.0, 9.0, 9.0]}, "near": {"a": [2.0, 2.0, 2.0]}}
    )
    selection = select(held_out, ["far", "near"], Target.parse("a", read_names(["a"])), 0)
    assert selection.estimator == "near"
    assert "undefined" in selection.reason


def test_errors_of_targets_in_several_units_have_no_average_and_the_table_says_so():
    true = {"a": [1.0, 2.0, 3.0, 4.0], "t/acc": [40.0, 20.0, 30.0, 10.0]}
    held_out = by_hand(true, {"zero": {"a": [1.0, 2.0, 4.0, 3.0], "t/acc": [40.0, 30.0, 20.0, 10.0]}})
    mixed = replace(held_out, runs=replace(held_out.runs, quantities=read_names(true, domains=["a"])))
    target = Target.parse("a", read_names(true, domains=["a"]))
    table = quality_table([mixed], target, 0).set_index("target")
    assert table.loc["average", ["mse", "mae", "mae_low", "regret"]].isna().all()
    assert table.loc["average", "spearman"] == pytest.approx(table["spearman"].iloc[:2].mean())
    assert table.loc[["a", "t/acc"], "mae"].tolist() == pytest.approx([0.5, 5.0])
    unsaid = by_hand(
        {"a": [1.0, 2.0], "manuals": [2.0, 4.0]}, {"zero": {"a": [1.0, 2.0], "manuals": [3.0, 4.0]}}
    )
    table_of_losses = quality_table([unsaid], Target.parse("a", unsaid.runs.quantities), 0)
    assert table_of_losses.set_index("target").loc["average", "mae"] == pytest.approx(0.25)
    of_a, of_all = quality_tables(table.reset_index(), "a", target.quantity, Format.HUMAN)
    assert "several units" in of_all.title
    assert of_all.rows[0]["mae"] == "-"
    assert "several units" not in of_a.title
