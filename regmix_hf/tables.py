"""The tables of a study, the same on disk and on the Hub: names of columns, and ways to take them apart.

`mixtures`: `mixture_id`, `split` (`fit` or `holdout`), `round`, `origin`, and `weight/<domain>` per domain.
`results`: one row per run; `weight/`, `realized/`, `epochs/`, `loss/`, `bpb/`, `loss_stderr/` per domain, and
`measured_on`, which text its losses were measured on.
`trajectories`: `run_id`, `step`, `num_tokens`, `loss/<domain>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pandas as pd

Prefix = Literal["weight", "realized", "epochs", "loss", "bpb", "loss_stderr"]


def by_domain(frame: pd.DataFrame, prefix: Prefix) -> pd.DataFrame:
    """Return the columns `<prefix>/<domain>` under the domains' bare names, in the table's order."""
    start = f"{prefix}/"
    columns = [column for column in frame.columns if column.startswith(start)]
    return frame[columns].rename(columns=lambda column: column.removeprefix(start))


def prefixed(prefix: Prefix, values: Mapping[str, float]) -> dict[str, float]:
    """Name the values of each domain as the tables do: `{"a": 1.0}` becomes `{"loss/a": 1.0}`."""
    return {f"{prefix}/{domain}": value for domain, value in values.items()}
