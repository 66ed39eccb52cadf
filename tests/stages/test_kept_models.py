"""Models that runs keep: a study's later targets are measured by them, and nothing is trained again."""

import json
import random
import shutil

import numpy as np
import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.errors import RecipeError, RegmixError, StudyError
from regmix_hf.evaluation.model import LanguageModel
from regmix_hf.evaluation.validation import score_validation
from regmix_hf.files import read_json, read_yaml
from regmix_hf.jobs.results import record_failed
from regmix_hf.plan import make_plan
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.regression.asked_target import target_of
from regmix_hf.regression.expert_tokens import expert_tokens
from regmix_hf.regression.experts import Experts as MixtureOfExperts
from regmix_hf.runs.experts import Experts
from regmix_hf.runs.pooled import pooled_runs
from regmix_hf.stages import choose, fit, prepare, proxies, sample, train
from regmix_hf.stages.proxies import told_of_later
from regmix_hf.study import State, Study
from regmix_hf.training.run import train_final

from .test_experts import Here

EXPERTS = ("sampling={num_mixtures: 1, num_holdout: 0, experts: true, max_epochs: null, min_strength: 4.0}",)
SHORT = (*EXPERTS, "proxy.num_train_tokens=320", "regression.estimators=[experts]", "train.mixtures=[chosen]")


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """An override that adds a domain which is only validated on."""
    file = tmp_path_factory.mktemp("letters") / "letters.jsonl"
    draw = random.Random("letters")
    texts = ["".join(draw.choices("abc def", k=60)) for _ in range(12)]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return f"domains.letters={json.dumps({'path': 'json', 'data_files': str(file), 'validation_only': True})}"


@pytest.fixture(scope="module")
def first(new_study):
    """A study of three experts and a mixture, all of which kept their models."""
    study = new_study(*SHORT, "proxy.keep_models=all")
    study.mixtures.unlink()
    sample.run(study, Silent())
    proxies.run(study, Silent(), Here())
    return study


def reread(study, prepared, *overrides):
    return Study(load_recipe(prepared / "recipe.json", [f"output_dir={study.root}", *SHORT, *overrides]))


def test_a_later_domain_costs_forward_passes_and_gives_the_numbers_of_one_that_was_there(
    first, prepared, letters, new_study, recorder
):
    before = {file: file.read_bytes() for file in first.proxies.glob("*/result.json")}
    assert len(before) == 4
    now = reread(first, prepared, letters)  # the key may be gone by then
    assert now.state(proxies.STAGE) is State.DONE
    [kept, waiting] = told_of_later(now)
    assert kept.startswith("4 kept models in")
    assert waiting.startswith("letters: not prepared yet")
    prepare.run(now, Silent())
    sample.run(now, Silent())
    assert now.state(proxies.STAGE) is State.STALE
    assert list(told_of_later(now))[1].startswith(
        "letters: 4 of 4 finished runs were not asked about it; 4 of"
    )
    assert len(pipeline.kept_to_measure(now, "proxies")) == 4
    assert pipeline.is_left_to_others(now, "proxies"), "workers elsewhere would have something to do"
    proxies.run(now, recorder, Here())
    assert "letters: measured of 4 runs by kept models; nothing is trained again" in recorder.notes
    assert not [note for note in recorder.notes if "have no loss on it" in note]
    assert {file: file.read_bytes() for file in before} == before, "what runs left stays as it is"
    assert now.state(proxies.STAGE) is State.DONE
    assert [*told_of_later(now)] == [kept]
    assert pipeline.kept_to_measure(now, "proxies") == []

    there = new_study(*SHORT, letters)
    there.mixtures.unlink()
    prepare.run(there, Silent())
    sample.run(there, Silent())
    proxies.run(there, Silent(), Here())
    tables = [pd.read_parquet(one.proxies / "results.parquet") for one in (now, there)]
    assert list(tables[0].columns) == list(tables[1].columns)
    assert tables[0]["run_id"].tolist() == tables[1]["run_id"].tolist()
    numbers = [name for name in tables[1] if "/" in name]
    assert tables[1]["loss/letters"].nunique() == 4
    pd.testing.assert_frame_equal(tables[0][numbers], tables[1][numbers], rtol=0, atol=1e-6)
    mine, its = (Experts.read(one.proxies / "experts.safetensors") for one in (now, there))
    assert mine.texts == its.texts
    for name, logs in its.logs.items():
        np.testing.assert_allclose(mine.logs[name], logs, rtol=0, atol=2e-3, err_msg=name)
    runs = pooled_runs(now)
    assert runs.losses["letters"].notna().all()
    assert "letters" in runs.experts.texts


