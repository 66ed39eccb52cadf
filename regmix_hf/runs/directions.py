"""Which way the columns of tables are better: as people say, as names say, and what nobody says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from regmix_hf.errors import DataError
from regmix_hf.quantities import (
    Direction,
    Quantity,
    bare,
    is_said_to_be_small,
    looks_like_score,
    read_names,
    unsaid_among,
)
from regmix_hf.recipe.target import AskedTarget, TargetValue
from regmix_hf.runs.outside import OutsideTables

#: Benchmarks by whose names columns of scores are called: accuracies, pass rates, or how likely answers are.
_BENCHMARK = re.compile(
    r"(?<![a-z0-9])(?:agieval|aime|anli|arc[_-]?(?:[ce]|challenge|easy)|asdiv|bbh|belebele|boolq|ceval|coqa"
    r"|commonsense_?qa|copa|csqa|gpqa|gsm_?8k|hellaswag|human_?eval|ifeval|lambada|logiqa|math_?500|mathqa|mbpp"
    r"|medmcqa|medqa|mgsm|[a-z]*mmlu|musr|nq|obqa|open_?book_?qa|piqa|pubmed_?qa|race|sciq|siqa|squad"
    r"|story_?cloze|super_?glue|trivia_?qa|truthful_?qa|web_?qs|wino_?grande|wmdp|wsc|xcopa|xnli|xwinograd)"
    r"(?![a-z])"
)


def directions_of(maximize: Iterable[str], minimize: Iterable[str]) -> dict[str, Direction]:
    """Which way each of these columns is better.

    Raises:
        DataError: One of them is named twice.
    """
    given: dict[str, Direction] = {bare(name): "higher" for name in maximize}
    for name in map(bare, minimize):
        if name in given:
            raise DataError(f"{name!r} cannot be better when higher and when lower.", "name it once")
        given[name] = "lower"
    return given


def settled(
    tables: OutsideTables, given: Mapping[str, Direction], target: TargetValue | None
) -> tuple[pd.DataFrame, dict[str, Quantity], list[str]]:
    """Say of all columns which way is better, or leave them out.

    Args:
        tables: What was read.
        given: Target -> which way is better, where its name does not say.
        target: What is to be made good. Columns beside it that look like scores are left out where nobody
            says which way is better; `None`: none is beside it.

    Returns:
        The values, what their columns are, and the columns that were left out.

    Raises:
        RegressionError: Nobody says which way a score is better.
    """
    domains, names = tables.weights.columns, [str(name) for name in tables.values.columns]
    # no loss is below 0, whatever it is called
    losses = [name for name in tables.said_small if not (tables.values[name] < 0).any()]
    by_value = _scores_among(tables.values.drop(columns=losses), domains)
    wanted = set(names if target is None else AskedTarget.of(target).among(names))
    unsaid = [name for name in unsaid_among(names, domains, given, by_value) if name not in wanted]
    values = tables.values.drop(columns=unsaid)
    return values, read_names(values.columns, domains, given, by_value), unsaid


def _scores_among(values: pd.DataFrame, domains: Iterable[str]) -> list[str]:
    """Those of these columns that look like scores: by their values, or called as a benchmark and in percent.

    What small models get of a benchmark is a few percent, which a loss may be, too. A column that is called
    as a domain is the loss on it, and a loss may be below 1: it is taken for a score where no loss has such
    values, or where those of all other domains look like scores, too.
    """
    own = set(values.columns) & set(domains)
    called = {str(name) for name in values if name not in own and is_called_as_benchmark(str(name))}
    percent = {name for name in called if values[name].dropna().between(0, 100).all()}
    scores = [str(name) for name in values if name in percent or looks_like_score(values[name])]
    if own <= set(scores):
        return scores
    return [name for name in scores if name not in own or not values[name].dropna().between(0, 1).all()]


def is_called_as_benchmark(column: str) -> bool:
    """Whether a column is called as a benchmark is, and its name does not say that less of it is better.

    Names such as `arc_challenge:rc::olmes` say it: Olmix's tables hold bits per byte under them.

    >>> [is_called_as_benchmark(name) for name in ("gsm8k", "eval/arc_easy", "mmlu_loss", "bpb/piqa")]
    [True, True, False, False]
    """
    is_one = _BENCHMARK.search(column.lower()) is not None
    return is_one and ":" not in column and not is_said_to_be_small(column)


def left_out(unsaid: Sequence[str]) -> str:
    """Say which columns were left out, and how to have them."""
    return (
        f"{', '.join(unsaid)}: left out, as nothing says whether more of it is better and it is not the "
        "target (--maximize or --minimize take it in)"
    )
