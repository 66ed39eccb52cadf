"""What is measured of a model: a named quantity with a unit and a direction, read from its column's name.

`loss/<domain>` and the bare `<domain>` are in nats per token, `bpb/<domain>` and `bpb/<task>` in bits per
byte; of these less is better. Of `<task>/<metric>` lm-eval says which way is better. Any other column of a
table is in the unit it came in, and less of it is better, unless it is called as scores are, or its values
look like them: then whoever brings it says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from regmix_hf.errors import RegressionError

Direction = Literal["lower", "higher"]

NATS, BITS, SHARE, PERCENT = "nats per token", "bits per byte", "share", "percent"
_ANYWHERE = (-math.inf, math.inf)
#: What values in a unit lie between; of others nobody knows.
_BOUNDS = {NATS: (0.0, math.inf), BITS: (0.0, math.inf), SHARE: (0.0, 1.0), PERCENT: (0.0, 100.0)}
#: What names of columns begin with. `target/` is the column of what has no other name in a table of results.
LOSS, BPB, OTHER = "loss/", "bpb/", "target/"

#: Columns that are called alike and hold what was asked for or done.
_UNMEASURED = ("weight", "realized", "epochs")

#: Metrics of lm-eval, whether more is better, and the unit, where the values have one. The directions are
#: those of its registry (`lm_eval.api.registry.HIGHER_IS_BETTER_REGISTRY`), to which a test holds them.
_METRICS: dict[str, tuple[bool, str | None]] = {
    **dict.fromkeys(("acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm"), (True, SHARE)),
    **dict.fromkeys(("exact_match", "f1"), (True, SHARE)),
    **dict.fromkeys(("bleu", "bypass", "chrf", "chrf++", "likelihood", "mcc"), (True, None)),
    **dict.fromkeys(
        ("brier_score", "byte_perplexity", "perplexity", "ter", "word_perplexity"), (False, None)
    ),
    "bits_per_byte": (False, BITS),
}
#: Those of them that may follow from how likely choices and texts are, so that no model has to write.
FROM_LIKELIHOODS = (
    *("acc", "acc_bytes", "acc_mutual_info", "acc_norm", "bits_per_byte", "brier_score"),
    *("byte_perplexity", "exact_match", "f1", "mcc", "perplexity", "word_perplexity"),
)
#: What a column of a table of results begins with that is no score of a task.
COLUMN_KINDS = (*_UNMEASURED, "loss", "loss_stderr", "bpb", "bpb_stderr", "target", "target_stderr")
#: Words in the name of a column of which more is better, as far as one can tell.
_SCORE = re.compile(
    r"(?:acc|accuracy|auc|auroc|bench|bleu|chrf|elo|em|exact|f1|mcc|pass|precision|recall|reward|rouge[12l]?"
    r"|scores?|winrate|win|wins)@?\d*"
)
#: Where a word begins within `hellaswagAcc`.
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: Nats per token are no more than that before a model has learnt anything: the logarithm of a vocabulary of
#: 400,000.
_MOST_NATS = 13.0
#: Words in the name of a column of which less is better, whatever else stands there.
_FAULT = re.compile(r"bpb|bits|brier|ce|err|error|loss|losses|nll|perplexity|ppl|regret|wer")
#: Words that turn them: more of a negated loss is better.
_NEGATED = {"minus", "neg", "negated", "negative"}


@dataclass(frozen=True)
class Quantity:
    """One quantity that runs are measured on.

    Attributes:
        name: `<domain>` for a loss on a domain, else the name of the column.
        unit: What its values are in, e.g. `nats per token`; `None` where nobody says.
        direction: Which is better: `lower` or `higher`.
    """

    name: str
    unit: str | None = None
    direction: Direction = "lower"

    @property
    def sign(self) -> float:
        """What its values are multiplied by so that less is better: 1 or -1."""
        return 1.0 if self.direction == "lower" else -1.0

    @property
    def column(self) -> str:
        """Its column in a table of results."""
        if "/" in self.name:
            return self.name
        return f"{LOSS if self.unit == NATS else OTHER}{self.name}"

    @property
    def bounds(self) -> tuple[float, float]:
        """What its values lie between, and so the ends of their intervals."""
        return _BOUNDS.get(self.unit or "", _ANYWHERE)

    @property
    def noun(self) -> str:
        """What to call one of its values."""
        return "loss" if self.unit == NATS else "value"

    @property
    def nouns(self) -> str:
        """The same of several."""
        return "losses" if self.unit == NATS else "values"

    @property
    def note(self) -> str:
        """Its unit, and which way is better where that is not lower: `share, higher is better`."""
        return ", ".join(filter(None, (self.unit, "higher is better" if self.sign < 0 else "")))

    def noted(self, text: str, *more: str) -> str:
        """The text with that behind it, and with what else is to be said: `loss (nats per token)`."""
        notes = ", ".join(filter(None, (self.note, *more)))
        return f"{text} ({notes})" if notes else text

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, found: Mapping[str, Any]) -> Self:
        """Read what `plain` gave.

        Raises:
            ValueError: It is no quantity.
        """
        name, unit, direction = (found.get(key) for key in ("name", "unit", "direction"))
        if isinstance(name, str) and isinstance(unit, str | None) and direction in ("lower", "higher"):
            return cls(name, unit, "lower" if direction == "lower" else "higher")
        raise ValueError(f"{dict(found)!r} is no quantity")


def is_measured(column: str) -> bool:
    """Whether a column of a table of results holds what was measured, and no standard error of it.

    >>> [name for name in ("weight/a", "loss/a", "loss_stderr/a", "t/acc_stderr") if is_measured(name)]
    ['loss/a']
    """
    prefix, slash, name = column.partition("/")
    is_error = prefix.endswith("_stderr") or name.partition(",")[0].endswith("_stderr")
    return bool(slash) and prefix not in _UNMEASURED and not is_error


def is_metric(name: str) -> bool:
    """Whether lm-eval knows a metric of that name.

    >>> is_metric("exact_match"), is_metric("exact")
    (True, False)
    """
    return name in _METRICS


def error_column(column: str) -> str:
    """The column of the standard errors of what stands in another.

    >>> error_column("loss/web"), error_column("bpb/arc"), error_column("arc/acc,none")
    ('loss_stderr/web', 'bpb_stderr/arc', 'arc/acc_stderr,none')
    """
    prefix, _, name = column.partition("/")
    if column.startswith((LOSS, BPB, OTHER)):
        return f"{prefix}_stderr/{name}"
    metric, comma, kind = name.partition(",")
    return f"{prefix}/{metric}_stderr{comma}{kind}"


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table of results that hold what was measured, under their bare names."""
    return table[[name for name in table.columns if is_measured(str(name))]].rename(columns=bare)


