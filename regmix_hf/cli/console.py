"""The one place that prints: data to stdout, notes and progress to stderr, bars only on a terminal."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from regmix_hf.progress import Bar
from regmix_hf.readable import fixed, short

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


@dataclass(frozen=True)
class Table:
    """Rows for a person or a machine. Numbers stay numbers; `formats` says how a person sees them.

    Attributes:
        formats: How a column's numbers are written: a format specification, e.g. `{"loss": ".4f"}`, or what
            makes words of one.
        heads: What a person reads above a column, where that is not its name.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    formats: Mapping[str, str | Callable[[float], str]] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)


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
        """Print tables for a person, or one JSON object `{title: rows}` for a machine."""
        if self.format is Format.JSON:
            self.json({table.title: [dict(row) for row in table.rows] for table in tables})
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
    first = next(iter(table.rows[0]))
    heads = {
        column: table.heads.get(column, column)
        for column in table.rows[0]
        if column == first or any(_cell(row.get(column), None) not in ("", "-") for row in table.rows)
    }
    rich, taken = RichTable(box=box.SIMPLE_HEAD), 1
    shown: list[str] = []
    for column, head in heads.items():
        values = [row.get(column) for row in table.rows]
        cells = [_cell(value, table.formats.get(column)) for value in values]
        widest = max(map(cell_len, [head, *cells]))
        least = widest if widest <= _LONGEST_NAME else _LEAST_WIDTH
        taken += least + 3  # a blank on either side, and one between columns
        if taken > width and shown:
            break
        number = any(isinstance(value, int | float) for value in values)
        rich.add_column(escape(head), justify="right" if number else "left", overflow="fold", min_width=least)
        shown.append(column)
    for row in table.rows:
        rich.add_row(*(escape(_cell(row.get(column), table.formats.get(column))) for column in shown))
    console = RichConsole(file=sys.stdout, width=width, highlight=False)
    console.print(table.title, style="bold", markup=False)  # not the table's own: that wraps at its width
    console.print(rich)
    if left_out := [head for column, head in heads.items() if column not in shown]:
        console.print(f"no room for: {', '.join(left_out)}", style="dim", markup=False)


def _cell(value: Any, spec: str | Callable[[float], str] | None) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if callable(spec):
            return spec(value)
        return fixed(value, spec) if spec else short(value)
    return str(value)


def duration(seconds: float) -> str:
    """Write a time span as a person says it.

    >>> duration(42), duration(150), duration(9000)
    ('42 s', '2.5 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.2g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86_400:.3g} days"
