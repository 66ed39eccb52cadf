"""A study goes to the Hub and comes back: every repository whole, every version fetched again as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelHubMixin

from regmix_hf import MixtureRegressor, load_runs
from regmix_hf.errors import HubError, RecipeError, StudyError
from regmix_hf.files import read_parquet
from regmix_hf.jobs.results import result_of
from regmix_hf.pipeline import status
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.stages import choose, fit, proxies, report
from regmix_hf.study import Study

REPOSITORIES = {f"me/small-{name}" for name in ("chosen", "prior", "mixture", "regressor", "runs")}
TABLES = (
    "2-mixtures/mixtures.parquet",
    "3-proxies/results.parquet",
    "3-proxies/trajectories.parquet",
    "4-regression/quality.parquet",
    "4-regression/predictions.parquet",
    "4-regression/learning_curve.parquet",
    "4-regression/runs.parquet",
    "5-mixture/mixture.parquet",
)
LOAD = """
import json, sys, datasets
found = {}
for repository, config, revision in json.loads(sys.argv[1]):
    table = datasets.load_dataset(repository, config, revision=revision, split="train").to_pandas()
    found[f"{repository} {config} {revision}"] = table.to_json(orient="split", double_precision=15)
print(json.dumps(found))
"""


def test_a_push_is_one_commit_per_repository_and_one_version_on_all(hub, standin, new_study, stages):
    push = push_study(new_study(), stages)

    assert push.version == "v1"
    assert {repository.id for repository in push.repositories} == REPOSITORIES == set(standin.store.repos)
    for name in REPOSITORIES:
        repo = standin.repo(name)
        assert repo.tags == {"v1": repo.head.oid}
        assert len(repo.history()) == 2
        assert repo.kind == ("dataset" if name.endswith(("-runs", "-mixture")) else "model")
    (collection,) = standin.store.collections.values()
    assert {item["id"] for item in collection.items} == REPOSITORIES
    assert push.collection.endswith(collection.slug)


def test_no_pickle_is_published(hub, standin, new_study, stages):
    study = new_study()
    assert (study.models / "chosen" / "training_args.bin").exists()
    push_study(study, stages)
    paths = {path for repo in standin.store.repos.values() for path in repo.head.files}
    suffixes = {Path(path).suffix for path in paths - {".gitattributes"}}
    of_studies = {".md", ".png", ".html", ".json", ".yaml", ".parquet", ".safetensors"}
    assert of_studies <= suffixes <= of_studies | {".csv", ".sh", ".py"}  # the latter are exports


def test_pushing_again_changes_nothing(hub, standin, new_study, stages):
    study = new_study()
    push_study(study, stages)
    before = standin.state()
    standin.log.clear()

    again = push_study(study, stages)

    assert (again.version, again.changed) == ("v1", frozenset())
    assert standin.state() == before
    assert {entry.request.split()[0] for entry in standin.log} <= {"GET", "HEAD"}


def test_a_dry_run_asks_and_touches_nothing(hub, standin, new_study, stages):
    study = new_study()
    push = push_study(study, stages, dry_run=True)
    assert standin.store.repos == {}
    assert {repository.id: counts for repository, counts in push.files.items()}["me/small-runs"] == (8, 8)
    push_study(study, stages)
    standin.log.clear()
    assert all(changed == 0 for changed, _ in push_study(study, stages, dry_run=True).files.values())
    assert {entry.request.split()[0] for entry in standin.log} <= {"GET", "HEAD"}


@pytest.mark.processes
def test_two_versions_come_back_as_they_were(
    hub, standin, new_study, grow, stages, recorder, environment, tmp_path
):
    study = new_study()
    push_study(study, stages)
    first = {name: read_parquet(study.root / name) for name in TABLES}
    weights = first["2-mixtures/mixtures.parquet"].filter(like="weight/").rename(columns=lambda c: c[7:])
    predicted = {"v1": MixtureRegressor.from_pretrained(study.regression / "power_law").predict(weights)}

    grow(study)
    push = push_study(study, stages, progress=recorder)
    second = {name: read_parquet(study.root / name) for name in TABLES}
    predicted["v2"] = MixtureRegressor.from_pretrained(study.regression / "power_law").predict(weights)

    assert push.version == "v2"
    changed = "2-mixtures/mixtures.parquet, 5-mixture/mixture.yaml"
    assert f"model: `train` is stale, because {changed} changed; left out" in recorder.notes
    assert len(second["3-proxies/results.parquet"]) == len(first["3-proxies/results.parquet"]) + 6 == 34
    for version, tables in (("v1", first), ("v2", second)):
        pulled = pull_study(f"me/small@{version}", stages, tmp_path / version)
        assert pulled.version == version
        assert pulled.missing == ()
        for name, table in tables.items():
            pd.testing.assert_frame_equal(read_parquet(tmp_path / version / name), table)
        for source in (tmp_path / version / "4-regression" / "power_law", "me/small-regressor"):
            revision = {"revision": version} if isinstance(source, str) else {}
            regressor = MixtureRegressor.from_pretrained(source, **revision)
            np.testing.assert_array_equal(regressor.predict(weights), predicted[version])
    assert not predicted["v1"].equals(predicted["v2"])
    _check_load_dataset(environment, {"v1": first, "v2": second})


def _check_load_dataset(environment, versions) -> None:
    """Every config of both versions, by people who have only `datasets`."""
    places = {("me/small-runs", name.split("/")[1].split(".")[0]): name for name in TABLES[:3]}
    places["me/small-mixture", "mixture"] = TABLES[-1]
    wanted = [[*place, version] for place in places for version in versions]
    wanted += [["me/small-mixture", name, "v1"] for name in ("final_results", "final_trajectories", "scores")]
    command = [sys.executable, "-c", LOAD, json.dumps(wanted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == len(wanted) == 11
    for (repository, config), name in places.items():
        for version, tables in versions.items():
            expected = tables[name].to_json(orient="split", double_precision=15)
            assert found[f"{repository} {config} {version}"] == expected


def test_a_pulled_study_goes_on_without_training(hub, new_study, stages, tmp_path):
    study = new_study()
    push_study(study, stages)

    pulled = pull_study("me/small", stages, tmp_path / "pulled").study

    states = {stage.verb: str(stage.state) for stage in status(pulled)}
    assert states == {
        **dict.fromkeys(("sample", "proxies", "fit", "choose", "train", "evaluate"), "done"),
        "prepare": "partial",
        "report": "missing",
    }
    assert load_recipe(tmp_path / "pulled").model_dump() == pulled.recipe.model_dump()
    assert all(result_of(task) is not None for task in proxies.tasks_of(pulled))
    report.run(pulled, Silent())
    assert (pulled.report / "README.md").read_text() == (study.report / "README.md").read_text()
    fit.run(pulled, Silent())
    choose.run(pulled, Silent())
    assert pulled.mixture.read_text() == study.mixture.read_text()


def test_parts_are_published_alone_with_versions_in_step(hub, standin, new_study, grow, stages):
    study = new_study()
    assert push_study(study, stages, only=["runs"]).version == "v1"
    assert set(standin.store.repos) == {"me/small-runs"}
    grow(study)
    assert push_study(study, stages, only=["runs"]).version == "v2"
    assert push_study(study, stages, only=["regressor"]).version == "v2"
    assert standin.repo("me/small-regressor").tags.keys() == {"v2"}
    with pytest.raises(RecipeError, match="did you mean 'regressor'"):
        push_study(study, stages, only=["regresor"])


def test_nothing_to_publish_and_nowhere_to_publish_to(hub, finished, tmp_path, stages):
    empty = Study(load_recipe(finished, [f"output_dir={tmp_path / 'empty'}"]))
    with pytest.raises(HubError, match="nothing to publish"):
        push_study(empty, stages)
    nowhere = Study(load_recipe(finished, [f"output_dir={tmp_path / 'empty'}", "hub="]))
    with pytest.raises(HubError, match="does not say where"):
        push_study(nowhere, stages)


def test_private_repositories_and_collection(hub, standin, new_study, stages, log_in, tokens):
    push_study(new_study("hub.private=true"), stages)
    assert all(repo.private for repo in standin.store.repos.values())
    assert all(collection.private for collection in standin.store.collections.values())
    log_in(tokens["other"])
    with pytest.raises(HubError, match="does not exist, or it is private"):
        pull_study("me/small", stages, Path("never-made"))
    assert not Path("never-made").exists()


@pytest.mark.parametrize("name", ["runs", "regressor", "mixture"])
def test_a_mixture_may_not_take_the_name_of_another_repository(finished, name):
    names = [f"baselines={{{name}: {{prose: 1}}}}", f"train.mixtures=[{name}]"]
    with pytest.raises(RecipeError, match="give the mixture another name"):
        load_recipe(finished, names)
    load_recipe(finished, [*names, "hub="])


@pytest.mark.parametrize(
    "override", ["name=my--mix", "name=mix-", "name=a..b", f"name={'x' * 80}-{'y' * 20}", "hub.namespace=a/b"]
)
def test_names_that_the_hub_refuses_are_refused_when_the_recipe_is_read(finished, override):
    with pytest.raises(RecipeError, match=r"^(name|hub.namespace|.*characters)"):
        load_recipe(finished, [override])


def test_names_of_models_that_the_hub_refuses_are_refused_too(finished):
    names = ["baselines={a--b: {prose: 1}}", "train.mixtures=[a--b]"]
    with pytest.raises(RecipeError, match="the Hub takes no repository"):
        load_recipe(finished, names)
    load_recipe(finished, [*names, "hub="])


def test_without_permission_for_collections_the_rest_is_published(hub, new_study, stages, strike, recorder):
    strike("POST /api/collections", status=403)
    push = push_study(new_study(), stages, progress=recorder)
    assert push.version == "v1"
    assert push.collection is None
    assert any(note.startswith("warning: not in a collection") for note in recorder.notes)


def test_runs_are_loaded_by_name_and_revision(hub, new_study, grow, stages):
    study = new_study()
    push_study(study, stages)
    here = load_runs(study.root)
    grow(study)
    push_study(study, stages)

    there = load_runs("me/small-runs@v1")

    pd.testing.assert_frame_equal(there.weights, here.weights)
    pd.testing.assert_frame_equal(there.losses, here.losses)
    assert there.num_diverged == here.num_diverged == 1
    assert len(load_runs("me/small-runs")) == 33
    with pytest.raises(HubError, match="no such revision"):
        load_runs("me/small-runs@v9")


def test_other_families_are_in_folders_of_their_own(hub, new_study, stages):
    study = new_study()
    push_study(study, stages)
    mixture = pd.DataFrame([{"prose": 0.2, "code": 0.3, "maths": 0.5}])
    there = MixtureRegressor.from_pretrained("me/small-regressor", revision="v1", subfolder="ridge")
    here = MixtureRegressor.from_pretrained(study.regression, subfolder="ridge")
    assert there.estimator == "ridge"
    np.testing.assert_array_equal(there.predict(mixture), here.predict(mixture))


def test_one_regressor_is_published_by_itself(hub, standin, new_study):
    runs = load_runs(new_study().root)
    mine = MixtureRegressor("lightgbm", num_iterations=20).fit(runs.weights, runs.losses)

    assert isinstance(mine, ModelHubMixin)
    assert mine.push_to_hub("me/trees") == f"{standin.url}/me/trees/tree/v1"
    assert mine.push_to_hub("me/trees").endswith("/v1")
    there = MixtureRegressor.from_pretrained("me/trees", revision="v1")

    np.testing.assert_array_equal(there.predict(runs.weights), mine.predict(runs.weights))
    for mine_bound, there_bound in zip(
        mine.predict_interval(runs.weights), there.predict_interval(runs.weights), strict=True
    ):
        np.testing.assert_array_equal(there_bound, mine_bound)
    smaller = MixtureRegressor("ridge").fit(runs.weights, runs.losses)
    assert smaller.push_to_hub("me/trees").endswith("/v2")
    assert not any(path.endswith(".txt") for path in standin.repo("me/trees").head.files)
    second = standin.repo("me/trees").file("v2", "README.md").decode()
    assert "lightgbm" in second  # a card that is there stays, but for its version
    assert 'from_pretrained("me/trees", revision="v2")' in second


def test_a_folder_that_holds_something_else_is_left_alone(hub, new_study, stages, tmp_path):
    push_study(new_study(), stages)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty"):
        pull_study("me/small", stages, full)
    assert [path.name for path in full.iterdir()] == ["thesis.txt"]


def test_pulling_over_an_earlier_pull_brings_the_new_version(hub, new_study, grow, stages, tmp_path):
    study = new_study()
    push_study(study, stages)
    pull_study("me/small", stages, tmp_path / "pulled")
    grow(study)
    push_study(study, stages)
    pulled = pull_study("me/small", stages, tmp_path / "pulled")
    assert pulled.version == "v2"
    assert len(read_parquet(pulled.study.proxies / "results.parquet")) == 34
    with pytest.raises(HubError, match="its versions: v1, v2"):
        pull_study("me/small@v3", stages, tmp_path / "pulled")
    with pytest.raises(HubError, match="no version of a study"):
        pull_study("me/small@main", stages, tmp_path / "pulled")
