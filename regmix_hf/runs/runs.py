"""Runs as a regression sees them: mixtures, losses, and a count of the runs that are of no use to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import DataError
from regmix_hf.files import read_parquet
from regmix_hf.mixtures.mixture import is_no_mixture, what_is_wrong
from regmix_hf.reference import split_reference
from regmix_hf.runs.layout import Columns
from regmix_hf.runs.outside import METRICS, RATIOS, OutsideTables, read_pair, read_wide
from regmix_hf.study import names
from regmix_hf.tables import FITTED_RUNS, by_domain

Split = Literal["fit", "holdout"]

#: Where a folder may hold runs: a study's results, or the runs that a fit was made on.
_TABLES = (f"{names.PROXIES}/{names.RESULTS}", names.FITTED_RUNS)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs that ended well, in three tables with one index, the runs' ids.

    Attributes:
        weights: Runs x domains, share of training tokens; every row sums to 1.
        losses: Runs x targets, in the unit they came in (nats per token in a study). NaN: not measured.
        split: `fit` or `holdout` for every run.
        scale: For every run what was trained for how long, e.g. `1M on 1,000,000,000 tokens`; `None` where
            that is not known.
        num_diverged: Runs left out because a loss is infinite or none is a number.
        num_failed: Runs left out because they did not end.
        num_duplicates: Runs left out because another has the same id, or the same weights and losses.
        mixtures_from: The file the weights came from, for messages.
        losses_from: The file the losses came from, for messages.
        notes: What was left out or changed when tables were read, with counts.
    """

    weights: pd.DataFrame
    losses: pd.DataFrame
    split: pd.Series[str]
    scale: pd.Series[str] | None = None
    num_diverged: int = 0
    num_failed: int = 0
    num_duplicates: int = 0
    mixtures_from: str = "the mixtures"
    losses_from: str = "the losses"
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that have weights."""
        return tuple(self.weights.columns)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the losses."""
        return tuple(self.losses.columns)

    @classmethod
    def from_results(cls, results: pd.DataFrame, origin: str) -> Self:
        """Read a table of results, wherever it came from.

        Args:
            results: `run_id`, `split`, `weight/<domain>`, `loss/<domain>`; `status` when not all are `ok`.
            origin: What to call the table in messages.

        Raises:
            DataError: A column is missing, or a value is none that the column may have, or no run is left.
        """
        _check_results(results, origin)
        unique = results.drop_duplicates("run_id").set_index("run_id")
        status = unique.get("status", pd.Series("ok", index=unique.index))
        usable = unique[status == "ok"]
        runs = cls(
            weights=by_domain(usable, "weight").astype(np.float64),
            losses=by_domain(usable, "loss").astype(np.float64),
            split=usable["split"],
            scale=_scale(usable),
            num_diverged=int((status == "diverged").sum()),
            num_failed=int((status == "failed").sum()),
            num_duplicates=len(results) - len(unique),
            mixtures_from=origin,
            losses_from=origin,
        )
        return runs._checked()

    @classmethod
    def from_csv(cls, mixtures: Path, losses: Path) -> Self:
        """Read two tables, in RegMix's or Olmix's layout, and join them on their index; all are `fit`.

        Raises:
            DataError: A file cannot be read as such a table, or the two have no run in common.
        """
        return cls.from_tables(read_pair(mixtures, losses))

    @classmethod
    def from_tables(cls, tables: OutsideTables) -> Self:
        """Take runs as tables gave them; all are `fit`.

        Raises:
            DataError: No run is left.
        """
        runs = cls(
            weights=tables.weights,
            losses=tables.values,
            split=pd.Series("fit", index=tables.weights.index, name="split"),
            mixtures_from=tables.weights_from,
            losses_from=tables.values_from,
            notes=tables.notes,
        )
        return runs._checked()

    def to_results(self) -> pd.DataFrame:
        """Return one table with the columns of a study's results, which `from_results` reads back."""
        return pd.concat(
            [
                self.split.rename("split"),
                self.weights.add_prefix("weight/"),
                self.losses.add_prefix("loss/"),
            ],
            axis=1,
        ).reset_index(names="run_id")

    def part(self, split: Split) -> Self:
        """Return the runs of one split; what was left out is only counted in the whole."""
        return self.take(np.flatnonzero(self.split == split))

    def take(self, rows: np.ndarray) -> Self:
        """Return the runs at these positions."""
        return replace(
            self,
            weights=self.weights.iloc[rows],
            losses=self.losses.iloc[rows],
            split=self.split.iloc[rows],
            scale=None if self.scale is None else self.scale.iloc[rows],
            num_diverged=0,
            num_failed=0,
            num_duplicates=0,
        )

    def aligned_to(self, fitted: Runs) -> Self:
        """Return these runs with the columns of the runs a regressor was fitted on.

        Targets that were not measured here are left out; the others keep the order of the fit.

        Raises:
            DataError: A domain is in one of the two only, a target is unknown to the fit, or none is left.
        """
        for domain in sorted(set(self.domains) ^ set(fitted.domains)):
            here, there = self.mixtures_from, fitted.mixtures_from
            here, there = (here, there) if domain in self.domains else (there, here)
            raise DataError(
                f"domain {domain!r} is a column of {here} but not of {there}.",
                "mixtures that are compared need the same domains; write 0 where one was not used",
            )
        for target in self.targets:
            if target not in fitted.targets:
                raise DataError(
                    f"loss {target!r} is a column of {self.losses_from} but not of {fitted.losses_from}.",
                    "only losses that were fitted can be predicted; remove or rename the column",
                )
        targets = [target for target in fitted.targets if target in self.targets]
        return replace(self, weights=self.weights[list(fitted.domains)], losses=self.losses[targets])

    def left_out(self) -> str:
        """Say in words what was left out, e.g. `2 diverged, 1 failed`; empty when nothing was."""
        counts = {
            "diverged": self.num_diverged,
            "failed": self.num_failed,
            "duplicate": self.num_duplicates,
        }
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count)

    def _checked(self) -> Self:
        """Leave out copies and runs whose losses say nothing; normalise the weights."""
        values = self.losses.to_numpy()
        diverged = np.isinf(values).any(axis=1) | np.isnan(values).all(axis=1)
        copies = pd.concat([self.weights, self.losses], axis=1).duplicated().to_numpy()
        kept = self.take(np.flatnonzero(~diverged & ~copies))
        if not len(kept):
            raise DataError(
                f"{self.losses_from} holds no run with losses ({len(self)} rows).",
                "a run counts when it ended well and at least one of its losses is a finite number",
            )
        for target in kept.targets:
            if kept.losses[target].isna().all():
                raise DataError(
                    f"{self.losses_from}: no run has a value in the column of {target!r}.",
                    "remove the column, or fill it",
                )
        return replace(
            kept,
            weights=kept.weights.div(kept.weights.sum(axis=1), axis=0),
            num_diverged=self.num_diverged + int(diverged.sum()),
            num_failed=self.num_failed,
            num_duplicates=self.num_duplicates + int((copies & ~diverged).sum()),
        )


