"""Pictures of the mixture: its weights, what moves which loss, and what its choice costs each domain."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regmix_hf.cards.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    new_figure,
    rows_axis,
    style,
)
from regmix_hf.quantities import Quantity, by_kind
from regmix_hf.readable import count_of

#: More rows than this are not read: the least are drawn as one, or left out and counted.
MAX_ROWS = 40
_INCHES_PER_ROW = 0.25


def draw_weights(weights: pd.DataFrame) -> Figure:
    """Chosen beside prior weights, one row per domain.

    Args:
        weights: Index: domains; columns `prior` and `chosen`, shares of training tokens.
    """
    order = ["chosen", "prior"]
    ordered = weights[order].sort_values(order, ascending=False, kind="stable") * 100
    kept, rest = ordered, ordered.iloc[:0]
    if len(ordered) > MAX_ROWS:
        kept, rest = ordered.iloc[: MAX_ROWS - 1], ordered.iloc[MAX_ROWS - 1 :]
    widest = float(kept.to_numpy().max())
    with style():
        subtitle = "blue: chosen, grey: prior (what the available text holds)"
        labels = [*kept.index, *([f"{len(rest)} other domains"] if len(rest) else [])]
        figure = new_figure(8.0, 0.6 + _INCHES_PER_ROW * len(labels), "Chosen mixture", subtitle)
        axes = figure.subplots()
        axes.barh(np.arange(len(kept)), kept["prior"], height=0.78, color="#dcdcdc")
        axes.barh(np.arange(len(kept)), kept["chosen"], height=0.38, color=BLUE)
        for row, (chosen, prior) in enumerate(zip(kept["chosen"], kept["prior"], strict=True)):
            _write_shares(axes, row, max(chosen, prior) + 0.012 * widest, chosen, prior)
        if len(rest):  # together often more than any one: a bar would dwarf the others
            _write_shares(axes, len(kept), 0.012 * widest, rest["chosen"].sum(), rest["prior"].sum())
        rows_axis(axes, labels)
        # The words beside the longest bar may stand beyond 100 %; the axis ends there.
        axes.set_xlim(0, widest * 1.3)
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= min(100, widest * 1.3)])
        axes.spines["bottom"].set_bounds(0, min(100.0, widest * 1.3))
        axes.set_xlabel("share of training tokens (%)")
    return figure


def draw_effects(effects: pd.DataFrame, num_runs: int) -> Figure:
    """Which domain's weight moves which target: rank correlation over the swarm.

    Args:
        effects: Index: training domains; columns: domains whose loss was measured, and further targets;
            Spearman's correlation of weight and loss, NaN where one of them does not vary. What is better
            when higher counts as its negative.
        num_runs: Proxies it was computed on.
    """
    shown = _strongest(effects)
    rows, columns = list(shown.index), list(shown.columns)
    cell = 0.42 if max(shown.shape) <= 20 else 0.22
    only_losses = not any("/" in name for name in columns)
    helps = "lowers the column's loss" if only_losses else "makes the column better"
    what, on = ("loss", "loss on") if only_losses else ("target", "loss on, or target")
    parts = [f"blue: more of the row {helps} ({count_of(num_runs, 'proxy')})"]
    if shown.isna().to_numpy().any():
        parts.append("grey: did not vary")
    if shown.shape != effects.shape:
        parts.append(f"the {MAX_ROWS} domains with the strongest effects")
    with style():
        size = (2.8 + cell * len(columns), 1.6 + cell * len(rows))
        figure = new_figure(max(6.4, size[0]), size[1], f"Which weight moves which {what}", "; ".join(parts))
        axes = figure.subplots()
        axes.set_facecolor("#c4c4c4")
        image = axes.imshow(shown.to_numpy(dtype=float), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        if cell > 0.3:
            _write_cells(axes, shown)
        axes.set_xlabel(on)
        axes.set_ylabel("weight of")
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, pad=0.02, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.outline.set_visible(False)
        bar.set_label("Spearman correlation")
    return figure


def draw_trade_off(trade_off: pd.DataFrame, coverage: float) -> Figure:
    """What each target gains or loses under the chosen mixture against the prior, one panel per unit.

    Args:
        trade_off: Index: domains or names of targets; columns `change`, `lower`, `upper` (predicted; bounds
            may be NaN) and optionally `measured` (on the final models), `unit` and `direction` (default:
            losses in nats per token).
        coverage: Share of cases the interval is made for, e.g. 0.9.
    """
    panels = [(kind, _most_extreme(rows)) for kind, rows in by_kind(trade_off.assign(loss=0.0))]
    rows = [frame for _, frame in panels]
    total, drawn = len(trade_off), sum(map(len, rows))
    parts = ["bars: predicted"]
    if any(np.isfinite(frame["lower"].to_numpy(dtype=float)).any() for frame in rows):
        noun = "loss" if all(kind.noun == "loss" for kind, _ in panels) else "value"
        parts.append(f"lines: {100 * coverage:.0f} % interval of the chosen mixture's {noun}")
    if any("measured" in frame and frame["measured"].notna().any() for frame in rows):
        parts.append("diamonds: measured on the final models")
    if drawn < total:
        parts.append(f"the {drawn} most extreme of {total} domains")
    with style():
        height = 0.7 * len(panels) + _INCHES_PER_ROW * drawn
        figure = new_figure(8.0, height, "What the choice gains and costs", "; ".join(parts))
        heights = [len(frame) + 2 for frame in rows]
        axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)
        for panel, (kind, frame) in zip(axes[:, 0], panels, strict=True):
            _draw_changes(panel, frame, kind)
    return figure


def _most_extreme(changes: pd.DataFrame) -> pd.DataFrame:
    frame = changes.sort_values("change", kind="stable")
    half = MAX_ROWS // 2
    return frame if len(frame) <= MAX_ROWS else pd.concat([frame.iloc[:half], frame.iloc[-half:]])


def _draw_changes(axes: Axes, frame: pd.DataFrame, kind: Quantity) -> None:
    change, lower, upper = (frame[name].to_numpy(dtype=float) for name in ("change", "lower", "upper"))
    measured = frame["measured"].to_numpy(dtype=float) if "measured" in frame else np.full(len(frame), np.nan)
    rows, is_better = np.arange(len(frame)), kind.sign * change <= 0
    axes.barh(rows, change, height=0.62, color=np.where(is_better, "#8fbfdc", "#eeb08a"))
    axes.hlines(rows, lower, upper, color=np.where(is_better, BLUE, ORANGE), linewidth=1.6)
    axes.scatter(measured, rows, marker="D", s=20, color=INK, zorder=3)
    axes.axvline(0, color=INK, linewidth=0.8)
    rows_axis(axes, list(frame.index))
    what = f"change of {kind.noun}, chosen minus prior" + (f" ({kind.unit})" if kind.unit else "")
    axes.set_xlabel(f"{what}; {'left' if kind.sign > 0 else 'right'} of 0 is better")


def _write_shares(axes: Axes, row: int, place: float, chosen: float, prior: float) -> None:
    first = axes.annotate(_percent(chosen), (place, row), va="center", color=BLUE, fontsize=8.5)
    axes.annotate(
        f"  prior {_percent(prior)}",
        (1, 0.5),
        xycoords=first,
        va="center",
        color=MUTED,
        fontsize=8.5,
        annotation_clip=False,
    )


def _strongest(effects: pd.DataFrame) -> pd.DataFrame:
    """Keep the domains with the strongest effects, as rows and as columns, in the order they had."""
    strength = effects.abs()
    both = pd.concat([strength.max(axis=1), strength.max(axis=0)]).groupby(level=0, sort=False).max()
    kept = both.fillna(0.0).sort_values(ascending=False, kind="stable").index[:MAX_ROWS]
    return effects.loc[effects.index.isin(kept), effects.columns.isin(kept)]


def _write_cells(axes: Axes, frame: pd.DataFrame) -> None:
    values = frame.to_numpy(dtype=float)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else INK
            text = f"{value:.1f}".replace("-0.0", "0.0").replace("-", "\N{MINUS SIGN}")
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _percent(value: float) -> str:
    """
    >>> _percent(41.234), _percent(3.21), _percent(0.004), _percent(0.0)
    ('41 %', '3.2 %', '<0.1 %', '0 %')
    """
    if value == 0:
        return "0 %"
    if value < 0.1:
        return "<0.1 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"