def test_a_plan_with_a_later_domain_counts_the_runs_that_it_leaves_as_they_are(
    copy_of_first, prepared, letters
):
    later = letters.replace("letters=", "signs=")
    trained_on = later.replace('"validation_only": true', '"split": "train"')

    def read(*overrides):
        return reread(copy_of_first, prepared, *overrides, "choice.num_confirm=0", "executor.gpu=h200")

    def planned(*overrides):
        assert read(*overrides).state(prepare.STAGE) is State.STALE
        plan = make_plan(read(*overrides), first="proxies", last="train")
        return {stage.verb: (stage.runs, stage.left) for stage in plan.stages}

    read().finish(prepare.STAGE)
    assert planned(later)["proxies"] == (4, 0)
    assert prepare.as_prepared(read(later, "context_length=8")) is None
    assert prepare.as_prepared(read(trained_on)) is None, "the tokenizer is trained on it, too"
    given = f"tokenizer={copy_of_first.corpus / 'tokenizer'}"
    read(given).finish(prepare.STAGE)
    plan = planned(trained_on, given, "train.mixtures=[prior]")
    assert plan["proxies"] == (5, 1), "its expert"
    assert plan["train"] == (1, 1)


def test_final_models_are_asked_about_a_later_domain_under_all_their_names(
    copy_of_first, prepared, letters, recorder
):
    names = ("baselines.same={prose: 2, sums: 1, code: 1}", "train.mixtures=[chosen, same]")
    before = reread(copy_of_first, prepared, *names, "train.num_train_tokens=640")
    [task] = train.tasks_of(before)
    train_final(task.spec, Corpus(before.corpus), task.folder)
    train.conclude(before, Silent())
    assert before.state(train.STAGE) is State.DONE
    later = letters.replace("letters=", "signs=")
    now = reread(copy_of_first, prepared, *names, "train.num_train_tokens=640", later)
    prepare.run(now, Silent())
    train.conclude(now, recorder)
    assert recorder.notes == ["1 model can be asked more by now: `regmix train` measures it"]
    assert now.state(train.STAGE) is State.STALE
    train.run(now, recorder, place=Here())
    assert "signs: measured of 1 run by kept models; nothing is trained again" in recorder.notes
    assert now.state(train.STAGE) is State.DONE
    results = pd.read_parquet(now.models / "results.parquet").set_index("mixture_id")["loss/signs"]
    facts = Corpus(now.corpus).facts
    model = LanguageModel(
        task.folder, now.corpus / "tokenizer", facts.context_length, facts.eos_token_id, "cpu"
    )
    [alone] = [
        score.value
        for score in score_validation(model, Corpus(now.corpus))
        if (score.domain, score.metric) == ("signs", "loss")
    ]
    assert results.to_dict() == pytest.approx({"chosen": alone, "same": alone}, abs=1e-5)


def test_experts_give_what_their_models_give_when_they_are_mixed_in_torch(first):
    import torch
    from transformers import AutoModelForCausalLM

    experts = Experts.read(first.proxies / "experts.safetensors")
    domains = list(first.recipe.training_domains)
    mixture = np.array([[0.5, 0.3, 0.2]])
    blocks = torch.tensor(Corpus(first.corpus).blocks("sums", "validation")["input_ids"])
    given = torch.zeros(blocks[:, 1:].shape, dtype=torch.float64)
    for run_id, weights in experts.weights[domains].iterrows():
        model = AutoModelForCausalLM.from_pretrained(first.proxies / run_id / "kept-model")
        with torch.no_grad():
            logs = model(blocks).logits[:, :-1].double().log_softmax(-1)
        share = float(mixture[0] @ weights.to_numpy())  # of an expert of one domain, that domain's
        given += share * logs.gather(-1, blocks[:, 1:, None])[..., 0].exp()
    tokens = expert_tokens(experts, ["sums"], domains, required=True)
    formula = MixtureOfExperts().fit(np.empty((0, 3)), np.empty((0, 1)), experts=tokens)
    assert formula.predict(mixture)[0, 0] == pytest.approx(float(-given.log().mean()), abs=5e-4)


@pytest.fixture
def copy_of_first(first, tmp_path):
    """The same before anything was asked later."""
    study = Study(first.recipe.model_copy(update={"output_dir": tmp_path / "study"}))
    shutil.copytree(first.root, study.root, ignore=lambda *_: ["asked-later", ".proxies.json"])
    return study


def test_without_models_it_says_what_would_have_to_be_trained_again(
    copy_of_first, prepared, letters, recorder
):
    plain = copy_of_first
    for path in plain.proxies.glob("*/kept-model"):
        shutil.rmtree(path)
    now = reread(plain, prepared, letters)
    prepare.run(now, Silent())
    sample.run(now, Silent())
    [said] = told_of_later(now)
    assert said.startswith("letters: 4 of 4 finished runs were not asked about it; 0 of them kept")
    proxies.run(now, recorder, Here())
    assert recorder.notes[-2].startswith("4 of 4 runs were trained before domain 'letters' was validated")
    assert recorder.notes[-1].startswith("`proxy.keep_models: all` keeps the models of runs")
    assert not list(now.proxies.glob("*/asked-later"))
    with pytest.raises(StudyError, match="no run has a value of 'letters'"):
        fit.run(reread(plain, prepared, letters, "regression.target=letters"), Silent())
    assert now.state(proxies.STAGE) is State.DONE


