"""The mixture of experts: its formula, its line through the runs, and what it needs."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.base import clone

from regmix_hf import MixtureRegressor
from regmix_hf.errors import RegressionError
from regmix_hf.regression.assessment import cross_validation, predict
from regmix_hf.regression.auto import MEMBERS
from regmix_hf.regression.expert_tokens import ExpertTokens
from regmix_hf.regression.experts import Experts
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.regression.target import Target
from regmix_hf.runs import experts as kept
from regmix_hf.runs.experts import TargetText
from regmix_hf.runs.runs import Runs
from tests.mixed_experts import DOMAINS, NUM_TOKENS, in_torch, log_probabilities


def without_runs(tokens):
    shape = tokens.weights.shape[1], len(tokens.logs)
    return Experts().fit(np.empty((0, shape[0])), np.empty((0, shape[1])), experts=tokens)


def test_the_formula_is_the_loss_of_the_mixed_probabilities(tokens, mixtures):
    found = without_runs(tokens).predict(mixtures)
    np.testing.assert_allclose(found, in_torch(tokens, mixtures), atol=1e-5, rtol=0)


def test_the_gradient_is_the_slope_of_the_predictions(tokens, mixtures):
    model = without_runs(tokens)
    inside, step = mixtures[3:], 1e-6
    slope = model.gradient(inside)
    for domain in range(3):
        up, down = inside.copy(), inside.copy()
        up[:, domain] += step
        down[:, domain] -= step
        np.testing.assert_allclose(
            slope[:, :, domain], (model.predict(up) - model.predict(down)) / (2 * step), rtol=1e-5, atol=1e-7
        )


def test_an_expert_that_is_there_twice_changes_nothing(tokens, mixtures):
    twice = ExpertTokens(
        np.eye(3)[[0, 1, 1, 2]], tuple(logs[[0, 1, 1, 2]] for logs in tokens.logs), tokens.units
    )
    np.testing.assert_allclose(
        without_runs(twice).predict(mixtures), without_runs(tokens).predict(mixtures), atol=1e-9, rtol=0
    )


def test_an_expert_that_was_filled_up_with_others_tells_what_its_domain_would(tokens, mixtures):
    filled = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]])
    near = ExpertTokens(tokens.weights, tuple(logs / 16 for logs in tokens.logs), tokens.units)
    exact = [np.exp(logs.astype(np.float64)) for logs in near.logs]
    logs = tuple(np.log(filled @ given) for given in exact)  # in double: half would not give it back
    found = without_runs(ExpertTokens(filled, logs, tokens.units))
    np.testing.assert_allclose(found.predict(mixtures), in_torch(near, mixtures), atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.reach, [1.0, 1.0, 0.4])


def test_a_domain_without_an_expert_is_named(mixtures):
    table = pd.DataFrame(np.eye(3)[:2], ["x", "y"], DOMAINS)
    text = TargetText(sha256="0", num_tokens=40, bits_per_nat=1.0)
    two = kept.Experts(table, {"web": log_probabilities(2, 40)}, {"web": text})
    runs = pd.DataFrame(mixtures, columns=DOMAINS), pd.DataFrame({"web": mixtures[:, 0]})
    with pytest.raises(RegressionError, match="none of domain 'sums' that ended well"):
        MixtureRegressor("experts").fit(*runs, experts=two)
    with pytest.raises(RegressionError, match="there are none among the runs") as caught:
        MixtureRegressor("experts").fit(*runs)
    assert "sampling.experts: true" in caught.value.hint
    with pytest.raises(RegressionError, match=r"not asked about 'bpb/quiz'.*\n.*remove the folders"):
        MixtureRegressor("experts").fit(runs[0], runs[1].rename(columns={"web": "bpb/quiz"}), experts=two)


def test_a_target_that_experts_were_not_asked_about_is_predicted_by_its_mean(asked, mixtures, tmp_path):
    weights = pd.DataFrame(mixtures, columns=DOMAINS)
    losses = pd.DataFrame({"web": mixtures[:, 1], "later": mixtures[:, 0]})
    model = MixtureRegressor("experts").fit(weights, losses, experts=asked)
    model.save_pretrained(tmp_path)
    for one in (model, MixtureRegressor.from_pretrained(tmp_path)):
        np.testing.assert_allclose(one.predict(weights)["later"], losses["later"].mean())
        np.testing.assert_array_equal(one.gradient(weights)[:, 1], 0.0)
        assert one.predict(weights)["web"].nunique() > 5


def test_runs_give_the_scale_and_few_of_them_little_of_the_slope(tokens, mixtures):
    formula = without_runs(tokens).predict(mixtures)
    losses = 1.0 + 3.0 * formula
    losses[4, 0] = np.nan
    model = Experts().fit(mixtures, losses, experts=tokens)
    np.testing.assert_allclose(model.slope_, [(14 * 3 + 2) / 16, (15 * 3 + 2) / 17], rtol=1e-9)
    known = ~np.isnan(losses)
    np.testing.assert_allclose(
        [model.predict(mixtures)[known[:, t], t].mean() for t in range(2)],
        [losses[known[:, t], t].mean() for t in range(2)],
    )
    one = Experts().fit(mixtures[3:4], losses[3:4], experts=tokens)
    np.testing.assert_array_equal(one.slope_, 1.0)
    np.testing.assert_allclose(one.predict(mixtures[3:4]), losses[3:4])
    falling = Experts().fit(mixtures, -9 * formula, experts=tokens)
    assert (falling.slope_ > 0).all()
    steep = Experts().fit(mixtures, 50 * without_runs(tokens).predict(mixtures), experts=tokens)
    np.testing.assert_array_equal(steep.slope_, 3.0)


def test_what_is_out_of_fold_saw_neither_the_run_nor_its_mixture(tokens, mixtures):
    rows = np.repeat(np.arange(3, 7), 2)
    losses = np.random.default_rng(0).normal(size=(8, 2))
    model = Experts().fit(mixtures[rows], losses, experts=tokens)
    apart = model.out_of_fold(mixtures[rows], losses, [-1, -1])
    others = rows != 3
    alone = Experts().fit(mixtures[rows[others]], losses[others], experts=tokens)
    np.testing.assert_allclose(apart[~others], alone.predict(mixtures[rows[~others]]))
    empty = without_runs(tokens).out_of_fold(np.empty((0, 3)), np.empty((0, 2)), [-1, -1])
    assert empty.shape == (0, 2)


@pytest.fixture(scope="module")
def with_own(tokens):
    """Twenty mixtures with losses of two targets, the tenth of them the expert `y` itself."""
    weights = np.random.default_rng(8).dirichlet(np.ones(3), 20)
    weights[9] = [0.0, 1.0, 0.0]
    noise = np.random.default_rng(7).normal(scale=0.01, size=20)
    losses = pd.DataFrame({"web": 1 + in_torch(tokens, weights)[:, 0] + noise, "other": weights[:, 0]})
    names = [f"m{row}" if row != 9 else "y" for row in range(20)]
    return pd.DataFrame(weights, names, DOMAINS), losses.set_axis(names)


AUTO = {"estimator": "auto", "members": ["ridge", "experts"]}


@pytest.mark.parametrize("params", [{"estimator": "experts"}, AUTO], ids=["experts", "auto"])
def test_a_run_that_is_an_expert_judges_no_family_beside_experts(asked, with_own, params, tmp_path):
    model = MixtureRegressor(**params).fit(*with_own, experts=asked)
    missed = pd.DataFrame(model.out_of_fold_residuals, with_own[0].index, ["web", "other"])
    assert missed.index[missed["web"].isna()].tolist() == ["y"]
    assert missed["other"].notna().all(), "experts were not asked about it: the run tells like any"
    beside = MixtureRegressor("ridge").fit(*with_own, experts=asked)
    assert not np.isnan(beside.out_of_fold_residuals).any()
    runs = Runs(*with_own, pd.Series("fit", with_own[0].index), experts=asked)
    for judges in (predict_held_out, cross_validation):
        alone, both = judges(runs, {"ridge": beside}), judges(runs, {"ridge": beside, "experts": model})
        counts = [
            judged.num_judging(Target.parse(name, runs.quantities, {}))
            for judged in (alone, both)
            for name in runs.targets
        ]
        assert counts == [20, 20, 19, 20]
    model.save_pretrained(tmp_path)
    again = MixtureRegressor.from_pretrained(tmp_path).out_of_fold_residuals
    np.testing.assert_array_equal(again, missed)


def predict_held_out(runs, regressors):
    return predict("holdout", runs, regressors)


def test_where_every_run_is_an_expert_nothing_is_judged(asked, tmp_path):
    weights = pd.DataFrame(np.eye(3), list("xyz"), DOMAINS)
    losses = pd.DataFrame({"web": [3.0, 4.0, 5.0]}, weights.index)
    runs = Runs(weights, losses, pd.Series("fit", weights.index), experts=asked)
    fit = fit_runs(runs, ["experts"], ["web"], tmp_path)
    assert fit.quality["num_runs"].eq(0).all()
    assert "over 0 runs" in str(fit.verdict)


@pytest.mark.parametrize("family", ["experts", "experts_and_law"])
def test_what_a_run_lost_that_is_an_expert_moves_no_fit_of_experts(asked, with_own, family):
    weights, losses = with_own[0][3:11], with_own[1].loc["m3":"m10", ["web"]]
    found = []
    for moved in (0.0, 0.2):
        losses.loc["y", "web"] += moved
        model = MixtureRegressor(family).fit(weights, losses, experts=asked)
        found.append(np.append(model.predict(weights)["web"], model.out_of_fold_residuals))
    np.testing.assert_array_equal(*found)
    other_seed = (table.rename(index={"y": "y-again"}) for table in (weights, losses))
    model = MixtureRegressor(family).fit(*other_seed, experts=asked)
    assert not np.array_equal(model.predict(weights)["web"], found[1][:8]), "one of another seed tells"


def test_it_keeps_the_contract_of_scikit_learn(tokens, mixtures):
    losses = without_runs(tokens).predict(mixtures) + 1.0
    model = Experts(random_state=3).fit(mixtures, losses, experts=tokens)
    again = clone(model)
    assert again.get_params() == {"random_state": 3}
    np.testing.assert_array_equal(
        again.fit(mixtures, losses, experts=tokens).predict(mixtures), model.predict(mixtures)
    )
    with pytest.raises(RegressionError, match="not fitted"):
        clone(model).predict(mixtures)
    with pytest.raises(RegressionError, match="without experts"):
        clone(model).fit(mixtures, losses)
    vector = Experts().fit(mixtures, losses[:, 0], experts=tokens.of_targets([0]))
    assert vector.predict(mixtures).shape == (15,)
    np.testing.assert_allclose(
        model.select_targets([1]).predict(mixtures)[:, 0], model.predict(mixtures)[:, 1]
    )


def test_targets_are_found_by_name_and_bits_follow_from_nats(tokens, mixtures, asked, tmp_path):
    weights = pd.DataFrame(mixtures, columns=DOMAINS)
    formula = pd.DataFrame(in_torch(tokens, mixtures), columns=["web", "bpb/quiz"])
    losses = formula.assign(**{"bpb/web": formula["web"] / 2})[["bpb/web", "bpb/quiz", "web"]] + 0.1
    model = MixtureRegressor("experts").fit(weights, losses, experts=asked)
    np.testing.assert_allclose(model.predict(weights), losses, atol=1e-5)
    model.save_pretrained(tmp_path)
    again = MixtureRegressor.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(again.predict(weights), model.predict(weights), check_exact=True)
    np.testing.assert_array_equal(again.gradient(weights), model.gradient(weights))


@pytest.mark.parametrize("fault", ["gone", "half", "another", "infinite"])
def test_a_saved_one_that_is_damaged_is_refused(tokens, mixtures, tmp_path, fault):
    Experts().fit(mixtures, in_torch(tokens, mixtures), experts=tokens).save(tmp_path)
    file = tmp_path / "estimator-tokens.safetensors"
    facts = {"weights": np.eye(3).tolist(), "units": [1.0, 0.5]}
    arrays = load_file(file)
    match fault:
        case "gone":
            file.unlink()
        case "half":
            file.write_bytes(file.read_bytes()[:2000])
        case "another":
            save_file({"0": arrays["0"]}, file, metadata={"experts": json.dumps(facts)})
        case "infinite":
            arrays["1"][0, 0] = -np.inf
            save_file(arrays, file, metadata={"experts": json.dumps(facts)})
    with pytest.raises(RegressionError, match="tokens"):
        Experts().load(tmp_path, num_domains=3, num_targets=2)


def test_a_hundred_experts_of_twenty_targets_take_less_than_a_gigabyte():
    """Measured with two targets, while two fits live: what that takes grows at most with their number."""
    rng, names = np.random.default_rng(0), [f"d{number}" for number in range(100)]
    logs, texts = {}, {}
    tracemalloc.start()
    try:
        for target in names[:2]:
            half = rng.random((100, kept.KEPT_TOKENS), dtype=np.float32).astype(np.float16)
            logs[target] = np.negative(half, out=half)
            texts[target] = TargetText(sha256=target, num_tokens=kept.KEPT_TOKENS, bits_per_nat=1.0)
        table = pd.DataFrame(np.eye(100), names, names)
        experts = kept.Experts(table, logs, texts)
        weights = pd.DataFrame(rng.dirichlet(np.ones(100), 3), columns=names)
        tracemalloc.reset_peak()
        fits = [MixtureRegressor("experts").fit(weights, weights[names[:2]], experts=experts) for _ in "ab"]
        fits[0].gradient(weights)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held > 2 * 100 * kept.KEPT_TOKENS * (4 + 2), "it was computed with all of them"
    assert 10 * peak < 1e9


def test_what_a_sample_of_tokens_leaves_open_is_the_spread_of_differences(monkeypatch, tokens):
    model = without_runs(tokens)
    pair = np.array([[0.6, 0.2, 0.2], [0.2, 0.2, 0.6]])
    np.testing.assert_array_equal(model.sampling_errors(pair), 0.0)
    monkeypatch.setattr("regmix_hf.regression.expert_tokens.KEPT_TOKENS", NUM_TOKENS[0])
    given = np.exp(tokens.logs[0].astype(float))
    differences = np.log(pair[0] @ given) - np.log(pair[1] @ given)
    expected = [differences.std() / np.sqrt(NUM_TOKENS[0]), 0.0]
    np.testing.assert_allclose(model.sampling_errors(pair), expected, rtol=1e-6)


def test_few_runs_have_students_interval_and_none_has_none(asked, mixtures):
    weights = pd.DataFrame(mixtures, columns=DOMAINS)
    losses = pd.DataFrame({"web": np.random.default_rng(5).normal(size=len(mixtures))})
    lengths = []
    for count in (0, 1, 3, 5, 9):
        part = weights[3 : 3 + count], losses[3 : 3 + count]
        model = MixtureRegressor("experts").fit(*part, experts=asked)
        lower, upper = model.predict_interval(weights)
        lengths.append((upper - lower)["web"].mean())
    assert np.isnan(lengths[:2]).all()
    assert lengths[2] > 2 * 2.92 * 0.3
    assert lengths[4] < lengths[2]


def test_auto_weighs_experts_where_there_are_some(asked, tokens, mixtures, tmp_path):
    weights = pd.DataFrame(np.random.default_rng(6).dirichlet(np.ones(3), 24), columns=DOMAINS)
    losses = pd.DataFrame({"web": 1.0 + in_torch(tokens, weights.to_numpy())[:, 0]})
    losses += np.random.default_rng(7).normal(scale=0.01, size=losses.shape)
    assert MEMBERS[-1] == "experts"
    with_, without = (
        MixtureRegressor("auto", members=["ridge", "experts"]).fit(weights, losses, experts=experts)
        for experts in (asked, None)
    )
    assert with_.model.shares_[0, 1] > 0.9
    assert without.model.shares_.shape == (1, 1)
    with_.save_pretrained(tmp_path)
    again = MixtureRegressor.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(again.predict(weights), with_.predict(weights), check_exact=True)


def test_held_out_runs_judge_experts_where_no_run_is_fitted_on(asked, tokens, mixtures, tmp_path, recorder):
    formula = without_runs(tokens).predict(mixtures)
    runs = Runs(
        weights=pd.DataFrame(mixtures, columns=DOMAINS),
        losses=pd.DataFrame(2 * formula + 1, columns=list(asked.texts)),
        split=pd.Series(["holdout"] * len(mixtures)),
        experts=asked,
    )
    fit = fit_runs(runs, ["experts"], list(asked.texts), tmp_path, progress=recorder)
    assert fit.verdict.spearman == pytest.approx(1.0)
    assert fit.summary["judged_on"] == "holdout"
    assert "are those of no model" in recorder.notes[-1]
