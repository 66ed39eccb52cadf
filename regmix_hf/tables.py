"""The tables of a study, the same on disk and on the Hub: names of columns, and ways to take them apart.

`mixtures`: `mixture_id`, `split` (`fit`, `holdout`, `expert`), `round`, `origin`, `rung`, `weight/<domain>`.
`results`: one row per run; `weight/`, `realized/`, `epochs/`, `loss/`, `bpb/`, `loss_stderr/` per domain,
`bpb/` and `bpb_stderr/` per task of lm-eval, and `measured_on`, which text they were measured on.
`trajectories`: `run_id`, `step`, `num_tokens`, `loss/<domain>`, `bpb/<task>` where it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Prefix = Literal["weight", "realized", "epochs", "loss", "bpb", "loss_stderr", "bpb_stderr"]


@dataclass(frozen=True)
class Columns:
    """What a table has to have for anybody to read it; more columns may stand beside.

    Attributes:
        texts: Columns in which every value is a text.
        numbers: Columns of numbers, of which some or all may be missing. So are all whose name has a `/`.
    """

    texts: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    def fault(self, table: pd.DataFrame) -> str | None:
        """What is wrong with a table, after its name: `has no column 'loss'`; `None` if nothing is."""
        for column in (*self.texts, *self.numbers):
            if column not in table:
                return f"has no column {column!r}"
        for column in self.texts:
            if not all(isinstance(value, str) for value in table[column].tolist()):
                return f"holds other things than texts in the column {column!r}"
        for column, kind in zip(table.columns, table.dtypes, strict=True):
            if column not in self.numbers and "/" not in str(column):
                continue
            is_number = pd.api.types.is_numeric_dtype(kind) or table[column].isna().all()
            if not is_number or pd.api.types.is_bool_dtype(kind):
                return f"holds no numbers in the column {column!r}"
        return None


_ENDS = ("", "_low", "_high")
_METRICS = ("spearman", "pearson", "mse", "mae", "regret")
MIXTURES = Columns(("mixture_id", "split"))
RESULTS = Columns(("run_id", "mixture_id", "status"), ("seed",))
TRAJECTORIES = Columns(("run_id",), ("step", "num_tokens"))
QUALITY = Columns(
    ("test", "estimator", "target", "kind"),
    ("num_runs", *(f"{metric}{end}" for metric in _METRICS for end in _ENDS)),
)
PREDICTIONS = Columns(("test", "estimator", "target", "kind", "run_id"), ("true", "predicted"))
LEARNING_CURVE = Columns(("estimator",), ("num_runs", "num_subsets", "mean", "lower", "upper"))
#: What says of a run how large its model is and how long it trained.
SIZES = ("num_parameters", "num_train_tokens")
FITTED_RUNS = Columns(("run_id", "split"))
_LOSSES = ("loss", "loss_lower", "loss_upper", "prior_loss", "change")
MIXTURE = Columns(("domain",), ("weight", "prior", "epochs", *_LOSSES))
SCORES = Columns(("model", "run_id", "mixture_id", "task", "metric"), ("num_fewshot", "value", "stderr"))


def by_domain(frame: pd.DataFrame, prefix: Prefix) -> pd.DataFrame:
    """Return the columns `<prefix>/<domain>` under the domains' bare names, in the table's order."""
    start = f"{prefix}/"
    columns = [column for column in frame.columns if column.startswith(start)]
    return frame[columns].rename(columns=lambda column: column.removeprefix(start))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as mappings of column to plain Python value."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def prefixed(prefix: Prefix, values: Mapping[str, float]) -> dict[str, float]:
    """Name the values of each domain as the tables do: `{"a": 1.0}` becomes `{"loss/a": 1.0}`."""
    return {f"{prefix}/{domain}": value for domain, value in values.items()}
