"""What is better when higher is fitted, judged, saved and chosen as its negative is, which is made small."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regmix_hf.choice import FittedRuns, choose_mixture
from regmix_hf.errors import DataError, HubError, RegressionError
from regmix_hf.quantities import Quantity
from regmix_hf.recipe import Choice
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.regression.target import Target, scales_of
from regmix_hf.runs.published import check_results
from regmix_hf.runs.runs import Runs, load_runs

pytestmark = pytest.mark.long

FEW = Choice(num_candidates=2000, top_k=20)
UP = {"code_acc": "higher", "prose_acc": "higher"}


def scored(swarm, num_fit=40, num_holdout=0):
    """The runs of a swarm with scores, which fall as the losses rise, beside a loss and a perplexity."""
    runs = swarm(num_fit, num_holdout)
    values = pd.DataFrame(
        {
            "code_acc": 1.5 - runs.losses["code"] / 4,
            "prose_acc": 1.5 - runs.losses["prose"] / 4,
            "sums": runs.losses["sums"],
            "prose_ppl": np.exp(runs.losses["prose"]),
        }
    )
    known = {
        **{name: Quantity(name, None, "higher") for name in UP},
        "sums": Quantity("sums", "nats per token"),
        "prose_ppl": Quantity("prose_ppl"),
    }
    return Runs(runs.weights, values, runs.split, quantities=known)


def negated(runs):
    """The same runs with the negatives of the scores, which are better when lower."""
    down = {**runs.quantities, **{name: Quantity(name) for name in UP}}
    values = runs.losses.assign(**{name: -runs.losses[name] for name in UP})
    return Runs(runs.weights, values, runs.split, quantities=down)


def test_a_fit_on_scores_is_judged_exactly_as_one_on_their_negatives(swarm, tmp_path):
    runs, found = scored(swarm), {}
    for name, part in (("up", runs), ("down", negated(runs))):
        fit = fit_runs(part, ["ridge"], list(UP), tmp_path / name)
        found[name] = fit, FittedRuns.load(tmp_path / name).problem(choice=FEW).solve()
    (up, chosen), (down, other) = found["up"], found["down"]
    assert chosen.weights == other.weights
    assert (chosen.predicted.lower, chosen.predicted.upper) == pytest.approx(
        (-other.predicted.upper, -other.predicted.lower)
    )
    assert chosen.is_better_than_prior == other.is_better_than_prior
    assert len(chosen.warnings) == len(other.warnings)
    assert up.verdict == down.verdict
    assert up.promises["ridge"].run == down.promises["ridge"].run
    regrets = [fit.quality.loc[fit.quality["kind"] != "average", "regret"].to_numpy() for fit in (up, down)]
    np.testing.assert_allclose(*regrets)
    assert chosen.predicted.loss > chosen.prior_predicted.loss


def test_a_law_makes_a_score_large_exactly_as_its_negative_small(swarm):
    runs = scored(swarm)
    prior = runs.weights.mean().to_dict()
    chosen, other = (
        choose_mixture(
            MixtureRegressor("power_law").fit(part.weights, part.losses, part.quantities),
            list(UP),
            prior=prior,
            choice=FEW,
        )
        for part in (runs, negated(runs))
    )
    assert chosen.weights == other.weights
    assert chosen.predicted.loss == pytest.approx(-other.predicted.loss)


def test_a_saved_regressor_remembers_and_one_of_version_0_1_made_all_small(swarm, tmp_path):
    runs = scored(swarm)
    regressor = MixtureRegressor("ridge").fit(runs.weights, runs.losses, runs.quantities)
    regressor.save_pretrained(tmp_path)
    again = MixtureRegressor.from_pretrained(tmp_path)
    assert again.quantities_ == dict(runs.quantities)
    pd.testing.assert_frame_equal(again.predict(runs.weights), regressor.predict(runs.weights))
    np.testing.assert_allclose(
        again.gradient(runs.weights[:2])[0, 0] @ [1, -1, 0],
        (regressor.predict(np.array([[1.0, 0, 0], [0, 1.0, 0]]))["code_acc"].diff().iloc[1]) * -1,
    )
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if key != "quantities"} | {"format": 2})
    )
    old = MixtureRegressor.from_pretrained(tmp_path)
    assert {quantity.direction for quantity in old.quantities_.values()} == {"lower"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantities": config["quantities"][1:]}))
    with pytest.raises(RegressionError, match="quantities"):
        MixtureRegressor.from_pretrained(tmp_path)


def test_a_score_without_a_direction_is_not_fitted(swarm):
    runs = scored(swarm)
    with pytest.raises(RegressionError, match="'code_acc', 'prose_acc' look like scores"):
        MixtureRegressor("ridge").fit(runs.weights, runs.losses)


def test_both_directions_in_one_mean_need_a_scale(swarm, tmp_path):
    runs = scored(swarm)
    both = {"mean_of": ["code_acc", "sums"]}
    with pytest.raises(RegressionError, match="less of 'sums' is better, and more of 'code_acc'") as error:
        fit_runs(runs, ["ridge"], both, tmp_path)
    assert "scale: spread" in error.value.hint
    fit = fit_runs(runs, ["ridge"], {**both, "scale": "spread"}, tmp_path)
    assert fit.target.quantity == Quantity(str(fit.target), "standard deviations over the runs")
    values = fit.target.combine(runs.losses)
    assert values.mean() == pytest.approx(0)
    standard = (runs.losses - runs.losses.mean()) / runs.losses.std(ddof=0)
    np.testing.assert_allclose(values, (standard["sums"] - standard["code_acc"]) / 2)
    chosen = FittedRuns.load(tmp_path).problem(choice=FEW).solve()
    assert chosen.weights["prose"] < 0.05
    assert chosen.predicted.loss < chosen.prior_predicted.loss
    assert chosen.quantity.direction == "lower"


def test_a_percentage_that_rules_a_mean_with_a_share_is_told(swarm, tmp_path, recorder):
    runs = scored(swarm)
    percent = replace(runs, losses=runs.losses.assign(code_acc=100 * runs.losses["code_acc"]))
    fit_runs(percent, ["ridge"], list(UP), tmp_path, progress=recorder)
    assert any(
        re.search(r"mean of .*: 9\d% of how far it moves is code_acc", note) for note in recorder.notes
    )
    scales = scales_of(percent.losses)
    for target in (
        {"mean_of": list(UP), "scale": "spread"},
        {"worst_of": list(UP)},
        {"code_acc": 1, "prose_acc": 100},
        "code_acc",
    ):
        assert Target.parse(target, runs.quantities, scales).ruled_by(scales) is None


def test_the_worst_of_scores_is_the_lowest_and_is_made_large(swarm):
    runs = scored(swarm)
    regressor = MixtureRegressor("power_law").fit(runs.weights, runs.losses, runs.quantities)
    target = {"worst_of": list(UP)}
    worst = Target.parse(target, runs.quantities)
    assert (worst.combine(runs.losses) == runs.losses[list(UP)].min(axis=1)).all()
    prior = runs.weights.mean().to_dict()
    chosen = choose_mixture(regressor, target, prior=prior, choice=FEW)
    assert chosen.predicted.loss > chosen.prior_predicted.loss
    assert chosen.weights["sums"] < 0.05
    predicted = regressor.predict(pd.DataFrame([chosen.weights]))[list(UP)].iloc[0]
    assert predicted.max() - predicted.min() < 0.02


def test_intervals_of_a_share_end_at_0_and_1_and_those_of_other_scores_where_they_will(swarm):
    runs = scored(swarm)
    noisy = runs.losses.assign(code_acc=np.random.default_rng(0).random(len(runs)))
    intervals = {}
    for unit in ("share", None):
        known = {**runs.quantities, "code_acc": Quantity("code_acc", unit, "higher")}
        regressor = MixtureRegressor("ridge").fit(runs.weights, noisy, known)
        one = regressor.predict_target(runs.weights, Target.parse("code_acc", known))
        pd.testing.assert_series_equal(
            one["lower"], regressor.predict_interval(runs.weights)[0]["code_acc"], check_names=False
        )
        intervals[unit] = one
    pd.testing.assert_frame_equal(
        intervals["share"],
        intervals[None].assign(
            lower=intervals[None]["lower"].clip(0, 1), upper=intervals[None]["upper"].clip(0, 1)
        ),
    )
    assert intervals[None]["upper"].max() > 1


def test_perplexities_are_made_small_without_being_called_nats(swarm):
    runs = scored(swarm)
    regressor = MixtureRegressor("ridge").fit(runs.weights, runs.losses, runs.quantities)
    chosen = choose_mixture(regressor, "prose_ppl", prior=runs.weights.mean().to_dict(), choice=FEW)
    assert chosen.weights["prose"] > 0.8
    assert chosen.quantity == Quantity("prose_ppl", None, "lower")


def test_the_runs_of_a_fit_are_read_back_with_their_directions(swarm, tmp_path):
    runs = scored(swarm)
    fit_runs(runs, ["ridge"], "sums", tmp_path)
    again = load_runs(tmp_path)
    assert again.quantities == runs.quantities
    pd.testing.assert_frame_equal(again.losses, runs.losses, check_index_type=False)
    columns = pd.read_parquet(tmp_path / "runs.parquet").columns
    assert {"loss/sums", "target/code_acc", "target/prose_ppl"} <= set(columns)


def results(swarm):
    runs = swarm(12)
    table = runs.to_results()
    return table.assign(
        **{"bpb/code": table["loss/code"] / 3, "bpb/arc": table["loss/prose"] / 2},
        **{"arc/acc_norm": 0.3, "arc/acc_norm_stderr": 0.01, "loss_stderr/code": 0.1, "epochs/code": 1.0},
    )


def test_a_table_of_results_gives_losses_benchmarks_and_metrics(swarm):
    table = results(swarm)
    runs = Runs.from_results(table, "it")
    assert runs.targets == ("code", "prose", "sums", "bpb/arc", "arc/acc_norm")
    assert runs.quantities["arc/acc_norm"].direction == "higher"
    asked = Runs.from_results(table, "it", asked=["bpb/c*"])
    assert "bpb/code" in asked.targets
    target = Target.parse("mean", asked.quantities)
    assert list(target.weights) == ["code", "prose", "sums"]
    assert str(target) == "mean of 3 targets"
    assert str(Target.parse(["bpb/*"], asked.quantities)) == "mean of bpb/code, bpb/arc"
    nested = Target.parse(["code", {"mean_of": ["bpb/*"]}], asked.quantities)
    assert nested.weights == pytest.approx({"code": 0.5, "bpb/code": 0.25, "bpb/arc": 0.25})


def test_results_with_benchmarks_are_loaded_as_a_dataset_and_pass_as_published(swarm, tmp_path):
    from datasets import load_dataset

    table = results(swarm).assign(
        mixture_id="m", scale="1M", status="ok", seed=0, num_train_tokens=1000, **{"bpb_stderr/arc": 0.02}
    )
    table["gsm8k/exact_match,strict-match"] = 0.1
    table.to_parquet(tmp_path / "results.parquet")
    loaded = load_dataset(
        "parquet", data_files=str(tmp_path / "results.parquet"), split="train", cache_dir=str(tmp_path)
    )
    frame = loaded.to_pandas()
    check_results(frame, "it")
    runs = Runs.from_results(frame, "it")
    assert runs.quantities["gsm8k/exact_match,strict-match"].direction == "higher"
    assert set(runs.errors) == {"code", "bpb/arc", "arc/acc_norm"}
    with pytest.raises(HubError, match="no column of a table"):
        check_results(frame.assign(**{"../x/acc": 1.0}), "it")


def test_directions_are_said_of_columns_that_are_there(tmp_path):
    for name, rows in (("w", "index,a,b\n0,0.5,0.5\n1,0.2,0.8\n"), ("l", "index,my_acc\n0,0.1\n1,0.3\n")):
        (tmp_path / f"{name}.csv").write_text(rows)
    files = {"mixtures": tmp_path / "w.csv", "losses": tmp_path / "l.csv"}
    assert load_runs(**files, maximize=["my_acc"]).quantities["my_acc"].direction == "higher"
    with pytest.raises(RegressionError, match=r"'my_acc' looks like a score.*there is no 'my_ac'"):
        load_runs(**files, maximize=["my_ac"])
    with pytest.raises(DataError, match="no column 'other'; known are 'my_acc'"):
        load_runs(**files, maximize=["my_acc", "other"])
    with pytest.raises(DataError, match="higher and when lower"):
        load_runs(**files, maximize=["my_acc"], minimize=["my_acc"])


def test_a_few_percent_of_a_benchmark_are_a_question_and_its_loss_is_none(tmp_path):
    (tmp_path / "w.csv").write_text("index,a,piqa\n0,0.5,0.5\n1,0.2,0.8\n")
    (tmp_path / "l.csv").write_text(
        "index,gsm8k,arc_easy_5shot,mmlu_nll,trace,piqa\n0,2.1,9.5,2.2,3,2\n1,8.4,12,2.4,4,3\n"
    )
    files = {"mixtures": tmp_path / "w.csv", "losses": tmp_path / "l.csv"}
    with pytest.raises(RegressionError, match="the columns 'gsm8k', 'arc_easy_5shot' look like scores"):
        load_runs(**files)
    said = load_runs(**files, maximize=["gsm8k"], minimize=["arc*"]).quantities
    assert [said[name].sign for name in ("gsm8k", "arc_easy_5shot", "mmlu_nll", "trace")] == [-1, 1, 1, 1]
    (tmp_path / "l.csv").write_text("index,loss_gsm8k,loss_piqa\n0,2.1,2.5\n1,3.4,2.0\n")
    assert [one.sign for one in load_runs(**files).quantities.values()] == [1, 1]
