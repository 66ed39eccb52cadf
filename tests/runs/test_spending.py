"""What a plan says of how to spend runs stands in one table, the page's, and ends where that ends."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from regmix_hf.runs.spending import PAGE, advice, experts_win, measured_spending

TABLES = re.compile(r"^\| *runs *\| *spent on *\| *predicts *\|.*\n\|[-:| ]+\|\n((?:\|.*\n)+)", re.MULTILINE)


def rows_of_page():
    """What the page says of each split: runs, spent on, predicts, rank and error as they are written."""
    page = (Path(__file__).parents[2] / PAGE).read_text()
    for lines in TABLES.findall(page):
        for line in lines.splitlines():
            runs, spent, predicts, rank, *_, error = (cell.strip() for cell in line.strip("| ").split("|"))
            if rank != "-":
                yield int(runs), spent, predicts.replace("`", ""), rank, error


def test_the_page_says_what_the_table_says():
    told = sorted(
        (
            row.runs,
            row.split.replace(" and ", ", "),
            row.predicts,
            f"{row.rank:.1f} ± {row.rank_sd:.1f}",
            f"{row.error:.3f} ± {row.error_sd:.3f}",
        )
        for row in measured_spending()
    )
    assert sorted(rows_of_page()) == told
    assert len(told) >= 10


@pytest.fixture
def quickstart():
    """The rows of one corpus: others may come."""
    return [row for row in measured_spending() if row.corpus == "the quickstart's text"]


def test_of_each_split_the_best_is_named_with_what_it_was_measured_on(quickstart):
    [said] = advice(8, 16, 307_200, quickstart)
    assert said == (
        "how to spend 16 runs on experts and mixtures, as measured with 16 on the quickstart's text "
        "(8 domains, proxies of 53k parameters on 307k tokens): "
        "16 mixtures (power_law) rank unseen runs by 93.4 ± 2.5 % "
        "and err by 0.101 nats; 8 experts and 8 mixtures (experts_and_law) rank unseen runs by 95.0 ± 1.4 % "
        f"and err by 0.101 nats; see {PAGE}"
    )
    one_of_24 = [row for row in quickstart if row.runs != 24 or row.experts]
    [said] = advice(9, 20, 10**6, one_of_24)  # of 24 one split is told, of 16 two
    assert "as measured with 16 on" in said
    [said] = advice(8, 16, 10**9, quickstart)
    assert said.endswith(f"see {PAGE}; not measured with 1B tokens")
    both = ("some text", "other text")
    rows = [replace(row, corpus=corpus) for corpus in both for row in quickstart]
    assert ["other text" in line for line in advice(8, 16, 307_200, rows)] == [False, True]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((17, 64), "not measured for so many domains (17; measured: 8)"),
        ((3, 8), "not measured for so many domains (3; measured: 8)"),
        ((8, 512), "not measured for so many (8 domains with 8, 12, 16, 24, 32, 48 runs were)"),
    ],
)
def test_nothing_is_claimed_far_from_what_was_measured(asked, said, quickstart):
    [line] = advice(*asked, 307_200, quickstart)
    assert said in line
    assert "%" not in line


def test_experts_win_where_they_ranked_better_and_nowhere_else():
    told = set()
    for row in measured_spending():
        if row.predicts == "experts_and_law":
            beside = [
                other.rank
                for other in measured_spending()
                if (other.corpus, other.runs, other.predicts) == (row.corpus, row.runs, "power_law")
            ]
            won = row.rank > max(beside)
            assert experts_win(row.domains, row.runs, row.tokens) == won, row
            told.add(won)
    assert told == {True, False}
    assert not experts_win(8, 16, 10**9), "not measured with so many tokens"
    assert not experts_win(40, 60, 307_200), "nor with so many domains"
