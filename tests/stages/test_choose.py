"""Stage `choose`: from a fit to a mixture that the final run's data allows."""

import shutil

import numpy as np
import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.choice import ChoiceProblem, read_chosen
from regmix_hf.errors import MixtureError, StudyError
from regmix_hf.files import read_yaml
from regmix_hf.mixtures.table import read_mixtures
from regmix_hf.plan import make_plan
from regmix_hf.progress import Silent
from regmix_hf.regression import MixtureRegressor
from regmix_hf.stages import choose, fit, sample
from regmix_hf.study import State
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.rounds import Round, rounds_in
from regmix_hf.tables import by_domain

from ..conftest import Recorder

pytestmark = pytest.mark.long

NAMES = ("prose", "sums", "code")
QUICK = (
    "regression.estimators=[power_law]",
    "choice.num_candidates=2000",
    "choice.max_epochs=null",
    "choice.num_confirm=0",
)


@pytest.fixture(scope="module")
def fit_once(new_study):
    """A study whose proxies follow a law: every loss falls with its own domain's weight."""
    study = new_study(*QUICK)
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), size=40)
    losses = 2.0 + (0.05 + weights) ** -0.3 + rng.normal(scale=0.003, size=weights.shape)
    results = pd.DataFrame(
        {
            "run_id": [f"r{i}" for i in range(40)],
            "mixture_id": [f"given{i}" for i in range(40)],
            "status": "ok",
            "seed": 0,
            "split": ["fit"] * 36 + ["holdout"] * 4,
            **{f"weight/{name}": weights[:, i] for i, name in enumerate(NAMES)},
            **{f"loss/{name}": losses[:, i] for i, name in enumerate(NAMES)},
        }
    )
    study.proxies.mkdir()
    results.to_parquet(study.proxies / "results.parquet")
    fit.run(study, Silent())
    return study


@pytest.fixture
def fitted_study(new_study, fit_once):
    """Make a study with that fit, without a chosen mixture, and overrides of its recipe."""

    def make(*overrides):
        study = new_study(*QUICK, *overrides)
        study.mixture.unlink()
        shutil.copytree(fit_once.proxies, study.proxies)
        shutil.copytree(fit_once.regression, study.regression)
        return study

    return make


def test_the_mixture_and_its_table_are_written_and_the_stage_is_done(fitted_study):
    study = fitted_study()
    notes = Recorder()
    choose.run(study, notes)
    weights = read_chosen(study.mixture, NAMES)
    assert min(weights.values()) > 0.2  # the mean of three alike is least where all have a share
    table = pd.read_parquet(study.mixture.parent / "mixture.parquet").set_index("domain")
    assert table["weight"].to_dict() == pytest.approx(weights)
    facts = CorpusFacts.load(study.corpus)
    assert table["prior"].to_dict() == pytest.approx(facts.prior(study.recipe))
    seen = weights["sums"] * study.recipe.train.num_train_tokens
    assert table.loc["sums", "epochs"] == pytest.approx(seen / facts.domains["sums"].train.num_tokens)
    assert study.state(choose.STAGE) == State.DONE
    assert any(line.startswith("chosen: the optimum") for line in notes.notes)


def test_data_is_not_repeated_more_often_than_allowed(fitted_study):
    study = fitted_study("regression.target=sums")
    choose.run(study, Silent())
    free = read_chosen(study.mixture, NAMES)["sums"]
    tokens = CorpusFacts.load(study.corpus).available_tokens(study.recipe)
    budget = 2 * sum(tokens.values())
    tight = fitted_study("regression.target=sums", "choice.max_epochs=4", f"train.num_train_tokens={budget}")
    choose.run(tight, Silent())
    capped = read_chosen(tight.mixture, NAMES)["sums"]
    cap = 4 * tokens["sums"] / budget
    assert free > cap + 0.01
    assert capped == pytest.approx(cap, abs=2e-6)


