from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import DataError
from regmix_hf.files import write_parquet
from regmix_hf.runs.experts import Experts, TargetText
from regmix_hf.runs.runs import Runs, load_runs

#: 60 runs over 5 domains in RegMix's layout, of a law that `law` knows; made for these tests.
SWARM = Path(__file__).parent / "swarm"
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "regmix-published-runs"

MIXTURES = "index,train_the_pile_a,train_the_pile_b\n1,0.25,0.75\n2,0.5,0.5\n3,1.0,0.0\n"
LOSSES = "index,metric/the_pile_b_val_loss\n3,4.5\n1,3.0\n2,3.5\n"


@pytest.fixture
def read(tmp_path):
    """Write two files and read them as runs."""

    def read(mixtures: str | bytes = MIXTURES, losses: str | bytes = LOSSES) -> Runs:
        for name, text in (("mix.csv", mixtures), ("loss.csv", losses)):
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_runs(mixtures=tmp_path / "mix.csv", losses=tmp_path / "loss.csv")

    return read


def results(**columns) -> pd.DataFrame:
    table = {
        "run_id": ["r0", "r1", "r2", "r3"],
        "split": ["fit", "fit", "holdout", "fit"],
        "status": ["ok", "diverged", "ok", "failed"],
        "weight/a": [0.25, 0.5, 1.0, 0.0],
        "weight/b": [0.75, 0.5, 0.0, 1.0],
        "loss/a": [3.0, np.nan, 2.0, np.nan],
        "loss/c": [1.0, np.nan, 5.0, np.nan],
    }
    return pd.DataFrame(table | columns)


def test_regmix_files_are_joined_on_their_index_under_bare_names(read):
    runs = read()
    assert runs.domains == ("a", "b")
    assert runs.targets == ("b",)
    assert runs.weights.to_dict("list") == {"a": [0.25, 0.5, 1.0], "b": [0.75, 0.5, 0.0]}
    assert runs.losses["b"].to_dict() == {"1": 3.0, "2": 3.5, "3": 4.5}
    assert set(runs.split) == {"fit"}
    assert runs.left_out() == ""


def test_losses_named_like_regmixs_configurations_have_the_same_bare_names(read):
    runs = read(losses="index,valid_the_pile_a,valid_the_pile_c\n1,3.0,1\n2,3.5,2\n3,4.5,3\n")
    assert runs.domains == ("a", "b")
    assert runs.targets == ("a", "c")


def test_olmix_files_are_joined_on_the_run_and_keep_their_names(read):
    runs = read(
        ",run,name,index,arxiv,dclm:law\n0,x9,swarm-0,0,0.4,0.6\n1,k2,swarm-1,1,1,0\n",
        "run,name,index,arc:rc\nk2,swarm-1,7,1.5\nx9,swarm-0,8,1.25\n",
    )
    assert runs.domains == ("arxiv", "dclm:law")
    assert runs.losses["arc:rc"].to_dict() == {"x9": 1.25, "k2": 1.5}


def test_a_data_set_name_that_would_leave_a_column_nameless_stays(read):
    runs = read(
        "index,train_x_,train_x_b\n1,0.25,0.75\n2,0.5,0.5\n", "index,metric/x_b_val_loss\n1,3.0\n2,3.5\n"
    )
    assert runs.domains == ("x_", "x_b")
    assert runs.targets == ("x_b",)


def test_rounded_weights_are_scaled_to_sum_to_one(read):
    runs = read("index,a,b\n1,0.25,0.74\n2,0.5,0.51\n3,0.9,0.1\n")
    np.testing.assert_allclose(runs.weights.sum(axis=1), 1.0, rtol=1e-15)
    assert runs.weights.loc["1", "a"] == pytest.approx(0.25 / 0.99)