def with_quantities(mixture: pd.DataFrame) -> pd.DataFrame:
    """A table of a chosen mixture with `unit` and `direction`; those of version 0.1 knew losses only."""
    return mixture if "unit" in mixture else mixture.assign(unit=NATS, direction="lower")


def by_kind(mixture: pd.DataFrame) -> list[tuple[Quantity, pd.DataFrame]]:
    """Rows of such a table by unit and direction, which the nameless quantities say."""
    table = with_quantities(mixture).dropna(subset=["loss"])
    groups = table.groupby([table["unit"].fillna(""), "direction"], sort=False)
    return [
        (Quantity("", str(unit) or None, "higher" if direction == "higher" else "lower"), rows)
        for (unit, direction), rows in groups
    ]


def are_alike(quantities: Iterable[Quantity]) -> bool:
    """Whether errors of all of them may be averaged: they are in one unit, as far as that is known.

    What is better when lower and has no unit is taken for nats, unless its name says otherwise: `web_ppl`.

    >>> plain, accuracy, ppl = Quantity("a"), Quantity("b_acc", direction="higher"), Quantity("c_ppl")
    >>> are_alike([plain, Quantity("web", NATS)]), are_alike([plain, accuracy]), are_alike([plain, ppl])
    (True, False, False)
    """
    return len({_kind(one) for one in quantities}) == 1


