"""Small studies to explore: real fits on runs of a made-up law, with a corpus and a chosen mixture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.exports import MixtureToTrain, render_export
from regmix_hf.files import write_json, write_parquet, write_text
from regmix_hf.recipe import Recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.registry import WITH_EXPERTS
from regmix_hf.runs.experts import Experts, TargetText
from regmix_hf.runs.runs import Runs
from regmix_hf.runs.sizes import scale_words
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts
from regmix_hf.tables import MIXTURE

from .browser import Browser

DOMAINS = ["prose", "code", "maths", "a.b", "web-text", "readme", "yaml", "7b"]


def make_study(folder: Path, domains: list[str], *, target: object = "mean", num_runs: int = 40) -> Study:
    """A study of some domains, and `letters` to validate on, without a fit."""
    model = {"model_type": "llama", "hidden_size": 64}
    sources: dict[str, dict[str, object]] = {name: {"path": f"my-org/d{k}"} for k, name in enumerate(domains)}
    recipe = {
        "name": "small",
        "output_dir": str(folder / "run"),
        "context_length": 128,
        "tokenizer": {"train": {"vocab_size": 2048}},
        "domains": {**sources, "letters": {"path": "my-org/letters", "validation_only": True}},
        "proxy": {"model": model, "num_train_tokens": 200_000},
        "regression": {"target": target},
        "train": {"model": model, "num_train_tokens": 800_000},
        "baselines": {"first": {domains[0]: 3, domains[1]: 1}},
    }
    study = Study(Recipe.model_validate(recipe))
    # The first is scarce: four epochs of it are a tenth of the final run.
    corpus_of(study, {name: 20_000 if k == 0 else 400_000 for k, name in enumerate(domains)})
    weights = np.random.default_rng(0).dirichlet(np.full(len(domains), 0.5), num_runs)
    mixtures = pd.DataFrame(weights, columns=domains, index=[f"run{k:02d}" for k in range(num_runs)])
    runs = Runs(mixtures, losses_of(mixtures), pd.Series("fit", index=mixtures.index, name="split"))
    write_parquet(study.regression / "runs.parquet", runs.to_results())
    return study


def losses_of(mixtures: pd.DataFrame) -> pd.DataFrame:
    """The more of a domain the lower its loss, with a little noise; letters are half like the first."""
    noise = np.random.default_rng(1).normal(0, 0.01, mixtures.shape)
    losses = 2.0 + 0.5 * (mixtures + 0.05) ** -0.3 + noise
    return losses.assign(letters=1.0 + 0.5 * losses.iloc[:, 0] + 0.3 * losses.iloc[:, 1])


def experts_of(domains: list[str], targets: list[str]) -> Experts:
    """An expert of each domain, the first filled up with the others, asked about all targets but the last."""
    rng, weights = np.random.default_rng(2), np.eye(len(domains))
    weights[0] = 0.8 * weights[0] + 0.2 / len(domains)
    logs = {}
    for number, name in enumerate(targets[:-1]):
        given = -rng.exponential(3.0, (len(domains), 90 + number)).astype(np.float16)
        given[number] /= 3  # most likely to that of its own domain
        logs[name] = given
    texts = {
        name: TargetText(sha256=name, num_tokens=part.shape[1], bits_per_nat=0.4)
        for name, part in logs.items()
    }
    table = pd.DataFrame(weights, index=[f"expert{k}" for k in range(len(domains))], columns=domains)
    return Experts(table, logs, texts)


def choose(
    study: Study, estimator: str, *, size: tuple[float, float] | None = None, **params: Any
) -> MixtureRegressor:
    """Fit one family, and say that it chose a mixture, where `size` is given for runs of that size.

    Beside experts (`experts_of`), if it or one of its members asks any.
    """
    results = pd.read_parquet(study.regression / "runs.parquet")
    runs = Runs.from_results(results, "runs")
    told = {"sizes": runs.sizes, "epochs": runs.epochs}
    if {estimator, *params.get("members", ())}.intersection(WITH_EXPERTS):
        told["experts"] = experts_of(list(runs.weights), list(runs.losses))
    regressor = MixtureRegressor(estimator, **params).fit(runs.weights, runs.losses, **told)
    regressor.save_pretrained(study.regression / estimator)
    domains = list(study.recipe.training_domains)
    chosen = {name: 2 * (k + 1) / len(domains) / (len(domains) + 1) for k, name in enumerate(domains)}
    lines = [f"  {name}: {share!r}" for name, share in chosen.items()]
    text = "\n".join(["weights:", *lines, f"estimator: {estimator}", "reason: by hand", "warnings: []"])
    write_text(
        study.mixture,
        f"{text}\nwidest_gap_between_runs: 0.3\npredicted:\n  coverage: 0.9\n{_said_of(size)}"
        "  chosen: {loss: 2.5, lower: 2.4, upper: 2.6}\n  prior: {loss: 2.6, lower: 2.5, upper: 2.7}\n"
        "  is_better_than_prior: true\n"
        f"prior: {{{', '.join(f'{name}: {1 / len(domains)!r}' for name in domains)}}}\n",
    )
    table = pd.DataFrame({"domain": domains, "weight": chosen.values(), "prior": 1 / len(domains)})
    write_parquet(
        study.mixture.with_suffix(".parquet"),
        table.assign(epochs=1.0, **dict.fromkeys(MIXTURE.numbers[3:], np.nan)),
    )
    write_json(study.root / "study.json", {"name": study.recipe.name})
    return regressor


def write_page(study: Study) -> Path:
    """Write the page of a study beside its stages."""
    explorer = explorer_page(study, StudyFacts.read(study))
    assert explorer.page is not None, explorer.missing
    file = study.root / "explorer.html"
    file.write_text(explorer.page)
    return file


def _said_of(size: tuple[float, float] | None) -> str:
    if size is None:
        return ""
    words = f"a new run of {scale_words(*size)}"
    return f"  speaks_of: {words}\n  size: {{num_parameters: {size[0]}, num_train_tokens: {size[1]}}}\n"


def corpus_of(study: Study, tokens: dict[str, int]) -> None:
    """Write the counts of a corpus: so many tokens to train on by domain, and `letters` to validate on."""

    def split(count: int) -> SplitFacts:
        counts = {"num_documents": 10, "num_bytes": 4 * count, "num_tokens": count}
        return SplitFacts(**counts, num_blocks=count // 128, sha256="0" * 64)

    facts = {
        name: DomainFacts(train=split(count), validation=split(12_800)) for name, count in tokens.items()
    }
    CorpusFacts(
        context_length=128,
        vocab_size=2048,
        eos_token_id=0,
        tokenizer_sha256="0" * 64,
        domains={**facts, "letters": DomainFacts(train=None, validation=split(12_800))},
    ).save(study.corpus)


def check_exports(browser: Browser, mixture: MixtureToTrain) -> set[str]:
    """Hold what the page copies for every trainer to what is exported; returns the trainers."""
    names = browser.run("[...document.getElementById('format').options].map(it => it.value)")
    assert names.pop(0) == "baselines"
    for name in names:
        text = browser.run(
            f"(() => {{ const it = document.getElementById('format'); it.value = {name!r};"
            " it.dispatchEvent(new Event('change')); return document.getElementById('text').value; })()"
        )
        found, expected = _apart(text), _apart(next(iter(render_export(mixture, name).values())))
        assert found[0] == expected[0], name
        # Tables in comments have four digits; OLMo-core's repetitions are rounded up to hundredths.
        assert found[1] == pytest.approx(expected[1], abs=0.0101 if name == "olmo-core" else 1.01e-4), name
    return set(names)


def _apart(text: str) -> tuple[list[str], list[float]]:
    """The words of a text, and its numbers; not how many documents TRL reads, which the page does not say."""
    lines = [line for line in text.splitlines() if "No document is taken twice" not in line]
    pattern = r"(?<![\w.-])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])"
    numbers = [float(number) for number in re.findall(pattern, "\n".join(lines))]
    return re.sub(pattern, "#", "\n".join(lines)).splitlines(), numbers
