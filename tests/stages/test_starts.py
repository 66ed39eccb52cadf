"""Training that starts from a model: one from elsewhere, or one of the study's own; and what is none."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.errors import RecipeError, RegmixError, StudyError
from regmix_hf.jobs.base import BaseWork, base_task
from regmix_hf.preflight import check_study
from regmix_hf.progress import Silent
from regmix_hf.stages import prepare
from regmix_hf.stages.proxies import tasks_of
from regmix_hf.stages.train import tasks_of as final_tasks_of
from regmix_hf.study import State
from regmix_hf.study.corpus_facts import CorpusFacts
from tests.tiny import LLAMA


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model of random weights as it is published, with keys that only its makers know."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "base"
    shape = {key: value for key, value in LLAMA.items() if key != "model_type"}
    config = LlamaConfig(vocab_size=300, max_position_embeddings=64, rope_theta=5e4, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tree = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**tree, "is_llama_config": True}))
    return folder


@pytest.fixture
def change(checkpoint, tmp_path):
    """Copy the model with other words in its config, or other files."""

    def to(config=None, remove=(), **files):
        folder = tmp_path / "changed"
        folder.mkdir()
        for path in checkpoint.iterdir():
            if path.name not in remove:
                (folder / path.name).write_bytes(path.read_bytes())
        tree = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**tree, **(config or {})}))
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(content)
        return folder

    return to


def losses_of(network, corpus):
    from accelerate import Accelerator

    from regmix_hf.training.examinee import Examinee
    from regmix_hf.training.loss_head import score_in_parts
    from regmix_hf.training.losses import ValidationSet

    score_in_parts(network)
    losses = ValidationSet(corpus).losses(Examinee(network, Accelerator(cpu=True), 8))
    return {name: loss.mean for name, loss in losses.items()}


def train_one(study):
    from regmix_hf.training.run import train_run

    task = tasks_of(study)[0]
    row = train_run(task.spec, Corpus(study.corpus), task.folder)
    return task.spec, row, pd.read_parquet(task.folder / "trajectory.parquet")


def test_a_run_starts_from_the_weights_of_a_folder_and_is_measured_before_its_first_step(
    new_study, checkpoint
):
    import torch
    from transformers import AutoModelForCausalLM

    study = new_study(f"proxy.model={{pretrained: {checkpoint}}}")
    assert study.state(prepare.STAGE) is State.STALE
    prepare.run(study, Silent())
    spec, row, points = train_one(study)
    assert points["step"].tolist() == [0, *spec.evaluation_steps[1:]]
    assert points["num_tokens"].iloc[0] == 0
    network = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for name, loss in losses_of(network, Corpus(study.corpus)).items():
        assert points[f"loss/{name}"].iloc[0] == pytest.approx(loss, rel=1e-6)
        assert row[f"loss/{name}"] < loss
    assert spec.model["rope_parameters"]["rope_theta"] == 5e4
    assert "is_llama_config" not in spec.model
    facts = CorpusFacts.load(study.corpus)
    [kept] = facts.checkpoints.values()
    assert spec.start == kept.folder
    assert replace(spec, start="0" * 16).run_id != spec.run_id
    assert CorpusFacts.load(new_study().corpus).fingerprint == facts.fingerprint
    (study.corpus / ".checkpoints" / kept.folder / "model.safetensors").write_bytes(b"else")
    with pytest.raises(StudyError, match="does not hold the weights that runs start from"):
        train_one(study.__class__(study.recipe.model_copy(update={"seed": 9})))


def test_the_tokenizer_is_that_of_the_model_unless_another_is_given(new_study, prepared, checkpoint):
    from regmix_hf.recipe import Recipe

    tree = json.loads((prepared / "recipe.json").read_text())
    del tree["tokenizer"]
    tree["proxy"]["model"] = {"pretrained": "team/base", "revision": "v2"}
    assert Recipe.model_validate(tree).tokenizer == "team/base@v2"
    tree["proxy"]["model"] = {"pretrained": str(checkpoint)}
    assert Recipe.model_validate(tree).tokenizer == str(checkpoint)
    tree["proxy"]["model"] = LLAMA
    with pytest.raises(ValueError, match="tokenizer"):
        Recipe.model_validate(tree)


def test_a_tokenizer_that_is_not_the_models_is_named_where_its_ids_mean_something_else(
    new_study, prepared, change
):
    told = []
    notes = Silent()
    notes.note = told.append
    files = {path.name: path.read_bytes() for path in (prepared / "study/1-corpus/tokenizer").glob("*.json")}
    tree = json.loads(files["tokenizer.json"])
    vocabulary = tree["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    config = files["tokenizer_config.json"]
    other = change(tokenizer__json=json.dumps(tree).encode(), tokenizer_config__json=config)
    model = f"proxy.model={{pretrained: {other}}}"
    study = new_study(model)
    prepare.run(study, notes)
    [warning] = [line for line in told if "the tokenizer is not that of" in line]
    assert "2 of 280 ids are other tokens to it" in warning
    (other / "tokenizer.json").write_bytes(files["tokenizer.json"])
    assert list(prepare.strange_tokenizers(study.recipe, study.corpus)) == []
    (other / "tokenizer.json").unlink()
    assert list(prepare.strange_tokenizers(study.recipe, study.corpus)) == []


def test_proxies_and_final_models_start_from_one_model_of_the_study(new_study):
    model = json.dumps({**LLAMA, "pretrained": {"mixture": "prior", "num_train_tokens": 1600}})
    study = new_study(f"proxy.model={model}", f"train.model={model}")
    base = base_task(study)
    with pytest.raises(StudyError, match="run `regmix prepare`, and `regmix proxies`"):
        train_one(study)
    BaseWork(study.corpus).open()(base.spec, base.folder, lambda _: None)
    made = json.loads((base.folder / "result.json").read_text())
    spec, row, points = train_one(study)
    assert spec.start == base.spec.run_id == made["run_id"]
    assert {task.spec.start for task in final_tasks_of(study)} == {spec.start}
    for name in ("prose", "sums", "code"):
        assert points[f"loss/{name}"].iloc[0] == made[f"loss/{name}"]
        assert row[f"loss/{name}"] != made[f"loss/{name}"]
    check_going_on(study, final_tasks_of(study)[0])


def check_going_on(study, task):
    """Stopped in its middle, a final run goes on, and what was measured before its first step stays once."""
    from regmix_hf.training.run import train_final

    def stop(num_tokens):
        if num_tokens > task.spec.num_tokens // 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_final(task.spec, Corpus(study.corpus), task.folder, stop)
    train_final(task.spec, Corpus(study.corpus), task.folder)
    points = pd.read_parquet(task.folder / "trajectory.parquet")
    assert points["step"].tolist() == list(task.spec.evaluation_steps)
    assert points["step"].iloc[0] == 0


def test_final_models_start_from_no_other_model_of_the_study(new_study):
    model = json.dumps({**LLAMA, "pretrained": {"mixture": "prior", "num_train_tokens": 1600}})
    with pytest.raises(RecipeError, match="final models can start from that one only"):
        new_study(f"train.model={model}")
    with pytest.raises(RecipeError, match=r"proxy.model.pretrained.mixture: 'chosen' is no mixture"):
        new_study(f"proxy.model={model.replace('prior', 'chosen')}")


@pytest.mark.parametrize(
    ("config", "remove", "files", "message"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, (), {}, "is a BertForMaskedLM, not a"),
        ({"architectures": ["LlamaForTokens"]}, (), {}, "is a LlamaForTokens"),
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Own"}}, (), {}, "it is code of its own"),
        ({"quantization_config": {"bits": 4}}, (), {}, "is quantised"),
        ({"num_attention_heads": 3}, (), {}, "has a config.json that is none: .*not a multiple"),
        ({"max_position_embeddings": 8}, (), {}, "context_length 16 is longer than the model's"),
        ({}, ("model.safetensors",), {"pytorch_model__bin": b"\x80"}, "in pytorch_model.bin only: a pickle"),
        ({}, ("model.safetensors",), {}, "has no model.safetensors"),
        ({"vocab_size": 270}, (), {}, "knows 270 tokens; the tokenizer has 280"),
        ({}, (), {"config__json": b"{"}, "has a config.json that is no JSON"),
    ],
)
def test_a_model_that_is_none_to_start_from_is_refused_before_work(
    new_study, change, config, remove, files, message
):
    study = new_study(f"proxy.model={{pretrained: {change(config, remove, **files)}}}")
    with pytest.raises(RegmixError, match=message) as caught:
        check_study(study, ["proxies"])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{pretrained: no-such-folder}", "is no folder here and no NAMESPACE/NAME"),
        ("{pretrained: a/b, hidden_size: 8}", "has a shape of its own; leave `hidden_size` out"),
        ("{preset: tiny, revision: v1}", "`pretrained` names none"),
        ("{pretrained: 3}", "give a Hub id, a folder, or"),
    ],
)
def test_wrong_words_are_refused(new_study, model, message):
    with pytest.raises(RegmixError, match=message):
        check_study(new_study(f"proxy.model={model}"), ["proxies"])
