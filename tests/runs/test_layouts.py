"""One table of runs as people have it: each layout, written in the test, gives the same runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import DataError, RegressionError
from regmix_hf.runs.layout import Columns
from regmix_hf.runs.runs import Runs, load_runs

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NUM_RUNS = 60
DOMAINS, TARGETS = ["web", "code", "books"], ["web", "code", "exam"]


def made() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights with six decimals, one of them 0 now and then, and losses."""
    rng = np.random.default_rng(2)
    weights = pd.DataFrame(rng.dirichlet([1.0, 0.5, 0.5], NUM_RUNS).round(6), columns=DOMAINS)
    weights["web"] += 1.0 - weights.sum(axis=1)
    losses = pd.DataFrame(2.5 + rng.normal(0, 0.3, (NUM_RUNS, 3)), columns=TARGETS)
    return weights, losses


def wide(weight: str = "w_", loss: str = "loss_") -> pd.DataFrame:
    weights, losses = made()
    return pd.concat([weights.add_prefix(weight), losses.add_prefix(loss)], axis=1)


def check(runs: Runs) -> None:
    """The runs are those that were made, under bare names."""
    weights, losses = made()
    assert (runs.domains, runs.targets) == (tuple(DOMAINS), tuple(TARGETS))
    np.testing.assert_allclose(runs.weights, weights, atol=1e-9)
    np.testing.assert_allclose(runs.losses, losses, atol=1e-12)


def test_a_parquet_of_60_runs(tmp_path):
    wide().to_parquet(tmp_path / "runs.parquet")
    check(load_runs(tmp_path / "runs.parquet"))
    wide().set_index(pd.Index([f"r{k}" for k in range(NUM_RUNS)], name="run")).to_parquet(
        tmp_path / "i.parquet"
    )
    runs = load_runs(tmp_path / "i.parquet")
    check(runs)
    assert runs.weights.index[3] == "r3"


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_wide_table_with_any_separator(tmp_path, separator):
    table = wide("weights/", "loss/").assign(seed=7, date="2026-03-01", learning_rate=4e-4)
    table.rename_axis("run").to_csv(tmp_path / "runs.csv", sep=separator)
    runs = load_runs(tmp_path / "runs.csv")
    check(runs)
    assert "neither: seed, date, learning_rate" in runs.notes


def test_json_lines_with_maps_inside(tmp_path):
    weights, losses = made()
    lines = [
        json.dumps({"run": f"r{k}", "weights": dict(weights.iloc[k]), "loss": dict(losses.iloc[k])})
        for k in range(NUM_RUNS)
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(lines))
    runs = load_runs(tmp_path / "runs.jsonl", columns=Columns(targets=("loss.*",)))
    assert runs.domains == tuple(DOMAINS)
    np.testing.assert_allclose(runs.losses, losses)


def test_weights_are_told_by_rows_that_sum_to_1_where_no_name_tells_them(tmp_path):
    weights, losses = made()
    table = pd.concat([weights, losses.set_axis(["a", "b", "c"], axis=1)], axis=1)
    table.to_csv(tmp_path / "runs.csv", index=False)
    runs = load_runs(tmp_path / "runs.csv")
    assert (runs.domains, runs.targets) == (tuple(DOMAINS), ("a", "b", "c"))
    assert list(runs.weights.index[:2]) == ["2", "3"], "runs are called after their lines"


def test_patterns_tell_weights_and_targets_before_all_else(tmp_path):
    table = wide().assign(acc_exam=0.5, w_total=1.0)
    table.to_csv(tmp_path / "runs.csv", index=False)
    said = Columns(weights=("w_web", "w_code", "w_books"), targets=("loss_*",))
    check(load_runs(tmp_path / "runs.csv", columns=said))
    with pytest.raises(DataError, match=r"--targets 'los_\*'.* has no such column"):
        load_runs(tmp_path / "runs.csv", columns=Columns(targets=("los_*",)))


