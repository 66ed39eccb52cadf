"""The report says what the files say, whatever part of them there is."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.report import render, write_report
from regmix_hf.cards.summary import summarise
from regmix_hf.cards.swarm import SwarmFacts
from regmix_hf.cards.tables import Spread, score_rows
from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.views import stage_tables, summary_tables
from regmix_hf.errors import StudyError
from regmix_hf.files import read_json, read_parquet, read_yaml, write_json, write_parquet
from regmix_hf.recipe.schema import Choice, Group
from regmix_hf.regression.verdict import CANNOT, Verdict
from regmix_hf.study import Study

from .conftest import SENTENCE, VERDICT

pytestmark = pytest.mark.long

GOLDEN = Path(__file__).parent / "report.md"
PICTURES = {"weights", "trade_off", "predictions", "learning_curve", "effects", "loss_curves"}


def report(study: Study) -> str:
    return write_report(StudyFacts.read(study), study.report).read_text()


def drawn(study: Study) -> set[str]:
    return {path.stem for path in study.report.glob("*.png")}


def test_the_whole_report(study: Study) -> None:
    """After a change that is meant: `REGMIX_UPDATE_GOLDEN=1 pytest tests/cards/test_report.py`."""
    text = report(study)
    if os.environ.get("REGMIX_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert drawn(study) == PICTURES


@pytest.mark.usefixtures("drawn_once")
def test_every_picture_is_shown(study: Study) -> None:
    text = report(study)
    assert all(f"]({name}.png)" in text for name in PICTURES)


def test_rebuilt_from_files_it_has_the_same_bytes(study: Study) -> None:
    report(study)
    before = {path.name: path.read_bytes() for path in study.report.iterdir()}
    for path in study.report.iterdir():
        path.unlink()
    report(study)
    assert {path.name: path.read_bytes() for path in study.report.iterdir()} == before


STAGES = ["corpus", "mixtures", "proxies", "regression", "mixture", "models", "evaluation"]


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("count", range(len(STAGES) + 1))
def test_later_stages_may_be_missing(study: Study, count: int) -> None:
    import shutil

    for name in STAGES[count:]:
        path: Path = getattr(study, name)
        shutil.rmtree(path if path.is_dir() else path.parent)
    text = report(study)
    assert ("## The proxies" in text) == (count >= 3)
    assert ("## How well losses are predicted" in text) == (count >= 4)
    assert ("## The mixture" in text) == (count >= 5)
    assert ("## What the final models say" in text) == (count >= 6)
    assert ("## Evaluation" in text) == (count >= 7)
    assert "## Do it again" in text
    assert "None" not in text
    assert all(f"]({name}.png)" in text for name in drawn(study))
    assert "\n\n\n" not in text


@pytest.mark.usefixtures("drawn_once")
def test_a_fit_and_a_choice_of_version_0_1_have_no_verdict(study: Study) -> None:
    file = study.regression / "summary.json"
    newer = ("scale", "verdict", "promises")
    write_json(file, {key: value for key, value in read_json(file).items() if key not in newer})
    lines = [line for line in study.mixture.read_text().splitlines() if "speaks_of" not in line]
    study.mixture.write_text("\n".join(line for line in lines if not line.startswith("verdict:")))
    text = report(study)
    assert "**Verdict:**" not in text
    assert "best out of fold" not in text
    assert text.count("losses of a new run of the size and length of those fitted on") == 2
    assert "None" not in text


@pytest.mark.parametrize("damage", [{"verdict": {"word": "weakly"}}, {"promises": {"ridge": {"run": "p1"}}}])
def test_what_a_fit_says_of_itself_is_damaged(study: Study, damage: dict[str, object]) -> None:
    file = study.regression / "summary.json"
    write_json(file, {**read_json(file), **damage})
    with pytest.raises(StudyError, match=f"summary.json.*holds (a )?{next(iter(damage))}"):
        report(study)


@pytest.mark.usefixtures("drawn_once")
def test_where_the_regression_knows_nothing_it_is_said_first_and_once(study: Study) -> None:
    cannot = str(Verdict.from_plain({**VERDICT, "word": CANNOT}))
    text = study.mixture.read_text().replace(SENTENCE, cannot).replace('"weakly"', f'"{CANNOT}"')
    study.mixture.write_text(text)
    written = report(study)
    assert written.count("cannot tell mixtures apart: keep the prior") == 1
    assert written.index("cannot tell mixtures apart") < written.index("**In short:**")


@pytest.mark.usefixtures("drawn_once")
def test_pictures_of_what_is_gone_go(study: Study) -> None:
    report(study)
    (study.models / "results.parquet").unlink()
    report(study)
    assert drawn(study) == PICTURES - {"loss_curves"}


@pytest.mark.usefixtures("drawn_once")
def test_diverged_and_missing_proxies_are_counted(study: Study) -> None:
    frame = read_parquet(study.proxies / "results.parquet").iloc[:7]
    write_parquet(study.proxies / "results.parquet", frame)
    assert "6 of 8 proxies ended well, 1 diverged, 1 not run yet." in report(study)


@pytest.mark.usefixtures("drawn_once")
def test_a_final_mixture_outside_the_bounds_is_said_to_be_a_comparison_only(study: Study) -> None:
    bounds = Choice(groups={"words": Group(domains=["prose", "maths"], max=0.69)})  # uniform has two thirds
    text = report(Study(study.recipe.model_copy(update={"choice": bounds})))
    assert "\n`prior`: outside the bounds of `choice`, so a comparison only.\n" in text


@pytest.mark.usefixtures("drawn_once")
def test_text_of_which_little_is_read_is_not_shown_as_unread(study: Study) -> None:
    frame = read_parquet(file := study.mixture.with_suffix(".parquet"))
    frame.loc[frame["domain"] == "code", "epochs"] = 0.0041
    write_parquet(file, frame)
    assert "| 0.0041 |" in report(study)


@pytest.mark.usefixtures("drawn_once")
def test_a_final_model_that_diverged_is_left_out_and_named(study: Study) -> None:
    frame = read_parquet(study.models / "results.parquet")
    frame.loc[frame["run_id"] == "prior1", "status"] = "diverged"
    write_parquet(study.models / "results.parquet", frame)
    text = report(study)
    assert "A run on `prior` diverged or failed and is left out." in text
    assert "| `prior` | 1 | 2.6225 |" in text


@pytest.mark.usefixtures("drawn_once")
def test_models_of_before_a_target_came_are_named_and_not_compared(study: Study) -> None:
    frame = read_parquet(study.models / "results.parquet")
    frame.loc[frame["mixture_id"] == "prior", "loss/prose"] = np.nan
    write_parquet(study.models / "results.parquet", frame)
    text = report(study)
    assert "\n`prior`: not measured on the target, so not compared.\n" in text
    assert "`chosen` is not shown to differ from `uniform`" in text
    assert "to `prior`" not in text
    assert "nan nats" not in text
    assert "| nan" not in text


@pytest.mark.usefixtures("drawn_once")
def test_one_seed_per_mixture_leaves_the_verdict_open(study: Study) -> None:
    frame = read_parquet(study.models / "results.parquet")
    write_parquet(study.models / "results.parquet", frame[frame["seed"] == 1])
    assert report(study).count("With one seed per mixture nobody can say") == 2


def test_mixtures_of_equal_weights_share_a_run(study: Study) -> None:
    frame = read_parquet(study.models / "results.parquet")
    frame.loc[frame["mixture_id"] == "uniform", "run_id"] = ["prior1", "prior2"]
    write_parquet(study.models / "results.parquet", frame)
    facts = StudyFacts.read(study)
    assert facts.final is not None
    curves = facts.final.curves.groupby(["mixture", "seed"]).size()
    assert dict(curves.groupby("mixture").size()) == {"chosen": 2, "prior": 2, "uniform": 2}
    assert set(curves) == {3}


def test_effects_are_rank_correlations_over_usable_runs() -> None:
    results = pd.DataFrame(
        {
            "status": ["ok", "ok", "ok", "ok", "diverged"],
            "weight/a": [0.1, 0.2, 0.3, 0.4, 0.9],
            "weight/b": [0.0, 0.0, 0.0, 0.0, 0.1],
            "loss/a": [4.0, 3.0, 2.0, 1.0, 9.0],
            "loss/c": [1.0, 3.0, 2.0, np.nan, 9.0],
        }
    )
    effects = SwarmFacts(results, 5).effects
    assert list(effects.index) == ["a", "b"]
    assert list(effects.columns) == ["a", "c"]
    assert effects.loc["a", "a"] == pytest.approx(-1.0)
    assert effects.loc["a", "c"] == pytest.approx(0.5)
    assert effects.loc["b"].isna().all()


def test_the_summary_holds_the_answer(study: Study) -> None:
    summary = summarise(StudyFacts.read(study))
    assert [row["domain"] for row in summary.mixture] == ["code", "prose", "maths"]
    assert summary.mixture[0]["change"] == pytest.approx(0.45)
    assert [row["mixture"] for row in summary.predicted] == ["chosen", "prior"]
    assert summary.held_out[0]["estimator"] == "power_law"
    assert summary.held_out[0]["spearman"] == pytest.approx(0.8)
    losses = {row["mixture"]: row["loss"] for row in summary.final}
    assert losses["chosen"].mean == pytest.approx(2.44375)
    assert losses["chosen"].deviation == pytest.approx(0.01 * np.sqrt(2))
    assert [comparison.baseline for comparison in summary.comparisons] == ["prior", "uniform"]


def test_the_summary_of_nothing_is_empty(empty_study: Study) -> None:
    summary = summarise(StudyFacts.read(empty_study))
    assert summary.target == "mean of 4 targets"
    assert not any([summary.mixture, summary.predicted, summary.held_out, summary.final, summary.comparisons])


def test_scores_are_averaged_over_examples_then_spread_over_seeds(study: Study) -> None:
    rows = {row.task: row for row in score_rows(read_parquet(study.evaluation / "results.parquet"), ["piqa"])}
    assert list(rows) == ["validation", "held_out_text", "piqa"]
    assert rows["validation"].metric == "bits_per_byte"
    assert rows["piqa"].examples == (0, 1)
    assert rows["piqa"].domain is None
    assert rows["piqa"].values["prior"].mean == pytest.approx(0.5 + 0.02 + 0.005)
    assert rows["piqa"].values["prior"].num_seeds == 2
    assert rows["piqa"].best == "prior"
    assert rows["validation"].best == "chosen"
    assert rows["validation"].values["chosen"] == Spread(
        pytest.approx(1.815), pytest.approx(0.01 / np.sqrt(2)), 2, pytest.approx(0.02)
    )


def test_a_score_that_was_not_finite_is_left_out(study: Study) -> None:
    scores = read_parquet(study.evaluation / "results.parquet")
    scores.loc[scores["mixture_id"] == "prior", "value"] = np.nan
    rows = score_rows(scores, ["piqa"])
    assert all(set(row.values) == {"chosen", "uniform"} for row in rows)


def _answers(
    task: str, metric: str, value: float, *, shots: int = 0, model: str = "chosen"
) -> dict[str, object]:
    names = {"model": model, "mixture_id": "chosen", "task": task, "domain": None, "metric": metric}
    return {**names, "num_fewshot": shots, "value": value, "higher_is_better": True}


def test_tasks_are_averaged_by_their_normalised_accuracy_where_they_have_one() -> None:
    scores = pd.DataFrame(
        [
            _answers("piqa", "acc", 0.9),
            _answers("piqa", "acc_norm", 0.6, shots=0),
            _answers("piqa", "acc_norm", 0.8, shots=5),
            _answers("copa", "acc", 0.5),
            _answers("qqp", "f1", 0.1),
            _answers("of_a_group", "acc", 0.0),
        ]
    )
    *_, average = score_rows(scores, ["piqa", "copa", "qqp", "held_out_text"])
    assert average.task == "average of 2 tasks"
    assert average.values["chosen"].mean == pytest.approx((0.7 + 0.5) / 2)
    assert average.examples == (0, 5)


def test_a_model_that_lacks_a_task_has_no_average() -> None:
    rows = [
        _answers("piqa", "acc", 0.9),
        _answers("copa", "acc", 0.5),
        _answers("piqa", "acc", 0.1, model="other"),
    ]
    *_, average = score_rows(pd.DataFrame(rows), ["piqa", "copa"])
    assert average.values["chosen"] == Spread(pytest.approx(0.7), None, 1)


def test_one_task_needs_no_average() -> None:
    rows = score_rows(pd.DataFrame([_answers("piqa", "acc", 0.9)]), ["piqa"])
    assert [row.task for row in rows] == ["piqa"]


def test_the_verb_evaluate_prints_promises_and_scores(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    Console(Format.HUMAN).tables(stage_tables(study, "evaluate", Format.HUMAN))
    text = capsys.readouterr().out
    assert "promised, measured, promised minus measured (nats per token, 90 % interval)" in text
    assert all(part in text for part in ("2.7537", "+0.3100", "0.2M", "chosen_regret"))
    assert "1.8150 \N{PLUS-MINUS SIGN} 0.0071" in text
    Console(Format.JSON).tables(stage_tables(study, "evaluate", Format.JSON))
    tables = json.loads(capsys.readouterr().out)
    assert tables["promises"]["rows"][0]["difference"] == pytest.approx(0.31)
    assert tables["scores"]["rows"][0]["value"] == pytest.approx(1.81)
    scores = read_parquet(study.evaluation / "results.parquet")
    assert len(tables["scores"]["rows"]) == len(scores)
    assert " metric " in text, "there are several"
    write_parquet(study.evaluation / "results.parquet", scores[scores["task"] == "validation"])
    (*_, table) = stage_tables(study, "evaluate", Format.HUMAN)
    assert table.title.startswith("scores in bits_per_byte (mean over seeds")
    assert {row["metric"] for row in table.rows} == {None}


ROUNDS = """\
rounds:
- number: 1
  target: TARGET
  estimator: ridge
  weights: WEIGHTS
  trials:
  - {mixture_id: m1, kind: chosen, promised: 2.0, lower: 1.9, upper: 2.1, measured: [1.95, 2.15]}
  - {mixture_id: m2, kind: prior, promised: 2.5, lower: 2.4, upper: 2.6, measured: [2.7]}
  - {mixture_id: m3, kind: near, promised: 2.0, lower: 1.9, upper: 2.1, measured: []}