def test_what_repeating_costs_the_final_run_is_counted_and_proxies_are_promised_as_they_repeat(new_study):
    study = new_study(*QUICK, "regression.target=sums", "choice.num_confirm=2", "choice.force=true")
    study.mixture.unlink(missing_ok=True)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=24)
    passes = np.array([1.0, 20.0, 1.0])
    harm = 0.1 * np.logaddexp(0, np.log1p(weights * passes) - 1.4) ** 2
    losses = 2.0 + (0.05 + weights) ** -0.3 + harm
    columns = {
        f"{kind}/{name}": table[:, i]
        for kind, table in (("weight", weights), ("loss", losses), ("epochs", weights * passes))
        for i, name in enumerate(NAMES)
    }
    runs = {"run_id": [f"r{i}" for i in range(24)], "mixture_id": [f"given{i}" for i in range(24)]}
    results = pd.DataFrame({**runs, "status": "ok", "seed": 0, "split": "fit", **columns})
    study.proxies.mkdir()
    results.to_parquet(study.proxies / "results.parquet")
    fit.run(study, Silent())
    notes = Recorder()
    choose.run(study, notes)
    assert any("count what repeating costs" in line for line in notes.notes)
    regressor = MixtureRegressor.from_pretrained(study.regression / "power_law")
    tokens = CorpusFacts.load(study.corpus).available_tokens(study.recipe)
    final = regressor.reading(tokens, study.recipe.train.num_train_tokens)
    record = read_yaml(study.mixture)
    at = pd.DataFrame([record["weights"]])[list(NAMES)]
    assert record["predicted"]["chosen"]["loss"] == pytest.approx(final.predict(at)["sums"].item(), abs=1e-6)
    [one] = rounds_in(record, study.mixture)
    assert one.trials[0].promised == pytest.approx(regressor.predict(at)["sums"].item(), abs=1e-6)
    assert abs(final.predict(at)["sums"].item() - regressor.predict(at)["sums"].item()) > 1e-3


def test_a_fixed_weight_and_a_group_are_kept(fitted_study):
    study = fitted_study("choice.fixed={prose: 0.125}", "choice.groups.x={domains: [sums, prose], min: 0.6}")
    choose.run(study, Silent())
    assert read_chosen(study.mixture, NAMES) == pytest.approx({"prose": 0.125, "sums": 0.475, "code": 0.4})


def test_the_same_study_gives_the_same_bytes_and_another_target_makes_it_stale(fitted_study):
    study = fitted_study()
    choose.run(study, Silent())
    before = study.mixture.read_bytes()
    choose.run(study, Silent())
    assert study.mixture.read_bytes() == before
    other = study.recipe.model_copy(
        update={"regression": study.recipe.regression.model_copy(update={"target": "code"})}
    )
    assert type(study)(other).state(choose.STAGE) == State.STALE


def test_more_tokens_than_the_data_allows_are_refused_with_what_would_do(fitted_study):
    study = fitted_study("choice.max_epochs=1", "train.num_train_tokens=100_000_000")
    with pytest.raises(MixtureError) as error:
        choose.run(study, Silent())
    assert "choice: domain 'code' has" in str(error.value)
    assert "raise max_epochs to" in str(error.value)
    assert study.state(choose.STAGE) == State.MISSING


def test_without_a_fit_the_stage_before_is_named(new_study):
    study = new_study(*QUICK)
    with pytest.raises(StudyError, match="regmix fit"):
        choose.run(study, Silent())


def confirmed(study) -> pd.DataFrame:
    """Rows of the table of mixtures that a choice is tried with."""
    table = read_mixtures(study.mixtures)
    return table[table["origin"] == "confirm"]


def train_as_if(study, shift: float) -> None:
    """Add results of the proxies that were asked for, `shift` nats above the law."""
    file = study.proxies / "results.parquet"
    results, rows = pd.read_parquet(file), confirmed(study)
    new = rows[~rows["mixture_id"].isin(results["mixture_id"])]
    weights = by_domain(new, "weight")[list(NAMES)].to_numpy()
    noise = np.random.default_rng(1).normal(scale=0.003, size=weights.shape)
    losses = 2.0 + (0.05 + weights) ** -0.3 + noise + shift
    columns = {
        "run_id": new["mixture_id"] + "run",
        **{column: new[column] for column in ("mixture_id", "split")},
        **{f"weight/{name}": weights[:, i] for i, name in enumerate(NAMES)},
        **{f"loss/{name}": losses[:, i] for i, name in enumerate(NAMES)},
    }
    measured = pd.DataFrame(columns).assign(status="ok", seed=1)
    pd.concat([results, measured], ignore_index=True).to_parquet(file)


def rounds_of(study) -> list[Round]:
    return rounds_in(read_yaml(study.mixture), study.mixture)


