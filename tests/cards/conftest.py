"""A small study by hand: the files that the stages leave, with numbers a person can check."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.files import read_parquet, write_json, write_parquet, write_text
from regmix_hf.recipe import Recipe
from regmix_hf.regression.verdict import Verdict
from regmix_hf.study import Study
from regmix_hf.study.names import PROMISES
from regmix_hf.study.promises import Promise, Promises, Size

from .browser import Browser, program
from .explored import corpus_of

PRIOR = {"prose": 0.5, "code": 0.3, "maths": 0.2}
CHOSEN = {"prose": 0.25, "code": 0.75, "maths": 0.0}
VERSIONS = "regmix_hf 0.1.0, torch 2.13.0"
VERDICT = {
    "word": "weakly",
    "reasons": [
        "rank correlation 80 % [31, 97] over 7 runs (5-fold)",
        "the trivial baseline has 30 %",
    ],
    "spearman": 0.8,
    "low": 0.31,
    "high": 0.97,
    "baseline": 0.3,
}
SENTENCE = str(Verdict.from_plain(VERDICT))


@pytest.fixture(scope="session")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if program() is None:
        pytest.skip("there is no Chromium here; `apt-get install chromium` brings one")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Browser) -> Iterator[Browser]:
    """A page in which no script may fail and nothing may be asked for that is not allowed."""
    one_browser.look(1280, 800)
    one_browser.errors.clear()
    yield one_browser
    assert one_browser.errors == []


def make_recipe(folder: Path) -> Recipe:
    model = {"model_type": "llama", "hidden_size": 64}
    domains: dict[str, dict[str, object]] = {name: {"path": f"my-org/{name}"} for name in PRIOR}
    return Recipe.model_validate(
        {
            "name": "small",
            "seed": 7,
            "output_dir": str(folder / "run"),
            "context_length": 128,
            "tokenizer": {"train": {"vocab_size": 2048}},
            "domains": {**domains, "letters": {"path": "my-org/letters", "validation_only": True}},
            "sampling": {"num_mixtures": 6, "num_holdout": 2},
            "proxy": {"model": model, "num_train_tokens": 204_800, "scale": "0.2M"},
            "regression": {"estimators": ["power_law"], "target": "mean"},
            "train": {
                "model": model,
                "num_train_tokens": 819_200,
                "mixtures": ["chosen", "prior", "uniform"],
                "num_seeds": 2,
            },
            "evaluation": {"tasks": ["held_out_text"], "limit": 10},
        }
    )


def write_corpus(study: Study) -> None:
    corpus_of(study, {name: int(1_000_000 * share) for name, share in PRIOR.items()})


def loss_of(weights: dict[str, float], offset: float = 0.0) -> dict[str, float]:
    losses = {name: 3.0 - weights[name] + offset for name in PRIOR}
    return {**losses, "letters": 3.5 - 0.5 * weights["prose"] + offset}


def run_row(
    run_id: str, mixture: str, split: str, seed: int, weights: dict[str, float], offset: float
) -> dict:
    status = "diverged" if run_id == "p4" else "ok"
    losses = {f"loss/{name}": value for name, value in loss_of(weights, offset).items()}
    return {
        "run_id": run_id,
        "mixture_id": mixture,
        "split": split,
        "scale": "0.2M",
        "seed": seed,
        "status": status,
        "num_train_tokens": 204_800,
        **{f"weight/{name}": weight for name, weight in weights.items()},
        **(losses if status == "ok" else dict.fromkeys(losses, np.nan)),
        "wall_seconds": 10.0,
        "device": "cpu",
        "versions": VERSIONS,
    }


def write_swarm(study: Study) -> None:
    rng = np.random.default_rng(0)
    weights = [dict(zip(PRIOR, map(float, rng.dirichlet([2, 2, 2])), strict=True)) for _ in range(8)]
    splits = ["fit"] * 6 + ["holdout"] * 2
    mixtures = [
        {"mixture_id": f"m{k:04d}", "split": split, **{f"weight/{n}": w for n, w in weights[k].items()}}
        for k, split in enumerate(splits)
    ]
    write_parquet(study.mixtures, pd.DataFrame(mixtures))
    rows = [run_row(f"p{k}", f"m{k:04d}", split, k, weights[k], 0.0) for k, split in enumerate(splits)]
    write_parquet(study.proxies / "results.parquet", pd.DataFrame(rows))


def metrics(spearman: float) -> dict[str, float]:
    values = {"spearman": spearman, "pearson": spearman - 0.05, "mse": 0.01, "mae": 0.08, "regret": 0.02}
    return {
        name: value
        for metric, middle in values.items()
        for name, value in (
            (metric, middle),
            (f"{metric}_low", middle - 0.01),
            (f"{metric}_high", middle + 0.01),
        )
    }


def write_regression(study: Study) -> None:
    target = "mean of 4 targets"
    quality = [
        {"test": test, "estimator": estimator, "target": name, "kind": kind, "num_runs": 7, **metrics(value)}
        for test, shift in (("holdout", 0.0), ("5-fold", -0.1))
        for estimator, value in (("own_weight", 0.4 + shift), ("power_law", 0.9 + shift))
        for name, kind in ((target, "combined"), ("prose", "single"), ("average", "average"))
    ]
    true = np.linspace(3.0, 3.4, 7)
    predictions = [
        {"test": test, "estimator": estimator, "target": name, "kind": kind, "run_id": f"p{k}"}
        | {"true": value, "predicted": value + shift * (-1) ** k}
        for test in ("holdout", "5-fold")
        for estimator, shift in (("own_weight", 0.1), ("power_law", 0.01))
        for name, kind in ((target, "combined"), ("prose", "single"))
        for k, value in enumerate(true)
    ]
    curve = [
        {"estimator": "power_law", "num_runs": size, "num_subsets": 5}
        | {"mean": 0.9 - 1 / size, "lower": 0.85 - 1 / size, "upper": 0.93 - 1 / size}
        for size in (3, 4, 6)
    ]
    write_parquet(study.regression / "quality.parquet", pd.DataFrame(quality))
    write_parquet(study.regression / "predictions.parquet", pd.DataFrame(predictions))
    write_parquet(study.regression / "learning_curve.parquet", pd.DataFrame(curve))
    summary = {
        "target": target,
        "target_value": "mean",
        "estimator": "power_law",
        "judged_on": "5-fold",
        "reason": "power_law is the only estimator.",
        "outlook": "6 more runs would bring at most +3.0 points of Spearman correlation (about +1.0).",
        "scale": "0.2M on 204,800 tokens",
        "verdict": VERDICT,
        "promises": {
            "power_law": {"run": "p3", "promised": 2.95, "measured": 3.0, "difference": -0.05},
            "ridge": None,
        },
    }
    write_json(study.regression / "summary.json", summary)


def write_choice(study: Study) -> None:
    names = [*PRIOR, "letters"]
    chosen, prior = (pd.Series(loss_of(weights)) for weights in (CHOSEN, PRIOR))
    table = pd.DataFrame(
        {
            "domain": names,
            "weight": [CHOSEN.get(name, 0.0) for name in names],
            "prior": [PRIOR.get(name, 0.0) for name in names],
            "epochs": [CHOSEN[name] * 0.8192 / PRIOR[name] if name in PRIOR else np.nan for name in names],
            "loss": chosen.to_numpy(),
            "loss_lower": chosen.to_numpy() - 0.1,
            "loss_upper": chosen.to_numpy() + 0.1,
            "prior_loss": prior.to_numpy(),
            "change": (chosen - prior).to_numpy(),
        }
    )
    write_parquet(study.mixture.parent / "mixture.parquet", table)
    write_text(
        study.mixture,
        "weights: {code: 0.75, prose: 0.25, maths: 0.0}\n"
        "prior: {prose: 0.5, code: 0.3, maths: 0.2}\n"
        "estimator: power_law\n"
        "reason: the optimum of the predictions\n"
        "predicted:\n"
        "  coverage: 0.9\n"
        "  speaks_of: a new run of 0.2M on 204,800 tokens, not of a larger model\n"
        "  chosen: {loss: 2.84, lower: 2.74, upper: 2.94}\n"
        "  prior: {loss: 2.81, lower: 2.71, upper: 2.91}\n"
        "  is_better_than_prior: false\n"
        f"warnings: [not better than the prior beyond its interval, {json.dumps(SENTENCE)}]\n"
        f"verdict: {json.dumps(VERDICT)}\n",
    )


def write_final(study: Study) -> None:
    uniform = dict.fromkeys(PRIOR, 1 / 3)
    rows, points = [], []
    for mixture, weights, level in (
        ("chosen", CHOSEN, -0.4),
        ("prior", PRIOR, -0.2),
        ("uniform", uniform, -0.37),
    ):
        for seed, noise in ((1, -0.01), (2, 0.01)):
            row = run_row(f"{mixture}{seed}", mixture, "final", seed, weights, level + noise)
            rows.append({**row, "num_train_tokens": 819_200})
            for step, early in ((50, 1.0), (100, 0.4), (200, 0.0)):
                losses = loss_of(weights, level + noise + early)
                point = {"run_id": row["run_id"], "step": step, "num_tokens": step * 4096}
                points.append({**point, **{f"loss/{name}": value for name, value in losses.items()}})
    write_parquet(study.models / "results.parquet", pd.DataFrame(rows))
    write_parquet(study.models / "trajectories.parquet", pd.DataFrame(points))


def write_scores(study: Study) -> None:
    level = {"chosen": 1.8, "prior": 2.0, "uniform": 1.9}
    rows = [
        {
            "model": mixture if seed == 1 else f"{mixture}-seed-1",
            "run_id": f"{mixture}{seed}",
            "mixture_id": mixture,
            "seed": seed,
            "task": task,
            "domain": domain,
            "num_fewshot": shots,
            "metric": metric,
            "value": value + 0.01 * seed + 0.001 * shots
            if metric != "acc"
            else 0.5 + value / 100 + shots / 100,
            "stderr": 0.02,
            "num_samples": 10,
            "higher_is_better": metric == "acc",
        }
        for mixture, value in level.items()
        for seed in (1, 2)
        for task, domain, metric, shots in (
            ("validation", "prose", "loss", 0),
            ("validation", "prose", "bits_per_byte", 0),
            ("held_out_text", "prose", "bits_per_byte", 0),
            ("held_out_text", "prose", "byte_perplexity", 0),
            ("piqa", None, "acc", 0),
            ("piqa", None, "acc", 1),
        )
    ]
    write_parquet(study.evaluation / "results.parquet", pd.DataFrame(rows))


def write_promises(study: Study) -> None:
    """Promises that are 0.01 off in the chosen mixture's disfavour, with the ranks of what was measured."""
    ended = read_parquet(study.models / "results.parquet")
    measured = ended.filter(like="loss/").mean(axis=1).groupby(ended["mixture_id"], sort=False)
    mean, deviation = measured.mean(), measured.std()
    predicted = {name: mean[name] + 0.3 + 0.01 * (name == "chosen") for name in mean.index}
    promises = Promises(
        target="mean of 4 targets",
        estimator="power_law",
        coverage=0.9,
        predicted_for=Size(scale="0.2M", num_train_tokens=204_800),
        measured_on=Size(scale="1.6M", num_train_tokens=819_200),
        mixtures=tuple(
            Promise(
                mixture=name,
                predicted=loss,
                lower=loss - 0.1,
                upper=loss + 0.1,
                measured=mean[name],
                deviation=deviation[name],
                num_seeds=2,
                promised_gain=loss - predicted["chosen"],
                measured_gain=mean[name] - mean["chosen"],
            )
            for name, loss in predicted.items()
        ),
        scores={"spearman": 1.0, "chosen_regret": 0.0},
    )
    write_json(study.evaluation / PROMISES, promises.model_dump(mode="json"))


STEPS = {
    "prepare": write_corpus,
    "proxies": write_swarm,
    "fit": write_regression,
    "choose": write_choice,
    "train": write_final,
    "evaluate": write_scores,
    "promises": write_promises,
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study in which every stage has run."""
    study = Study(make_recipe(tmp_path))
    study.open()
    for write in STEPS.values():
        write(study)
    return study


@pytest.fixture
def empty_study(tmp_path: Path) -> Study:
    """A study in which no stage has run."""
    study = Study(make_recipe(tmp_path))
    study.open()
    return study
