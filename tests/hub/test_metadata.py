"""The cards of a published study hold what the Hub documents, and name nothing that is not there."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import DatasetCard, EvalResult, ModelCard, metadata_eval_result

from regmix_hf.sharing import push_study

from .standin.metadata import problems

RESULT = {
    "task": {"type": "text-generation"},
    "dataset": {"type": "me/runs", "name": "Runs"},
    "metrics": [{"type": "loss", "value": 2.5}],
}


def index(**changes: object) -> dict[str, object]:
    return {"model-index": [{"name": "x", "results": [{**RESULT, **changes}]}]}


@pytest.mark.parametrize(
    ("kind", "metadata", "problem"),
    [
        ("model", {"license": "apache 2"}, "must be one of"),
        ("model", {"license": "other"}, '"license_name" is required'),
        ("model", {"licence": "mit"}, '"licence" is not allowed'),
        ("model", {"pipeline_tag": "mixing"}, "is not a task"),
        ("model", {"base_model": "a/b/c"}, "is not a model id"),
        ("model", {"tags": "regmix"}, "must be an array of strings"),
        ("model", {"language": "english"}, "is not a language"),
        ("model", index(dataset={"type": "a dataset", "name": "x"}), "fails to match"),
        ("model", index(dataset={"type": "me/runs"}), 'dataset.name" is required'),
        ("model", index(task={}), 'task.type" is required'),
        ("model", index(metrics=[{"type": "loss"}]), 'value" is required'),
        ("model", index(metrics=[{"type": "loss", "value": float("nan")}]), "must be a number"),
        ("model", index(dataset={"type": "a", "name": "a", "config": None}), "must be a string"),
        ("dataset", {"size_categories": ["n>10M"]}, "is not a size"),
        ("dataset", {"task_categories": ["regression"]}, "is not a task"),
        ("dataset", {"source_datasets": ["a b"]}, "is not a dataset id"),
        ("dataset", {"configs": [{"config_name": "a", "data_files": 3}]}, "no file"),
        ("dataset", {"configs": [{"config_name": "a", "data_files": "x"}] * 2}, "different names"),
    ],
)
def test_the_stand_in_refuses_what_the_documentation_does_not_name(kind, metadata, problem):
    assert any(problem in found for found in problems(kind, metadata)), problems(kind, metadata)


def test_the_stand_in_takes_what_the_client_itself_writes():
    by_client = metadata_eval_result(
        model_pretty_name="x",
        task_pretty_name="Text generation",
        task_id="text-generation",
        metrics_pretty_name="Loss",
        metrics_id="loss",
        metrics_value=2.5,
        dataset_pretty_name="Runs",
        dataset_id="me/runs",
    )
    assert problems("model", {**by_client, "license": "mit"}) == []


def test_all_cards_of_a_study_are_valid_and_name_only_what_is_there(hub, standin, new_study, stages):
    push_study(new_study(), stages)
    assert len(standin.requests("POST /api/validate-yaml")) == len(standin.store.repos)
    for name, repo in standin.store.repos.items():
        kind = DatasetCard if repo.kind == "dataset" else ModelCard
        card = kind.load(name)
        assert problems(repo.kind, card.data.to_dict()) == []
        assert kind(str(card)).data.to_dict() == card.data.to_dict()
        files = set(repo.head.files)
        assert {config["data_files"] for config in card.data.get("configs") or []} <= files
        assert set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", card.text)) <= files
        places = re.findall(r"\]\(https://huggingface.co/([^)]+)\)", card.text)
        assert places
        outside = {"my-org/books", "my-org/programs", "my-org/letters"}
        assert {place.removeprefix("datasets/") for place in places} <= standin.store.repos.keys() | outside


def test_results_come_back_as_the_client_understands_them(hub, new_study, stages):
    push_study(new_study(), stages)
    for name in ("me/small-regressor", "me/small-chosen"):
        results = ModelCard.load(name).data.eval_results
        assert results
        assert all(isinstance(result, EvalResult) for result in results)
        keys = [(r.unique_identifier, str(r.dataset_args), r.dataset_name, r.metric_name) for r in results]
        assert len(set(keys)) == len(keys)
