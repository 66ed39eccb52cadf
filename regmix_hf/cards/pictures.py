"""The pictures of a study by name: each is drawn from its facts, or not at all where they do not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd
from matplotlib.figure import Figure

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.mixture_plots import draw_effects, draw_trade_off, draw_weights
from regmix_hf.cards.quality_plots import (
    draw_learning_curve,
    draw_loss_curves,
    draw_predictions,
    draw_since_start,
)
from regmix_hf.cards.style import png
from regmix_hf.quantities import Quantity


def _draw_weights(facts: StudyFacts) -> Figure | None:
    return draw_weights(facts.choice.weights) if facts.choice else None


def _draw_trade_off(facts: StudyFacts) -> Figure | None:
    if facts.choice is None:
        return None
    trade_off = facts.choice.trade_off
    if (measured := measured_change(facts)) is not None:
        trade_off = trade_off.assign(measured=measured)
    return draw_trade_off(trade_off, facts.choice.coverage)


def measured_change(facts: StudyFacts) -> pd.Series[float] | None:
    """By how much the final models' targets differ, chosen minus prior, each in its unit."""
    return facts.final.change("chosen", "prior") if facts.final else None


def _draw_predictions(facts: StudyFacts) -> Figure | None:
    if facts.regression is None:
        return None
    known = facts.regression.predictions.dropna(subset=["true", "predicted"])
    if known.empty:
        return None
    words, quantity = target_words(facts), facts.target.quantity
    test = str(facts.regression.summary["judged_on"])
    return draw_predictions(known, facts.regression.judged, words, quantity, test)


def _draw_learning_curve(facts: StudyFacts) -> Figure | None:
    if facts.regression is None:
        return None
    curve = facts.regression.learning_curve.dropna(subset=["mean"])
    return draw_learning_curve(curve, target_words(facts)) if curve["num_runs"].nunique() > 1 else None


def _draw_effects(facts: StudyFacts) -> Figure | None:
    if facts.swarm is None or len(facts.swarm.usable) < 2:
        return None
    return draw_effects(facts.swarm.effects, len(facts.swarm.usable))


def _draw_loss_curves(facts: StudyFacts) -> Figure | None:
    if facts.final is None or facts.final.curves.empty:
        return None
    return draw_loss_curves(facts.final.curves, target_words(facts), facts.target.quantity)


def _draw_since_start(facts: StudyFacts) -> Figure | None:
    if facts.final is None or facts.final.since_start.empty:
        return None
    return draw_since_start(facts.final.since_start)


#: What draws each picture; `None` is no picture.
PICTURES: dict[str, Callable[[StudyFacts], Figure | None]] = {
    "weights": _draw_weights,
    "trade_off": _draw_trade_off,
    "predictions": _draw_predictions,
    "learning_curve": _draw_learning_curve,
    "effects": _draw_effects,
    "loss_curves": _draw_loss_curves,
    "since_start": _draw_since_start,
}


def draw_pictures(facts: StudyFacts, wanted: Iterable[str] = tuple(PICTURES)) -> dict[str, bytes]:
    """Draw pictures as PNG by name, those that there is enough known for."""
    figures = {name: PICTURES[name](facts) for name in wanted}
    return {name: png(figure) for name, figure in figures.items() if figure is not None}


def target_words(facts: StudyFacts) -> str:
    """What is meant: the loss of one domain, what the domains' losses are combined to, or other targets."""
    if facts.target.quantity.noun != "loss":
        return str(facts.target)
    if len(facts.target.weights) == 1:
        return f"validation loss of {facts.target}"
    words = f"validation loss, {facts.target}"
    return words.replace("targets", "domains") if facts.recipe else words


def error_unit(target: Quantity) -> str:
    """What stands behind the name of an error: its unit in brackets, where there is one."""
    return f" ({target.unit.removesuffix(' per token')})" if target.unit else ""
