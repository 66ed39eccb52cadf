"""What is asked of a run after its end is measured by the model that it kept, as if it had been there."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from regmix_hf.corpus.answers import collected
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.errors import StudyError
from regmix_hf.files import read_json, write_json
from regmix_hf.jobs.later import LaterWork, later_tasks
from regmix_hf.jobs.proxies import proxy_tasks
from regmix_hf.jobs.results import check_whole, collect
from regmix_hf.runs.experts import Experts
from regmix_hf.training.later import KeptModelError, KeptRun
from regmix_hf.training.run import train_run
from regmix_hf.training.spec import identity_of

from .conftest import CONTEXT_LENGTH, VOCAB_SIZE, counting


@pytest.fixture(scope="module")
def later(write_corpus, tmp_path_factory):
    """The corpus of `corpus`, a further domain that is only validated on, and a task."""
    rng = np.random.default_rng(0)
    domains = {
        "ones": (counting(rng, 1, 40), counting(rng, 1, 5)),
        "threes": (counting(rng, 3, 25), counting(rng, 3, 6)),
        "judge": (None, counting(rng, 1, 3)),
        "fives": (None, counting(np.random.default_rng(5), 5, 7)),
    }
    folder = write_corpus(tmp_path_factory.mktemp("later") / "1-corpus", VOCAB_SIZE, domains)
    answers = collected([(k, [k, k + 1, k + 2, k + 3], 1 + k % 2) for k in range(6)], [4] * 6)
    answers.save(folder, "counting")
    facts = Corpus(folder).facts
    facts.model_copy(update={"tasks": {"counting": answers.facts(num_left_out=0, num_cut=0)}}).save(folder)
    return Corpus(folder)


@pytest.fixture(scope="module")
def kept(spec, corpus):
    """A run whose model is kept, of an expert."""
    return replace(spec, is_expert=True, keeps_model=True, split="expert", num_evaluations=1)


@pytest.fixture(scope="module")
def trained(kept, corpus, tmp_path_factory):
    """A folder with that run, before there is anything else to ask."""
    folder = tmp_path_factory.mktemp("proxies")
    train_run(kept, corpus, folder / kept.run_id)
    return folder


def as_of_now(kept, later):
    return replace(kept, **identity_of(later.facts))


def measure(tasks, corpus, place=lambda folder: folder):
    work = LaterWork(corpus.folder).moved(place)
    do, told = work.open(), []
    for task in tasks:
        task.folder.mkdir(parents=True)
        do(work.brought(task.spec, place), task.folder, told.append)
    return told


def test_later_targets_are_measured_as_if_they_had_been_there(kept, trained, later, tmp_path):
    now = as_of_now(kept, later)
    assert now.run_id == kept.run_id
    tasks = proxy_tasks([now], trained)
    asked = later_tasks(tasks, later.facts)
    assert [set(task.spec.asked) for task in asked] == [{"fives", "bpb/counting"}]
    tokens = 7 * CONTEXT_LENGTH + later.facts.tasks["counting"].num_tokens
    brought = []

    def elsewhere(folder):
        brought.append(folder)
        return shutil.copytree(folder, tmp_path / "elsewhere" / str(len(brought)))

    assert measure(asked, later, elsewhere) == [tokens] == [asked[0].num_tokens]
    assert brought == [later.folder, trained / kept.run_id / "kept-model"], "a node needs nothing else"
    assert later_tasks(tasks, later.facts) == []
    assert check_whole(trained).endswith("2 results can be read, and 1 kept model as runs left them")

    results, points = collect(tasks, trained)
    there = tmp_path / "there"
    train_run(now, later, there / now.run_id)
    expected, _ = collect(proxy_tasks([now], there), there)
    assert results["measured_on"].tolist() == expected["measured_on"].tolist()
    asked_for = ["loss/fives", "bpb/fives", "loss_stderr/fives", "bpb/counting", "bpb_stderr/counting"]
    assert set(asked_for) <= set(expected.columns)
    numbers = [column for column in expected if "/" in column]
    assert list(results.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(results[numbers], expected[numbers], rtol=0, atol=1e-6)
    assert points["loss/fives"].isna().all()

    mine, its = (Experts.read(folder / "experts.safetensors") for folder in (trained, there))
    assert mine.texts == its.texts
    for name, logs in its.logs.items():
        assert np.array_equal(mine.logs[name], logs), name


def test_models_are_of_no_number_and_load_as_they_are(kept, trained, corpus, tmp_path):
    from transformers import AutoModelForCausalLM

    row = train_run(replace(kept, keeps_model=False), corpus, tmp_path / "none")
    assert not (tmp_path / "none" / "kept-model").exists()
    before = read_json(trained / kept.run_id / "result.json")
    assert {k: v for k, v in before.items() if "/" in k} == {k: v for k, v in row.items() if "/" in k}
    files = sorted(path.name for path in (trained / kept.run_id / "kept-model").iterdir())
    assert files == ["config.json", "generation_config.json", "model.safetensors"]
    AutoModelForCausalLM.from_pretrained(trained / kept.run_id / "kept-model")


@pytest.mark.parametrize("damage", ["a byte", "another shape", "no file"])
def test_a_model_that_is_not_the_one_that_was_kept_is_named(damage, kept, trained, later, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "proxies"
    shutil.copytree(trained / kept.run_id, folder / kept.run_id, ignore=lambda *_: ["asked-later"])
    weights = folder / kept.run_id / "kept-model" / "model.safetensors"
    if damage == "a byte":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "another shape":
        save_file({name: np.zeros((2, 2), np.float32) for name in load_file(weights)}, weights)
    else:
        weights.unlink()
    asked = later_tasks(proxy_tasks([as_of_now(kept, later)], folder), later.facts)
    said = r"is not the model that the run .* kept: remove it to do without its values, or"
    with pytest.raises(KeptModelError, match=said):
        measure(asked, later)
    with pytest.raises(StudyError, match="is not the model that its run kept"):
        check_whole(folder)
    shutil.rmtree(weights.parent)
    assert check_whole(folder) == "proxies: 1 result can be read"
    assert later_tasks(proxy_tasks([as_of_now(kept, later)], folder), later.facts) == []


def test_what_is_asked_otherwise_again_is_measured_again_and_nothing_of_before_is_taken(
    kept, trained, later, tmp_path
):
    shutil.copytree(trained / kept.run_id, tmp_path / kept.run_id, ignore=lambda *_: ["asked-later"])
    now = as_of_now(kept, later)
    old = replace(now, validation={**now.validation, "fives": "5" * 64})
    [task] = later_tasks(proxy_tasks([old], tmp_path), later.facts)
    words = task.head["measured_on"]
    write_json(
        task.folder / "result.json",
        {"run_id": old.run_id, "status": "ok", "loss/fives": 9.0, "measured_on": words},
    )
    shutil.copy(trained / kept.run_id / "experts.safetensors", task.folder)
    assert later_tasks(proxy_tasks([old], tmp_path), later.facts) == []
    [again] = later_tasks(proxy_tasks([now], tmp_path), later.facts)
    assert set(again.spec.asked) == {"fives"}, "the task is as it was"
    results, _ = collect(proxy_tasks([now], tmp_path), tmp_path)
    assert "loss/fives" not in results


def test_what_does_not_fit_is_asked_in_fewer_blocks_at_once(kept, trained, later):
    spec = KeptRun(as_of_now(kept, later), trained, "", {})
    work, sizes = LaterWork(later.folder), []
    while spec is not None:
        sizes.append(4 >> spec.halvings)
        spec = work.smaller(spec)
    assert sizes == [4, 2, 1]
