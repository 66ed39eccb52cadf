"""A regression that knows nothing chooses nothing: one verdict, from the fit to the mixture."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from regmix_hf.choice import FittedRuns, read_chosen, write_chosen
from regmix_hf.files import read_json, write_json
from regmix_hf.mixtures import Constraints
from regmix_hf.recipe import Choice
from regmix_hf.regression.assessment import HeldOut
from regmix_hf.regression.fitting import fit_runs
from regmix_hf.regression.target import Target
from regmix_hf.regression.verdict import CANNOT, TELLS, WEAKLY, Verdict
from regmix_hf.runs.runs import Runs

pytestmark = pytest.mark.long

FEW = Choice(num_candidates=1_000, top_k=10)
NAMES = ("a", "b", "c")


def as_runs(weights, losses):
    return Runs(weights, losses, pd.Series("fit", index=weights.index, name="split"))


@pytest.fixture(scope="module")
def blind(runs, tmp_path_factory):
    """A fit on losses that have nothing to do with the mixtures."""
    weights, losses = runs
    folder = tmp_path_factory.mktemp("blind")
    order = np.random.default_rng(3).permutation(len(losses))
    shuffled = losses.iloc[order].set_axis(losses.index)
    return fit_runs(as_runs(weights, shuffled).take(np.arange(24)), ["ridge"], "a", folder)


def test_losses_that_no_mixture_explains_keep_the_prior(blind, tmp_path):
    assert blind.verdict.word == CANNOT
    assert blind.verdict.low <= 0
    fitted = FittedRuns.load(blind.folder)
    assert fitted.verdict == blind.verdict
    chosen = fitted.problem(choice=FEW).solve()
    assert chosen.method == "prior"
    assert chosen.weights == chosen.prior == pytest.approx(fitted.mean_weights)
    write_chosen(chosen, tmp_path)
    assert read_chosen(tmp_path / "mixture.yaml") == pytest.approx(chosen.prior, abs=1e-15)
    assert chosen.reason.startswith("the prior: ")
    assert "set choice.force" in chosen.reason
    assert "cannot tell mixtures apart" in chosen.warnings[0]
    assert sum(str(blind.verdict) in note for note in chosen.notes) == 1, (
        "as the reason, and no warning beside it"
    )
    assert [found.method for found in chosen.candidates] == ["simulated", "optimised", "prior"]


def test_the_interval_of_the_verdict_is_the_one_in_the_table(blind):
    (row,) = blind.quality.query("estimator == 'ridge' and target == 'a'").to_dict("records")
    assert (row["spearman_low"], row["spearman_high"]) == (blind.verdict.low, blind.verdict.high)


def test_only_runs_that_measured_all_of_the_target_are_counted(runs, tmp_path):
    weights, losses = runs
    losses = losses.assign(a=losses["a"].where(np.arange(len(losses)) % 3 > 0))
    fit = fit_runs(as_runs(weights, losses).take(np.arange(24)), ["ridge"], ["a", "b"], tmp_path)
    (row,) = fit.quality.query("estimator == 'ridge' and kind == 'combined'").to_dict("records")
    assert row["num_runs"] == 16
    assert "over 16 runs (cross-validation, pessimistic for so few)" in fit.verdict.reasons[0]
    assert "over 16 runs (cross-validation)" in fit.selection.reason


def test_the_prior_that_is_kept_meets_the_bounds_and_force_chooses_all_the_same(blind, tmp_path):
    fitted = FittedRuns.load(blind.folder)
    bounds = Constraints(NAMES, {"c": 0.6}, {}, {}, name="choice")
    kept = fitted.problem(constraints=bounds, choice=FEW).solve()
    assert kept.weights["c"] == pytest.approx(0.6)
    assert kept.reason.startswith("as near to the prior as is allowed: ")
    write_chosen(kept, tmp_path)
    assert read_chosen(tmp_path / "mixture.yaml", NAMES) == pytest.approx(dict(kept.weights))
    forced = fitted.problem(choice=FEW.model_copy(update={"force": True})).solve()
    assert forced.method == "optimised"
    assert "cannot tell mixtures apart" in forced.warnings[0]


def test_losses_that_mixtures_explain_are_told_apart_and_a_fit_of_old_is_judged_when_read(runs, tmp_path):
    found = fit_runs(as_runs(*runs).take(np.arange(32)), ["power_law"], "mean", tmp_path)
    assert found.verdict.word == TELLS
    assert found.summary["verdict"]["word"] == TELLS
    summary = read_json(tmp_path / "summary.json")
    del summary["verdict"]  # as version 0.1 wrote it
    write_json(tmp_path / "summary.json", summary)
    again = FittedRuns.load(tmp_path)
    assert again.verdict.word == TELLS
    assert again.problem(choice=FEW).solve().method == "optimised"
    assert FittedRuns.load(tmp_path, target="a").verdict.spearman != again.verdict.spearman


def test_a_weak_correlation_and_loud_seeds_are_weak_evidence(runs, tmp_path):
    weights, losses = (table.rename(index=str) for table in runs)
    rng = np.random.default_rng(1)
    noisy = losses + rng.normal(scale=1.2 * losses["a"].std(), size=losses.shape)
    weak = fit_runs(as_runs(weights, noisy).take(np.arange(40)), ["power_law"], "a", tmp_path / "weak")
    assert weak.verdict.word == WEAKLY
    notes = FittedRuns.load(weak.folder).problem(choice=FEW).solve().notes
    assert "warning: the regression tells mixtures apart only weakly" in notes
    # Each mixture once more with another seed: losses differ no more between mixtures than between seeds.
    twins = weights.iloc[:20].rename("{}-again".format)
    loud = pd.concat([losses.iloc[:20], losses.iloc[:20].set_axis(twins.index) + 9])
    seeds = fit_runs(as_runs(pd.concat([weights.iloc[:20], twins]), loud), ["ridge"], "a", tmp_path / "loud")
    assert seeds.verdict.word == CANNOT
    assert any("between seeds" in reason for reason in seeds.verdict.reasons)


def of_few(true: list[float], shares: list[float], noise: dict[str, float]) -> Verdict:
    """The verdict on predictions that rise with the share of `a`, in the order in which runs are given."""
    weights = pd.DataFrame({"a": shares, "b": [1 - one for one in shares]})
    runs = as_runs(weights, pd.DataFrame({"a": true}))
    held_out = HeldOut("the fitted runs", runs, {"experts": weights[["a"]]})
    return Verdict.of(held_out, "experts", Target.parse("a", runs.quantities), noise, 0)


def test_the_order_of_two_or_three_mixtures_is_no_veto_where_nothing_is_known_of_the_noise():
    assert of_few([2.0, 1.0], [0.1, 0.9], {}).word == WEAKLY
    assert "noise alone may" in of_few([2.0, 1.0], [0.1, 0.9], {}).reasons[0]
    assert of_few([3.0, 2.0, 1.0], [0.1, 0.5, 0.9], {}).word == WEAKLY
    assert of_few([4.0, 3.0, 2.0, 1.0], [0.1, 0.4, 0.6, 0.9], {}).word == CANNOT
    apart, alike = {"a": 0.05}, {"a": 5.0}
    assert of_few([2.0, 1.0], [0.1, 0.9], apart).word == CANNOT
    assert of_few([1.0, 2.0], [0.1, 0.9], apart).word == WEAKLY
    assert of_few([1.0, 2.0], [0.1, 0.9], alike).word == CANNOT


def test_a_verdict_does_not_depend_on_the_order_in_which_runs_came():
    true, shares = np.array([2.1, 2.0, 1.5, 1.7, 1.9]), np.array([0.1, 0.1, 0.5, 0.9, 0.7])
    orders = map(list, permutations(range(5)))
    found = [of_few(list(true[order]), list(shares[order]), {"a": 0.05}) for order in orders]
    assert len({(one.word, one.reasons) for one in found}) == 1


def test_a_domain_that_never_varied_keeps_its_share(runs, tmp_path):
    weights, losses = runs
    still = weights.assign(c=0.25)
    still[["a", "b"]] = 0.75 * weights[["a", "b"]].div(weights[["a", "b"]].sum(axis=1), axis=0)
    fit_runs(as_runs(still, losses), ["ridge"], "a", tmp_path)
    chosen = FittedRuns.load(tmp_path).problem(choice=FEW).solve()
    assert [found.weights["c"] for found in chosen.candidates] == pytest.approx([0.25, 0.25], abs=1e-5)
    assert any("'c' (25 %)" in warning and "not known" in warning for warning in chosen.warnings)


def test_runs_that_learnt_only_how_often_tokens_occur_are_weak_evidence(runs, tmp_path):
    weights, losses = runs
    median = float(losses["a"].median())
    words = {}
    for name, entropy in (("far", median + 1.5), ("near", median - 0.01)):
        judged = replace(as_runs(weights, losses), token_entropy={"a": entropy})
        words[name] = fit_runs(judged, ["ridge"], "a", tmp_path / name).verdict
    assert words["far"].word == TELLS
    assert "the median run is 1.50 nats below the entropy of single tokens" in words["far"].reasons
    assert words["near"].word == WEAKLY
    assert "has learnt no more than how often they occur" in str(words["near"])


def test_nothing_is_said_of_tokens_that_nobody_counted(runs, tmp_path):
    judged = replace(as_runs(*runs), token_entropy={"a": 9.0})
    verdict = fit_runs(judged, ["ridge"], "mean", tmp_path).verdict
    assert not any("entropy" in reason for reason in verdict.reasons)
