"""The table of quality on unseen runs as a paper, a page or a program takes it: LaTeX, Markdown, CSV."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from regmix_hf.cli.console import Format

if TYPE_CHECKING:
    import pandas as pd


class QualityFormat(StrEnum):
    """How `regmix fit` prints how well estimators predict."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"

    @property
    def is_text(self) -> bool:
        """Whether the table of quality is all that is printed, as one text."""
        return self in (QualityFormat.CSV, QualityFormat.MARKDOWN, QualityFormat.LATEX)

    @property
    def of_notes(self) -> Format:
        """The format that notes and other tables have beside it."""
        return Format.HUMAN if self.is_text else Format(self.value)


def quality_text(quality: pd.DataFrame, target: str, format: QualityFormat) -> str | None:
    """Write the target and the average of a `quality_table`; `None` for a format that has tables of its own.

    CSV holds plain numbers, each with its 95 % interval in `<metric>_low` and `<metric>_high`; Markdown and
    LaTeX (booktabs) hold `value [low, high]`.
    """
    from regmix_hf.regression.assessment import table_for_people

    table = table_for_people(quality, target)
    match format:
        case QualityFormat.CSV:
            shown = quality[(quality["target"] == target) | (quality["kind"] == "average")]
            return shown.to_csv(index=False, lineterminator="\n")
        case QualityFormat.MARKDOWN:
            rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
            return "".join(f"| {' | '.join(row)} |\n" for row in rows)
        case QualityFormat.LATEX:
            text = table.to_latex(
                index=False, escape=True, column_format="lll" + "r" * (len(table.columns) - 3)
            )
            return "% \\usepackage{booktabs}; in brackets: bootstrap 95 % intervals\n" + text
        case _:
            return None
