"""All stages on real text and models, once undisturbed and once killed again and again: the same tables."""

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from regmix_hf import pipeline
from tests.preloaded import Mode, starting

pytestmark = pytest.mark.processes

RECIPE = """
name: small
seed: 5
context_length: 16
tokenizer: {{train: {{vocab_size: 300}}}}
output_dir: {output}
domains:
  sums: {{path: json, data_files: {folder}/sums.jsonl}}
  words: {{path: json, data_files: {folder}/words.jsonl}}
  rare: {{path: json, data_files: {folder}/rare.jsonl, validation_only: true}}
corpus: {{validation_fraction: 0.2, max_validation_tokens: 256, num_proc: 1}}
sampling: {{num_mixtures: 10, num_holdout: 3, min_strength: 1, max_epochs: 50}}
proxy:
  model: {{preset: tiny, hidden_size: 16, num_hidden_layers: 1, intermediate_size: 16}}
  num_train_tokens: 1_024
  num_evaluations: 2
  training_args: {{learning_rate: 1e-2, per_device_train_batch_size: 4, use_cpu: true}}
regression: {{estimators: [ridge, power_law], estimator: power_law, target: rare}}
choice: {{num_candidates: 1_000, top_k: 10, num_confirm: 3, num_rounds: 1, force: true}}
train:
  model: {{preset: tiny, hidden_size: 16, num_hidden_layers: 1, intermediate_size: 16}}
  mixtures: [chosen, uniform]
  num_train_tokens: 2_048
  training_args: {{learning_rate: 1e-2, per_device_train_batch_size: 4, use_cpu: true, save_steps: 8}}
evaluation: {{tasks: [held_out_text], limit: 1}}
"""


def write_study(folder: Path, name: str) -> Path:
    texts = {
        "sums": [f"{i} + {i % 17} = {i + i % 17}" for i in range(900)],
        "words": [f"the {('cat', 'dog', 'owl')[i % 3]} saw number {i} and slept" for i in range(500)],
        "rare": [f"the owl counts {i} + 1 = {i + 1} and sleeps" for i in range(120)],
    }
    for domain, lines in texts.items():
        (folder / f"{domain}.jsonl").write_text("\n".join(f'{{"text": "{line}"}}' for line in lines))
    recipe = folder / f"{name}.yaml"
    recipe.write_text(RECIPE.format(folder=folder, output=folder / name))
    return recipe


def start(*words: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "regmix_hf", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=280)
    assert process.returncode == 0, out
    return out


def tables(study: Path) -> dict[str, pd.DataFrame]:
    """Every table of a study, without what a clock said."""
    frames = {
        str(file.relative_to(study)): pd.read_parquet(file).drop(columns="wall_seconds", errors="ignore")
        for file in sorted(study.rglob("*.parquet"))
    }
    assert len(frames) > 20
    return frames


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder / "small", finish(start("run", write_study(folder, "small")))


def test_a_run_ends_with_the_answer_and_its_quality(undisturbed):
    _, out = undisturbed
    for part in (
        "chosen mixture",
        "predicted loss",
        "how well runs are ranked (",
        "final models",
        "uniform",
        "Read ",
    ):
        assert part in out


def test_a_validation_only_domain_is_a_target_and_never_trained_on(undisturbed):
    study, _ = undisturbed
    results = pd.read_parquet(study / "3-proxies/results.parquet")
    assert "loss/rare" in results
    assert "weight/rare" not in results


def test_final_models_load_with_transformers_alone(undisturbed):
    study, _ = undisturbed
    model = AutoModelForCausalLM.from_pretrained(study / "6-models/chosen")
    tokenizer = AutoTokenizer.from_pretrained(study / "6-models/chosen")
    loss = model(
        **(batch := tokenizer("the owl counts", return_tensors="pt")), labels=batch["input_ids"]
    ).loss
    assert loss.isfinite()


def test_the_choice_is_tried_with_further_proxies_and_made_again(undisturbed):
    study, out = undisturbed
    mixtures = pd.read_parquet(study / "2-mixtures/mixtures.parquet")
    tried = mixtures[mixtures["origin"] == "confirm"]
    assert tried[["split", "round"]].value_counts().to_dict() == {("fit", 1): 3}
    results = pd.read_parquet(study / "3-proxies/results.parquet")
    assert results["mixture_id"].tolist() == mixtures["mixture_id"].tolist()
    assert results["seed"].nunique() == 1 + len(tried)
    assert out.count("choose: done in") == 2
    assert out.count("sample: done in") == 1
    page = (study / "report/README.md").read_text()
    assert page.splitlines()[2].startswith("**Promised ")
    assert ", promised minus measured " in page.splitlines()[2]
    assert "| 1 | the prior |" in page


def kill_in_stage(entered: str, wait_s: float, *words: object) -> bool:
    """Start a command, kill it (SIGKILL) so long after it said that it entered a stage; was it in time?"""
    with start(*words) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(entered) and "done already" not in line:
                break
        else:
            pytest.fail("".join(said))
        time.sleep(wait_s)
        process.kill()
    return process.returncode == -signal.SIGKILL


@pytest.mark.timeout(600)
def test_a_study_killed_in_every_stage_ends_with_the_same_tables(undisturbed, tmp_path):
    study, out = undisturbed
    recipe = write_study(tmp_path, "small")
    moments, kills = random.Random(0), 0
    for verb in pipeline.VERBS:
        seconds = int(re.search(rf"{verb}: done in (\d+) s", out)[1])
        kills += kill_in_stage(f"{verb}: ", moments.uniform(0, seconds / 2), "run", recipe, "--to", verb)
        if verb == "choose":  # while the choice is tried, too
            kills += kill_in_stage("proxies: stale", moments.uniform(0, 1), "run", recipe, "--to", verb)
    assert kills > len(pipeline.VERBS) / 2
    with starting(Mode.COLD):
        finish(start("run", recipe))
    expected, found = tables(study), tables(tmp_path / "small")
    assert found.keys() == expected.keys()
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, check_exact=True, obj=name)
    assert (tmp_path / "small/report/README.md").exists()
