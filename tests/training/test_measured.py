"""What a run keeps of its losses when its study validates on other text, and that it trains alike."""

from dataclasses import replace

import pandas as pd
import pytest

from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import collect, result_of
from regmix_hf.training.measured import missing_losses
from regmix_hf.training.run import train_run


@pytest.fixture(scope="module")
def trained(spec, corpus, tmp_path_factory):
    """A folder with one finished run."""
    folder = tmp_path_factory.mktemp("proxies")
    train_run(spec, corpus, folder / spec.run_id)
    return folder


def collected(specs, folder):
    return collect(proxy_tasks(specs, folder), folder)


def test_measuring_more_trains_nothing_again_and_guesses_nothing(spec, trained, tmp_path):
    before, _ = collected([spec], trained)
    more = replace(
        spec,
        weights={**spec.weights, "fives": 0.0},
        text={**spec.text, "fives": "f" * 64},
        validation={
            "judge": spec.validation["judge"],
            "ones": "0" * 64,
            "threes": spec.validation["threes"],
            "fives": "f" * 64,
        },
        num_evaluations=1,
    )
    [task] = proxy_tasks([more], trained)
    assert result_of(task) is not None
    results, points = collected([more], trained)
    [row] = results.to_dict("records")
    [old] = before.to_dict("records")
    assert [c for c in results if c.startswith("loss/")] == ["loss/judge", "loss/threes"]
    assert list(points.columns[3:]) == ["loss/judge", "loss/threes"]
    for name in ("loss/judge", "bpb/threes", "weight/ones", "epochs/threes", "wall_seconds", "run_id"):
        assert row[name] == old[name]
    assert (row["weight/fives"], row["realized/fives"], row["epochs/fives"]) == (0, 0, 0)
    notes = list(missing_losses(results, more.validation))
    assert len(notes) == 2
    assert notes[0].startswith("1 of 1 runs were trained before domain 'ones' was validated on this text")


def test_a_run_beside_one_with_more_losses_has_none_where_it_was_not_measured(
    spec, trained, corpus, tmp_path
):
    narrow = replace(spec, seed=12)
    folder = trained
    train_run(narrow, corpus, folder / narrow.run_id)
    other = {**spec.validation, "judge": "1" * 64}
    result = folder / narrow.run_id / "result.json"
    judge = spec.validation["judge"][:12]
    result.write_text(result.read_text().replace(f"judge={judge}", f"judge={'1' * 12}"))
    results, points = collected([spec, narrow], folder)
    assert results["loss/judge"].isna().tolist() == [False, True]
    assert points["loss/judge"].isna().tolist() == [False] * 3 + [True] * 3
    assert points["loss/ones"].notna().all()
    assert list(missing_losses(results, spec.validation)) == [
        "1 of 2 runs were trained before domain 'judge' was validated on this text, and have no loss on it; "
        "remove their folders to train them again"
    ]
    results, _ = collected([replace(run, validation=other) for run in (spec, narrow)], folder)
    assert results["loss/judge"].isna().tolist() == [True, False]


def test_a_run_that_two_mixtures_share_stands_twice_with_its_losses(spec, trained):
    both = [replace(spec, mixture_id=name) for name in ("chosen", "uniform")]
    [task] = proxy_tasks(both, trained)
    results, _ = collect([task, replace(task, spec=both[1])], trained)
    assert results["mixture_id"].tolist() == ["chosen", "uniform"]
    assert results["loss/judge"].notna().all()
    assert pd.read_parquet(trained / "trajectories.parquet")["loss/judge"].notna().all()


def test_how_often_losses_are_measured_changes_no_weight(spec, corpus, tmp_path):
    # Dropout draws from the generator that an evaluation could have moved.
    model = {**spec.model, "attention_dropout": 0.2}
    often = replace(spec, model=model, num_evaluations=5)
    rarely = replace(often, num_evaluations=1)
    assert often.run_id == rarely.run_id
    rows = [train_run(run, corpus, tmp_path / str(run.num_evaluations)) for run in (often, rarely)]
    assert [len(pd.read_parquet(tmp_path / count / "trajectory.parquet")) for count in ("5", "1")] == [5, 1]
    losses = [{name: row[name] for name in row if name.startswith("loss/")} for row in rows]
    assert losses[0] == losses[1]
    plain = train_run(replace(spec, num_evaluations=1), corpus, tmp_path / "plain")
    assert plain["loss/ones"] != rows[0]["loss/ones"]  # dropout was on