def _kind(quantity: Quantity) -> str:
    if quantity.unit or quantity.direction == "higher":
        return quantity.unit or quantity.direction
    faults = [word for word in _words(quantity.name) if _FAULT.fullmatch(word)]
    return NATS if not faults or faults[-1] in ("ce", "loss", "losses", "nll") else faults[-1]


def bare(name: str) -> str:
    """The name of a quantity, however it is written: `loss/web` and `web` are one."""
    return name.removeprefix(LOSS).removeprefix(OTHER)


def read_name(name: str, domains: Collection[str] = ()) -> Quantity | None:
    """Read what the name of a column says; `None` where it does not say which way is better.

    Args:
        name: Of the column, e.g. `loss/web`, `web`, `bpb/arc_easy`, `hellaswag/acc_norm`.
        domains: Names of domains: a bare column of that name is the loss on it.

    >>> read_name("hellaswag/acc_norm,none").direction, read_name("hellaswag_acc")
    ('higher', None)
    """
    if name.startswith(LOSS) or name in domains:
        return Quantity(bare(name), NATS)
    if name.startswith(BPB):
        return Quantity(name, BITS)
    name = bare(name)
    task, _, metric = name.rpartition("/")
    if task and (known := _METRICS.get(metric.partition(",")[0])):
        return Quantity(name, known[1], "higher" if known[0] else "lower")
    kind = _last_word(metric)
    if kind is _FAULT:
        is_bits = re.search(r"(?<![a-z0-9])(?:bpb|bits_per_byte)(?![a-z0-9])", metric.lower())
        return Quantity(name, BITS if is_bits else None)
    return None if task or kind is _SCORE else Quantity(name)


def is_said_to_be_small(column: str) -> bool:
    """Whether a column's own name says that less of it is better: it has a word such as `loss` or `ppl`.

    Of words that say the opposite of each other the last one counts: that is what the others are said of.

    >>> [is_said_to_be_small(name) for name in ("metric/c4_val_loss", "eval/c4", "c4_ppl", "nll_accuracy")]
    [True, False, True, False]
    """
    return _last_word(column) is _FAULT


def _last_word(name: str) -> re.Pattern[str] | None:
    """Which kind of word stands last in a name: `_SCORE`, `_FAULT`, or neither does.

    >>> _last_word("neg_loss") is _SCORE, _last_word("neg_log_likelihood")
    (True, None)
    """
    words = _words(name)
    if "brier" in words:  # a score of which less is better
        return _FAULT
    kinds = (kind for word in reversed(words) for kind in (_FAULT, _SCORE) if kind.fullmatch(word))
    kind = next(kinds, None)
    return _SCORE if kind is _FAULT and _NEGATED.intersection(words) else kind


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9@+]+", _HUMP.sub("_", name).lower())


def fitting(quantities: Mapping[str, Quantity], values: pd.DataFrame) -> dict[str, Quantity]:
    """The same in units that hold the values: an accuracy of 45 is in percent, one of -3 in no unit known.

    Args:
        quantities: As their names say it.
        values: What was measured, with a column of each; NaN does not count.
    """
    found = dict(quantities)
    for name, known in quantities.items():
        if known.unit in (SHARE, PERCENT) and not _holds(known, values[name]):
            percent = replace(known, unit=PERCENT)
            found[name] = percent if _holds(percent, values[name]) else replace(known, unit=None)
    return found


def _holds(quantity: Quantity, values: pd.Series[float]) -> bool:
    known, (least, most) = values[np.isfinite(values)], quantity.bounds
    return bool(known.between(least, most).all())


