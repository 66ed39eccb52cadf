"""What is not of the recipe and the files of now is not published, nor is anything that was made of it."""

from __future__ import annotations

import json

import pytest

from regmix_hf.errors import HubError
from regmix_hf.files import read_json
from regmix_hf.sharing import push_study
from regmix_hf.stages import choose, fit
from regmix_hf.study import Study


@pytest.mark.parametrize(
    "override", ["proxy.num_train_tokens=102400", "context_length=64", "seed=8", "sampling.num_mixtures=12"]
)
def test_with_another_recipe_and_nothing_rerun_nothing_is_published(
    hub, standin, new_study, stages, override
):
    with pytest.raises(HubError, match="nothing to publish that is of this recipe"):
        push_study(new_study(override), stages)
    assert standin.store.repos == {}


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("regression.target=worst", {"runs"}),
        ("choice.top_k=5", {"runs", "regressor"}),
        ("train.num_evaluations=3", {"runs", "regressor", "mixture"}),
        ("evaluation.limit=5", {"runs", "regressor", "mixture", "chosen", "prior"}),
    ],
)
def test_a_part_goes_out_only_where_all_before_it_is_current(
    hub, standin, new_study, stages, recorder, override, left
):
    push_study(new_study(override), stages, progress=recorder)
    assert set(standin.store.repos) == {f"me/small-{name}" for name in left}
    left_out = {"runs", "regressor", "mixture"} - left
    assert all(any(note.startswith(f"{part}: ") for note in recorder.notes) for part in left_out)


def test_scores_of_other_models_do_not_stand_under_a_mixture_that_was_chosen_anew(
    hub, standin, new_study, stages, recorder
):
    study = new_study("choice.top_k=5")
    choose.run(study, recorder)
    push_study(study, stages, progress=recorder)
    repo = standin.repo("me/small-mixture")
    assert "scores.parquet" not in repo.head.files
    assert "final_results.parquet" not in repo.head.files
    assert "No model has been trained on it yet" in repo.file("v1", "README.md").decode()
    assert "me/small-chosen" not in standin.store.repos
    stated = json.loads(repo.file("v1", "stages.json"))
    assert stated.keys() == {"choose"}


def test_what_follows_a_stale_stage_is_stale_whatever_its_own_files_say(new_study, stages):
    study: Study = new_study("proxy.num_train_tokens=102400")
    assert study.state(fit.STAGE).value == "done"
    standings = study.standings(stages)
    assert {verb: str(one.state) for verb, one in standings.items()} == {
        "prepare": "done",
        **dict.fromkeys(("sample", "proxies", "fit", "choose", "train", "evaluate", "report"), "stale"),
    }
    assert standings["fit"].reason == "it depends on proxies"
    before = "sample, proxies, fit"
    assert standings["choose"].reason == f"proxy.num_train_tokens changed and it depends on {before}"
    assert read_json(study.marker(fit.STAGE)) is not None