def test_a_choice_is_tried_at_itself_the_prior_and_nearby_and_only_the_fit_gets_rows(fitted_study):
    study = fitted_study("choice.num_confirm=4")
    before = read_mixtures(study.mixtures)
    notes = Recorder()
    choose.run(study, notes)
    after, rows = read_mixtures(study.mixtures), confirmed(study)
    pd.testing.assert_frame_equal(after[: len(before)], before)
    assert rows[["split", "round"]].value_counts().to_dict() == {("fit", 1): 4}
    weights = by_domain(rows, "weight")[list(NAMES)].to_numpy()
    chosen = read_chosen(study.mixture, NAMES)
    np.testing.assert_allclose(weights[0], list(chosen.values()))
    np.testing.assert_allclose(weights[3], weights[0])
    facts = CorpusFacts.load(study.corpus)
    np.testing.assert_allclose(weights[1], list(facts.prior(study.recipe).values()))
    assert 0.01 < np.abs(weights[2] - weights[0]).sum() / 2 < 0.4
    [only] = rounds_of(study)
    assert [trial.kind for trial in only.trials] == ["chosen", "prior", "near", "chosen"]
    assert [trial.mixture_id for trial in only.trials] == rows["mixture_id"].tolist()
    assert only.trials[0].promised == pytest.approx(choose_predicted(study), abs=1e-6)
    assert any("`regmix proxies` trains 4 more" in line for line in notes.notes)
    assert [study.state(stage) for stage in (sample.STAGE, choose.STAGE)] == [State.DONE] * 2
    assert choose.asked_for(study) == rows["mixture_id"].tolist()
    assert choose.most_to_try(study) == 4


def choose_predicted(study) -> float:
    return read_yaml(study.mixture)["predicted"]["chosen"]["loss"]


def test_choosing_again_before_the_proxies_are_trained_asks_for_no_more_and_changes_nothing(fitted_study):
    study = fitted_study("choice.num_confirm=4")
    choose.run(study, Silent())
    before = study.mixture.read_bytes(), study.mixtures.read_bytes()
    choose.run(study, Silent())
    assert (study.mixture.read_bytes(), study.mixtures.read_bytes()) == before


def test_a_promise_that_holds_ends_the_rounds_and_stands_beside_what_was_measured(fitted_study):
    study = fitted_study("choice.num_confirm=4")
    choose.run(study, Silent())
    promised = rounds_of(study)[0].trials[0].promised
    train_as_if(study, 0.0)
    notes = Recorder()
    choose.run(study, notes)
    assert len(confirmed(study)) == 4
    [only] = rounds_of(study)
    assert only.chosen.promised == promised
    assert only.chosen.num_seeds == 2
    assert only.chosen.holds
    assert only.chosen.difference == pytest.approx(promised - only.chosen.measured)
    assert any(line.startswith("what was chosen last was tried: promised") for line in notes.notes)
    assert (choose.asked_for(study), choose.most_to_try(study)) == ([], 4)


def test_a_mixture_that_has_moved_since_its_promise_held_is_tried_anew(fitted_study):
    study = fitted_study("choice.num_confirm=1")
    choose.run(study, Silent())
    train_as_if(study, 0.0)
    choose.run(study, Silent())
    assert rounds_of(study)[0].chosen.holds
    asked = study.recipe.choice.model_copy(update={"max": {"prose": 0.05}})
    moved = type(study)(study.recipe.model_copy(update={"choice": asked}))
    choose.run(moved, Silent())
    first, second = rounds_of(moved)
    assert first.differs_by(second.weights) > 0.1
    assert confirmed(moved)["round"].tolist() == [1, 2]


def test_a_promise_that_fails_is_followed_by_another_round_and_no_third(fitted_study):
    study = fitted_study("choice.num_confirm=2")
    choose.run(study, Silent())
    for shift, rows in ((0.5, 4), (1.0, 4)):
        train_as_if(study, shift)
        fit.run(study, Silent())
        choose.run(study, Silent())
        assert len(confirmed(study)) == rows
    assert confirmed(study)["round"].tolist() == [1, 1, 2, 2]
    first, second = rounds_of(study)
    assert not first.chosen.holds
    assert second.chosen.promised > first.chosen.promised  # the runs of the first round are fitted on
    assert choose.asked_for(study) == []


def test_a_choice_killed_before_its_rows_are_written_asks_for_the_same_again(fitted_study, monkeypatch):
    asked = ("choice.num_confirm=4", "sampling.num_mixtures=5")  # what the table holds
    whole, killed = fitted_study(*asked), fitted_study(*asked)
    choose.run(whole, Silent())
    before = killed.mixtures.read_bytes()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(choose, "write_parquet", die)
        choose.run(killed, Silent())
    assert killed.mixtures.read_bytes() == before
    assert killed.state(choose.STAGE) == State.PARTIAL
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(killed), "add_to", die)
        choose.run(killed, Silent())
    assert killed.state(sample.STAGE) == State.PARTIAL
    sample.run(killed, Silent())  # its table is not what it wrote: it says so, and keeps the rows
    choose.run(killed, Silent())
    pd.testing.assert_frame_equal(read_mixtures(killed.mixtures), read_mixtures(whole.mixtures))
    assert killed.mixture.read_bytes() == whole.mixture.read_bytes()