def test_diverged_runs_and_copies_are_left_out_and_counted(read):
    runs = read(
        "index,a,b\n1,0.25,0.75\n2,0.5,0.5\n3,1,0\n4,0.25,0.75\n5,0.25,0.75\n",
        "index,a,b\n1,3.0,2.0\n2,inf,2.0\n3,,nan\n4,3.0,2.0\n5,3.1,\n",
    )
    assert list(runs.weights.index) == ["1", "5"]  # 4 copies 1; 5 repeats its mixture with another outcome
    assert (runs.num_diverged, runs.num_duplicates) == (1, 1)
    assert runs.left_out() == "1 diverged, 1 duplicate"
    assert "1 of 5 runs have no value yet: left out" in runs.notes
    assert np.isnan(runs.losses.loc["5", "b"])


@pytest.mark.parametrize(
    ("mixtures", "losses", "message"),
    [
        (
            MIXTURES.replace("0.5,0.5", "0.5,half"),
            LOSSES,
            "mix.csv, line 3, column 'train_the_pile_b': 'half'",
        ),
        (MIXTURES.replace("0.5,0.5", "0.5,"), LOSSES, "mix.csv, line 3, column 'train_the_pile_b': '' is no"),
        (MIXTURES, LOSSES.replace("4.5", "4,5"), "loss.csv, line 2 has 3 cells, but there are 2 columns"),
        (
            MIXTURES,
            LOSSES.replace("4.5", "4.5x"),
            "loss.csv, line 2, column 'metric/the_pile_b_val_loss': '4.5x'",
        ),
        (
            MIXTURES.replace("0.5,0.5", "0.5,0.53"),
            LOSSES,
            "mix.csv, line 3: the weights of the run '2' sum to 1.03",
        ),
        (
            MIXTURES.replace("0.5,0.5", "1.5,-0.5"),
            LOSSES,
            "mix.csv, line 3, column 'train_the_pile_b': the weight -0.5",
        ),
        (
            MIXTURES.replace("0.5,0.5", "inf,0.5"),
            LOSSES,
            "mix.csv, line 3: the weights of the run '2' sum to inf",
        ),
        (
            MIXTURES + "2,0.1,0.9\n",
            LOSSES,
            "mix.csv, line 5: the run '2' .column 'index'. is in line 3 already",
        ),
        (MIXTURES, LOSSES + "3,1\n", "loss.csv, line 5: the run '3' .column 'index'. is in line 2 already"),
        (MIXTURES, "index,a\n7,1\n", "mix.csv and .*loss.csv have no run in common"),
        (MIXTURES, LOSSES.replace("index", "step"), "share no column that names the runs"),
        (
            MIXTURES.replace("_b", "_a"),
            LOSSES,
            "mix.csv, line 1 names the column 'train_the_pile_a' more than once",
        ),
        ("", LOSSES, "mix.csv is empty"),
        ("\n\n", LOSSES, "mix.csv is empty"),
        ("index,a,b\n", LOSSES, "mix.csv holds the names of columns, but no run"),
        (MIXTURES.replace(",", "|"), LOSSES, "share no column that names the runs"),
        ("index\n1\n", LOSSES, "mix.csv, line 1 names no column of values"),
        (MIXTURES.encode() + b"4,\xe9,1\n", LOSSES, "mix.csv, line 5 is not UTF-8: byte 0xe9"),
        (MIXTURES, 'index,a\n1,"3.0\n', "loss.csv, line 2 is no CSV"),
        (MIXTURES, "index,a,b\n1,1,\n2,2,\n3,3,nan\n", "loss.csv: no run has a value in the column of 'b'"),
        (MIXTURES, "index,a\n1,\n2,nan\n3,-inf\n", "loss.csv holds no run with losses .1 rows"),
    ],
)
def test_a_wrong_cell_row_or_file_is_named(read, mixtures, losses, message):
    with pytest.raises(DataError, match=message):
        read(mixtures, losses)


