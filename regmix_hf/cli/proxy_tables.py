"""What a person sees of the stage `proxies`."""

from __future__ import annotations

import pandas as pd

from regmix_hf.cli import tables as kinds
from regmix_hf.cli.console import Format
from regmix_hf.cli.tables import Table
from regmix_hf.files import read_parquet
from regmix_hf.quantities import BPB, Quantity, measured, read_name
from regmix_hf.runs.sizes import scales_in
from regmix_hf.study import Study, names
from regmix_hf.tables import RESULTS, by_domain


def proxy_tables(study: Study, format: Format) -> list[Table]:
    """How the proxies ended, and how far mixtures lie apart in what was measured, by size and length."""
    frame = read_parquet(study.proxies / names.RESULTS, RESULTS)
    counts = [
        {"status": status, "runs": len(part), "tokens": int(part["num_train_tokens"].sum())}
        for status, part in frame.groupby("status")
    ]
    done = frame[frame["status"] == "ok"]
    losses = [
        {
            "domain": name,
            "scale": scale,
            "lowest": values.min(),
            "mean": values.mean(),
            "highest": values.max(),
        }
        for scale, part in _by_size(done)
        for name, values in by_domain(part, "loss").items()
    ]
    return [
        Table(kinds.PROXY_RUNS, counts, "proxy runs"),
        Table(kinds.PROXY_LOSSES, losses, "loss over proxies (nats per token)"),
        *_others(done, study),
    ]


def _by_size(done: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    """Runs of each size and length with what these are called; `None` where all are of one."""
    scales = scales_in(done)
    if scales is None or scales.nunique() < 2:
        return [(None, done)]
    return [(str(scale), part) for scale, part in done.groupby(scales, sort=False)]


def _others(done: pd.DataFrame, study: Study) -> list[Table]:
    """What proxies were measured on beside losses; a domain's bits per byte are its loss again."""
    known = {f"{BPB}{name}" for name in study.recipe.domains} | set(study.recipe.domains)
    values = measured(done).drop(columns=list(known), errors="ignore")
    rows = [
        {
            "target": name,
            "unit": (read_name(str(name)) or Quantity("")).note or None,
            "scale": scale,
            "lowest": part[name].min(),
            "mean": part[name].mean(),
            "highest": part[name].max(),
        }
        for scale, runs in _by_size(done)
        for part in [values.loc[runs.index]]
        for name in values
    ]
    return [Table(kinds.PROXY_TARGETS, rows, "targets over proxies")] if rows else []
