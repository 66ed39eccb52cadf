"""The folder of a fit on tables: what `regmix fit --runs` or `--mixtures` left, and what came after it there.

It holds what `4-regression` and `5-mixture` of a study hold, side by side, and no recipe. A choice may lie in
a folder of its own; then its `choice.json` says where the fit is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regmix_hf.errors import StudyError
from regmix_hf.files import hash_file, read_as, write_json
from regmix_hf.recipe import RECIPE_FILE
from regmix_hf.recipe.target import TargetValue
from regmix_hf.study import names
from regmix_hf.study.folder import Standing, State
from regmix_hf.study.reported import Reported


@dataclass(frozen=True)
class FitRecord:
    """What a fit on tables was asked and read.

    Attributes:
        command: The words after `regmix`, to do it again.
        seed: Of all that is random.
        tables: The files, as they were named, with the hash of each.
        notes: What was left out or changed when they were read.
    """

    command: tuple[str, ...] = ()
    seed: int = 0
    tables: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChoiceRecord:
    """What a choice from a fit was asked.

    Attributes:
        fit: The fit's folder, seen from this one.
        fitted: Hash of the summary of the fit it was made with.
        command: The words after `regmix`, to do it again.
        target: What was made good, as it was written; `None`: what the fit was for.
        prior: The file that the prior came from; `None`: the mean of the runs' mixtures stood in for it.
        available: Tokens that there are of each domain; `None`: nobody said.
        num_train_tokens: Of the run that it was chosen for; `None`: nobody said.
        max_epochs: Most times that run may see a domain, where text is known; `None`: any number.
    """

    fit: str
    fitted: str
    command: tuple[str, ...] = ()
    target: TargetValue | None = None
    prior: str | None = None
    available: dict[str, float] | None = None
    num_train_tokens: float | None = None
    max_epochs: float | None = None


@dataclass(frozen=True)
class TableFit(Reported):
    """A fit on tables, with the choice and the report that belong to it.

    Attributes:
        root: The folder that was named: that of the fit, or that of a choice from it.
        regression: The folder of the fit.
    """

    root: Path
    regression: Path

    @classmethod
    def find(cls, folder: Path) -> TableFit | None:
        """Look whether a folder is one of a fit on tables, or of a choice from one; `None`: it is neither.

        Raises:
            StudyError: It is a choice from a fit that is gone.
        """
        if (folder / RECIPE_FILE).exists():
            return None
        if (folder / names.FIT_SUMMARY).is_file():
            return cls(folder, folder)
        if not (folder / names.CHOICE_RECORD).is_file():
            return None
        regression = Path(
            os.path.normpath(folder.resolve() / read_as(folder / names.CHOICE_RECORD, ChoiceRecord).fit)
        )
        if not (regression / names.FIT_SUMMARY).is_file():
            raise StudyError(
                f"{folder} holds a choice from the fit in {regression}, which is gone.",
                "fit and choose again",
            )
        return cls(folder, regression)

    @property
    def name(self) -> str:
        """What to call it: its folder's name."""
        return self.root.resolve().name

    @property
    def mixture(self) -> Path:
        """The chosen mixture."""
        return self.root / names.CHOSEN_MIXTURE

    @property
    def asked(self) -> FitRecord:
        """What the fit was asked; nothing of one that version 0.1 made."""
        file = self.regression / names.FIT_RECORD
        return read_as(file, FitRecord) if file.exists() else FitRecord()

    @property
    def choice(self) -> ChoiceRecord | None:
        """What the choice was asked; `None` without one, or of one that version 0.1 made."""
        file = self.root / names.CHOICE_RECORD
        return read_as(file, ChoiceRecord) if file.exists() else None

    def sign_fit(self, asked: FitRecord) -> None:
        """Write what the fit was asked."""
        write_json(self.regression / names.FIT_RECORD, asdict(asked))

    def sign_choice(self, command: Sequence[str], **asked: Any) -> None:
        """Write what the choice was asked: fields of `ChoiceRecord`."""
        fit = os.path.relpath(self.regression.resolve(), self.root.resolve())
        fitted = hash_file(self.regression / names.FIT_SUMMARY)
        write_json(
            self.root / names.CHOICE_RECORD, asdict(ChoiceRecord(fit, fitted, tuple(command), **asked))
        )

    def sign_report(self) -> None:
        """Write what the report was made of."""
        write_json(self._report_marker, self._reported)

    def standings(self) -> Mapping[str, Standing]:
        """Tell by verb how far fit, choice and report are."""
        found = {"fit": self._fit_standing()}
        found["choose"] = self._choice_standing(found["fit"])
        found["report"] = self._report_standing(found["choose"])
        return found

    def _fit_standing(self) -> Standing:
        tables = self.asked.tables.items()
        changed = tuple(name for name, was in tables if Path(name).is_file() and hash_file(Path(name)) != was)
        return Standing(State.STALE if changed else State.DONE, changed)

    def _choice_standing(self, fit: Standing) -> Standing:
        if not self.mixture.exists():
            return Standing(State.MISSING)
        chosen = self.choice
        changed = chosen is not None and chosen.fitted != hash_file(self.regression / names.FIT_SUMMARY)
        after = ("fit",) if fit.state is State.STALE else ()
        summary = (names.FIT_SUMMARY,) if changed else ()
        return Standing(State.STALE if changed or after else State.DONE, summary, after)

    def _report_standing(self, choice: Standing) -> Standing:
        if not self.page.exists():
            return Standing(State.MISSING)
        marker = self._report_marker
        before = read_as(marker, dict[str, str | None]) if marker.exists() else {}
        now = self._reported
        changed = tuple(name for name in now if now[name] != before.get(name))
        after = ("choose",) if choice.state is State.STALE else ()
        return Standing(State.STALE if changed or after else State.DONE, changed, after)

    @property
    def _report_marker(self) -> Path:
        return self.report / ".report.json"

    @property
    def _reported(self) -> dict[str, str | None]:
        files = {names.FIT_SUMMARY: self.regression / names.FIT_SUMMARY, names.CHOSEN_MIXTURE: self.mixture}
        return {name: hash_file(file) if file.exists() else None for name, file in files.items()}
