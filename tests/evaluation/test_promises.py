"""What was promised for the final mixtures is put beside what their models did."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import StudyError
from regmix_hf.evaluation.promises import write_promises
from regmix_hf.files import write_json, write_parquet, write_text
from regmix_hf.recipe import Recipe
from regmix_hf.regression import MixtureRegressor
from regmix_hf.study import Study
from regmix_hf.study.names import PROMISES
from regmix_hf.study.promises import Promises
from tests.cards.explored import experts_of

DOMAINS = ("prose", "code")
#: Measured losses of the mean, by mixture and seed.
MEASURED = {"chosen": (2.0, 2.2), "prior": (2.4, 2.4), "uniform": (1.9, 2.0)}
WEIGHTS = {"chosen": 0.9, "prior": 0.2, "uniform": 0.5}


def law(weights: np.ndarray) -> np.ndarray:
    """Losses of a proxy: code helps both, prose neither."""
    return np.column_stack([4.0 - weights[:, 1], 3.0 - 2 * weights[:, 1]])


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A ridge fitted on such proxies, its choice, and final models four times as long."""
    model = {"model_type": "llama", "hidden_size": 64}
    recipe = {
        "name": "small",
        "output_dir": str(tmp_path / "run"),
        "context_length": 128,
        "tokenizer": {"train": {"vocab_size": 2048}},
        "domains": {name: {"path": f"my-org/{name}"} for name in DOMAINS},
        "proxy": {"model": model, "num_train_tokens": 200_000},
        "train": {"model": model, "num_train_tokens": 800_000},
    }
    study = Study(Recipe.model_validate(recipe))
    weights = np.random.default_rng(0).dirichlet([1, 1], 24)
    tables = (pd.DataFrame(values, columns=list(DOMAINS)) for values in (weights, law(weights)))
    MixtureRegressor("ridge").fit(*tables).save_pretrained(study.regression / "ridge")
    write_json(study.regression / "summary.json", {"estimator": "ridge"})
    write_text(study.mixture, "estimator: ridge\npredicted: {coverage: 0.8}\n")
    write_parquet(
        study.proxies / "results.parquet",
        pd.DataFrame({"status": ["failed", "ok"], "scale": ["", "0.2M"], "num_train_tokens": 200_000}),
    )
    rows = [
        {
            **{"run_id": f"{name}{seed}", "mixture_id": name, "seed": seed, "status": "ok"},
            **{"scale": "0.2M", "num_train_tokens": 800_000},
            **{"weight/prose": 1 - WEIGHTS[name], "weight/code": WEIGHTS[name]},
            **{"loss/prose": loss + 0.5, "loss/code": loss - 0.5},
        }
        for name, losses in MEASURED.items()
        for seed, loss in enumerate(losses)
    ]
    write_parquet(study.models / "results.parquet", pd.DataFrame(rows))
    return study


def test_every_mixture_has_its_promise_beside_its_seed_mean(study: Study) -> None:
    promises = write_promises(study)
    assert promises is not None
    assert [one.mixture for one in promises.mixtures] == ["chosen", "prior", "uniform"]
    chosen, prior, uniform = promises.mixtures
    assert chosen.predicted == pytest.approx(3.5 - 1.5 * 0.9, abs=0.01)
    assert chosen.lower < chosen.predicted < chosen.upper
    assert (chosen.measured, chosen.num_seeds) == (pytest.approx(2.1), 2)
    assert chosen.deviation == pytest.approx(np.std([2.0, 2.2], ddof=1))
    assert chosen.difference == pytest.approx(chosen.predicted - 2.1)
    assert prior.promised_gain == pytest.approx(1.5 * 0.7, abs=0.01)
    assert uniform.measured_gain == pytest.approx(1.95 - 2.1)


def test_ranks_and_regret_are_those_worked_out_by_hand(study: Study) -> None:
    promises = write_promises(study)
    assert promises is not None
    # Promised: chosen, uniform, prior; measured: uniform, chosen, prior. 1 - 6 * (1 + 1 + 0) / (3 * 8)
    assert promises.scores == {"spearman": pytest.approx(0.5), "chosen_regret": pytest.approx(0.15)}
    assert promises.sentences[1].endswith("with a Spearman correlation of 50 %.")
    assert promises.sentences[2] == (
        "The regret of `chosen` is 0.1500 nats per token: `uniform` measured lower."
    )


