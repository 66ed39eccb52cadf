"""Which column of a table is what: the run's name, a weight, something measured, or nothing to fit on.

RegMix: `index`, `train_<dataset>_<domain>`; `metric/<dataset>_<domain>_val_loss`, `valid_<dataset>_<domain>`.
Olmix: `run_id,<domain>...` or `run,name,index,<domain>...`, and the same with metrics. W&B: `Name`, `State`,
`config.<key>`, `summary.<key>`. Any other: the widest columns of shares whose rows sum to 1 are weights.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError, did_you_mean
from regmix_hf.runs.table_file import TableFile
from regmix_hf.tables import SIZES

#: Columns that name a run, the most trusted first; `""` is the column without a header that pandas writes.
KEYS = ("run", "run_id", "index", "name", "Name", "ID", "id", "")
#: Rows of weights may miss a sum of 1 by this much; they are then scaled.
SUM_TOLERANCE = 0.02
#: And by this much without a word: what six or five decimals leave.
NOTED = 1e-4
#: What is written for 0 by who subtracts: weights this little below 0 are 0.
TINY = 1e-6
#: Last words of columns that say how a run was made, not what came of it or what it was trained on.
_SETTINGS = re.compile(
    r"(?:.*[_./ ])?(?:seed|lr|learning_rate|weight_decay|warmup(?:_\w+)?|beta[12]|dropout|batch_size|epochs?"
    r"|steps?|params|tokens|flops|date|time|timestamp|runtime|created|updated|duration|round|split|status"
    r"|state|user|notes|tags|sweep|mixture_id)",
    re.IGNORECASE,
)
#: Those that move every loss.
_SIZES = re.compile(
    r"(?:.*[_./ ])?(?:n_tokens|num_(?:train_)?tokens|total_tokens|model_size|num_params|num_parameters"
    r"|scale)",
    re.IGNORECASE,
)
#: Columns that say how large a run is and how long, by what they may be called.
SIZE_COLUMNS = dict(zip((*SIZES, "model_size", "n_tokens"), (*SIZES, *SIZES), strict=True))
#: What pandas writes for an index, and what W&B keeps for itself.
_OWN = re.compile(r"Unnamed: \d+|(?:summary\.|config\.)?_(?:step|runtime|timestamp|wandb.*)")
_TRAINING_LOSS = re.compile(
    r"(?:summary\.)?(?:metric/|loss[_/])?train(?:ing)?[_/. ](?:loss|ce|ppl|perplexity)(?:_\w+)?",
    re.IGNORECASE,
)
#: What columns of measurements begin or end with.
_MEASURED = re.compile(
    r"(?:summary\.|metrics?[/._]|eval[/._]|valid[/_]|val[/_]|loss[/_]|bpb[/_]).*|.*(?:[_/. ]loss|_bpb)"
)


@dataclass(frozen=True)
class Columns:
    """What a person says of the columns.

    Attributes:
        id: The column that names the runs; `None`: the first of `KEYS`.
        weights: Patterns of columns of weights, e.g. `w_*`; none: they are found.
        targets: Patterns of columns of measurements; none: they are found.
        ignore: Patterns of columns that are neither.
        where: Column -> the value that a run has there, to be taken.
    """

    id: str | None = None
    weights: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> list[str]:
        """What is said, as options of a command."""
        patterns = {"weights": self.weights, "targets": self.targets, "ignore": self.ignore}
        words = [f"--{name}={','.join(said)}" for name, said in patterns.items() if said]
        words += [f"--id={self.id}"] if self.id is not None else []
        where = ",".join(f"{name}={value}" for name, value in self.where)
        return words + ([f"--where={where}"] if where else [])

    def rows_of(self, table: TableFile) -> TableFile:
        """The rows that are asked for.

        Raises:
            DataError: There is no such column, or no such row.
        """
        for name, value in self.where:
            column = self.matching("--where", [name], table)[0]
            here = table.texts(column).map(_as_number) == _as_number(value)
            if not here.any():
                known = table.texts(column).unique()
                shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
                raise DataError(f"--where {name}={value}: no run of {table.path} has it; there are {shown}.")
            note = f"{int(here.sum())} of {len(here)} runs have {name}={value}"
            table = replace(table, cells=table.cells[here.to_numpy()], notes=(*table.notes, note))
        return table

    def matching(self, option: str, patterns: Iterable[str], table: TableFile) -> list[str]:
        """The columns that patterns name, in the table's order.

        Raises:
            DataError: One names none.
        """
        known = [str(name) for name in table.cells.columns]
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in known):
                hint = did_you_mean(pattern, known)
                raise DataError(f"{option} {pattern!r}: {table.path} has no such column.", hint)
        return [name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)]

    def key(self, table: TableFile) -> str | None:
        """The column that names the runs; `None` where there is none, or none with a name for each.

        Raises:
            DataError: The one that was asked for is not there.
        """
        if self.id is not None:
            return self.matching("--id", [self.id], table)[0]
        present = [key for key in KEYS if key in table.cells.columns]
        return next((key for key in present if table.texts(key).is_unique), None)


def settings_in(names: Iterable[str]) -> list[str]:
    """Those of these columns that say how a run was made."""
    return [name for name in names if any(said.fullmatch(name) for said in (_SETTINGS, _SIZES, _OWN))]


def sizes_in(names: Iterable[str]) -> list[str]:
    """Those of these columns that say how large a model was, or how long it trained."""
    return [name for name in names if _SIZES.fullmatch(name)]


def training_losses_in(names: Iterable[str]) -> list[str]:
    """Those of these columns that hold the loss on the training text, which is another with every mixture."""
    return [name for name in names if _TRAINING_LOSS.fullmatch(name)]


def find_weights(table: TableFile, left: Sequence[str]) -> list[str]:
    """Find the columns of weights among those that nobody said anything of.

    A group of columns with a common beginning, or else neighbours, whose rows sum to 1, or to 100.

    Raises:
        DataError: There are none.
    """
    numbers, wrong = table.numbers(left)
    shares = [
        name
        for name in left
        if not wrong[name].any() and (numbers[name].dropna() >= -TINY).all() and numbers[name].notna().any()
    ]
    values = numbers[shares].fillna(0.0)
    found = [group for group in _groups(shares) if _sums_to_one(values[group])]
    found += [part for part in _neighbours(values) if _sums_to_one(values[part])]
    found = [group for group in found if len(group) > 1]
    if not found:
        raise DataError(
            f"{table.path}: no columns are found whose rows sum to 1, so nothing says which are weights.",
            "name them: --weights 'w_*', or --weights web,code,books; runs on one source alone have no "
            "mixture, and nothing can be chosen by them",
        )
    return max(found, key=len)


def find_targets(left: Sequence[str], asked: Collection[str] = ()) -> list[str]:
    """Find the columns of measurements: those called so with those asked for, or else all that are left."""
    if not any(_MEASURED.fullmatch(name) for name in left):
        return list(left)
    return [
        name
        for name in left
        if _MEASURED.fullmatch(name) or any(fnmatchcase(name, pattern) for pattern in asked)
    ]


def _groups(names: Sequence[str]) -> list[list[str]]:
    """Columns by every beginning that ends in a separator."""
    groups: dict[str, list[str]] = {}
    for name in names:
        for match in re.finditer(r"[_./:]", name):
            groups.setdefault(name[: match.end()], []).append(name)
    return list(groups.values())


def _neighbours(values: pd.DataFrame) -> list[list[str]]:
    """The widest run of neighbouring columns that sums to 1 in all rows."""
    sums = np.hstack([np.zeros((len(values), 1)), values.to_numpy().cumsum(axis=1)])
    number = values.shape[1]
    for width in range(number, 1, -1):
        for start in range(number - width + 1):
            if _near_one(sums[:, start + width] - sums[:, start]):
                return [list(values.columns[start : start + width])]
    return []


def _sums_to_one(values: pd.DataFrame) -> bool:
    return _near_one(values.sum(axis=1).to_numpy())


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _near_one(sums: np.ndarray) -> bool:
    return any((np.abs(sums / whole - 1.0) <= SUM_TOLERANCE + 1e-9).all() for whole in (1.0, 100.0))
