"""Pictures of how good things are: the regression on unseen runs, and the final models as they train."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from regmix_hf.cards.style import (
    BLUE,
    INK,
    MUTED,
    RULE,
    colours,
    label_ends,
    new_figure,
    rows_axis,
    style,
)
from regmix_hf.quantities import NATS, Quantity
from regmix_hf.readable import count_of, short

_MAX_PANELS_PER_ROW = 3
#: What is drawn where nothing else is said.
_LOSS = Quantity("loss", NATS)


def draw_predictions(
    predictions: pd.DataFrame,
    quality: pd.DataFrame,
    target: str,
    unit: Quantity = _LOSS,
    test: str = "holdout",
) -> Figure:
    """Predicted against true values of runs, one panel per estimator.

    Args:
        predictions: Columns `estimator`, `true`, `predicted` (in `unit`), one row per run and estimator.
        quality: Index: estimators, best first; columns `spearman` and `pearson`.
        target: What was predicted, in words.
        unit: Its unit and direction.
        test: Which runs they are, as `HeldOut.test` has it.
    """
    names = list(quality.index)
    rows = math.ceil(len(names) / _MAX_PANELS_PER_ROW)
    columns = math.ceil(len(names) / rows)
    low, high = _limits(predictions[["true", "predicted"]].to_numpy(dtype=float))
    runs = predictions.groupby("estimator").size().max()
    subtitle = f"{target}, {count_of(runs, 'run')} ({test}); line: predicted = true"
    title = f"Predicted and true {'losses' if unit.noun == 'loss' else 'values'}"
    with style():
        size = (max(5.2, 2.75 * columns + 0.4), 2.75 * rows + 0.3)
        figure = new_figure(*size, title, subtitle)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for panel, name in zip(panels.flat, names, strict=False):
            _draw_panel(panel, predictions[predictions["estimator"] == name], low, high)
            spearman, pearson = quality.loc[name, ["spearman", "pearson"]]
            panel.set_title(name, fontsize=9.5, pad=4)
            note = f"Spearman {100 * spearman:.1f} %\nPearson {100 * pearson:.1f} %"
            panel.text(0.04, 0.96, note, transform=panel.transAxes, va="top", fontsize=8.5, color=BLUE)
        for panel in panels.flat[len(names) :]:
            panel.set_visible(False)
        for panel in panels.flat[max(0, len(names) - columns) : len(names)]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel(unit.noted("predicted"))
        for panel in panels[:, 0]:
            panel.set_ylabel(unit.noted("true"))
    return figure


def draw_learning_curve(curve: pd.DataFrame, target: str) -> Figure:
    """Rank correlation on unseen runs against the number of proxies that were fitted on.

    Args:
        curve: Columns `estimator`, `num_runs`, `mean`, `lower`, `upper`: Spearman's correlation over random
            subsets of the swarm.
        target: What was predicted, in words.
    """
    names = list(dict.fromkeys(curve["estimator"]))
    colour = colours(names)
    with style():
        subtitle = f"{target}; band: spread over random subsets of the swarm"
        figure = new_figure(7.2, 3.6, "Would more proxies help?", subtitle)
        axes = figure.subplots()
        ends = {}
        for name in names:
            part = curve[curve["estimator"] == name].sort_values("num_runs")
            x, y = part["num_runs"].to_numpy(dtype=float), 100 * part["mean"].to_numpy(dtype=float)
            band = [100 * part[bound].to_numpy(dtype=float) for bound in ("lower", "upper")]
            axes.fill_between(x, *band, color=colour[name], alpha=0.13, linewidth=0)
            axes.plot(x, y, color=colour[name], marker="o", markersize=3.5, linewidth=1.8)
            ends[name] = (x[-1], y[-1])
        axes.set_xscale("log", base=2)
        sizes = sorted(set(curve["num_runs"]))
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(top=min(axes.get_ylim()[1], 100.5))
        axes.set_xlabel("proxies fitted on")
        axes.set_ylabel("Spearman on unseen runs (%)")
        figure.draw_without_rendering()
        label_ends(axes, ends, colour)
    return figure


def draw_loss_curves(curves: pd.DataFrame, target: str, unit: Quantity = _LOSS) -> Figure:
    """The target while final models train: seeds as thin lines, where there are two their mean bold.

    Args:
        curves: Columns `mixture`, `seed`, `num_tokens`, `loss` (the target, in `unit`).
        target: What it is, in words.
        unit: Its unit and direction.
    """
    names = list(dict.fromkeys(curves["mixture"]))
    colour = colours(names)
    with style():
        seeds = curves.groupby("mixture")["seed"].nunique()
        subtitle = f"{target}; thin: one seed, bold: their mean" if seeds.max() > 1 else f"{target}; one seed"
        figure = new_figure(7.2, 3.8, "Final models while they train", subtitle)
        axes = figure.subplots()
        ends = {}
        for name in names:
            part = curves[curves["mixture"] == name]
            for _, run in part.groupby("seed"):
                axes.plot(run["num_tokens"], run["loss"], color=colour[name], linewidth=0.8, alpha=0.55)
            mean = part.groupby("num_tokens")["loss"].mean()
            axes.plot(mean.index, mean.to_numpy(), color=colour[name], linewidth=2.4)
            ends[name] = (float(mean.index[-1]), float(mean.iloc[-1]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: short(tokens)))
        axes.set_xlabel("training tokens")
        axes.set_ylabel(unit.noted(unit.noun))
        figure.draw_without_rendering()
        label_ends(axes, ends, colour)
    return figure


def draw_since_start(changes: pd.DataFrame) -> Figure:
    """By how much training changed each domain's loss, from the model that it started from.

    Args:
        changes: Domains x mixtures (nats per token, negative is better).
    """
    names = [str(name) for name in changes.columns]
    frame = changes.sort_values(names[0], kind="stable")
    colour = colours(names)
    rows = np.arange(len(frame))
    with style():
        title = "What continued training changed"
        figure = new_figure(8.0, 1.1 + 0.28 * len(frame), title, "dots: mean over seeds of each mixture")
        axes = figure.subplots()
        values = frame.to_numpy(dtype=float)
        axes.hlines(rows, values.min(axis=1), values.max(axis=1), color=RULE, linewidth=3, zorder=1)
        for name in names:
            axes.scatter(frame[name], rows, s=30, color=colour[name], label=name, zorder=2)
        axes.axvline(0, color=INK, linewidth=0.8)
        rows_axis(axes, list(map(str, frame.index)))
        axes.set_xlabel("loss at the end minus before the first step (nats per token); left of 0 is better")
        axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def _draw_panel(panel: Axes, part: pd.DataFrame, low: float, high: float) -> None:
    panel.plot([low, high], [low, high], color=MUTED, linewidth=0.9, zorder=1)
    panel.scatter(part["predicted"], part["true"], s=16, color=BLUE, alpha=0.65, linewidth=0, zorder=2)
    panel.set_xlim(low, high)
    panel.set_ylim(low, high)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.yaxis.set_major_locator(MaxNLocator(5))


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 0.05
    return low - margin, high + margin