def test_a_column_that_somebody_speaks_of_is_a_target_beside_those_that_are_called_so(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("run,w_a,w_b,eval_a,acc,exam,em\n1,0.5,0.5,3,0.2,2,0\n2,0.25,0.75,2,0.3,4,1\n")
    alone = load_runs(file)
    assert alone.targets == ("eval_a",)
    assert (
        "no targets, as nothing says they are: acc, exam, em (--maximize or --minimize acc would)"
        in alone.notes
    )
    pair = load_runs(file, columns=Columns(targets=("eval_*", "exam")))
    assert "no targets, as nothing says they are: acc, em (--targets 'eval_*,exam,acc' would)" in pair.notes
    assert load_runs(file, maximize=["ac*"], target=["acc", "exam"]).targets == ("eval_a", "acc", "exam")


@pytest.mark.parametrize(
    ("columns", "values", "asked"),
    [
        (["web", "code"], [[3.0, 0.8], [2.5, 0.9]], None),
        (["web", "code"], [[0.3, 0.4], [0.35, 0.3]], "'web', 'code' look"),
        (["web", "code"], [[3.0, 41.0], [2.5, 44.0]], "'code' looks"),
        (["web", "code"], [[-3.0, 0.8], [-2.5, 0.9]], "'web', 'code' look"),
        (["loss/web", "loss/code"], [[0.3, 0.4], [0.35, 0.3]], None),
    ],
)
def test_a_column_called_as_a_domain_is_a_question_where_no_loss_is_likely(tmp_path, columns, values, asked):
    weights = pd.DataFrame({"web": [0.5, 0.25], "code": [0.5, 0.75]})
    for name, table in (("w", weights), ("l", pd.DataFrame(values, columns=columns))):
        table.rename_axis("run").to_csv(tmp_path / f"{name}.csv")
    pair = {"mixtures": tmp_path / "w.csv", "losses": tmp_path / "l.csv"}
    if asked is None:
        assert {one.unit for one in load_runs(**pair).quantities.values()} == {"nats per token"}
        return
    with pytest.raises(RegressionError, match=asked):
        load_runs(**pair)
    found = load_runs(**pair, maximize=["web", "code"]).quantities["code"]
    assert (found.unit, found.direction) == (None, "higher")


def test_an_export_of_weights_and_biases(tmp_path):
    """`config.*`, `summary.*`, `Name`: names are not unique, one run crashed and one still runs."""
    table = wide("config.mixture.", "summary.eval/loss/").assign(
        **{"config.seed": 1, "config.lr": 4e-4, "summary._step": 900, "summary._runtime": 71.5}
    )
    table["summary.train_loss"] = 2.0
    table = pd.concat([table, table.iloc[[0, 1]].assign(**{"config.mixture.web": 1.0})])
    table.insert(0, "Name", [f"sunny-{k % 7}" for k in range(len(table))])
    table.insert(1, "State", ["finished"] * NUM_RUNS + ["crashed", "running"])
    table.insert(2, "ID", [f"id{k}" for k in range(len(table))])
    table.to_csv(tmp_path / "wandb.csv", index=False)
    runs = load_runs(tmp_path / "wandb.csv")
    assert runs.weights.index[0] == "id0"
    assert "runs left out: 1 crashed, 1 running" in runs.notes
    assert any("summary.train_loss: the loss on what was trained on" in note for note in runs.notes)
    assert runs.domains == ("mixture.web", "mixture.code", "mixture.books") or runs.domains == tuple(DOMAINS)
    np.testing.assert_allclose(runs.losses, made()[1])


def test_the_export_that_weights_and_biases_shows_in_its_manual(tmp_path):
    """Three columns: `summary` and `config` are maps written by Python, and `name`."""
    weights, losses = made()
    rows = [
        {
            "summary": str({"_step": 9, **losses.iloc[k].add_prefix("eval/").to_dict(), "lr": 1e-4}),
            "config": str({"seed": 3, **weights.iloc[k].to_dict()}),
            "name": f"run-{k}",
        }
        for k in range(NUM_RUNS)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "project.csv")
    check(load_runs(tmp_path / "project.csv"))


def test_olmix_names_runs_by_run_id_and_puts_both_tables_in_a_folder(tmp_path):
    weights, losses = made()
    ids = pd.Index([f"run_{k:03d}" for k in range(NUM_RUNS)], name="run_id")
    weights.set_index(ids).to_csv(tmp_path / "ratios.csv")
    named = losses.set_axis(["web_bpb", "code_bpb", "arc_challenge:rc::olmes"], axis=1)
    named.set_index(ids).assign(name="x").iloc[::-1].to_csv(tmp_path / "metrics.csv")
    (tmp_path / "meta.json").write_text("{}")
    for runs in (
        load_runs(tmp_path),
        load_runs(mixtures=tmp_path / "ratios.csv", losses=tmp_path / "metrics.csv"),
    ):
        assert (runs.domains, runs.targets) == (tuple(DOMAINS), tuple(named.columns))
        np.testing.assert_allclose(runs.losses, losses)
    (tmp_path / "metrics.csv").unlink()
    with pytest.raises(DataError, match=r"is a folder without ratios.csv and metrics.csv"):
        load_runs(tmp_path)


def test_half_finished_swarms_take_what_is_there(tmp_path):
    weights, losses = made()
    weights.rename_axis("index").to_csv(tmp_path / "w.csv")
    part = losses.iloc[:40].copy()
    part.loc[35:39, :] = np.nan
    part.loc[0, "exam"] = np.nan
    part.rename_axis("index").to_csv(tmp_path / "l.csv", na_rep="N/A")
    runs = load_runs(mixtures=tmp_path / "w.csv", losses=tmp_path / "l.csv")
    assert len(runs) == 35
    assert "20 of 60 runs have no losses in l.csv: left out" in runs.notes
    assert "5 of 40 runs have no value yet: left out" in runs.notes
    assert np.isnan(runs.losses.loc["0", "exam"])
    assert (runs.num_diverged, runs.num_failed) == (0, 0)
    assert "1 of 105 values are missing: the others of their runs count" in runs.notes


def test_the_loss_on_what_was_trained_on_is_no_target_unless_asked_for(tmp_path):
    weights, losses = made()
    weights.rename_axis("index").to_csv(tmp_path / "w.csv")
    losses.add_prefix("metric/").assign(**{"metric/train_loss": 1.0}).rename_axis("index").to_csv(
        tmp_path / "l.csv"
    )
    tables = {"mixtures": tmp_path / "w.csv", "losses": tmp_path / "l.csv"}
    runs = load_runs(**tables)
    assert runs.targets == tuple(TARGETS)
    assert any("metric/train_loss: the loss on what was trained on" in note for note in runs.notes)
    asked = load_runs(**tables, columns=Columns(targets=("metric/*",)))
    assert asked.targets == (*TARGETS, "train_loss")


def test_the_training_loss_that_wandb_exports_is_no_target_either(tmp_path):
    table = wide("config.weights.", "summary.metric/").assign(**{"summary.metric/train_loss": 1.0})
    table.to_csv(tmp_path / "export.csv", index=False)
    check(load_runs(tmp_path / "export.csv"))


def test_losses_under_two_prefixes_are_losses_under_the_names_that_are_printed(tmp_path):
    table = wide("config.weights.", "summary.eval/").add_suffix("_loss")
    table.columns = [name.removesuffix("_loss") if "weights" in name else name for name in table]
    table = table.rename(columns={"summary.eval/exam_loss": "summary.val/exam_loss"})
    table.to_csv(tmp_path / "export.csv", index=False)
    runs = load_runs(tmp_path / "export.csv")
    check(runs)
    assert any(
        note.startswith("targets: web, code, exam (columns summary.eval/web_loss") for note in runs.notes
    )
    table.assign(**{"summary.val/web_loss": 2.0}).to_csv(tmp_path / "export.csv", index=False)
    twice = load_runs(tmp_path / "export.csv")
    assert twice.targets == ("eval/web_loss", "eval/code_loss", "val/exam_loss", "val/web_loss")
    assert {quantity.direction for quantity in twice.quantities.values()} == {"lower"}


def test_weights_as_people_write_them(tmp_path):
    """Percent, signs of percent, rounded rows, a zero that is a little below, and an empty cell."""
    weights, losses = made()
    table = (100 * weights).round(1).astype(object)
    table.iloc[0, :] = ["60 %", "40 %", ""]
    table.iloc[1, :] = ["50.0", "50.0", "-1e-11"]
    pd.concat([table.add_prefix("w_"), losses.add_prefix("loss_")], axis=1).to_csv(tmp_path / "r.csv")
    runs = load_runs(tmp_path / "r.csv", columns=Columns(weights=("w_*",)))
    assert runs.weights.iloc[0].to_list() == [0.6, 0.4, 0.0]
    assert runs.weights.iloc[1].to_list() == [0.5, 0.5, 0.0]
    assert (runs.weights >= 0).all(axis=None)
    np.testing.assert_allclose(runs.weights.sum(axis=1), 1.0, rtol=1e-15)
    assert "weights are percent in all 60 rows: divided by 100" in runs.notes
    assert "1 empty weights are 0: the others of their rows sum to 1" in runs.notes
    assert any("rows of weights missed a sum of 1" in note for note in runs.notes)


def test_parquet_that_is_called_csv_is_read_and_told(tmp_path):
    wide().to_parquet(tmp_path / "runs.csv")
    runs = load_runs(tmp_path / "runs.csv")
    check(runs)
    assert any("runs.csv is Parquet by what it holds" in note for note in runs.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="w_web"), "no columns are found whose rows sum to 1"),
        (
            lambda t: t.drop(columns=["loss_web", "loss_code", "loss_exam"]),
            "no column is left that was measured",
        ),
        (
            lambda t: t.assign(model_size=[1e6, 2e6] * 30),
            "2 values of model_size, whose losses cannot be comp",
        ),
        (lambda t: t.assign(run=[1, 1, *range(58)]), ""),
    ],
)
def test_what_nobody_can_know_is_asked(tmp_path, change, message):
    change(wide()).to_csv(tmp_path / "runs.csv", index=False)
    if not message:  # a column of names that are not unique names no runs
        check(runs := load_runs(tmp_path / "runs.csv"))
        assert any("'run' has '1' more than once: runs are called by their lines" in n for n in runs.notes)
        with pytest.raises(DataError, match=r"the run '1' .column 'run'. is in line 2 already"):
            load_runs(tmp_path / "runs.csv", columns=Columns(id="run"))
        return
    with pytest.raises(DataError, match=message):
        load_runs(tmp_path / "runs.csv")


