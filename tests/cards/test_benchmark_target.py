"""A study whose target is better when higher: the whole report and its cards say it so, and never in nats."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.mixture_card import MixtureCard
from regmix_hf.cards.pictures import PICTURES
from regmix_hf.cards.regressor_card import RegressorCard
from regmix_hf.cards.report import render
from regmix_hf.cards.runs_card import RunsCard
from regmix_hf.cards.summary import summarise
from regmix_hf.cli.console import Format
from regmix_hf.cli.views import chosen_tables, promise_tables, stage_tables, summary_tables
from regmix_hf.files import read_json, read_parquet, write_json, write_parquet, write_text
from regmix_hf.quantities import Quantity
from regmix_hf.recipe import Hub
from regmix_hf.study import Study
from regmix_hf.study.address import Address
from regmix_hf.study.promises import Promises

GOLDEN = Path(__file__).parent / "benchmark"
TARGET = Quantity("arc/acc_norm", "share", "higher")
BITS = Quantity("bpb/arc", "bits per byte")


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """With what is measured on a task whose teacher is `code`."""
    share = 0.25 + 0.2 * table["weight/code"] + 0.001 * table["seed"]
    errors = {"bpb_stderr/arc": 0.02, "arc/acc_norm_stderr": 0.01}
    return table.assign(**{"arc/acc_norm": share, "bpb/arc": 2 - share}, **errors)


@pytest.fixture
def benchmark(study: Study) -> Study:
    """The study of the report's tests, had it asked for an accuracy."""
    for file in (study.proxies / "results.parquet", study.models / "results.parquet"):
        write_parquet(file, scored(read_parquet(file)))
    for name in ("quality", "predictions"):
        table = read_parquet(study.regression / f"{name}.parquet")
        combined = table["kind"] == "combined"
        write_parquet(
            study.regression / f"{name}.parquet",
            table.assign(
                target=table["target"].mask(combined, TARGET.name),
                kind=table["kind"].mask(combined, "single"),
            ),
        )
    losses = [Quantity(name, "nats per token") for name in ("prose", "code", "maths", "letters")]
    summary = read_json(study.regression / "summary.json")
    more = {
        "target": TARGET.name,
        "target_value": TARGET.name,
        "quantities": [one.plain for one in (*losses, BITS, TARGET)],
        "carries": [
            {"target": "prose", "unit": "nats per token", "spread": 0.2, "noise": 0.01, "signal": 20.0},
            {"target": TARGET.name, "unit": "share", "spread": 0.04, "noise": 0.05, "signal": 0.8}
            | {"spearman": 0.612},
        ],
        "dropped_targets": {"boolq/acc": 0.4},
        "num_runs": {"fit": 5, "holdout": 2},
        "domains": ["prose", "code", "maths"],
    }
    promises = {"power_law": {"run": "p3", "promised": 0.41, "measured": 0.38, "difference": 0.03}}
    write_json(study.regression / "summary.json", {**summary, **more, "promises": promises})
    file = study.mixture.parent / "mixture.parquet"
    table = read_parquet(file).assign(unit="nats per token", direction="lower")
    added = pd.DataFrame(
        {
            "domain": [BITS.name, TARGET.name],
            **{"weight": 0.0, "prior": 0.0, "epochs": np.nan},
            **{"loss": [1.6, 0.4], "loss_lower": [1.55, 0.38], "loss_upper": [1.65, 0.42]},
            **{"prior_loss": [1.69, 0.31], "change": [-0.09, 0.09]},
            **{"unit": [BITS.unit, TARGET.unit], "direction": ["lower", "higher"]},
        }
    )
    write_parquet(file, pd.concat([table, added], ignore_index=True))
    text = study.mixture.read_text()
    text = text.replace("{loss: 2.84, lower: 2.74, upper: 2.94}", "{loss: 0.4, lower: 0.38, upper: 0.42}")
    text = text.replace("{loss: 2.81, lower: 2.71, upper: 2.91}", "{loss: 0.31, lower: 0.29, upper: 0.33}")
    text = text.replace("is_better_than_prior: false", "is_better_than_prior: true")
    write_text(study.mixture, f"{text}target: {TARGET.name}\nunit: share\ndirection: higher\n")
    file = study.evaluation / "promises.json"
    told = {"target": TARGET.name, "unit": "share", "direction": "higher"}
    record = read_json(file)
    mixtures = [
        {key: value / 10 if isinstance(value, float) else value for key, value in one.items()}
        for one in record["mixtures"]
    ]
    scores = {"spearman": 1.0, "chosen_regret": 0.02}
    write_json(file, {**record, **told, "mixtures": mixtures, "scores": scores})
    regression = study.recipe.regression.model_copy(update={"target": TARGET.name})
    proxy = study.recipe.proxy.model_copy(update={"tasks": ["arc"], "metrics": [TARGET.name]})
    asked = {"regression": regression, "proxy": proxy, "hub": Hub(namespace="me")}
    return Study(study.recipe.model_copy(update=asked))


