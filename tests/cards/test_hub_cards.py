"""Cards say what the files say, in metadata that the Hub's own client reads back."""

import os
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import DatasetCard, ModelCard

from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.hub_card import size_category
from regmix_hf.cards.mixture_card import MixtureCard
from regmix_hf.cards.model_card import ModelCard as FinalModelCard
from regmix_hf.cards.regressor_card import RegressorCard
from regmix_hf.cards.runs_card import RunsCard
from regmix_hf.files import read_json, read_parquet, write_json
from regmix_hf.recipe import Domain, Hub, SharedRuns
from regmix_hf.study import Study
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts, ReadFacts

GOLDEN = Path(__file__).parent / "hub"
KINDS = {"runs": DatasetCard, "regressor": ModelCard, "mixture": DatasetCard, "model": ModelCard}


#: What was read of three of the domains; `maths` is as version 0.1 left it.
READ = {
    "prose": {"train": ReadFacts(num_files=12, num_rows=11_500, num_documents=11_500)},
    "code": {
        "train": ReadFacts(
            num_rows=4_000,
            left_out={
                "filtered": 2_500,
                "no such column": 3,
                "no such column but 'their_column'": 4,
                "null": 12,
            },
            num_documents=1_481,
        )
    },
    "letters": {"validation": ReadFacts(num_files=1, num_rows=10, num_documents=10)},
}


@pytest.fixture
def published(study: Study) -> Study:
    """The study of the report's tests, with what a card says beyond the report."""
    summary = read_json(study.regression / "summary.json")
    counts = {"fit": 5, "holdout": 2, "diverged": 1, "failed": 0, "duplicates": 0}
    more = {
        "num_runs": counts,
        "domains": ["prose", "code", "maths"],
        "estimators": ["power_law", "own_weight"],
    }
    write_json(study.regression / "summary.json", {**summary, **more})
    corpus = CorpusFacts.load(study.corpus)
    read = {
        name: facts.model_copy(update={"read": READ.get(name, {})}) for name, facts in corpus.domains.items()
    }
    corpus.model_copy(update={"domains": read}).save(study.corpus)
    domains = {
        **study.recipe.domains,
        "code": Domain(path="my-org/code", name="python", revision="4f3c2e1"),
        "maths": Domain(path="json", data_files="maths.jsonl"),
    }
    hub = Hub(namespace="me", license="apache-2.0")
    return Study(study.recipe.model_copy(update={"hub": hub, "domains": domains}))


#: Files for other trainers.
EXPORTED = {"megatron-lm": ["data_args.sh"], "llamafactory": ["llamafactory.yaml", "dataset_info.json"]}
#: What the Hub would say is there.
SOURCES = {"my-org/prose", "my-org/books", "my-org/code", "my-org/letters"}


