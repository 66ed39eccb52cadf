"""Stage `fit`: from the table of proxy results to saved regressors, and when it is stale."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import RegressionError, StudyError
from regmix_hf.files import read_json, read_parquet, write_parquet
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.stages import fit
from regmix_hf.study import State, Study

DOMAINS = ("web", "code")


def make_study(folder, seed=7, **regression) -> Study:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "seed": seed,
            "output_dir": folder,
            "context_length": 64,
            "tokenizer": {"train": {"vocab_size": 512}},
            "domains": {
                **{name: {"path": "text"} for name in DOMAINS},
                "mine": {"path": "text", "validation_only": True},
            },
            "proxy": {"model": {"preset": "x"}, "num_train_tokens": 100_000},
            "regression": {"estimators": ["ridge"], **regression},
            "train": {"model": {"preset": "x"}, "num_train_tokens": 1_000_000},
        }
    )
    return Study(recipe)


def write_results(study: Study, num_fit=14, num_holdout=4) -> None:
    """Results of proxies, of which the last two, beyond the numbers given, did not end well."""
    rng = np.random.default_rng(0)
    count = num_fit + num_holdout + 2
    web = rng.uniform(size=count)
    losses = {"web": 3 - web, "code": 2 + web, "mine": 4 - 2 * np.minimum(web, 0.6)}
    table = pd.DataFrame(
        {
            "run_id": [f"run{row}" for row in range(count)],
            "split": ["holdout" if row < num_holdout else "fit" for row in range(count)],
            "status": ["ok"] * (count - 2) + ["diverged", "failed"],
            "weight/web": web,
            "weight/code": 1 - web,
            **{f"loss/{name}": loss + rng.normal(scale=0.01, size=count) for name, loss in losses.items()},
        }
    )
    table.loc[count - 2 :, [f"loss/{name}" for name in losses]] = np.nan
    write_parquet(study.proxies / "results.parquet", table)


def test_what_too_few_runs_were_asked_about_stops_no_other_target(tmp_path, recorder):
    study = make_study(tmp_path, target="web")
    write_results(study)
    table = read_parquet(study.proxies / "results.parquet")
    table.loc[:14, "loss/mine"] = np.nan  # the recipe got it when fifteen runs had ended
    write_parquet(study.proxies / "results.parquet", table)
    fit.run(study, recorder)
    assert read_json(study.regression / "summary.json")["targets"] == ["web", "code"]
    assert [
        note for note in recorder.notes if note.endswith("different mixtures have a value of it: mine (3)")
    ]
    with pytest.raises(RegressionError, match="target 'mine' has 3"):
        fit.run(make_study(tmp_path, target="mine"), Silent())


def test_fit_saves_what_later_stages_need(tmp_path, recorder):
    study = make_study(tmp_path, target="mine")
    write_results(study)
    fit.run(study, recorder)
    assert study.state(fit.STAGE) is State.DONE
    summary = read_json(study.regression / "summary.json")
    assert summary["estimator"] == "ridge"
    assert summary["targets"] == ["web", "code", "mine"]
    assert summary["domains"] == ["web", "code"]
    assert summary["num_runs"] == {"fit": 14, "holdout": 4, "diverged": 1, "failed": 1, "duplicates": 0}
    assert "runs left out of the fit: 1 diverged, 1 failed" in recorder.notes
    regressor = MixtureRegressor.from_pretrained(study.regression / summary["estimator"])
    assert regressor.num_runs_ == 14
    quality = read_parquet(study.regression / "quality.parquet").set_index(["estimator", "test", "target"])
    assert quality.loc[("ridge", "holdout", "web"), "spearman"] == 1.0
    assert quality.loc[("own_weight", "holdout", "web"), "spearman"] == 1.0


def test_fit_uses_the_estimator_and_the_target_of_the_recipe(tmp_path):
    study = make_study(tmp_path, target={"web": 3, "mine": 1}, estimators=["own_weight"], estimator="ridge")
    write_results(study)
    fit.run(study, Silent())
    summary = read_json(study.regression / "summary.json")
    assert summary["target"] == "0.75 web + 0.25 mine"
    assert summary["target_value"] == {"web": 3.0, "mine": 1.0}
    assert summary["estimator"] == "ridge"


def test_fit_is_stale_when_results_or_recipe_change(tmp_path):
    study = make_study(tmp_path)
    write_results(study)
    fit.run(study, Silent())
    assert study.changes(fit.STAGE) == []
    assert make_study(tmp_path, target="web").changes(fit.STAGE) == ["regression"]
    write_results(study, num_fit=15)
    assert study.changes(fit.STAGE) == ["3-proxies/results.parquet"]


def test_the_recipe_seed_decides_the_numbers(tmp_path):
    tables = []
    for folder, seed in (("one", 7), ("two", 7), ("three", 8)):
        study = make_study(tmp_path / folder, seed=seed)
        write_results(study)
        fit.run(study, Silent())
        tables.append(read_parquet(study.regression / "quality.parquet"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0].equals(tables[2])


def test_fit_without_results_names_the_stage_that_writes_them(tmp_path):
    with pytest.raises(StudyError, match=r"results\.parquet is not there yet"):
        fit.run(make_study(tmp_path), Silent())


def test_too_few_proxies_are_counted_and_leave_no_marker(tmp_path):
    study = make_study(tmp_path)
    write_results(study, num_fit=6)
    with pytest.raises(RegressionError, match=r"ridge needs at least 10 runs .* there are 6"):
        fit.run(study, Silent())
    assert study.state(fit.STAGE) is State.MISSING
