"""What is known of a chosen mixture, from `mixture.yaml` and the table beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from regmix_hf.files import damaged, read_parquet, read_yaml
from regmix_hf.mixtures.group_shares import GroupShare
from regmix_hf.quantities import NATS, Quantity, with_quantities
from regmix_hf.regression.assessment import of_scale
from regmix_hf.regression.verdict import Verdict
from regmix_hf.study.rounds import Round, counted, last_measured, rounds_in
from regmix_hf.tables import MIXTURE, SIZES, records


@dataclass(frozen=True, eq=False)
class ChoiceFacts:
    """The chosen mixture and what is predicted for it.

    Attributes:
        table: `mixture.parquet`, by domain.
        record: `mixture.yaml`: `estimator`, `reason`, `predicted`, `warnings`, ...
        verdict: Whether the regression knew enough to choose by; `None` in a choice of version 0.1.
        rounds: In which choices for this target were tried with further proxies.
        groups: What domains have that were bounded together.
    """

    table: pd.DataFrame
    record: Mapping[str, Any]
    verdict: Verdict | None
    rounds: tuple[Round, ...] = ()
    groups: tuple[GroupShare, ...] = ()

    @property
    def tried(self) -> Round | None:
        """The last round in which a choice for this target was tried and measured."""
        return last_measured(self.rounds, str(self.record.get("target")))

    @property
    def moved(self) -> float:
        """Share of the tokens by which the chosen mixture differs from the one that was tried last."""
        return self.tried.differs_by(self.record["weights"]) if self.tried else 0.0

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """Read `mixture.yaml` and the table beside it; `None` where nothing is chosen yet."""
        beside = file.with_suffix(".parquet")
        if not beside.exists() or not file.exists():
            return None
        table = read_parquet(beside, MIXTURE)
        record = _record(file)
        verdict = Verdict.said_in(record, file)
        rounds = counted(rounds_in(record, file), str(record.get("target")))
        groups = GroupShare.said_in(record, file)
        return cls(table.set_index("domain"), record, verdict, tuple(rounds), groups)

    @property
    def speaks_of(self) -> str:
        """Of what runs predicted losses and their intervals are, in words."""
        return str(self.record["predicted"].get("speaks_of", of_scale(None)))

    @property
    def size(self) -> tuple[float, float] | None:
        """Parameters and tokens of these runs, where a law over sizes was asked for them."""
        size = self.record["predicted"].get("size")
        return None if size is None else (size[SIZES[0]], size[SIZES[1]])

    @property
    def warnings(self) -> list[str]:
        """What speaks against trusting the choice, besides the verdict."""
        return [str(warning) for warning in self.record["warnings"] if warning != str(self.verdict)]

    @property
    def weights(self) -> pd.DataFrame:
        """`prior`, `chosen` (shares of training tokens) and `epochs` of the training domains."""
        trained = self.table.loc[self.table.index.isin(list(self.record["prior"]))]
        return trained[["prior", "weight", "epochs"]].rename(columns={"weight": "chosen"})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """`domain`, `prior`, `chosen`, `change` (shares) and `epochs`, largest chosen share first."""
        weights = self.weights.sort_values(["chosen", "prior"], ascending=False, kind="stable")
        # Shares are rounded to millionths; what is less is the rounding of a difference.
        change = (weights["chosen"] - weights["prior"]).round(9) + 0.0
        return records(weights.assign(change=change).reset_index())

    @property
    def quantity(self) -> Quantity:
        """Unit and direction of what it was chosen for; version 0.1 knew losses only."""
        return Quantity("", self.record.get("unit", NATS), self.record.get("direction", "lower"))

    @property
    def predicted(self) -> dict[str, dict[str, float | None]]:
        """`loss`, `lower` and `upper` of the target under `chosen` and `prior`, in its unit; where known."""
        return {name: self.record["predicted"][name] for name in ("chosen", "prior")}

    @property
    def coverage(self) -> float:
        """Share of cases the intervals are made for."""
        return float(self.record["predicted"]["coverage"])

    @property
    def trade_off(self) -> pd.DataFrame:
        """Prediction of every target under the chosen mixture minus under the prior, by domain or name.

        `change` with `lower` and `upper`, the interval of the value under the chosen mixture, in `unit` and
        with `direction`.
        """
        known = with_quantities(self.table).dropna(subset=["loss"])
        return pd.DataFrame(
            {
                "change": known["change"],
                "lower": known["loss_lower"] - known["prior_loss"],
                "upper": known["loss_upper"] - known["prior_loss"],
                "unit": known["unit"],
                "direction": known["direction"],
            }
        )


def _record(file: Path) -> dict[str, Any]:
    """Read `mixture.yaml`, as far as a report needs it.

    Raises:
        StudyError: It is damaged.
    """
    record = read_yaml(file)
    kinds = {
        "weights": dict,
        "prior": dict,
        "estimator": str,
        "reason": str,
        "predicted": dict,
        "warnings": list,
    }
    for key, kind in kinds.items():
        if not isinstance(record, dict) or not isinstance(record.get(key), kind):
            raise damaged(file, f"does not say {key!r}")
    predicted = record["predicted"]
    values = [predicted.get("coverage")]
    if "size" in predicted:
        size = predicted["size"] if isinstance(predicted["size"], dict) else {}
        values += map(size.get, SIZES)
    for name in ("chosen", "prior"):
        losses = predicted.get(name) if isinstance(predicted.get(name), dict) else {}
        bounds = [losses.get(key) for key in ("lower", "upper")]  # none, where experts alone say it
        values += [losses.get("loss"), *(bound for bound in bounds if bound is not None)]
    if not all(isinstance(value, int | float) for value in values):
        raise damaged(file, "does not say what is predicted")
    return record