def test_runs_on_one_source_are_told_that_they_have_no_mixture(tmp_path):
    runs = pd.DataFrame({"epochs": [1.0, 4.0], "params_billion": [2.8, 0.1], "val_loss": [2.7, 3.1]})
    runs.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match="no columns are found whose rows sum to 1") as error:
        load_runs(tmp_path / "runs.csv")
    assert "runs on one source alone have no mixture" in error.value.hint


def test_rows_are_taken_by_what_they_hold(tmp_path):
    table = wide().assign(model_size=[1e6, 2e6] * 30)
    table.to_csv(tmp_path / "runs.csv", index=False)
    runs = load_runs(tmp_path / "runs.csv", columns=Columns(where=(("model_size", "2e6"),)))
    np.testing.assert_allclose(runs.losses, made()[1].iloc[1::2])
    assert "30 of 60 runs have model_size=2e6" in runs.notes
    with pytest.raises(DataError, match=r"no run of .* has it; there are 1000000, 2000000"):
        load_runs(tmp_path / "runs.csv", columns=Columns(where=(("model_size", "3"),)))
    table.assign(seed=[*range(10)] * 6).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match=r"there are 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.\."):
        load_runs(tmp_path / "runs.csv", columns=Columns(where=(("seed", "11"),)))


def test_what_was_said_of_columns_is_said_again_as_options():
    assert Columns().words == []
    said = Columns("run", weights=("w_*", "x"), where=(("model_size", "2e6"), ("seed", "1")))
    assert said.words == ["--weights=w_*,x", "--id=run", "--where=model_size=2e6,seed=1"]


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08rest", b"PK\x03\x04rest"])
def test_a_compressed_table_is_told_so(tmp_path, content):
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(DataError, match="is compressed"):
        load_runs(tmp_path / "runs.csv")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not beside this checkout")