def test_a_whole_number_names_the_same_run_however_it_is_written(read):
    floats = "index,metric/the_pile_b_val_loss\n3.0,4.5\n1.0,3.0\n2.0,3.5\n"
    assert read(losses=floats).losses.equals(read().losses)
    with pytest.raises(DataError, match=r"mix.csv, line 5: the run '1' .* is in line 2 already"):
        read(MIXTURES + "1.0,0.5,0.5\n")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv is not there"):
        load_runs(mixtures=tmp_path / "nowhere.csv", losses=tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="is a folder, not a CSV file"):
        load_runs(mixtures=tmp_path, losses=tmp_path)
    with pytest.raises(DataError, match="holds no runs"):
        load_runs(tmp_path)


def test_one_file_cannot_be_both(tmp_path):
    (tmp_path / "mix.csv").write_text(MIXTURES)
    with pytest.raises(DataError, match=r"mix\.csv is named for the mixtures and for the losses"):
        load_runs(mixtures=tmp_path / "mix.csv", losses=tmp_path / "mix.csv")


def test_runs_come_from_one_source_and_whole():
    with pytest.raises(DataError, match="two tables"):
        load_runs(mixtures="a.csv")
    with pytest.raises(DataError, match="one source"):
        load_runs("study", losses="b.csv")


def test_a_study_gives_its_runs_that_ended_well_and_counts_the_others(tmp_path):
    write_parquet(tmp_path / "3-proxies" / "results.parquet", results())
    runs = load_runs(tmp_path)
    assert list(runs.weights.index) == ["r0", "r2"]
    assert runs.targets == ("a", "c")
    assert (runs.num_diverged, runs.num_failed) == (1, 1)
    assert list(runs.part("holdout").weights.index) == ["r2"]
    assert runs.part("fit").losses["c"].to_dict() == {"r0": 1.0}


def test_runs_written_as_results_are_read_back_the_same(tmp_path):
    runs = Runs.from_results(results(), "here")
    write_parquet(tmp_path / "runs.parquet", runs.to_results())
    again = load_runs(tmp_path)
    for name in ("weights", "losses", "split"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(getattr(again, name)), pd.DataFrame(getattr(runs, name)), check_names=False
        )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"status": ["ok", "fine", "ok", "ok"]}, "here: status is 'fine' for the run 'r1'"),
        ({"split": ["fit", "fit", "test", "fit"]}, "here: split is 'test' for the run 'r2'"),
        ({"weight/a": [0.25, 0.9, 1.0, 0.0]}, "here: of the run 'r1' the weights sum to 1.4, not to 1"),
        ({"weight/a": [0.25, -0.5, 1.0, 0.0]}, "here: of the run 'r1' the weight of 'a' is -0.5"),
        ({"status": ["failed"] * 4}, "holds no run"),
    ],
)
def test_a_table_of_results_with_impossible_values_is_refused(columns, message):
    with pytest.raises(DataError, match=message):
        Runs.from_results(results(**columns), "here")


def test_the_same_run_id_twice_counts_once():
    pooled = pd.concat([results(), results().iloc[:1]], ignore_index=True)
    runs = Runs.from_results(pooled, "here")
    assert len(runs) == 2
    assert runs.num_duplicates == 1


def test_test_runs_take_the_columns_of_the_fit_and_may_lack_targets(read):
    fitted = read("index,a,b\n1,0.25,0.75\n2,0.5,0.5\n", "index,a,b\n1,3.0,2.0\n2,2.5,2.2\n")
    test = read("index,b,a\n7,0.25,0.75\n", "index,b\n7,3.0\n").aligned_to(fitted)
    assert test.weights.to_dict("list") == {"a": [0.75], "b": [0.25]}
    assert test.targets == ("b",)


def test_a_column_in_one_set_of_runs_only_is_named(read):
    fitted = read("index,a,b\n1,0.25,0.75\n2,0.5,0.5\n", "index,a\n1,3.0\n2,2.5\n")
    with pytest.raises(DataError, match="domain 'c' is a column of"):
        read("index,a,b,c\n1,0.25,0.75,0\n", "index,a\n1,3.0\n").aligned_to(fitted)
    with pytest.raises(DataError, match="loss 'd' is a column of"):
        read("index,a,b\n1,0.25,0.75\n", "index,d\n1,3.0\n").aligned_to(fitted)