def cards(study: Study) -> dict[str, str]:
    """The card of every kind of repository."""
    facts, address = StudyFacts.read(study), Address.of(study.recipe)
    assert facts.corpus is not None
    assert facts.swarm is not None
    run = facts.final.results.iloc[0].to_dict() if facts.final is not None else {}
    both = {"predictions": "predictions.png", "learning_curve": "learning_curve.png"}
    tables = {
        name: f"{name}.parquet" for name in ("mixture", "final_results", "final_trajectories", "scores")
    }
    weights = {name: f"{name}.png" for name in ("weights", "trade_off", "loss_curves")}
    estimators = ("power_law", "own_weight")
    return {
        "runs": RunsCard(
            address,
            study.recipe,
            facts.corpus,
            read_parquet(study.mixtures),
            facts.swarm.results,
            num_points=21,
            has_picture=True,
            sources=SOURCES,
        ).render("v1"),
        "regressor": RegressorCard(address, facts, facts.regression, estimators, both).render("v1"),
        "mixture": MixtureCard(
            address, facts, facts.choice, tables, weights, "explorer.html", EXPORTED
        ).render("v1"),
        "model": FinalModelCard(address, facts, "chosen", run, 123_456, "loss_curves.png", SOURCES).render(
            "v1"
        ),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_card(published: Study, kind: str) -> None:
    """After a change that is meant: `REGMIX_UPDATE_GOLDEN=1 pytest tests/cards/test_hub_cards.py`."""
    text = cards(published)[kind]
    golden = GOLDEN / f"{kind}.md"
    if os.environ.get("REGMIX_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    assert "None" not in text
    assert "\n\n\n" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_reads_the_metadata_back(published: Study, kind: str) -> None:
    text = cards(published)[kind]
    card = KINDS[kind](text)
    assert card.data.license == "apache-2.0"
    assert card.data.tags == ["regmix", "data-mixture", "pretraining"]
    assert card.text.lstrip().startswith("# ")


def test_results_stand_in_the_metadata(published: Study) -> None:
    found = cards(published)
    regressor = ModelCard(found["regressor"]).data
    values = {r.metric_name: r.metric_value for r in regressor.eval_results}
    assert values["Spearman correlation, holdout, 7 runs"] == pytest.approx(0.9)
    assert values["Mean absolute error (nats per token), 5-fold, 7 runs"] == pytest.approx(0.08)
    assert len(values) == 10
    assert regressor.datasets == ["me/small-runs"]
    model = ModelCard(found["model"]).data
    scores = {(r.dataset_name, r.metric_type): r.metric_value for r in model.eval_results}
    assert scores["my-org/prose", "loss"] == pytest.approx(3.0 - 0.25 - 0.41)
    assert scores["held_out_text (prose)", "bits_per_byte"] == pytest.approx(1.81)
    assert not any("perplexity" in metric for _, metric in scores)
    assert model.datasets == ["my-org/code", "my-org/prose", "me/small-mixture"]
    assert model.library_name == "transformers"


def test_losses_of_domains_that_come_from_one_dataset_keep_their_names(published: Study) -> None:
    """The client groups results by dataset; that is how one stream filtered into many domains looks."""
    one = {
        name: domain.model_copy(update={"path": "my-org/pile", "name": None, "revision": None})
        for name, domain in published.recipe.domains.items()
    }
    study = Study(published.recipe.model_copy(update={"domains": one}))
    results = ModelCard(cards(study)["model"]).data.eval_results
    losses = {r.metric_name: r.metric_value for r in results if r.metric_type == "loss"}
    assert losses["Loss on held-out text of code (nats per token)"] == pytest.approx(1.84)
    assert len(losses) == len(one)


def test_a_config_for_every_table(published: Study) -> None:
    found = cards(published)
    names = {
        kind: [config["config_name"] for config in DatasetCard(found[kind]).data.configs]
        for kind in ("runs", "mixture")
    }
    assert names["runs"] == ["results", "mixtures", "trajectories"]
    assert names["mixture"] == ["mixture", "final_results", "final_trajectories", "scores"]


def test_what_was_read_is_counted_and_no_column_of_it_named(published: Study) -> None:
    text = cards(published)["runs"]
    assert "| `prose` | 12 | 11,500 | none | 10 | 2,000,000 |" in text
    assert "| `code` | - | 4,000 | 2,500 filtered, 7 no such column, 12 null | 10 | 1,200,000 |" in text
    assert "| `letters` | 1 | 10 | none | 10 | 51,200 |" in text
    assert "their_column" not in text


def test_a_corpus_of_version_0_1_says_nothing_of_what_was_read(published: Study) -> None:
    corpus = CorpusFacts.load(published.corpus)
    domains = {name: facts.model_copy(update={"read": {}}) for name, facts in corpus.domains.items()}
    corpus.model_copy(update={"domains": domains}).save(published.corpus)
    assert "What was read" not in cards(published)["runs"]


def test_without_a_stated_licence_none_is_claimed(published: Study) -> None:
    silent = Study(published.recipe.model_copy(update={"hub": Hub(namespace="me")}))
    for kind, text in cards(silent).items():
        assert KINDS[kind](text).data.license is None
        assert "has not stated a licence" in text


def test_runs_of_others_are_named_with_their_version(published: Study) -> None:
    shared = SharedRuns.model_validate(["you/big-runs@v3"])
    text = cards(Study(published.recipe.model_copy(update={"runs": shared})))["regressor"]
    assert "`me/small-runs`, `you/big-runs@v3`" in text
    assert ModelCard(text).data.datasets == ["me/small-runs", "you/big-runs"]


def test_a_mixture_without_models_claims_nothing_of_them(published: Study) -> None:
    (published.models / "results.parquet").unlink()
    (published.evaluation / "results.parquet").unlink()
    facts = StudyFacts.read(published)
    text = MixtureCard(
        Address.of(published.recipe), facts, facts.choice, {"mixture": "mixture.parquet"}, {}
    ).render("v1")
    assert "nothing is known of how good it is" in text
    assert "final_results" not in text


def test_a_diverged_model_says_so(published: Study) -> None:
    facts = StudyFacts.read(published)
    losses = dict.fromkeys((f"loss/{name}" for name in published.recipe.domains), None)
    run = {**facts.final.results.iloc[0].to_dict(), "status": "diverged", **losses}
    text = FinalModelCard(Address.of(published.recipe), facts, "chosen", run, None, None, SOURCES).render(
        "v1"
    )
    assert "**Its training diverged" in text
    assert "nan" not in text


def test_sizes_are_named_as_the_hub_does() -> None:
    counts = pd.Series([0, 999, 1000, 99_999, 10_000_000])
    assert list(counts.map(size_category)) == ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "10M<n<100M"]
