"""Whether one mixture beats another is computed from the spread over seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.cards.comparison import Outcome, compare, seed_noise
from regmix_hf.quantities import SHARE, Quantity


def test_noise_is_pooled_over_mixtures() -> None:
    noise, freedom = seed_noise({"a": [1.0, 3.0], "b": [5.0, 5.0, 8.0], "c": [0.0]})
    assert freedom == 3
    assert noise == pytest.approx(np.sqrt((2.0 + 6.0) / 3))


def test_a_gain_beyond_the_noise_is_a_win() -> None:
    # Pooled deviation 0.01414 with 2 degrees of freedom; Student's quantile 4.303.
    (comparison,) = compare({"chosen": [3.0, 3.02], "prior": [3.2, 3.22]})
    assert comparison.gain == pytest.approx(0.2)
    assert comparison.half_width == pytest.approx(4.3027 * 0.0141421, rel=1e-4)
    assert comparison.outcome is Outcome.BETTER
    assert comparison.sentence == (
        "`chosen` beats `prior` by 0.200 nats per token, more than the noise between seeds "
        "(95 % interval of the gain: +0.139 to +0.261)."
    )


def test_a_gain_within_the_noise_is_no_win() -> None:
    (comparison,) = compare({"chosen": [3.0, 3.1], "prior": [3.1, 3.2]})
    assert comparison.outcome is Outcome.UNDECIDED
    assert "not shown to differ" in comparison.sentence
    assert "0.100 nats per token lower" in comparison.sentence


def test_a_loss_beyond_the_noise_is_said_to_be_one() -> None:
    (comparison,) = compare({"chosen": [3.2, 3.22], "prior": [3.0, 3.02]})
    assert comparison.outcome is Outcome.WORSE
    assert comparison.sentence.startswith("`chosen` loses to `prior` by 0.200 nats per token")


def test_with_one_seed_nobody_knows() -> None:
    (comparison,) = compare({"chosen": [3.0], "prior": [3.5]})
    assert comparison.outcome is Outcome.UNKNOWN
    assert comparison.half_width is None
    assert "With one seed per mixture" in comparison.sentence


def test_an_interval_of_two_seeds_ends_where_values_can_differ_by_no_more() -> None:
    shares = {"chosen": [0.2, 0.6], "prior": [0.3]}
    (comparison,) = compare(shares, target=Quantity("t/acc", SHARE, "higher"))
    assert comparison.half_width == pytest.approx(4.4, abs=0.1)
    assert comparison.interval == (-1.0, 1.0)
    assert "-1.000 to +1.000" in comparison.sentence
    (of_losses,) = compare(shares)
    assert of_losses.interval == pytest.approx((-0.1 - of_losses.half_width, -0.1 + of_losses.half_width))


def test_without_the_chosen_mixture_there_is_nothing_to_compare() -> None:
    assert compare({"prior": [3.0, 3.1], "uniform": [3.0, 3.1]}) == []


def test_mixtures_that_are_the_same_runs_are_not_compared_and_their_noise_counts_once() -> None:
    losses = {"chosen": [3.0, 3.1], "prior": [3.0, 3.1], "uniform": [3.2, 3.4]}
    runs = {"chosen": ["a", "b"], "prior": ["a", "b"], "uniform": ["c", "d"]}
    prior, uniform = compare(losses, runs=runs)
    assert prior.outcome is Outcome.SAME
    assert (prior.gain, prior.interval) == (0.0, None)
    assert prior.sentence == "`chosen` is `prior`: the same weights, and the same models."
    (alone,) = compare({name: losses[name] for name in ("chosen", "uniform")})
    assert uniform.interval == alone.interval


@given(
    st.lists(st.floats(2.0, 4.0), min_size=2, max_size=4),
    st.lists(st.floats(2.0, 4.0), min_size=2, max_size=4),
)
def test_exchanging_the_mixtures_exchanges_the_verdict(mine: list[float], theirs: list[float]) -> None:
    (forth,) = compare({"chosen": mine, "prior": theirs})
    (back,) = compare({"chosen": theirs, "prior": mine})
    assert forth.gain == pytest.approx(-back.gain)
    opposite = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER}
    assert back.outcome is opposite.get(forth.outcome, forth.outcome)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        losses = {
            "chosen": rng.normal(3.0, 0.05, 2),
            "prior": rng.normal(3.1, 0.05, 2),
            "uniform": rng.normal(3, 0.05, 2),
        }
        comparison = compare(losses)[0]
        assert comparison.half_width is not None
        held += abs(comparison.gain - 0.1) <= comparison.half_width
    assert held / 2000 == pytest.approx(0.95, abs=0.015)