def test_nothing_is_tried_where_the_study_cannot_train_or_keeps_the_prior(fitted_study, monkeypatch):
    others = fitted_study("choice.num_confirm=4", "runs=someone/their-runs@v1")
    pulled = fitted_study("choice.num_confirm=4")
    (pulled.root / ".pulled.json").write_text("{}")
    doubted = fitted_study("choice.num_confirm=4")
    for study in (others, pulled, doubted):
        with monkeypatch.context() as patch:
            if study is doubted:
                patch.setattr(ChoiceProblem, "keeps_prior", True)
            choose.run(study, Silent())
        assert len(confirmed(study)) == 0
        assert rounds_of(study) == []


def test_another_target_is_tried_anew_and_a_lost_record_counts_its_rounds(fitted_study):
    study = fitted_study("choice.num_confirm=1", "choice.num_rounds=1")
    choose.run(study, Silent())
    train_as_if(study, 0.5)
    choose.run(study, Silent())
    assert len(confirmed(study)) == 1
    regression = study.recipe.regression.model_copy(update={"target": "code"})
    other = type(study)(study.recipe.model_copy(update={"regression": regression}))
    choose.run(other, Silent())
    assert len(confirmed(other)) == 2
    assert [one.target for one in rounds_of(other)] == ["mean of 3 targets", "code"]
    train_as_if(other, 0.5)
    other.mixture.unlink()
    choose.run(other, Silent())
    assert len(confirmed(other)) == 2
    assert rounds_of(other) == []


def test_a_round_of_proxies_that_are_trained_otherwise_now_is_not_held_against_them(fitted_study):
    study = fitted_study("choice.num_confirm=1", "choice.num_rounds=1")
    choose.run(study, Silent())
    train_as_if(study, 0.0)
    choose.run(study, Silent())
    assert rounds_of(study)[0].chosen is not None
    proxy = study.recipe.proxy.model_copy(
        update={"num_train_tokens": 2 * study.recipe.proxy.num_train_tokens}
    )
    longer = type(study)(study.recipe.model_copy(update={"proxy": proxy}))
    results = pd.read_parquet(file := study.proxies / "results.parquet")
    columns = [f"loss/{name}" for name in NAMES]
    results.assign(**{name: results[name] - 1.0 for name in columns}).to_parquet(file)
    fit.run(longer, Silent())
    choose.run(longer, Silent())
    first, second = rounds_of(longer)
    assert first.chosen is None
    assert second.trials[0].promised < first.trials[0].promised - 0.9
    assert len(confirmed(longer)) == 2


def test_in_standard_deviations_a_promise_is_held_against_what_is_measured_in_the_same(fitted_study):
    study = fitted_study("choice.num_confirm=1", "regression.target={mean_of: [prose, code], scale: spread}")
    fit.run(study, Silent())
    choose.run(study, Silent())
    train_as_if(study, 0.0)
    scales = rounds_of(study)[0].scales
    assert set(scales) == {"prose", "code"}
    results = pd.read_parquet(study.proxies / "results.parquet")
    last = results.iloc[-1]
    expected = np.mean([(last[f"loss/{name}"] - mean) / spread for name, (mean, spread) in scales.items()])
    wide = results.iloc[:-1].assign(**{"loss/prose": 3 * results["loss/prose"]})
    pd.concat([wide, results.iloc[-1:]]).to_parquet(study.proxies / "results.parquet")
    fit.run(study, Silent())
    choose.run(study, Silent())
    assert rounds_of(study)[0].chosen.measured == pytest.approx(expected, abs=1e-5)


def test_status_and_the_plan_count_what_a_choice_asks_for(fitted_study):
    study = fitted_study("choice.num_confirm=4", "executor.gpu=h200")  # then no speed is measured
    plan = make_plan(study)
    planned = {stage.verb: stage for stage in plan.stages}
    assert planned["proxies"].runs == 10 + 1 + 8
    assert any("at most 8 of them come after `choose`" in note for note in plan.notes)
    choose.run(study, Silent())
    assert pipeline.next_verb(study, "choose", pipeline.stages_of(study)) == "proxies"
    assert pipeline.next_verb(study, "choose", ["fit", "choose", "train"]) == "train"
    census = pipeline.census_of(study, "proxies")
    assert census.num_left == 6 + 4
    standings = {stage.verb: stage.standing for stage in pipeline.status(study)}
    assert standings["sample"].state == State.DONE
    assert "proxies" in standings["choose"].after
