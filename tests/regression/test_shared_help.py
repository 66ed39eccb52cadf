"""What targets tell about each other: hand-checked on help that follows the rule."""

import numpy as np
import pandas as pd

from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.shared_help import SharedHelp

OWN = np.array([0, 1, 2, 3])


def regular(level, general, own):
    """log k of four targets that are the first four domains, without anything particular."""
    return level[:, None] + general + own * (np.arange(len(general)) == OWN[:, None])


def test_help_that_follows_the_rule_is_expected_as_it_is():
    help_ = regular(np.zeros(4), np.array([1.0, -1.0, 0.0, 2.0, -2.0, 0.0]), 4.0)
    mean, precision = SharedHelp.of(OWN, 6).expect(help_)
    np.testing.assert_allclose(mean, help_, atol=0.15)
    assert np.ptp(precision) / precision.max() < 0.05


def test_levels_of_targets_are_free():
    general = np.array([1.0, -1.0, 0.0, 2.0, -2.0, 0.0])
    shared = SharedHelp.of(OWN, 6)
    low, _ = shared.expect(regular(np.zeros(4), general, 4.0))
    high, _ = shared.expect(regular(np.array([0.0, 5.0, 0.0, 0.0]), general, 4.0))
    off_own = ~shared.own
    np.testing.assert_allclose((high - low)[1][off_own[1]], 5.0, atol=0.2)


def test_one_that_stands_out_hardly_moves_the_others_and_is_hardly_pulled():
    help_ = regular(np.zeros(4), np.zeros(6), 4.0)
    help_[0, 5] = 6.0
    mean, precision = SharedHelp.of(OWN, 6).expect(help_)
    assert precision[0, 5] < 0.3 * np.median(precision)
    assert np.abs(mean[1:, 5]).max() < 1.0


def test_mirror_images_are_expected_as_far_as_they_are_alike():
    rng = np.random.default_rng(0)
    number = 12
    own = np.arange(number)
    particular = rng.normal(size=(number, number))
    shared = SharedHelp.of(own, number)
    alike = particular + particular.T
    for help_, sign in ((alike, 1), (np.triu(particular, 1), 0)):
        mean, _ = shared.expect(help_ + 4.0 * np.eye(number))
        off = ~np.eye(number, dtype=bool)
        correlation = np.corrcoef(mean[off], help_[off])[0, 1]
        assert correlation > 0.9 if sign else correlation < 0.75


def test_domains_without_a_target_and_targets_without_a_domain_have_no_mirror_image():
    shared = SharedHelp.of(np.array([-1, 2]), 4)
    assert shared.own.sum() == 1
    assert shared.mirror.tolist() == [-1, -1, 1, -1]
    help_ = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 9.0, 2.0]])
    mean, precision = shared.expect(help_)
    assert np.isfinite(mean).all()
    assert (precision > 0).all()


def test_harms_are_expected_as_the_other_targets_have_them():
    harms = np.array([[0.5, 0.3], [0.3, 0.5], [0.3, 0.3]])
    expected = SharedHelp.of(np.array([0, 1, -1]), 2).expect_harms(harms)
    np.testing.assert_allclose(expected, [[0.0, 0.2], [0.2, 0.0], [0.2, 0.2]])


def test_a_swarm_in_which_domains_help_all_targets_alike_is_predicted_better_together():
    rng = np.random.default_rng(1)
    number = 8
    help_ = np.exp(1.5 * rng.normal(size=number) + 2.0 * np.eye(number))
    weights = rng.dirichlet(np.full(number, 0.5), 200)
    losses = 2 + (0.05 + weights**0.5 @ help_.T) ** -0.4
    fitted = losses[:24] + rng.normal(scale=0.02, size=(24, number))
    names = [f"d{i}" for i in range(number)]
    together = MixtureRegressor().fit(frame(weights[:24], names), frame(fitted, names))
    error = np.abs(together.predict(frame(weights[24:], names)).to_numpy() - losses[24:]).mean()
    alone = [
        MixtureRegressor().fit(frame(weights[:24], names), frame(fitted[:, [t]], [names[t]]))
        for t in range(8)
    ]
    errors = [
        np.abs(model.predict(frame(weights[24:], names)).to_numpy()[:, 0] - losses[24:, t]).mean()
        for t, model in enumerate(alone)
    ]
    assert error < np.mean(errors)


def frame(values, names):
    return pd.DataFrame(values, columns=names)
