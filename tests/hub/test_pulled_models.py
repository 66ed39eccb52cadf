"""Final models come with a pull when asked for: only such as the study's recipe declares, and no code."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM

from regmix_hf.errors import RecipeError, RegmixError, StudyError
from regmix_hf.files import read_json
from regmix_hf.pipeline import status
from regmix_hf.progress import Silent
from regmix_hf.sharing import pull_study
from regmix_hf.stages import evaluate
from regmix_hf.stages.evaluate import tasks_of

ALL = ("mixture", "model")
WEIGHTS = "model.safetensors"


@pytest.fixture
def tampered(pushed, standin) -> Callable[[str, Callable[[bytes], bytes]], None]:
    """Put something else in the place of one file of the chosen model, as it was published."""
    repo = standin.repo("me/small-chosen")
    first = repo.head.files

    def change(path: str, edit: Callable[[bytes], bytes], *, keep: bool = False) -> None:
        blob = type(repo.head.files[WEIGHTS])(edit(first[path].content if path in first else b""), True)
        files = {**repo.head.files, path: blob} if keep else {**first, path: blob}
        repo.tags["v1"] = repo.add_commit("main", files, title="Tamper", author="me").oid

    return change


def test_models_come_only_when_asked_for(pushed, standin, stages, tmp_path):
    standin.log.clear()
    without = pull_study("me/small", stages, tmp_path / "without").study
    assert not standin.requests("me/small-chosen")
    with pytest.raises(StudyError, match="holds no model") as caught:
        tasks_of(without, Silent())
    assert "--only mixture,model" in str(caught.value.hint)

    pulled = pull_study("me/small", stages, tmp_path / "with", only=ALL)

    assert {repository.id.removeprefix("me/small-") for repository in pulled.commits} == {
        *("runs", "mixture", "chosen", "prior")
    }
    assert not (pulled.study.regression / "summary.json").exists()
    for mixture in ("chosen", "prior"):
        here, there = pushed.models / mixture, pulled.study.models / mixture
        assert read_json(here / "result.json").items() <= read_json(there / "result.json").items()
        mine, its = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (here, there))
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in mine)
        assert not list(there.glob("*.bin"))
    assert {stage.verb: str(stage.state) for stage in status(pulled.study)}["train"] == "done"


def test_models_can_be_fetched_after_the_rest(pushed, stages, tmp_path):
    pull_study("me/small", stages, tmp_path / "pulled")
    study = pull_study("me/small", stages, tmp_path / "pulled", only=["model"]).study
    states = {stage.verb: str(stage.state) for stage in status(study)}
    assert {states[verb] for verb in ("proxies", "fit", "choose", "train", "evaluate")} == {"done"}
    assert (study.models / "chosen" / WEIGHTS).exists()


def test_evaluate_takes_the_pulled_models_and_says_what_it_leaves_out(pushed, stages, recorder, tmp_path):
    study = pull_study("me/small", stages, tmp_path / "pulled", only=ALL).study
    tasks = tasks_of(study, recorder)
    assert [task.folder.name for task in tasks] == ["chosen", "prior"]
    assert [note.split(" with seed")[0] for note in recorder.notes] == [
        "leaving out chosen",
        "leaving out prior",
    ]
    with pytest.raises(StudyError, match="tokenizer is not there yet") as caught:
        evaluate.run(study, Silent())
    assert "regmix prepare" in str(caught.value.hint)


def weights(edit: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        tensors = load(content)
        edit(tensors)
        return save(tensors)

    return change


def text(**values: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content or b"{}"), **values}).encode()


NORM = "model.norm.weight"
WRONG = [
    (WEIGHTS, weights(lambda t: t.update({NORM: torch.full((16,), float("nan"))})), "not finite"),
    (WEIGHTS, weights(lambda t: t.update({NORM: torch.full((16,), float("inf"))})), "not finite"),
    (WEIGHTS, weights(lambda t: t.update({NORM: torch.ones(17)})), "is F32 of shape (17,)"),
    (WEIGHTS, weights(lambda t: t.update({NORM: torch.ones(16, dtype=torch.int64)})), "is I64"),
    (WEIGHTS, weights(lambda t: t.pop(NORM)), "weights; its recipe declares"),
    (WEIGHTS, weights(lambda t: t.update(more=torch.ones(3))), "weights; its recipe declares"),
    (WEIGHTS, lambda content: content[:2000], "cannot be read"),
    (WEIGHTS, lambda content: content + bytes(2_000_000), "bytes; at most"),
    ("config.json", text(auto_map={"AutoConfig": "evil.Config"}), "asks for code"),
    ("config.json", text(quantization_config={"quant_method": "x"}), "asks for code"),
    ("config.json", text(hidden_size=32), "says hidden_size 32; the recipe says 16"),
    ("config.json", text(model_type="gpt2"), "says model_type 'gpt2'"),
    ("config.json", lambda content: b"[]", "asks for code"),
    ("tokenizer_config.json", text(auto_map={"AutoTokenizer": ["evil.T", None]}), "asks for code"),
    ("result.json", text(run_id="0" * 16), "another run"),
    ("model.safetensors.index.json", text(weight_map={NORM: "../../../x.safetensors"}), "names other files"),
]


@pytest.mark.usefixtures("fetched_once")
def test_a_model_that_is_not_what_its_recipe_declares_is_refused_and_nothing_is_left(
    tampered, stages, tmp_path
):
    for number, (path, edit, message) in enumerate(WRONG):
        tampered(path, edit)
        folder = tmp_path / str(number)
        with pytest.raises(RegmixError) as caught:
            pull_study("me/small@v1", stages, folder, only=["model"])
        assert message in str(caught.value), (path, str(caught.value))
        assert not folder.exists() or list(folder.iterdir()) == []


def test_code_beside_a_model_is_not_even_fetched(tampered, standin, stages, tmp_path):
    tampered("modeling_evil.py", lambda _: b"raise SystemExit")
    tampered("pytorch_model.bin", lambda _: b"\x80\x04", keep=True)
    study = pull_study("me/small@v1", stages, tmp_path / "x", only=ALL).study
    assert not list(study.models.rglob("*.py")) + list(study.models.rglob("*.bin"))
    assert not standin.requests("evil")


def test_a_recipe_that_declares_an_absurd_model_is_refused_before_it_is_built(
    pushed, standin, stages, tmp_path
):
    repo = standin.repo("me/small-runs")
    blob = repo.head.files["recipe.yaml"]
    edited = blob.content.replace(b"num_hidden_layers: 1", b"num_hidden_layers: 1000000000")
    assert edited != blob.content
    files = {**repo.head.files, "recipe.yaml": type(blob)(edited, False)}
    repo.tags["v1"] = repo.add_commit("main", files, title="Tamper", author="me").oid
    with pytest.raises(RegmixError, match="num_hidden_layers is 1,000,000,000"):
        pull_study("me/small@v1", stages, tmp_path / "x", only=ALL)


def test_an_unknown_part_is_named(stages, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'model'"):
        pull_study("me/small", stages, tmp_path, only=["models"])


def test_weights_of_half_the_bits_are_taken(tampered, stages, tmp_path):
    def halve(tensors: dict) -> None:
        tensors.update({name: tensor.bfloat16() for name, tensor in tensors.items()})

    tampered(WEIGHTS, weights(halve))
    study = pull_study("me/small@v1", stages, tmp_path / "x", only=ALL).study
    tensors = load((study.models / "chosen" / WEIGHTS).read_bytes())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
