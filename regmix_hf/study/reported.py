"""Where a report lies: beside what it is of, whether that is a study or a fit on tables."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from regmix_hf.study import names


class _HasRoot(Protocol):
    @property
    def root(self) -> Path: ...


class Reported:
    """A folder, `root`, with a report."""

    @property
    def report(self: _HasRoot) -> Path:
        """What was found, in pictures and words."""
        return self.root / names.REPORT

    @property
    def page(self: _HasRoot) -> Path:
        """The report to read first."""
        return self.root / names.REPORT / names.PAGE