def looks_like_score(values: pd.Series[float]) -> bool:
    """Whether values look like scores rather than losses in nats per token.

    They do where all are shares (0 to 1), where most are percent (up to 100) above all that a loss can be,
    and where one is below 0. NaN does not count.

    >>> [looks_like_score(pd.Series(one)) for one in ([0.2, 0.4], [31.0, 40.0], [2.9, 9.1], [140.0])]
    [True, True, False, False]
    """
    known = values[np.isfinite(values)]
    if known.empty:
        return False
    least, most = float(known.min()), float(known.max())
    return least < 0 or most <= 1 or (most <= 100 and float(known.median()) > _MOST_NATS)


def said_of(name: str, given: Mapping[str, Direction]) -> Direction | None:
    """Which way a target is better, as a person says it: by its name, or else by a pattern.

    Raises:
        RegressionError: Two patterns say the opposite of each other.
    """
    if name in given:
        return given[name]
    ways = {direction: pattern for pattern, direction in given.items() if fnmatchcase(name, pattern)}
    if len(ways) > 1:
        raise RegressionError(
            f"{name!r} cannot be better when higher ({ways['higher']!r}) and when lower ({ways['lower']!r}).",
            "name it itself, or write patterns of which only one holds for it",
        )
    return next(iter(ways), None)


def read_names(
    names: Iterable[str],
    domains: Collection[str] = (),
    given: Mapping[str, Direction] | None = None,
    by_value: Collection[str] = (),
) -> dict[str, Quantity]:
    """Read the names of columns, and what is said of their direction.

    Args:
        names: Of the columns.
        domains: As in `read_name`.
        given: Column or pattern -> which way is better, as a person says it; before all that a name says.
        by_value: Columns whose values look like scores.

    Returns:
        Bare name -> quantity.

    Raises:
        RegressionError: Columns are called as scores are, and nobody says which way is better; or two
            patterns say the opposite of each other.
    """
    names = list(names)
    given = {bare(name): direction for name, direction in (given or {}).items()}
    found = {name: _read(name, domains, given, by_value) for name in names}
    if unknown := [name for name, known in found.items() if known is None]:
        raise _nobody_says(
            unknown, [one for one in given if not any(said_of(bare(n), {one: given[one]}) for n in names)]
        )
    return {known.name: known for known in found.values() if known is not None}


def unsaid_among(
    names: Iterable[str],
    domains: Collection[str] = (),
    given: Mapping[str, Direction] | None = None,
    by_value: Collection[str] = (),
) -> list[str]:
    """Those columns that `read_names` would ask about; it says what they may be."""
    given = {bare(name): direction for name, direction in (given or {}).items()}
    return [name for name in names if _read(name, domains, given, by_value) is None]


def _read(
    name: str, domains: Collection[str], given: Mapping[str, Direction], by_value: Collection[str]
) -> Quantity | None:
    known = read_name(name, domains)
    plain = Quantity(bare(name), known.unit if known and known.unit == NATS else None)
    if said := said_of(bare(name), given):
        unit = known.unit if known else None
        is_none = (unit in (NATS, BITS) and said == "higher") or (unit == NATS and name in by_value)
        return Quantity(bare(name), None if is_none else unit, said)
    is_plain = known == plain and not is_said_to_be_small(name)
    return None if is_plain and name in by_value else known


def _nobody_says(unknown: list[str], stray: list[str]) -> RegressionError:
    """Ask which way all these columns are better; `stray` was said of none that is there."""
    listed, one = ",".join(unknown), unknown[0]
    looks = (
        f"the column {one!r} looks like a score, and nothing says whether more of it is better"
        if len(unknown) == 1
        else f"the columns {', '.join(map(repr, unknown))} look like scores, and nothing says whether more "
        "of them is better"
    )
    return RegressionError(
        looks + (f" (there is no {stray[0]!r})." if stray else "."),
        f"say it: --maximize {listed} (or --minimize {listed}; patterns do, too), in a recipe "
        f"regression.target: {{{one}: {{weight: 1, maximize: true}}}} (or false)",
    )