"""


@pytest.mark.usefixtures("drawn_once")
def test_a_choice_that_was_tried_begins_with_what_was_promised_and_measured(study: Study) -> None:
    record = read_yaml(study.mixture)
    target = record.get("target", "None")
    rounds = ROUNDS.replace("TARGET", target).replace("WEIGHTS", json.dumps(dict(record["weights"])))
    other = rounds.replace(f"target: {target}", "target: another").replace("number: 1", "number: 2")
    # Its number in the table of mixtures follows the experts'; for a reader it is the first.
    rounds = rounds.replace("number: 1", "number: 5")
    study.mixture.write_text(study.mixture.read_text() + rounds + other.removeprefix("rounds:\n"))
    lines = report(study).splitlines()
    assert lines[2].startswith(
        "**Promised 2.0000 [1.9000, 2.1000], measured 2.0500 ± 0.1414 over 2 seeds, promised minus measured "
        "-0.0500"
    )
    assert "within the 90 % interval.**" in lines[3]
    assert not any("was chosen again, and now differs" in line for line in lines)
    assert "| 1 | the mixture chosen then | 2.0000 | 1.9000 to 2.1000 | 2.0500 ± 0.1414 | -0.0500 |" in lines
    assert "| 1 | the prior | 2.5000 | 2.4000 to 2.6000 | 2.7000 | -0.2000 |" in lines
    assert not any(line.startswith("| 2 |") for line in lines), "it is of another target"
    assert not any("near the chosen one" in line for line in lines), "nothing was measured there"
    [table, *_] = [
        table for table in summary_tables(study) if table.title.startswith("the choice as proxies")
    ]
    assert [(row["round"], row["tried_at"]) for row in table.rows] == [(1, "chosen"), (1, "prior")]


def test_rounds_that_cannot_be_read_are_damage(study: Study) -> None:
    study.mixture.write_text(study.mixture.read_text() + "rounds: [{number: one}]\n")
    with pytest.raises(StudyError, match=r"mixture.yaml.*holds rounds that cannot be read"):
        report(study)


def test_where_small_models_do_not_tell_of_the_target_it_is_said_among_the_first(study: Study) -> None:
    file = study.regression / "summary.json"
    summary = read_json(file)
    sizes = {"small": "1M on 9 tokens", "large": "60M on 9 tokens", "num_mixtures": 16}
    rows = [
        {"target": summary["target"], **sizes, "spearman": -0.06, "low": -0.5, "high": 0.4},
        {"target": "code", **sizes, "spearman": 0.9, "low": 0.7, "high": 1.0},
    ]
    write_json(file, summary | {"size_agreement": rows})
    text = render(StudyFacts.read(study), {})
    short, rest = text.split("## Promised and measured")
    assert "- Small models do not tell for this target: " in short
    assert "16 mixtures of 1M on 9 tokens against 60M on 9 tokens, rank correlation -6 % [-50, 40]." in short
    assert "| `code` | 90 % [70, 100] | small models tell |" in rest
    write_json(file, summary | {"size_agreement": [{"target": "code"}]})
    with pytest.raises(StudyError, match="an agreement of sizes"):
        StudyFacts.read(study)
