"""How runs that were spent on experts and on mixtures fared where that was measured: `spending.csv`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter

from regmix_hf.readable import short

#: What is measured speaks of numbers of domains and of runs up to so many times as large or as small.
_NEAR = 1.5
#: Up to so many runs a domain, experts beside mixtures rank unseen runs better (`experts_and_law`) than as
#: many mixtures do (`power_law`), wherever both were measured; a test holds it against the table.
_FEW_PER_DOMAIN = 3.5
#: Proxies so many times as long, or as short, are said not to have been measured.
_FAR = 10.0
#: Where all that was measured is told.
PAGE = "recipes/how-many-runs.md"


@dataclass(frozen=True)
class Spent:
    """One way to spend runs, and how well runs that were not fitted on were then predicted.

    Attributes:
        corpus: What it is called.
        domains: That were trained on.
        parameters: Of a proxy.
        tokens: That a proxy was trained on.
        experts: Runs on one domain each.
        mixtures: Runs on mixtures.
        predicts: Family, or what else predicted.
        rank: Rank correlation, mean over targets, in percent.
        rank_sd: Its standard deviation over random subsets.
        error: Mean absolute error, nats per token.
        error_sd: Its standard deviation over random subsets.
    """

    corpus: str
    domains: int
    parameters: int
    tokens: int
    experts: int
    mixtures: int
    predicts: str
    rank: float
    rank_sd: float
    error: float
    error_sd: float

    @property
    def runs(self) -> int:
        """How many runs were spent."""
        return self.experts + self.mixtures

    @property
    def split(self) -> str:
        """What they were spent on."""
        words = {"experts": self.experts, "mixtures": self.mixtures}
        return " and ".join(f"{count} {word}" for word, count in words.items() if count)

    def __str__(self) -> str:
        return (
            f"{self.split} ({self.predicts}) rank unseen runs by {self.rank:.1f} ± {self.rank_sd:.1f} % "
            f"and err by {self.error:.3f} nats"
        )


@cache
def measured_spending() -> tuple[Spent, ...]:
    """All that was measured, in the order of the file."""
    table = pd.read_csv(Path(__file__).with_suffix(".csv"), comment="#")
    return TypeAdapter(tuple[Spent, ...]).validate_python(table.to_dict("records"))


def advice(
    num_domains: int, num_runs: int, num_tokens: int, measured: Iterable[Spent] | None = None
) -> Iterator[str]:
    """Say how ways to spend so many runs fared, in a line or two; where that was not measured, just this.

    Of each split the best by rank is named, of the corpora with the nearest number of domains, and of the
    number of runs near this one for which most splits were measured.

    Args:
        num_domains: To train on.
        num_runs: To spend on experts and mixtures.
        num_tokens: That each of them is to be trained on.
        measured: Rows; default: all there are.
    """
    rows = tuple(measured_spending() if measured is None else measured)
    asked = f"how to spend {num_runs} runs on experts and mixtures"
    near = [row for row in rows if _is_near(row.domains, num_domains)]
    if not near:
        known = ", ".join(map(str, sorted({row.domains for row in rows})))
        yield f"{asked}: not measured for so many domains ({num_domains}; measured: {known}); see {PAGE}"
        return
    domains = min({row.domains for row in near}, key=lambda count: _distance(count, num_domains))
    near = [row for row in near if row.domains == domains]
    splits: dict[int, set[str]] = {}
    for row in near:
        splits.setdefault(row.runs, set()).add(row.split)
    budgets = [count for count in splits if _is_near(count, num_runs)]
    if not budgets:
        there = ", ".join(map(str, sorted(splits)))
        yield f"{asked}: not measured for so many ({domains} domains with {there} runs were); see {PAGE}"
        return
    budget = min(budgets, key=lambda count: (-len(splits[count]), _distance(count, num_runs)))
    for corpus in dict.fromkeys(row.corpus for row in near):
        best: dict[str, Spent] = {}
        for row in near:
            if (row.corpus, row.runs) == (corpus, budget):
                best[row.split] = max(best.get(row.split, row), row, key=lambda one: one.rank)
        if best:
            with_ = next(iter(best.values()))
            yield (
                f"{asked}, as measured with {budget} on {corpus} ({domains} domains, proxies of "
                f"{short(with_.parameters)} parameters on {short(with_.tokens)} tokens): "
                f"{'; '.join(map(str, best.values()))}; see {PAGE}"
                + (f"; not measured with {short(num_tokens)} tokens" if _is_far(with_, num_tokens) else "")
            )


def experts_win(num_domains: int, num_runs: int, num_tokens: int) -> bool:
    """Tell whether an expert a domain, and mixtures for the rest of so few runs, win over as many mixtures.

    Nobody knows it of numbers of domains or of tokens far from those that were measured: it is denied. The
    numbers are those of `advice`.
    """
    known = (row for row in measured_spending() if _is_near(row.domains, num_domains))
    is_few = num_runs <= _FEW_PER_DOMAIN * num_domains
    return is_few and any(not _is_far(row, num_tokens) for row in known)


def _is_far(row: Spent, num_tokens: int) -> bool:
    return _distance(row.tokens, num_tokens) > math.log(_FAR)


def _distance(a: int, b: int) -> float:
    return abs(math.log(a / b))


def _is_near(a: int, b: int) -> bool:
    return _distance(a, b) <= math.log(_NEAR)
