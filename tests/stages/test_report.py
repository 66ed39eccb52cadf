"""The stage `report` on what the real stages `fit` and `choose` leave."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.files import write_parquet
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from regmix_hf.stages import choose, fit, report
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts

DOMAINS = ("prose", "code", "maths")


def make_study(folder: Path) -> Study:
    model = {"model_type": "llama", "hidden_size": 64}
    return Study(
        Recipe.model_validate(
            {
                "name": "small",
                "output_dir": str(folder / "run"),
                "context_length": 128,
                "tokenizer": {"train": {"vocab_size": 2048}},
                "domains": {name: {"path": f"my-org/{name}"} for name in DOMAINS},
                "sampling": {"num_mixtures": 24, "num_holdout": 4},
                "proxy": {"model": model, "num_train_tokens": 204_800},
                "regression": {"estimators": ["ridge"], "target": "mean"},
                "choice": {"num_candidates": 1000, "top_k": 10, "num_confirm": 0},
                "train": {"model": model, "num_train_tokens": 819_200},
            }
        )
    )


def write_inputs(study: Study) -> None:
    """A corpus of equal domains, and 28 runs whose mean loss is least at equal shares."""
    split = SplitFacts(
        num_documents=9, num_bytes=4_000_000, num_tokens=10**6, num_blocks=7812, sha256="0" * 64
    )
    CorpusFacts(
        context_length=128,
        vocab_size=2048,
        eos_token_id=0,
        tokenizer_sha256="0" * 64,
        domains={name: DomainFacts(train=split, validation=split) for name in DOMAINS},
    ).save(study.corpus)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 28)
    frame = pd.DataFrame(
        {
            "run_id": [f"p{k}" for k in range(28)],
            "mixture_id": [f"m{k:04d}" for k in range(28)],
            "split": ["fit"] * 24 + ["holdout"] * 4,
            **{f"weight/{name}": weights[:, k] for k, name in enumerate(DOMAINS)},
        }
    )
    write_parquet(study.mixtures, frame.drop(columns="run_id"))
    losses = {f"loss/{name}": 3.0 - weights[:, k] for k, name in enumerate(DOMAINS)}
    results = frame.assign(status="ok", seed=1, device="cpu", versions="torch 2", **losses)
    write_parquet(study.proxies / "results.parquet", results)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = make_study(tmp_path_factory.mktemp("report"))
    study.open()
    write_inputs(study)
    fit.run(study, Silent())
    choose.run(study, Silent())
    report.run(study, Silent())
    return study


def test_it_tells_what_the_stages_found(study: Study) -> None:
    text = (study.report / "README.md").read_text()
    assert "| `ridge` | 4 (holdout) |" in text
    assert "| `own_weight` | 4 (holdout) |" in text
    assert "a new run of the size and length of those fitted on (intervals do not hold the noise" in text
    assert "no mixture was run with two at that size), predicted by `ridge`." in text
    assert "28 of 28 proxies ended well." in text
    pictures = {path.stem for path in study.report.glob("*.png")}
    assert pictures == {"weights", "trade_off", "predictions", "learning_curve", "effects"}


def test_it_is_done_until_what_it_read_changes(study: Study) -> None:
    assert study.state(report.STAGE) is State.DONE
    file = study.mixture.with_suffix(".parquet")
    before = file.read_bytes()
    try:
        write_parquet(file, pd.read_parquet(file).assign(epochs=1.0))
        assert study.state(report.STAGE) is State.STALE
    finally:
        file.write_bytes(before)


def test_built_again_it_has_the_same_bytes(study: Study) -> None:
    before = {path.name: path.read_bytes() for path in study.report.iterdir()}
    for path in study.report.iterdir():
        path.unlink()
    assert study.state(report.STAGE) is State.MISSING
    report.run(study, Silent())
    assert {path.name: path.read_bytes() for path in study.report.iterdir()} == before