def law(own: pd.Series, share: float) -> pd.Series:
    """The loss of a domain with weight `own`, which the text of others helps by `share`."""
    return 2 + 3 * (own + 0.3 * share * (1 - own) + 0.02) ** -0.25


def test_a_whole_swarm_is_read_with_every_loss_beside_its_own_mixture():
    runs = load_runs(mixtures=SWARM / "mixtures.csv", losses=SWARM / "losses.csv")  # in different orders
    assert list(runs.weights.index) == [str(number) for number in range(1, 61)]
    assert runs.domains == ("web", "code", "books", "maths", "talk")
    assert runs.targets == ("web", "code", "books", "maths")
    assert runs.left_out() == ""
    np.testing.assert_allclose(runs.weights.sum(axis=1), 1.0, atol=1e-12)
    for target, share in {"web": 0.6, "code": 0.3, "books": 0.5, "maths": 0.1}.items():
        np.testing.assert_allclose(runs.losses[target], law(runs.weights[target], share), atol=1e-5)


@pytest.mark.skipif(
    not PUBLISHED.is_dir(),
    reason=f"no {PUBLISHED.name} beside the repository; recipes/published-runs/README.md says how to get it",
)
def test_the_published_runs_are_read_whole():
    train, test = (
        load_runs(
            mixtures=PUBLISHED / f"{part}_mixture_1m.csv", losses=PUBLISHED / f"{part}_pile_loss_1m.csv"
        )
        for part in ("train", "test")
    )
    assert (len(train), len(test.aligned_to(train))) == (512, 256)
    assert (len(train.domains), len(train.targets)) == (17, 13)
    assert {"pile_cc", "nih_exporter"} <= set(train.domains)
    assert train.losses.loc["2", "pile_cc"] == 5.343518733978272
    assert train.left_out() == ""


def test_experts_stay_of_use_when_every_other_run_failed():
    columns = {"split": ["expert", "fit"], "weight/web": [1.0, 0.5], "weight/code": [0.0, 0.5]}
    table = pd.DataFrame(
        {"run_id": ["e", "f"], **columns, "status": ["ok", "failed"], "loss/web": [3.0, None]}
    )
    runs = Runs.from_results(table, "a table")
    assert (len(runs), runs.num_failed, runs.targets) == (0, 1, ("web",))
    with pytest.raises(DataError, match="holds no run with losses"):
        Runs.from_results(table.assign(status="failed"), "a table")


def test_what_not_all_experts_were_asked_about_is_left_out_and_refused_as_a_target():
    table = pd.DataFrame(
        {
            **{"run_id": ["e", "f"], "split": "expert", "weight/web": [1.0, 0.0], "weight/code": [0.0, 1.0]},
            **{"loss/web": [3.0, 4.0], "loss/notes": [5.0, None]},
        }
    )
    weights = pd.DataFrame({"web": [1.0, 0.0], "code": [0.0, 1.0]}, index=["e", "f"])
    text = TargetText(sha256="0" * 64, num_tokens=1, bits_per_nat=1.0)
    experts = Experts(weights, {"web": np.full((2, 1), -1.0, np.float16)}, {"web": text})
    runs = Runs.from_results(table, "a table", experts=experts)
    assert runs.targets == ("web",)
    assert runs.notes == ("left out: notes, which not all experts were asked about",)
    known = Experts(weights, {"notes": np.full((2, 1), -1.0, np.float16)}, {"notes": text})
    mixed = table.assign(run_id=["e", "m"], split="fit")  # the first is an expert and a mixture
    assert Runs.from_results(mixed, "a table", experts=known).targets == ("web",)
    assert len(Runs.from_results(mixed, "a table", asked=["notes"], experts=known)) == 0
    with pytest.raises(DataError, match="nobody can say how mixtures differ on 'notes'"):
        Runs.from_results(table, "a table", asked=["notes"], experts=experts)
