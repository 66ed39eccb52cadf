"""Runs as a regression sees them: mixtures, losses, and a count of the runs that are of no use to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from regmix_hf.errors import DataError, did_you_mean
from regmix_hf.files import damaged, read_json, read_parquet
from regmix_hf.mixtures.table import EXPERT
from regmix_hf.quantities import BPB, Direction, Quantity, bare, error_column, fitting, read_names, said_of
from regmix_hf.recipe.target import AskedTarget, TargetValue
from regmix_hf.reference import split_reference
from regmix_hf.runs.directions import directions_of, left_out, settled
from regmix_hf.runs.experts import Experts, read_experts
from regmix_hf.runs.layout import Columns
from regmix_hf.runs.outside import METRICS, RATIOS, OutsideTables, read_pair, read_wide
from regmix_hf.runs.results import Split, check_results, errors_of, measured_columns, with_values
from regmix_hf.runs.sizes import epochs_in, scales_in, sizes_in, words_of_sizes
from regmix_hf.study import names
from regmix_hf.tables import FITTED_RUNS, by_domain

#: Where a folder may hold runs: a study's results, or the runs that a fit was made on.
_TABLES = (f"{names.PROXIES}/{names.RESULTS}", names.FITTED_RUNS)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs that ended well, in three tables with one index, the runs' ids.

    Attributes:
        weights: Runs x domains, share of training tokens; every row sums to 1.
        losses: Runs x targets, in the units of `quantities`. NaN: not measured.
        split: `fit` or `holdout` for every run.
        scale: For every run what was trained for how long, e.g. `1M on 1,000,000,000 tokens`; `None` where
            that is not known.
        sizes: `num_parameters` and `num_train_tokens` of every run; `None` where they are not known.
        epochs: How often every run read each domain, runs x domains; `None` where it is not known.
        token_entropy: Target -> the loss of a model that only knows how often tokens occur, nats per token;
            only of targets for which somebody counted it.
        num_diverged: Runs left out because a loss is infinite or none is a number.
        num_failed: Runs left out because they did not end.
        num_duplicates: Runs left out because another has the same id, or the same weights and losses.
        mixtures_from: The file the weights came from, for messages.
        losses_from: The file the losses came from, for messages.
        notes: What was left out or changed when tables were read, with counts.
        quantities: Unit and direction of each target, in their order. Default: what their names say.
        errors: Standard errors of `losses` over documents or blocks, of the targets that have them.
        dropped: Targets that were left out because mixtures hardly differ on them, with the signal of each.
        unsaid: Columns that were left out because nobody says which way they are better.
        experts: What models of single domains give each token of the targets; they are none of the runs.

    Raises:
        RegressionError: A target is called as scores are, and nobody says which way is better.
    """

    weights: pd.DataFrame
    losses: pd.DataFrame
    split: pd.Series[str]
    scale: pd.Series[str] | None = None
    sizes: pd.DataFrame | None = None
    epochs: pd.DataFrame | None = None
    token_entropy: Mapping[str, float] = field(default_factory=dict)
    num_diverged: int = 0
    num_failed: int = 0
    num_duplicates: int = 0
    mixtures_from: str = "the mixtures"
    losses_from: str = "the losses"
    notes: tuple[str, ...] = ()
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    errors: pd.DataFrame | None = None
    dropped: Mapping[str, float] = field(default_factory=dict)
    unsaid: tuple[str, ...] = ()
    experts: Experts | None = None

    def __post_init__(self) -> None:
        known = self.quantities or read_names(self.losses.columns, self.weights.columns)
        known = fitting({name: known[name] for name in self.losses.columns}, self.losses)
        object.__setattr__(self, "quantities", known)

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that have weights."""
        return tuple(self.weights.columns)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of what was measured."""
        return tuple(self.losses.columns)

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        origin: str,
        *,
        asked: Collection[str] = (),
        given: Mapping[str, Direction] | None = None,
        experts: Experts | None = None,
    ) -> Self:
        """Read a table of results, wherever it came from.

        Args:
            results: `run_id`, `split`, `weight/<domain>`, `loss/<domain>`; `status` when not all are `ok`;
                `bpb/<task>`, `<task>/<metric>` and `target/<name>` where they were measured.
            origin: What to call the table in messages.
            asked: Names or patterns of targets. `bpb/<domain>`, which is `loss/<domain>` in another unit, is
                one only where it is asked for.
            given: Target -> which way is better, where its name does not say.
            experts: What is known of those runs of the table that are experts, which are no runs to fit on.

        Raises:
            DataError: A column is missing, or a value is none that the column may have, or no run is left.
            RegressionError: Nobody says which way a score is better.
        """
        check_results(results, origin)
        unique = results.drop_duplicates("run_id").set_index("run_id")
        status = unique.get("status", pd.Series("ok", index=unique.index))
        usable = unique[(status == "ok") & (unique["split"] != EXPERT)]
        columns = list(measured_columns(results, asked))
        usable, columns, notes = with_values(usable, columns, asked, experts)
        weights = by_domain(usable, "weight").astype(np.float64)
        quantities = read_names(columns, weights.columns, given)
        runs = cls(
            weights=weights,
            losses=usable[columns].rename(columns=bare).astype(np.float64),
            quantities=quantities,
            errors=errors_of(usable, quantities),
            split=usable["split"],
            scale=scales_in(usable),
            sizes=sizes_in(usable),
            epochs=epochs_in(usable, weights.columns),
            num_diverged=int((status == "diverged").sum()),
            num_failed=int((status == "failed").sum()),
            num_duplicates=len(results) - len(unique),
            mixtures_from=origin,
            losses_from=origin,
            notes=notes,
            experts=experts,
        )
        are_experts = not len(usable) and (unique.empty or bool((status == "ok").any()))
        return runs if are_experts else runs._checked()

    @classmethod
    def from_tables(
        cls,
        tables: OutsideTables,
        *,
        given: Mapping[str, Direction] | None = None,
        target: TargetValue | None = None,
    ) -> Self:
        """Take runs as tables gave them; all are `fit`.

        Args:
            tables: What was read.
            given: Target -> which way is better, where its name does not say.
            target: What is to be made good. Columns beside it that look like scores are left out where nobody
                says which way is better. Default: there are none beside it.

        Raises:
            DataError: No run is left.
            RegressionError: Nobody says which way a score is better.
        """
        values, quantities, unsaid = settled(tables, given or {}, target)
        notes = [left_out(unsaid)] if unsaid else []
        runs = cls(
            weights=tables.weights,
            losses=values,
            quantities=quantities,
            split=pd.Series("fit", index=tables.weights.index, name="split"),
            sizes=tables.sizes,
            epochs=tables.epochs,
            scale=None if tables.sizes is None else words_of_sizes(tables.sizes),
            mixtures_from=tables.weights_from,
            losses_from=tables.values_from,
            notes=(*tables.notes, *notes),
            unsaid=tuple(unsaid),
        )
        return runs._checked()

    def to_results(self) -> pd.DataFrame:
        """Return one table with the columns of a study's results, which `from_results` reads back."""
        return pd.concat(
            [
                self.split.rename("split"),
                self.weights.add_prefix("weight/"),
                self.losses.rename(columns=lambda name: self.quantities[name].column),
                *([] if self.errors is None else [self.errors.rename(columns=self._error_column)]),
                *([] if self.sizes is None else [self.sizes]),
                *([] if self.epochs is None else [self.epochs.add_prefix("epochs/")]),
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
            errors=None if self.errors is None else self.errors.iloc[rows],
            scale=None if self.scale is None else self.scale.iloc[rows],
            sizes=None if self.sizes is None else self.sizes.iloc[rows],
            epochs=None if self.epochs is None else self.epochs.iloc[rows],
            num_diverged=0,
            num_failed=0,
            num_duplicates=0,
        )

    def of_targets(self, targets: Sequence[str], *, dropped: Mapping[str, float] | None = None) -> Self:
        """Return the runs with these targets alone; `dropped` are those left out as noise."""
        kept = None if self.errors is None else self.errors[[n for n in targets if n in self.errors]]
        losses = self.losses[list(targets)]
        return replace(self, losses=losses, errors=kept, dropped=dropped or self.dropped)

    def _error_column(self, name: str) -> str:
        return error_column(self.quantities[name].column)

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
            if target not in (*fitted.targets, *fitted.unsaid):
                raise DataError(
                    f"loss {target!r} is a column of {self.losses_from} but not of {fitted.losses_from}.",
                    "only losses that were fitted can be predicted; remove or rename the column",
                )
        targets = [target for target in fitted.targets if target in self.targets]
        return replace(self, weights=self.weights[list(fitted.domains)]).of_targets(targets)

    def left_out(self) -> str:
        """Say in words what was left out, e.g. `2 diverged, 1 failed`; empty when nothing was."""
        counts = {"diverged": self.num_diverged, "failed": self.num_failed, "duplicate": self.num_duplicates}
        return ", ".join(f"{count} {word}" for word, count in counts.items() if count)

    def _checked(self) -> Self:
        """Leave out copies and runs whose losses say nothing; normalise the weights."""
        values = self.losses.to_numpy()
        diverged = np.isinf(values).any(axis=1) | np.isnan(values).all(axis=1)
        parts = [self.weights, self.losses, *([] if self.sizes is None else [self.sizes])]
        copies = pd.concat(parts, axis=1).duplicated().to_numpy()
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
    maximize: Iterable[str] = (),
    minimize: Iterable[str] = (),
    target: TargetValue | None = None,
    like: Runs | None = None,
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
        maximize: Names or patterns of targets of which more is better, such as accuracies.
        minimize: Those of which less is better, though they look like scores.
        target: What is to be made good, of runs in tables: other columns that look like scores are left out
            where nobody says which way is better. Default: all columns are asked about.
        like: Runs whose targets are these: what is known of their directions holds here, too.

    Returns:
        The runs that can be fitted or predicted, with a count of the others. In RegMix's layout the data
        set's name, which all columns share, is not part of the domains' names.

    Raises:
        DataError: A file is missing or cannot be used; the message names file, line, column and value.
        HubError: There is no such repository or revision, or what it holds cannot be trusted.
        RegressionError: A column looks like a score, and nobody says which way is better.
    """
    said = directions_of(maximize, minimize)
    known = {name: quantity.direction for name, quantity in (like.quantities if like else {}).items()}
    runs = _read(source, (mixtures, losses), columns, {**known, **said}, target)
    for name, direction in said.items():
        if not any(said_of(target, {name: direction}) for target in runs.targets):
            raise DataError(f"{runs.losses_from} has no column {name!r}; {did_you_mean(name, runs.targets)}")
    return runs


def _read(
    source: str | Path | None,
    pair: tuple[str | Path | None, str | Path | None],
    columns: Columns | None,
    given: Mapping[str, Direction],
    target: TargetValue | None,
) -> Runs:
    mixtures, losses = pair
    if source is not None:
        if mixtures is not None or losses is not None:
            raise DataError("runs come from one source: a folder, or mixtures with losses, not both.")
        # A folder of two parts may be called as a repository is.
        if isinstance(source, str) and not Path(source).exists() and split_reference(source):
            from regmix_hf.runs.published import load_published

            found = load_published(source)
            return Runs.from_results(found.results, source, given=given, experts=found.experts)
        return _load_here(Path(source), columns, given, target)
    if mixtures is None or losses is None:
        raise DataError(
            "runs need two tables: mixtures and losses.", "give both CSV files, or the folder of a study"
        )
    tables = read_pair(Path(mixtures), Path(losses), columns)
    return Runs.from_tables(tables, given=given, target=target)


def _load_here(
    folder: Path, columns: Columns | None, given: Mapping[str, Direction], target: TargetValue | None
) -> Runs:
    if folder.is_file() or any((folder / name).is_file() for name in (RATIOS, METRICS)):
        asked = (*given, *(() if target is None else AskedTarget.of(target).names))
        return Runs.from_tables(read_wide(folder, columns, asked), given=given, target=target)
    if not folder.exists():
        raise DataError(f"{folder} is not there.")
    for name in _TABLES:
        if (folder / name).is_file():
            # The runs of a fit are all that it was made of, and it says which way is better.
            said = _said_by_fit(folder / names.FIT_SUMMARY) if name == names.FITTED_RUNS else {}
            asked = (f"{BPB}*",) if name == names.FITTED_RUNS else ()
            table = read_parquet(folder / name, FITTED_RUNS)
            said = {target: way for target, way in said.items() if said_of(target, given) is None}
            experts = read_experts((folder / name).with_name(names.EXPERTS))
            said = {**said, **given}
            return Runs.from_results(table, str(folder / name), asked=asked, given=said, experts=experts)
    raise DataError(
        f"{folder} holds no runs: there is neither {_TABLES[0]} nor {_TABLES[1]} in it.",
        "give the output_dir of a study whose proxies have been trained",
    )


def _said_by_fit(summary: Path) -> dict[str, Direction]:
    """Which way each target of a fit is better; fits of version 0.1 do not say, nor are they asked."""
    found = read_json(summary).get("quantities", ()) if summary.is_file() else ()
    try:
        return {one.name: one.direction for one in map(Quantity.from_plain, found)}
    except (AttributeError, TypeError, ValueError) as error:
        raise damaged(summary, "holds targets that cannot be read") from error