def test_experts_alone_may_be_kept_and_what_that_takes_is_said_before(first, prepared, monkeypatch):
    monkeypatch.setattr("regmix_hf.plan._MEASURED_SECONDS", 0.0)
    size = read_json(next(first.proxies.glob("*/result.json")))["num_parameters"] * 4
    for kept, count in ((None, 0), ("experts", 3), ("all", 4)):
        study = reread(
            first, prepared, f"proxy.keep_models={json.dumps(kept)}", "choice.num_confirm=0", "seed=4"
        )
        whole = make_plan(study, first="proxies", last="proxies")
        [plan] = whole.stages
        assert (plan.runs, plan.left, plan.disk_bytes) == (4, 4, count * size), kept
        assert any("4 runs on experts and mixtures: not measured for so many" in note for note in whole.notes)
    study = reread(first, prepared, "proxy.keep_models=experts")
    assert study.state(proxies.STAGE) is State.DONE, "it decides no number"
    keeping = {task.spec.split: task.spec.keeps_model for task in proxies.tasks_of(study)}
    assert keeping == {"expert": True, "fit": False}


def test_a_later_domain_can_be_planned_as_the_target_of_a_study_that_has_chosen_before(
    copy_of_first, prepared, letters
):
    fit.run(copy_of_first, Silent())
    assert copy_of_first.mixture.exists()
    now = reread(copy_of_first, prepared, letters, "regression.target=letters")
    assert str(target_of(now)) == "letters"
    assert choose.most_to_try(now) == 2 * now.recipe.choice.num_confirm
    assert str(target_of(reread(now, prepared, "regression.target=code"))) == "code"


class Going(Here):
    """A place that goes on as others do where a task fails, and ends where something is to be mended."""

    def run(self, tasks, work, progress):
        for task in tasks:
            try:
                super().run([task], work, progress)
            except RegmixError:
                raise
            except Exception as error:
                record_failed(task, str(error))


def test_a_damaged_model_is_named_and_counted_and_the_others_are_measured(
    copy_of_first, prepared, letters, recorder
):
    now = reread(copy_of_first, prepared, letters)
    prepare.run(now, Silent())
    damaged = proxies.tasks_of(now)[1]
    weights = damaged.folder / "kept-model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    proxies.run(now, recorder, Going())
    said = f"1 of 4 runs failed, {damaged.name} the first: {weights.parent} is not the model that the run"
    assert any(note.startswith(said) for note in recorder.notes)
    table = pd.read_parquet(now.proxies / "results.parquet").set_index("run_id")["loss/letters"]
    assert table.index[table.isna()].tolist() == [damaged.name]
    assert now.state(proxies.STAGE) is not State.DONE
    shutil.rmtree(weights.parent)
    proxies.run(now, Silent(), Going())
    assert now.state(proxies.STAGE) is State.DONE, "it does without, as was said"


@pytest.mark.parametrize("executor", ["{place: jobs}", "{shard: 1/2}"])
def test_models_that_would_stay_elsewhere_are_refused(prepared, executor):
    with pytest.raises(RecipeError, match="would stay on the machines") as raised:
        load_recipe(prepared / "recipe.json", [*SHORT, "proxy.keep_models=experts", f"executor={executor}"])
    assert raised.value.hint == "leave proxy.keep_models out, or train on this machine, on Ray or on Slurm"


def test_models_of_experts_need_experts(prepared):
    with pytest.raises(RecipeError, match="the study trains none"):
        load_recipe(prepared / "recipe.json", ["proxy.keep_models=experts"])


def test_what_experts_alone_were_asked_they_rank_and_tries_of_the_choice_give_its_scale(
    copy_of_first, prepared, letters, recorder
):
    choice = "choice={max_epochs: null, num_candidates: 1000, top_k: 10, num_confirm: 2}"
    now = reread(copy_of_first, prepared, choice, letters, "regression.target=letters")
    [mixture] = [task for task in proxies.tasks_of(now) if task.spec.split == "fit"]
    shutil.rmtree(mixture.folder / "kept-model")
    prepare.run(now, Silent())
    sample.run(now, Silent())
    proxies.run(now, recorder, Here())
    assert any(note.startswith("1 of 4 runs were trained before domain 'letters'") for note in recorder.notes)
    fit.run(now, recorder)
    choose.run(now, Silent())
    said = "of letters experts alone know, so no run on a mixture, of 1, is fitted on"
    assert said in recorder.notes
    assert "they rank mixtures, and promise no loss" in read_yaml(now.mixture)["verdict"]["reasons"][0]
    proxies.run(now, Silent(), Here())  # two that try the choice
    assert pooled_runs(now).losses["letters"].notna().sum() == 2

    table = pd.read_parquet(now.proxies / "results.parquet")
    without = table[table["loss/letters"].isna() | (table["split"] == "expert")]
    without.to_parquet(now.proxies / "results.parquet")
    mean = reread(now, prepared, letters)
    assert list(pooled_runs(mean, recorder).losses) == ["prose", "sums", "code"], (
        "as if nobody had been asked"
    )
    assert recorder.notes[-1] == "left out: letters, which experts alone were asked about"