def test_the_scale_ladder_is_read_at_one_size_and_length():
    said = Columns(where=(("model_size", "122e6"), ("n_tokens", "19.998e9")))
    runs = load_runs(DATA / "scale-ladder" / "runs.csv", columns=said)
    assert len(runs) == 60
    assert set(runs.targets) == {*runs.domains, "openhermes"}


def test_epochs_of_every_domain_are_read_from_one_table_or_from_that_of_mixtures(tmp_path):
    weights, losses = made()
    table = wide().join((3 * weights).add_prefix("epochs/"))
    table.to_csv(tmp_path / "runs.csv", index=False)
    runs = load_runs(tmp_path / "runs.csv")
    check(runs)
    np.testing.assert_allclose(runs.epochs, 3 * weights, atol=1e-9)
    table.assign(model_size=1e6, n_tokens=1e9).to_csv(tmp_path / "sized.csv", index=False)
    notes = load_runs(tmp_path / "sized.csv").notes
    assert "size and length of each run: model_size, n_tokens" in notes
    assert not any(note.startswith("neither") and "model_size" in note for note in notes)
    assert list(runs.take(np.array([4, 2])).epochs.index) == ["6", "4"]  # lines of the file
    mixtures = weights.add_prefix("w_").join((3 * weights).add_prefix("epochs/w_")).rename_axis("index")
    mixtures.to_csv(tmp_path / "mixtures.csv")
    losses.rename_axis("index").to_csv(tmp_path / "losses.csv")
    pair = load_runs(mixtures=tmp_path / "mixtures.csv", losses=tmp_path / "losses.csv")
    np.testing.assert_allclose(pair.epochs, 3 * weights, atol=1e-9)
    again = Runs.from_results(pair.to_results(), "results")
    assert again.epochs.equals(pair.epochs)


def test_epochs_of_some_domains_only_are_refused(tmp_path):
    wide().assign(**{"epochs/web": 1.0}).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match="no column 'epochs/code'"):
        load_runs(tmp_path / "runs.csv")
    wide().assign(**{f"epochs/{name}": -1.0 for name in DOMAINS}).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(DataError, match="below 0"):
        load_runs(tmp_path / "runs.csv")


@pytest.mark.parametrize(("separator", "cell"), [(";", "0,25"), (",", "0,25"), ("\t", "-1,5e3 %")])
def test_decimal_commas_are_named(tmp_path, separator, cell):
    table = wide().astype(object)
    table["w_web"] = cell
    table.to_csv(tmp_path / "runs.csv", sep=separator)
    with pytest.raises(DataError, match=rf"runs.csv, column 'w_web': '{cell}' has a comma") as error:
        load_runs(tmp_path / "runs.csv")
    assert f"write {cell.replace(',', '.')} in the whole table" in error.value.hint
    table.assign(w_web=wide()["w_web"], layers="1,2 and 3").to_csv(tmp_path / "runs.csv", sep=separator)
    check(load_runs(tmp_path / "runs.csv"))