def load_runs(
    source: str | Path | None = None,
    *,
    mixtures: str | Path | None = None,
    losses: str | Path | None = None,
    columns: Columns | None = None,
) -> Runs:
    """Read the runs of a study, or runs that were made elsewhere.

    Args:
        source: The folder of a study (its `output_dir`) or of a fit; one table of weights and losses (CSV,
            TSV, JSON lines or Parquet), or a folder of Olmix's two; or a repository of runs on the Hub,
            `NAMESPACE/NAME[@REVISION]`, unless a folder has that name.
        mixtures: CSV of weights, in RegMix's layout (`index`, `train_<dataset>_<domain>`) or Olmix's
            (`run,name,index,<domain>...`).
        losses: CSV of losses of the same runs (`index`, `metric/<dataset>_<domain>_val_loss` or
            `valid_<dataset>_<domain>`, or `run,name,index,<metric>...`).
        columns: What is said of the columns of tables; what is not said is found.

    Returns:
        The runs that can be fitted or predicted, with a count of the others. In RegMix's layout the data
        set's name, which all columns share, is not part of the domains' names.

    Raises:
        DataError: A file is missing or cannot be used; the message names file, line, column and value.
        HubError: There is no such repository or revision, or what it holds cannot be trusted.
    """
    if source is not None:
        if mixtures is not None or losses is not None:
            raise DataError("runs come from one source: a folder, or mixtures with losses, not both.")
        # A folder of two parts may be called as a repository is.
        if isinstance(source, str) and not Path(source).exists() and split_reference(source):
            from regmix_hf.runs.published import load_published

            return Runs.from_results(load_published(source).results, source)
        return _load_here(Path(source), columns)
    if mixtures is None or losses is None:
        raise DataError(
            "runs need two tables: mixtures and losses.", "give both CSV files, or the folder of a study"
        )
    return Runs.from_tables(read_pair(Path(mixtures), Path(losses), columns))


def _load_here(folder: Path, columns: Columns | None) -> Runs:
    if folder.is_file() or any((folder / name).is_file() for name in (RATIOS, METRICS)):
        return Runs.from_tables(read_wide(folder, columns))
    if not folder.exists():
        raise DataError(f"{folder} is not there.")
    for name in _TABLES:
        if (folder / name).is_file():
            return Runs.from_results(read_parquet(folder / name, FITTED_RUNS), str(folder / name))
    raise DataError(
        f"{folder} holds no runs: there is neither {_TABLES[0]} nor {_TABLES[1]} in it.",
        "give the output_dir of a study whose proxies have been trained",
    )


def _check_results(results: pd.DataFrame, origin: str) -> None:
    for column in ("run_id", "split"):
        if column not in results:
            raise DataError(f"{origin} has no column {column!r}.")
    weights, losses = by_domain(results, "weight"), by_domain(results, "loss")
    for prefix, part in (("weight", weights), ("loss", losses)):
        if part.shape[1] == 0:
            raise DataError(f"{origin} has no column {prefix}/<domain>.")
    allowed = {"split": get_args(Split), "status": ("ok", "diverged", "failed")}
    for column in [name for name in allowed if name in results]:
        wrong = ~results[column].isin(allowed[column])
        if wrong.any():
            raise DataError(
                f"{origin}: {column} is {results.loc[wrong, column].iloc[0]!r} "
                f"for the run {_first(results, wrong)}.",
                f"it may be {', '.join(allowed[column])}",
            )
    off = is_no_mixture(weights)
    if off.any():
        raise DataError(f"{origin}: of the run {_first(results, off)} {what_is_wrong(weights[off].iloc[0])}.")


def _scale(results: pd.DataFrame) -> pd.Series[str] | None:
    if not {"scale", "num_train_tokens"} <= set(results.columns):
        return None
    pairs = zip(results["scale"], results["num_train_tokens"], strict=True)
    words = [f"{scale} on {tokens:,} tokens" for scale, tokens in pairs]
    return pd.Series(words, index=results.index, dtype="str")


def _first(results: pd.DataFrame, where: pd.Series[bool] | NDArray[np.bool_]) -> str:
    return repr(results.loc[where, "run_id"].iloc[0])