def pages(study: Study) -> dict[str, str]:
    facts, address = StudyFacts.read(study), Address.of(study.recipe)
    return {
        "report": render(facts, {name: f"{name}.png" for name in PICTURES}),
        "regressor": RegressorCard(address, facts, facts.regression, ("power_law",), {}).render("v1"),
        "mixture": MixtureCard(address, facts, facts.choice, {}, {}).render("v1"),
        "runs": RunsCard(
            address,
            study.recipe,
            facts.corpus,
            read_parquet(study.mixtures),
            facts.swarm.results,
            num_points=21,
            has_picture=True,
            sources=(),
        ).render("v1"),
    }


@pytest.mark.parametrize("kind", ["report", "regressor", "mixture", "runs"])
def test_the_whole_page(benchmark: Study, kind: str) -> None:
    """After a change that is meant: `REGMIX_UPDATE_GOLDEN=1 pytest tests/cards/test_benchmark_target.py`."""
    text, golden = pages(benchmark)[kind], GOLDEN / f"{kind}.md"
    if os.environ.get("REGMIX_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    assert "None" not in text
    for line in text.splitlines():
        assert not ("acc_norm" in line and re.search(r"acc_norm`?[^(]*\(nats", line)), line


def test_more_is_better_in_every_comparison(benchmark: Study) -> None:
    facts = StudyFacts.read(benchmark)
    against = {one.baseline: one for one in summarise(facts).comparisons}
    assert against["prior"].gain == pytest.approx(0.2 * (0.75 - 0.3))
    assert against["prior"].sentence.startswith("`chosen` beats `prior` by 0.090 share")
    assert facts.swarm.effects.loc["code", "arc/acc_norm"] < -0.9  # as of what is made small
    promises = Promises.load(benchmark.evaluation / "promises.json")
    assert "measured higher." in promises.sentences[-1]


def test_tables_keep_units_apart(benchmark: Study) -> None:
    (_, *predicted) = chosen_tables(benchmark.mixture)
    assert [table.title for table in predicted] == [
        "predicted losses (nats per token, 90 % interval)",
        "predicted targets (bits per byte, 90 % interval)",
        "predicted targets (share, higher is better, 90 % interval)",
    ]
    titles = [table.title for table in summary_tables(benchmark)]
    titles += [table.title for table in promise_tables(Promises.load(benchmark.evaluation / "promises.json"))]
    assert not any("nats" in title for title in titles)
    assert "final models: arc/acc_norm (share, higher is better)" in titles
    (*_, carries) = stage_tables(benchmark, "fit", Format.HUMAN)
    assert [row["signal"] for row in carries.rows] == [20.0, 0.8]


def test_every_picture_is_drawn(benchmark: Study) -> None:
    facts = StudyFacts.read(benchmark)
    figures = {name: draw(facts) for name, draw in PICTURES.items()}
    assert figures.pop("loss_curves") is None  # nobody measured it on the way
    labels = [axes.get_xlabel() for axes in figures["trade_off"].axes]
    assert labels == [
        "change of loss, chosen minus prior (nats per token); left of 0 is better",
        "change of value, chosen minus prior (bits per byte); left of 0 is better",
        "change of value, chosen minus prior (share); right of 0 is better",
    ]
    assert figures["predictions"].axes[0].get_ylabel() == "true (share, higher is better)"


def test_scores_have_standard_errors_beside_what_was_promised(benchmark: Study) -> None:
    scores = read_parquet(benchmark.evaluation / "results.parquet")
    scores = scores.replace({"task": {"piqa": "arc"}, "metric": {"acc": "acc_norm"}})
    write_parquet(benchmark.evaluation / "results.parquet", scores)
    (*_, table) = stage_tables(benchmark, "evaluate", Format.HUMAN)
    (row,) = [row for row in table.rows if row["task"] == "arc"]
    assert row["promised"] == "0.4000 [0.3800, 0.4200]"
    assert row["value"]["chosen"] == "0.5230 \N{PLUS-MINUS SIGN} 0.0000 (0.0200)"
    assert "standard error" in table.title
