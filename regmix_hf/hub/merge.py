"""Add rows to a table that others add rows to at the same time: every key arrives once."""

from __future__ import annotations

import io
from collections.abc import Collection

import pandas as pd

from regmix_hf.errors import HubError
from regmix_hf.hub.checks import TableLimits, read_table
from regmix_hf.hub.connection import Hub
from regmix_hf.hub.repository import Snapshot


def merge_rows(
    there: pd.DataFrame | None, ours: pd.DataFrame, *, key: str = "run_id", replace: Collection[object] = ()
) -> pd.DataFrame:
    """Put our rows beside those that are there, in order of their key.

    Rows of a key that is there already are not taken again, except for the keys in `replace`, whose rows give
    way to ours. A key may have several rows, as in a table of trajectories; they stay together and in order.

    Returns:
        A new table, or `there` itself when nothing is new.

    Raises:
        HubError: A table has no such column, or a row has no key.

    >>> import pandas as pd
    >>> there = pd.DataFrame({"run_id": ["b", "a"], "loss": [2.0, 1.0]})
    >>> ours = pd.DataFrame({"run_id": ["b", "c"], "loss": [9.0, 3.0]})
    >>> merge_rows(there, ours)
      run_id  loss
    0      a   1.0
    1      b   2.0
    2      c   3.0
    """
    for table in (there, ours):
        if table is not None and (key not in table.columns or table[key].isna().any()):
            raise HubError(f"A table cannot be merged: every row needs a {key!r}.")
    if there is None:
        return ours.sort_values(key, kind="stable", ignore_index=True)
    giving_way = there[key].isin(set(replace) & set(ours[key]))
    kept = there[~giving_way]
    new = ours[~ours[key].isin(kept[key])]
    if new.empty:
        return there
    both = [table for table in (kept, new) if not table.empty]
    return pd.concat(both, ignore_index=True).sort_values(key, kind="stable", ignore_index=True)


def remote_table(hub: Hub, snapshot: Snapshot, path: str) -> pd.DataFrame | None:
    """Read a Parquet table of a snapshot; `None` when the snapshot has no such file.

    Raises:
        HubError: It is too large, or no table of plain columns.
    """
    if path not in snapshot.files:
        return None
    content = hub.read(snapshot, path, max_bytes=TableLimits().max_bytes)
    return read_table(io.BytesIO(content), name=f"{snapshot.repository}: {path}")


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
