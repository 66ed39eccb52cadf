"""What measures budgets of runs asks of every budget what it can pay for, and counts fairly."""

import json
import random

import pandas as pd

from ..benchmarks.budgets import best_known, of_choices, ways
from ..benchmarks.debian_corpus import write_task


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
