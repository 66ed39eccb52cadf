"""Pictures hold what they were given, stay readable, and have the same bytes every time."""

import hashlib
import struct

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regmix_hf.cards.mixture_plots import MAX_ROWS, draw_effects, draw_trade_off, draw_weights
from regmix_hf.cards.quality_plots import draw_learning_curve, draw_loss_curves, draw_predictions
from regmix_hf.cards.style import new_figure, png, spread, style

pytestmark = pytest.mark.long


def domains(count: int) -> list[str]:
    return [f"domain_{index:03d}" for index in range(count)]


def weights(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(count)
    prior, chosen = rng.dirichlet(np.ones(count)), rng.dirichlet(np.full(count, 0.3))
    return pd.DataFrame({"prior": prior, "chosen": chosen}, index=domains(count))


def effects(count: int) -> pd.DataFrame:
    values = np.random.default_rng(count).uniform(-1, 1, (count, count))
    return pd.DataFrame(values, index=domains(count), columns=domains(count))


def trade_off(count: int) -> pd.DataFrame:
    change = np.random.default_rng(count).normal(0, 0.1, count)
    return pd.DataFrame(
        {"change": change, "lower": change - 0.1, "upper": change + 0.1, "measured": change},
        index=domains(count),
    )


def predictions() -> tuple[pd.DataFrame, pd.DataFrame]:
    true = np.linspace(3.0, 4.0, 8)
    frame = pd.concat(
        pd.DataFrame({"estimator": name, "true": true, "predicted": true + shift})
        for name, shift in {"power_law": 0.0, "own_weight": 0.2}.items()
    )
    quality = pd.DataFrame(
        {"spearman": [0.975, 0.5], "pearson": [0.9, 0.4]}, index=["power_law", "own_weight"]
    )
    return frame, quality


def curve() -> pd.DataFrame:
    sizes = [8, 16, 32]
    return pd.DataFrame(
        {"estimator": "ridge", "num_runs": sizes, "mean": [0.5, 0.7, 0.8], "lower": 0.4, "upper": 0.9}
    )


def loss_curves() -> pd.DataFrame:
    rows = [
        (mixture, seed, tokens, 3.0 + offset + 1000 / tokens + 0.01 * seed)
        for mixture, offset in {"chosen": 0.0, "prior": 0.1}.items()
        for seed in (1, 2)
        for tokens in (1000, 2000, 3000)
    ]
    return pd.DataFrame(rows, columns=["mixture", "seed", "num_tokens", "loss"])


ALL = {
    "weights": lambda: draw_weights(weights(17)),
    "effects": lambda: draw_effects(effects(17), 64),
    "trade_off": lambda: draw_trade_off(trade_off(17), 0.9),
    "predictions": lambda: draw_predictions(*predictions(), "mean of 2 targets"),
    "learning_curve": lambda: draw_learning_curve(curve(), "mean of 2 targets"),
    "loss_curves": lambda: draw_loss_curves(loss_curves(), "mean of 2 targets"),
}


def texts(axes: Axes) -> list[str]:
    return [text.get_text().strip() for text in axes.texts]


def row_labels(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize("name", ALL)
def test_equal_input_gives_equal_bytes_whatever_the_readers_settings(name: str) -> None:
    first = png(ALL[name]())
    with matplotlib.rc_context({"font.size": 20.0, "axes.facecolor": "black", "savefig.dpi": 40}):
        second = png(ALL[name]())
    assert hashlib.sha256(first).hexdigest() == hashlib.sha256(second).hexdigest()


def test_a_picture_carries_no_date_or_version() -> None:
    data, kinds, place = png(draw_weights(weights(3))), set(), 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kinds.add(data[place + 4 : place + 8])
        place += 12 + length
    assert not kinds & {b"tEXt", b"iTXt", b"zTXt", b"tIME"}


@pytest.mark.parametrize("count", [3, 17, 100])
def test_pictures_of_domains_stay_of_readable_size(count: int) -> None:
    for figure in (
        draw_weights(weights(count)),
        draw_effects(effects(count), 64),
        draw_trade_off(trade_off(count), 0.9),
    ):
        width, height = figure.get_size_inches()
        assert 4 <= width <= 13
        assert 1 <= height <= 13
        assert len(row_labels(figure)) == min(count, MAX_ROWS)


def test_weights_are_sorted_and_written_beside_their_bars() -> None:
    frame = pd.DataFrame({"prior": [0.7, 0.2995, 0.0005], "chosen": [0.25, 0.75, 0.0]}, index=["a", "b", "c"])
    figure = draw_weights(frame)
    assert row_labels(figure) == ["b", "a", "c"]
    assert texts(figure.axes[0]) == ["75 %", "prior 30 %", "25 %", "prior 70 %", "0 %", "prior <0.1 %"]


def test_domains_beyond_the_most_are_summed_in_one_row() -> None:
    frame = weights(100)
    figure = draw_weights(frame)
    rest = frame.sort_values("chosen", ascending=False).iloc[MAX_ROWS - 1 :].sum() * 100
    assert row_labels(figure)[-1] == "61 other domains"
    assert texts(figure.axes[0])[-1] == f"prior {rest['prior']:.0f} %"


def test_effects_of_many_domains_keep_the_strongest() -> None:
    frame = effects(100) * 0.1
    frame.loc["domain_007", "domain_093"] = -1.0
    figure = draw_effects(frame, 64)
    rows = row_labels(figure)
    assert {"domain_007", "domain_093"} <= set(rows)
    shown = figure.axes[0].images[0].get_array()
    assert shown is not None
    assert shown[rows.index("domain_007"), rows.index("domain_093")] == -1.0


def test_an_effect_that_does_not_exist_is_left_blank() -> None:
    frame = pd.DataFrame([[0.5, np.nan], [-0.04, -1.0]], index=["a", "b"], columns=["a", "b"])
    figure = draw_effects(frame, 8)
    assert texts(figure.axes[0]) == ["0.5", "0.0", "\N{MINUS SIGN}1.0"]
    assert any("grey: did not vary" in text.get_text() for text in figure.texts)


def test_trade_off_starts_with_the_largest_gain() -> None:
    frame = trade_off(17)
    labels = row_labels(draw_trade_off(frame, 0.9))
    assert labels == list(frame.sort_values("change").index)


def test_trade_off_without_intervals_or_models_says_only_what_it_shows() -> None:
    frame = trade_off(3).assign(lower=np.nan, upper=np.nan).drop(columns="measured")
    figure = draw_trade_off(frame, 0.9)
    assert figure.texts[1].get_text() == "bars: predicted"


def test_every_estimator_has_a_panel_with_its_correlation() -> None:
    figure = draw_predictions(*predictions(), "mean of 2 targets")
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["power_law", "own_weight"]
    assert texts(figure.axes[0]) == ["Spearman 97.5 %\nPearson 90.0 %"]
    offsets = np.asarray(figure.axes[1].collections[0].get_offsets())
    assert np.allclose(offsets[:, 0] - offsets[:, 1], 0.2)


def test_lines_are_labelled_at_their_ends() -> None:
    figure = draw_loss_curves(loss_curves(), "mean of 2 targets")
    axes = figure.axes[0]
    assert sorted(texts(axes)) == ["chosen", "prior"]
    bold = [line for line in axes.lines if line.get_linewidth() > 2]
    assert np.asarray(bold[0].get_ydata())[-1] == pytest.approx(3.0 + 1000 / 3000 + 0.015)
    assert len(axes.lines) == 2 * (2 + 1)


def test_a_mean_of_seeds_is_promised_only_where_there_are_two() -> None:
    curves = loss_curves()
    assert "bold: their mean" in draw_loss_curves(curves, "loss").texts[1].get_text()
    assert "mean" not in draw_loss_curves(curves[curves["seed"] == 1], "loss").texts[1].get_text()


def test_an_axis_of_shares_ends_at_100_percent() -> None:
    frame = pd.DataFrame({"prior": [0.5, 0.5], "chosen": [1.0, 0.0]}, index=["a", "b"])
    axes = draw_weights(frame).axes[0]
    assert max(axes.get_xticks()) == 100
    assert axes.spines["bottom"].get_bounds() == (0, 100)


def test_spread_moves_labels_apart_and_no_more() -> None:
    assert spread([1.0, 2.0, 3.0], 0.5) == [1.0, 2.0, 3.0]
    assert spread([1.0, 1.0, 1.0], 1.0) == pytest.approx([0.0, 1.0, 2.0])
    moved = spread([0.0, 0.1, 0.15, 4.0], 1.0)
    assert np.diff(moved).min() >= 1.0 - 1e-12


def test_the_global_settings_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    with style():
        figure = new_figure(3, 2, "title", "subtitle")
    png(figure)
    assert dict(matplotlib.rcParams) == before