def test_two_names_of_one_mixture_are_ranked_once(study: Study) -> None:
    file = study.models / "results.parquet"
    table = pd.read_parquet(file)
    twin = table[table["mixture_id"] == "chosen"].assign(mixture_id="prior")
    write_parquet(file, pd.concat([table[table["mixture_id"] != "prior"], twin], ignore_index=True))
    promises = write_promises(study)
    assert promises is not None
    assert len(promises.mixtures) == 3
    assert promises.scores == {"spearman": -1.0, "chosen_regret": pytest.approx(0.15)}
    assert "rank the 2 final mixtures" in promises.sentences[1]


def test_another_size_is_said_and_called_no_error(study: Study) -> None:
    promises = write_promises(study)
    assert promises is not None
    assert (str(promises.predicted_for), str(promises.measured_on)) == (
        "0.2M parameters, 200,000 tokens",
        "0.2M parameters, 800,000 tokens",
    )
    assert "no error of the law by itself" in promises.sentences[0]
    same = promises.model_copy(update={"measured_on": promises.predicted_for})
    assert "the prediction's error and the noise between seeds" in same.sentences[0]


def test_it_is_kept_without_the_machine_and_read_back_also_as_version_0_1_kept_it(study: Study) -> None:
    promises = write_promises(study)
    tree = json.loads((study.evaluation / PROMISES).read_text())
    assert not any(key.startswith("_") for key in tree)
    assert Promises.load(study.evaluation / PROMISES) == promises
    (study.evaluation / PROMISES).write_text(json.dumps({**tree, "_interpreter_path": "/usr/bin/python"}))
    assert Promises.load(study.evaluation / PROMISES) == promises
    assert [path.name for path in study.evaluation.iterdir()] == [PROMISES]


def test_seeds_that_diverged_do_not_count_and_one_seed_has_no_deviation(study: Study) -> None:
    table = pd.read_parquet(study.models / "results.parquet")
    table.loc[table["run_id"] == "chosen1", "status"] = "diverged"
    write_parquet(study.models / "results.parquet", table)
    promises = write_promises(study)
    assert promises is not None
    chosen = promises.mixtures[0]
    assert (chosen.measured, chosen.deviation, chosen.num_seeds) == (2.0, None, 1)


def test_without_the_chosen_one_there_are_no_gains_and_no_regret(study: Study) -> None:
    table = pd.read_parquet(study.models / "results.parquet")
    write_parquet(study.models / "results.parquet", table[table["mixture_id"] != "chosen"])
    promises = write_promises(study)
    assert promises is not None
    assert promises.scores.keys() == {"spearman"}
    assert {(one.promised_gain, one.measured_gain) for one in promises.mixtures} == {(None, None)}


def test_one_mixture_has_no_rank_correlation(study: Study) -> None:
    table = pd.read_parquet(study.models / "results.parquet")
    write_parquet(study.models / "results.parquet", table[table["mixture_id"] == "chosen"])
    promises = write_promises(study)
    assert promises is not None
    assert promises.scores == {"spearman": None, "chosen_regret": 0.0}


def test_where_nothing_was_promised_an_old_file_goes(study: Study) -> None:
    write_promises(study)
    study.mixture.unlink()
    assert write_promises(study) is None
    assert not (study.evaluation / PROMISES).exists()


def test_models_from_before_a_target_came_are_no_part_of_it(study: Study) -> None:
    models = pd.read_parquet(study.models / "results.parquet")
    models.loc[[1, 2, 3], "loss/code"] = np.nan  # the second seed of chosen, and both of the prior
    write_parquet(study.models / "results.parquet", models)
    promises = write_promises(study)
    assert promises is not None
    assert [(one.mixture, one.num_seeds) for one in promises.mixtures] == [("chosen", 1), ("uniform", 2)]
    write_parquet(study.models / "results.parquet", models.assign(**{"loss/code": np.nan}))
    assert write_promises(study) is None


def test_experts_alone_promise_no_loss_that_could_be_held_against_a_model(study: Study) -> None:
    domains, untried = list(DOMAINS), pd.DataFrame(columns=list(DOMAINS), dtype=float)
    experts = experts_of(domains, [*domains, "letters"])
    MixtureRegressor("experts").fit(untried, untried, experts=experts).save_pretrained(
        study.regression / "experts"
    )
    write_text(study.mixture, "estimator: experts\npredicted: {coverage: 0.8}\n")
    assert write_promises(study) is None


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"target": 1}', b"\xff", b'{"scores": {"a": NaN}}'])
def test_a_damaged_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROMISES).write_bytes(content)
    with pytest.raises(StudyError, match=r"promises\.json cannot be read") as caught:
        Promises.load(tmp_path / PROMISES)
    assert caught.value.hint is not None
    assert "regmix evaluate" in caught.value.hint
