"""Simulation: the best of many candidates, the same for any chunking, in bounded memory."""

import tracemalloc

import numpy as np
import pytest

from regmix_hf.choice import simulate as simulation
from regmix_hf.choice.simulate import simulate
from regmix_hf.mixtures import AroundPrior, Constraints

NAMES = ("a", "b", "c")
AROUND = AroundPrior({"a": 0.5, "b": 0.3, "c": 0.2}, Constraints(NAMES, maximum={"a": 0.6}))


def first_weight(weights, ceiling):
    return weights[:, 0]


def test_the_answer_is_the_mean_of_the_best_of_all_candidates():
    seen = []

    def objective(weights, ceiling):
        seen.append(weights)
        return (weights - 0.4) @ np.array([1.0, -2.0, 0.5])

    found = simulate(objective, AROUND, num_candidates=3_000, top_k=7, random_state=1)
    candidates = np.concatenate(seen)[:3_000]
    best = candidates[np.argsort(objective(candidates, np.inf), kind="stable")[:7]]
    np.testing.assert_array_equal(found.best, best)
    np.testing.assert_allclose(found.weights, best.mean(axis=0))
    assert (np.diff(found.values) >= 0).all()


def test_exactly_as_many_candidates_as_asked_take_part():
    # A rejected draw does not count, and the last chunk is cut.
    found = simulate(first_weight, AROUND, num_candidates=1_234, top_k=1_234, random_state=0)
    assert found.best.shape == (1_234, 3)
    assert found.best[:, 0].max() <= 0.6


def test_no_more_are_predicted_than_are_asked_for_and_no_more_drawn_than_that_takes(monkeypatch):
    predicted, drawn, draw = [], [], AroundPrior._draw
    monkeypatch.setattr(AroundPrior, "_draw", lambda *given: drawn.append(given[2]) or draw(*given))
    monkeypatch.setattr(simulation.joblib, "cpu_count", lambda: 4)

    def objective(weights, ceiling):
        predicted.append(len(weights))
        return weights[:, 0]

    simulate(objective, AROUND, num_candidates=1_000, top_k=5, random_state=0)
    assert (predicted, len(drawn)) == ([1_000], 1)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(simulation.joblib, "cpu_count", lambda threads=threads: threads)
        monkeypatch.setattr(simulation, "_CHUNK_NUMBERS", 450)
        found.append(simulate(first_weight, AROUND, num_candidates=2_000, top_k=20, random_state=2))
    np.testing.assert_array_equal(found[0].best, found[1].best)


def test_of_equal_candidates_the_first_drawn_count():
    found = simulate(lambda w, _: np.zeros(len(w)), AROUND, num_candidates=500, top_k=3, random_state=3)
    alone = simulate(lambda w, _: np.zeros(len(w)), AROUND, num_candidates=3, top_k=3, random_state=3)
    np.testing.assert_array_equal(found.best, alone.best)


def test_memory_does_not_grow_with_the_number_of_candidates():
    peaks = []
    for count in (200_000, 800_000):
        tracemalloc.start()
        simulate(first_weight, AROUND, num_candidates=count, top_k=10, random_state=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 800_000 * 3 * 8  # less than the candidates themselves would take


def test_an_error_of_the_objective_is_passed_on():
    def broken(weights, ceiling):
        raise ValueError("no prediction")

    with pytest.raises(ValueError, match="no prediction"):
        simulate(broken, AROUND, num_candidates=10, top_k=1, random_state=0)
