"""What measures budgets of runs asks of every budget what it can pay for, and counts fairly."""

import json
import random

import numpy as np
import pandas as pd

from regmix_hf.runs import Runs
from regmix_hf.runs.experts import Experts, TargetText

from ..benchmarks.budgets import best_known, of_choices, ways
from ..benchmarks.debian_corpus import write_task
from ..benchmarks.expert_variants import at_temperature
from ..benchmarks.experts import Fitted


def test_ways_that_a_budget_cannot_pay_for_are_left_out():
    found = {(way.runs, way.spent_on, way.predicts, way.mixtures) for way in ways(8, (8, 12, 24))}
    assert found == {
        (8, "experts only", "experts", 0),
        (12, "swarm only", "power_law", 12),
        (24, "swarm only", "power_law", 24),
        (24, "swarm only", "auto", 24),
        (24, "both", "auto", 16),
        (12, "both", "experts_and_law", 4),
        (24, "both", "experts_and_law", 16),
    }
    assert [way.time for way in ways(8, (12,)) if way.mixtures == 12] == [0, 1]


def test_the_best_known_was_trained_with_both_seeds_and_counts_once():
    rows = [
        ("a", "r0", 0, 1.0, 3.0),
        ("a", "r1", 1, 2.0, 3.0),
        ("a", "r1", 1, 2.0, 3.0),
        ("b", "r2", 0, 0.5, 4.0),
    ]
    measured = pd.DataFrame(
        [
            {
                "runs": 8,
                "spent_on": way,
                "predicts": "x",
                "mixtures": 0,
                "target": "web",
                "run": run,
                "time": time,
            }
            | {"weights": {"web": 1.0 if way == "a" else 0.5}, "measured/web": web, "measured/mean": mean}
            for way, run, time, web, mean in rows
        ]
    )
    assert best_known(measured, ["web", "mean"]).to_dict() == {"web": 1.5, "mean": 3.0}
    table = of_choices(measured.drop(2), ["web"]).set_index("spent_on")
    assert table.loc["a", ["web", "web +-"]].tolist() == [1.5, 0.5]


def test_questions_are_made_of_a_dictionary(tmp_path):
    draw = random.Random(0)
    words = [f"w{k} word" for k in range(1300)]
    text = "".join(
        f"{word}\n\n   <field> {' '.join(draw.choices('abcdefgh', k=40))} of {{{word}}}.  More.\n\n"
        for word in words
    )
    write_task(tmp_path, text)
    rows = [json.loads(line) for line in (tmp_path / "which_definition.jsonl").read_text().splitlines()]
    assert len(rows) == 300
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert row["choices"][row["right"]].endswith(f"of {row['word']}.")


def test_a_temperature_is_found_where_runs_follow_one():
    rng, domains = np.random.default_rng(0), ("a", "b", "c")
    weights = pd.DataFrame(rng.dirichlet(np.ones(3), 30), columns=domains)
    logs = -rng.exponential(4.0, (3, 500)).astype(np.float16)
    text = TargetText(sha256="0", num_tokens=500, bits_per_nat=1.0)
    experts = Experts(pd.DataFrame(np.eye(3), list("xyz"), domains), {"web": logs}, {"web": text})
    given = np.exp(0.5 * logs.astype(np.float64))
    losses = pd.DataFrame({"web": 1.0 - 2.0 * np.log(weights.to_numpy() @ given).mean(axis=1)})
    runs = Runs(weights, losses, pd.Series("fit", weights.index), experts=experts)
    fitted, tests = np.arange(20), np.arange(20, 30)
    plain = Fitted(runs, "experts", fitted).predict(tests)
    found = [plain, *(at_temperature(runs, drawn_to_one=drawn)(fitted, tests) for drawn in (False, True))]
    missed = [np.abs(one["web"] - losses["web"][20:]).max() for one in found]
    assert missed[0] > 0.01
    assert max(missed[1:]) < 1e-6
