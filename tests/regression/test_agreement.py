"""Whether small models tell: rank correlation of the mixtures that two sizes share."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from regmix_hf.regression.agreement import DO_NOT_TELL, TELL, UNCLEAR, Agreement, by_pair, size_agreement
from regmix_hf.regression.target import Target
from regmix_hf.runs.runs import Runs

SMALL, LONG, LARGE = (1e6, 1e9), (1e6, 4e9), (6e7, 1e9)


def runs_of(num_large: int, sizes=(SMALL, LARGE)) -> Runs:
    """Forty mixtures; the first some at a larger size, where `a` ranks alike and `b` as it will."""
    rng = np.random.default_rng(0)
    swarm = rng.dirichlet(np.ones(3), 40)
    parts = []
    for number, size in enumerate(sizes):
        weights = swarm[: num_large if number else None]
        alike = 3 - np.sqrt(weights[:, 0]) - 0.4 * number
        other = 3 - np.sqrt(weights[:, 1 + number % 2]) - 0.4 * number
        table = pd.DataFrame(weights, columns=["weight/a", "weight/b", "weight/c"])
        noise = rng.normal(scale=0.01, size=(len(weights), 2))
        table[["loss/a", "loss/b"]] = np.column_stack([alike, other]) + noise
        table[["num_parameters", "num_train_tokens"]] = size
        parts.append(table.assign(scale=f"{size[0] / 1e6:.0f}M", split="fit"))
    table = pd.concat(parts, ignore_index=True).astype({"num_train_tokens": int})
    return Runs.from_results(table.assign(run_id=[f"r{row}" for row in table.index]), "the table")


def target_of(runs: Runs, value="b") -> Target:
    return Target.parse(value, runs.quantities)


def test_a_target_that_sizes_rank_otherwise_is_named_and_one_that_they_rank_alike_is_not():
    runs = runs_of(30)
    agreements = size_agreement([runs], target_of(runs), 0)
    assert [one.target for one in agreements] == ["b", "a"]  # the target that was asked for comes first
    found = {one.target: one for one in agreements}
    assert found["a"].word == TELL
    assert found["b"].word == DO_NOT_TELL
    assert str(found["b"]).endswith("; small models do not tell for this target")
    shared = runs.losses["b"].to_numpy()
    assert found["b"].spearman == pytest.approx(spearmanr(shared[:30], shared[40:])[0])
    assert found["b"].low < found["b"].spearman < found["b"].high
    assert (found["b"].num_mixtures, found["b"].small, found["b"].large) == (
        *(30, "1M on 1,000,000,000 tokens", "60M on 1,000,000,000 tokens"),
    )
    assert Agreement.said_in({"size_agreement": [found["b"].plain]}) == [found["b"]]
    sizes = "30 mixtures of 1M on 1,000,000,000 tokens against 60M on 1,000,000,000 tokens"
    one = replace(found["b"], spearman=0.125, low=-0.25, high=0.375)
    assert one.found == f"b: {sizes}, rank correlation 12 % [-25, 38]"
    assert replace(one, low=np.nan, high=np.nan).found == f"b: {sizes}, rank correlation 12 %"
    nothing = replace(one, spearman=np.nan, low=np.nan, high=np.nan)
    assert nothing.found == f"b: {sizes}, no rank correlation"


def test_a_combined_target_stands_before_those_it_is_made_of():
    runs = runs_of(30)
    found = size_agreement([runs], target_of(runs, ["a", "b"]), 0)
    assert [one.target for one in found] == ["mean of 2 targets", "a", "b"]


def test_few_mixtures_leave_it_open_and_fewer_say_nothing():
    runs = runs_of(6)
    assert {one.target: one.word for one in size_agreement([runs], target_of(runs), 0)}["b"] == UNCLEAR
    of_four = {one.target: one for one in size_agreement([runs_of(4)], target_of(runs), 0)}["a"]
    assert (of_four.spearman, of_four.low, of_four.word) == (pytest.approx(1), pytest.approx(1), UNCLEAR)
    assert size_agreement([runs_of(3)], target_of(runs), 0) == []
    assert size_agreement([runs.take(np.arange(40))], target_of(runs), 0) == []
    for unknown in ({"sizes": None}, {"scale": None}):
        assert size_agreement([replace(runs_of(30), **unknown)], target_of(runs), 0) == []


def test_each_size_is_held_against_the_swarm_wherever_its_runs_stand():
    runs = runs_of(20, (SMALL, LONG, LARGE))
    is_large = (runs.sizes["num_parameters"] > 1e6).to_numpy()
    parts = [runs.take(np.flatnonzero(is_large)), runs.take(np.flatnonzero(~is_large))]
    pairs = by_pair(size_agreement(parts, target_of(runs), 0))
    assert [(pair[0].small, pair[0].large) for pair in pairs] == [
        ("1M on 1,000,000,000 tokens", "1M on 4,000,000,000 tokens"),
        ("1M on 1,000,000,000 tokens", "60M on 1,000,000,000 tokens"),
    ]


@pytest.mark.parametrize(
    ("sizes", "pair"),
    [
        ((SMALL, LONG), ("1M on 1,000,000,000 tokens", "1M on 4,000,000,000 tokens")),
        ((SMALL, LONG, LARGE), ("1M on 4,000,000,000 tokens", "60M on 1,000,000,000 tokens")),
    ],
)
def test_of_a_swarm_at_two_lengths_the_longer_stands_for_its_size_where_there_is_another(sizes, pair):
    runs = runs_of(40, sizes)
    assert {(one.small, one.large) for one in size_agreement([runs], target_of(runs), 0)} == {pair}
