"""The chosen mixture: allowed, better than the prior where that is known, and with its doubts said."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf import choose_mixture
from regmix_hf.choice import ChoiceProblem
from regmix_hf.choice.choose import _round
from regmix_hf.choice.nearest import NearestRuns
from regmix_hf.errors import MixtureError, RegressionError
from regmix_hf.mixtures import Constraints, EpochCap, around_prior, sampling_constraints
from regmix_hf.mixtures.final import choice_constraints
from regmix_hf.quantities import read_names
from regmix_hf.recipe import Choice, Sampling
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.target import Target

NAMES = ("a", "b", "c")
PRIOR = {"a": 0.7, "b": 0.2, "c": 0.1}
FEW = Choice(num_candidates=3_000, top_k=30)


def test_the_mean_of_all_losses_is_least_where_all_domains_have_a_share(runs, fitted):
    chosen = choose_mixture(fitted("power_law"), "mean", prior=PRIOR, swarm=runs[0], choice=FEW)
    assert chosen.method == "optimised"
    assert sum(chosen.weights.values()) == pytest.approx(1.0, abs=1e-12)
    assert min(chosen.weights.values()) > 0.15
    assert chosen.is_better_than_prior
    assert chosen.warnings == ()
    assert chosen.candidates[1].predicted.loss <= chosen.candidates[0].predicted.loss


def test_the_trade_off_is_what_the_regressor_says_of_both(runs, fitted):
    model = fitted("power_law")
    chosen = choose_mixture(model, {"c": 1.0}, prior=PRIOR, swarm=runs[0], choice=FEW)
    both = pd.DataFrame([chosen.weights, PRIOR])
    losses = model.predict(both)
    assert chosen.losses["loss"].to_dict() == pytest.approx(losses.iloc[0].to_dict())
    assert chosen.losses["prior_loss"].to_dict() == pytest.approx(losses.iloc[1].to_dict())
    np.testing.assert_allclose(chosen.losses["change"], losses.iloc[0] - losses.iloc[1])
    assert chosen.losses.loc["c", "change"] < 0 < chosen.losses.loc["a", "change"]
    assert chosen.losses["is_clear"].loc[["a", "c"]].all()
    assert chosen.predicted.loss == pytest.approx(losses.loc[0, "c"])
    assert chosen.prior_predicted.loss == pytest.approx(losses.loc[1, "c"])


def test_trees_are_simulated_only(runs):
    model = MixtureRegressor("lightgbm", num_iterations=20).fit(*runs)
    chosen = choose_mixture(model, "mean", prior=PRIOR, choice=FEW)
    assert [candidate.method for candidate in chosen.candidates] == ["simulated"]
    assert "lightgbm has no derivatives" in chosen.reason
    assert np.isnan(chosen.widest_gap)


def test_the_worst_loss_is_simulated_and_its_optimum_shown_beside(runs, fitted):
    chosen = choose_mixture(fitted("power_law"), "worst", prior=PRIOR, swarm=runs[0], choice=FEW)
    assert chosen.method == "simulated"
    simulated, optimised = chosen.candidates
    assert optimised.predicted.loss < simulated.predicted.loss
    losses = fitted("power_law").predict(pd.DataFrame([optimised.weights])).iloc[0]
    assert losses.max() - losses.min() < 0.01  # all three equally bad


def test_every_bound_is_kept(runs, fitted):
    bounds = Constraints(
        NAMES, {"b": 0.05}, fixed={"c": 0.25}, epochs=EpochCap(4, {"a": 10, "b": 100, "c": 100}, 100)
    )
    for target in ("a", "mean", "worst"):
        chosen = choose_mixture(fitted("power_law"), target, bounds, prior=PRIOR, swarm=runs[0], choice=FEW)
        for candidate in chosen.candidates:
            assert candidate.weights["a"] <= 0.4 + 1e-6
            assert candidate.weights["b"] >= 0.05 - 1e-6
            assert candidate.weights["c"] == 0.25


def test_bounds_of_the_choice_section_apply_without_constraints(runs, fitted):
    choice = FEW.model_copy(update={"max": {"a": 0.3}, "fixed": {"b": 0.5}})
    chosen = choose_mixture(fitted("power_law"), "a", prior=PRIOR, choice=choice)
    assert chosen.weights["a"] == pytest.approx(0.3, abs=1e-6)
    assert chosen.weights["b"] == 0.5


def test_a_pull_to_the_prior_moves_the_choice_towards_it(runs, fitted):
    free = choose_mixture(fitted("power_law"), "mean", prior=PRIOR, choice=FEW)
    pulled = choose_mixture(
        fitted("power_law"), "mean", prior=PRIOR, choice=FEW.model_copy(update={"kl_strength": 10.0})
    )
    for before, after in zip(free.candidates, pulled.candidates, strict=True):
        assert abs(after.weights["a"] - 0.7) < 0.5 * abs(before.weights["a"] - 0.7)


def test_no_domain_gets_more_than_the_swarm_could_give_it(runs, fitted):
    sampling = Sampling(max={"a": 0.5})
    chosen = choose_mixture(
        fitted("power_law"), "a", prior=PRIOR, swarm=runs[0], choice=FEW, sampling=sampling
    )
    assert chosen.weights["a"] == pytest.approx(0.5, abs=1e-6)
    [warning] = [warning for warning in chosen.warnings if "swarm" in warning]
    assert warning.startswith("'a' (50 %): the most the swarm's mixtures could have")
    assert "sampling.max" in warning


def test_a_least_weight_that_is_asked_for_comes_before_the_swarm_and_is_far_from_it(runs, fitted):
    near = runs[0]["a"] < 0.5
    chosen = choose_mixture(
        fitted("power_law"),
        "mean",
        Constraints(NAMES, {"a": 0.9}),
        prior=PRIOR,
        swarm=runs[0][near],
        choice=FEW,
        sampling=Sampling(max={"a": 0.5}),
    )
    assert chosen.weights["a"] >= 0.9 - 1e-6
    assert any("no run was near" in warning for warning in chosen.warnings)


def test_a_choice_that_is_not_clearly_better_than_the_prior_says_so(runs, fitted):
    best = choose_mixture(fitted("power_law"), "mean", prior=PRIOR, choice=FEW).weights
    again = choose_mixture(fitted("power_law"), "mean", prior=best, choice=FEW)
    assert not again.is_better_than_prior
    [warning] = [one for one in again.warnings if "not better than the prior beyond its interval" in one]
    assert "do not allow" not in warning
    bound = Constraints(NAMES, maximum={"a": best["a"] / 2})
    bounded = choose_mixture(fitted("power_law"), "mean", bound, prior=best, choice=FEW)
    assert any("the prior, which the bounds do not allow, " in warning for warning in bounded.warnings)


def test_the_optimum_far_from_all_runs_gives_way_to_the_simulated_mixture(runs, fitted):
    model = fitted("power_law")
    simulated = choose_mixture(model, "mean", prior=PRIOR, choice=FEW).candidates[0].weights
    # A swarm of the simulated mixture and one beside it: its widest gap is 0.001.
    beside = {"a": simulated["a"] - 0.001, "b": simulated["b"] + 0.0005, "c": simulated["c"] + 0.0005}
    chosen = choose_mixture(model, "mean", prior=PRIOR, swarm=pd.DataFrame([simulated, beside]), choice=FEW)
    assert chosen.method == "simulated"
    assert "lies where no run was near" in chosen.reason


def test_the_same_seed_gives_the_same_choice_and_another_one_another_simulation(runs, fitted):
    first, again, other = (
        choose_mixture(fitted("power_law"), "mean", prior=PRIOR, choice=FEW, random_state=seed)
        for seed in (1, 1, 2)
    )
    assert [c.weights for c in first.candidates] == [c.weights for c in again.candidates]
    assert first.candidates[0].weights != other.candidates[0].weights


def test_an_unknown_target_and_other_domains_are_refused(fitted):
    with pytest.raises(RegressionError, match="'d' is no target"):
        choose_mixture(fitted("power_law"), "d", prior=PRIOR)
    with pytest.raises(MixtureError, match="the constraints are over"):
        choose_mixture(fitted("power_law"), "a", Constraints(("b", "a", "c")), prior=PRIOR)
    with pytest.raises(MixtureError, match="prior: the weights sum to 2"):
        choose_mixture(fitted("power_law"), "a", prior={"a": 1, "b": 1, "c": 0})
    with pytest.raises(MixtureError, match=r"choice: .*together may have 0\.6, less than 1"):
        choose_mixture(fitted("power_law"), "a", prior=PRIOR, choice=Choice(max=dict.fromkeys(NAMES, 0.2)))


def test_where_swarm_and_bounds_leave_nothing_together_the_bounds_hold(runs, fitted):
    sampling = Sampling(max={"a": 0.5, "b": 0.5, "c": 0.3})
    problem = ChoiceProblem(
        regressor=fitted("power_law"),
        target=Target.parse("mean", read_names(NAMES)),
        constraints=choice_constraints(Choice(max={"a": 0.1, "b": 0.1}), NAMES),
        sampled=around_prior(PRIOR, sampling, sampling_constraints(sampling, PRIOR)),
        swarm=runs[0],
        choice=FEW,
    )
    assert problem.solve().weights["c"] >= 0.8 - 1e-6


def test_distances_are_shares_of_tokens_and_repeated_runs_count_once():
    swarm = NearestRuns(
        pd.DataFrame([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.3, 0.7]], columns=["a", "b"]), ("a", "b")
    )
    assert swarm.widest_gap == pytest.approx(0.5)
    np.testing.assert_allclose(swarm.distance(np.array([[0.9, 0.1], [0.0, 1.0]])), [0.1, 0.3])
    # Columns are taken by name.
    turned = NearestRuns(pd.DataFrame([[1.0, 0.0]], columns=["b", "a"]), ("a", "b"))
    assert turned.distance(np.array([[0.0, 1.0]]))[0] == 0.0
    assert turned.widest_gap == 0.0


def test_rounded_weights_sum_to_one_exactly():
    rng = np.random.default_rng(0)
    for number in (2, 17, 300):
        weights = rng.dirichlet(np.ones(number))
        rounded = _round(weights, Constraints(tuple(f"d{i}" for i in range(number))))
        assert rounded.sum() == pytest.approx(1.0, abs=1e-13)
        assert np.abs(rounded - weights).max() < 1e-6
        np.testing.assert_array_equal(rounded, np.round(rounded, 6))
