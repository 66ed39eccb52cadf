"""A study whose proxies are of two sizes: from the mixtures of both to one for the size of final models."""

import json
from collections import Counter

import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.cli.status import _rung_rows
from regmix_hf.jobs.results import status_of
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.plan import make_plan
from regmix_hf.progress import Silent
from regmix_hf.stages import proxies, sample
from regmix_hf.study import State
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.tables import by_domain
from regmix_hf.training.spec import proxy_specs

from .conftest import ARGUMENTS, MODEL

SWARM = {
    "scale": "small",
    "model": MODEL,
    "num_train_tokens": 640,
    "num_evaluations": 1,
    "training_args": ARGUMENTS,
    "num_workers": 1,
}
LARGE = {"scale": "large", "model": {**MODEL, "hidden_size": 32}, "num_mixtures": 10}
LADDER = ("proxy=null", f"proxies={json.dumps([SWARM, LARGE])}", "train.model.hidden_size=48")


class Here:
    """Does tasks one after the other, in this process."""

    def run(self, tasks, work, progress):
        do = work.open()
        for task in tasks:
            if status_of(task) is None:
                do(task.spec, task.folder, lambda tokens: None)
        return Counter(status_of(task) for task in tasks)


@pytest.fixture(scope="module")
def sampled(new_study):
    study = new_study(*LADDER)
    sample.run(study, Silent())
    return study


@pytest.fixture(scope="module")
def trained(new_study):
    """All proxies of a swarm and of a larger size are trained, in earnest."""
    study = new_study(*LADDER)
    sample.run(study, Silent())
    proxies.run(study, Silent(), Here())
    return study


def test_a_few_mixtures_are_run_again_at_the_larger_size_and_the_swarm_is_as_without(sampled, new_study):
    table = read_mixtures(sampled.mixtures)
    assert table["rung"].value_counts().to_dict() == {0: 11, 1: 10}
    facts = CorpusFacts.load(sampled.corpus)
    specs = proxy_specs(sampled.recipe, facts, table)
    alone = new_study("proxy=" + json.dumps(SWARM), "train.model.hidden_size=48")
    sample.run(alone, Silent())
    of_swarm = proxy_specs(alone.recipe, facts, read_mixtures(alone.mixtures))
    assert [spec.run_id for spec in specs[:11]] == [spec.run_id for spec in of_swarm]
    large = specs[11:]
    assert {(spec.scale, spec.model["hidden_size"], spec.seed) for spec in large} == {
        ("large", 32, specs[0].seed)
    }
    assert {tuple(spec.weights.values()) for spec in large} <= {
        tuple(spec.weights.values()) for spec in specs[:11] if spec.split == "fit"
    }
    assert len({spec.run_id for spec in specs}) == 21


def test_a_size_that_is_added_leaves_what_is_there_and_its_rows_alone_are_new(sampled, new_study):
    alone = new_study("proxy=" + json.dumps(SWARM), "train.model.hidden_size=48")
    sample.run(alone, Silent())
    before = read_mixtures(alone.mixtures)
    ladder = type(alone)(
        sampled.recipe.model_copy(update={"output_dir": alone.root, "proxies": sampled.recipe.proxies})
    )
    assert ladder.changes(sample.STAGE) == ["proxies"]
    sample.run(ladder, Silent())
    after = read_mixtures(ladder.mixtures)
    pd.testing.assert_frame_equal(after[: len(before)], before)
    assert after["rung"][len(before) :].tolist() == [1] * 10
    assert ladder.state(sample.STAGE) == State.DONE
    assert alone.state(sample.STAGE) == State.STALE


def test_the_plan_and_the_status_say_each_size(sampled):
    executor = sampled.recipe.executor.model_copy(update={"gpu": "h200"})  # then nothing is measured
    on_gpu = type(sampled)(sampled.recipe.model_copy(update={"executor": executor}))
    planned = [stage for stage in make_plan(on_gpu).stages if stage.verb == "proxies"]
    assert [(stage.rung, stage.runs, stage.left) for stage in planned] == [
        ("proxies.0 (small)", 11, 11),
        ("proxies.1 (large)", 10 + 8, 10 + 8),  # those that may try a choice are of the largest
    ]
    per_token = [stage.flops / stage.tokens for stage in planned]
    assert per_token[1] > 1.5 * per_token[0]
    censuses = pipeline.censuses_of(sampled, "proxies")
    assert [census.num_left for census in censuses] == [11, 10]
    rows = _rung_rows(sampled, censuses)
    assert [(row["rung"], row["scale"], row["left"]) for row in rows] == [
        ("proxies.0", "small", 11),
        ("proxies.1", "large", 10),
    ]


def test_runs_of_all_sizes_stand_in_one_table_with_their_parameters(trained):
    results = pd.read_parquet(trained.proxies / "results.parquet")
    assert results["status"].tolist() == ["ok"] * 21
    sizes = results.groupby("scale")["num_parameters"].unique()
    assert sizes["large"] > sizes["small"]
    assert trained.state(proxies.STAGE) == State.DONE
    censuses = pipeline.censuses_of(trained, "proxies")
    assert [census.ended["ok"] for census in censuses] == [11, 10]
    assert by_domain(results, "loss").notna().all(axis=None)
