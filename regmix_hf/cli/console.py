"""The one place that prints: data to stdout, notes and progress to stderr, bars only on a terminal."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from regmix_hf.cli.tables import Table
from regmix_hf.progress import Bar
from regmix_hf.readable import duration, fixed, short

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

#: Seconds between two lines about the same bar where there is no terminal.
_SECONDS_BETWEEN_LINES = 15.0
#: Characters of a line where there is no terminal.
_WIDTH_OF_FILES = 120
#: Text of more characters is no name, number or bracket, but words or a path: it may take several lines of
#: its cell, of this width at least.
_LONGEST_NAME, _LEAST_WIDTH = 40, 12


class Format(StrEnum):
    """How data is printed."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


class Console:
    """Prints what a verb found and what it is doing; a `regmix_hf.progress.Progress`."""

    def __init__(self, format: Format = Format.HUMAN):
        self.format = format

    def note(self, message: str) -> None:
        """Say one line on stderr, unless quiet."""
        if self.format is not Format.QUIET:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    @contextmanager
    def bar(self, description: str, *, total: float, unit: str) -> Iterator[Bar]:
        """Show how much of `total` units is done, and about how long the rest takes."""
        if sys.stderr.isatty() and self.format is not Format.QUIET:
            with _rich_progress() as progress:
                yield _TerminalBar(progress, description, total, unit)
        else:
            yield _LineBar(self, description, total, unit)

    def tables(self, tables: Sequence[Table]) -> None:
        """Print tables for a person, or one JSON object for a machine: name -> units and rows.

        Tables of one name, which a person reads one by one, are one there.
        """
        if self.format is Format.JSON:
            found: dict[str, dict[str, Any]] = {}
            for table in tables:
                rows = found[table.kind.name]["rows"] if table.kind.name in found else []
                found[table.kind.name] = {**table.plain, "rows": [*rows, *table.plain["rows"]]}
            self.json(found)
        elif self.format is Format.HUMAN:
            for table in tables:
                _print_table(table)

    def json(self, value: Any) -> None:
        """Print one JSON document on stdout."""
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")

    def line(self, text: str) -> None:
        """Print one line of data on stdout, for a person only."""
        if self.format is Format.HUMAN:
            sys.stdout.write(text + "\n")

    def next(self, command: str) -> None:
        """End with the command that comes next."""
        self.note(f"Next: {command}")


class _TerminalBar:
    def __init__(self, progress: RichProgress, description: str, total: float, unit: str):
        self._progress, self._total, self._unit = progress, total, unit
        known = total if math.isfinite(total) else None
        self._task = progress.add_task(description, total=known, amount="", detail="")

    def update(self, done: float, *, detail: str = "") -> None:
        amount = _amount(done, self._total, self._unit)
        self._progress.update(self._task, completed=done, amount=amount, detail=detail)


class _LineBar:
    """For logs: a line now and then, with what is left."""

    def __init__(self, console: Console, description: str, total: float, unit: str):
        self._console, self._description, self._total, self._unit = console, description, total, unit
        self._said = time.monotonic()
        self._start: tuple[float, float] | None = None

    def update(self, done: float, *, detail: str = "") -> None:
        now = time.monotonic()
        if self._start is None or done == self._start[1]:  # the clock starts when the work does
            self._start = now, done
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        parts = [_amount(done, self._total, self._unit)]
        start, before = self._start
        if done > before and math.isfinite(self._total):
            parts.append(f"about {duration((self._total - done) * (now - start) / (done - before))} left")
        if detail:
            parts.append(detail)
        self._console.note(f"{self._description}: {', '.join(parts)}")


def _amount(done: float, total: float, unit: str) -> str:
    return f"{short(done)} of {short(total)} {unit}" if math.isfinite(total) else f"{short(done)} {unit}"


def _rich_progress() -> RichProgress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[detail]}"),
        console=RichConsole(stderr=True),
        transient=True,
    )


def _print_table(table: Table) -> None:
    """Print as many columns as fit, the first ones that hold anything.

    Names, numbers and brackets are not broken, sentences wrap.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console as RichConsole
    from rich.markup import escape
    from rich.table import Table as RichTable

    if not table.rows:
        return
    width = shutil.get_terminal_size((_WIDTH_OF_FILES, 1)).columns
    groups = _columns_shown(table)
    rich, taken = RichTable(box=box.SIMPLE_HEAD), 1
    shown: list[list[str]] = []
    while groups:
        widths = [max(map(cell_len, [head, *cells])) for head, _, cells in groups[0]]
        least = [widest if widest <= _LONGEST_NAME else _LEAST_WIDTH for widest in widths]
        taken += sum(least) + 3 * len(least)  # a blank on either side, and one between columns
        if taken > width and shown:
            break
        for (head, values, cells), column_width in zip(groups.pop(0), least, strict=True):
            is_number = any(isinstance(value, int | float) for value in values)
            justify: Literal["left", "right"] = "right" if is_number else "left"
            rich.add_column(escape(head), justify=justify, overflow="fold", min_width=column_width)
            shown.append(cells)
    for row in zip(*shown, strict=True):
        rich.add_row(*map(escape, row))
    console = RichConsole(file=sys.stdout, width=width, highlight=False)
    console.print(table.title, style="bold", markup=False)  # not the table's own: that wraps at its width
    console.print(rich)
    if groups:
        left_out = ", ".join(head for group in groups for head, _, _ in group)
        console.print(f"no room for: {left_out}", style="dim", markup=False)


#: Head, values and cells.
_Shown = tuple[str, list[Any], list[str]]


def _columns_shown(table: Table) -> list[list[_Shown]]:
    """Each column that holds anything, and the first; those that come and go together are one entry."""
    found: list[list[_Shown]] = []
    for column in table.kind.columns:
        if column.for_machines:
            continue
        values = [row.get(column.key) for row in table.rows]
        parts = dict.fromkeys(key for value in values if isinstance(value, Mapping) for key in value)
        by_head = {str(part): [value.get(part) for value in values if value] for part in parts}
        for head, some in (by_head or {column.head or column.key: values}).items():
            shown = head, some, [_cell(value, column.format) for value in some]
            if found and all(cell in ("", "-") for cell in shown[2]):
                continue
            if column.is_joined:
                found[-1].append(shown)
            else:
                found.append([shown])
    return found


def _cell(value: Any, spec: str | Callable[[float], str] | None) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if callable(spec):
            return spec(value)
        return fixed(value, spec) if spec else short(value)
    return str(value)
