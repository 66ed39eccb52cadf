"""A small fit on tables, and the tables it was made on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.fit import OutsideRuns
from regmix_hf.cli.quality import QualityFormat

#: Of a choice that has to be quick.
FEW = ("choice.num_candidates=2000", "choice.top_k=20")


def make_fit(folder: Path) -> Path:
    """Write tables and fit on them, in the folder `fit` beside them."""
    write_tables(folder)
    tables = str(folder / "mixtures.csv"), str(folder / "losses.csv")
    request = OutsideRuns(source=tables, asked="exam", estimators=("power_law",), output=folder / "fit")
    request.fit(Console(Format.QUIET), QualityFormat.QUIET)
    return folder


def write_tables(folder: Path, num_runs: int = 30) -> None:
    """Runs over three domains; `exam` is like half of the first and is none of them."""
    rng = np.random.default_rng(5)
    weights = pd.DataFrame(rng.dirichlet([1.0, 1.0, 1.0], num_runs), columns=["web", "code", "books"])
    losses = 3.0 + 0.4 * (weights[["web", "code"]] + 0.05) ** -0.4
    losses["exam"] = 1.5 + 0.3 * losses["code"] + rng.normal(0, 0.005, num_runs)
    for name, table in (("mixtures", weights), ("losses", losses)):
        table.rename_axis("index").to_csv(folder / f"{name}.csv")
    wide = pd.concat([weights.add_prefix("w_"), losses.add_prefix("loss_")], axis=1)
    wide.rename_axis("run").to_csv(folder / "wide.csv")
