import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.errors import RegressionError
from regmix_hf.quantities import read_names
from regmix_hf.regression.target import Target

NAMES = ["a", "b", "c"]
LOSSES = np.array([[1.0, 2.0, 6.0], [4.0, 2.0, 0.0]])


@pytest.mark.parametrize(
    ("value", "expected", "words"),
    [
        ("b", [2.0, 2.0], "b"),
        (["a", "c"], [3.5, 2.0], "mean of a, c"),
        ({"a": 3, "b": 1}, [1.25, 3.5], "0.75 a + 0.25 b"),
        ("mean", [3.0, 2.0], "mean of 3 targets"),
        ("worst", [6.0, 4.0], "worst of 3 targets"),
    ],
)
def test_a_target_combines_losses_and_names_itself(value, expected, words):
    target = Target.parse(value, read_names(NAMES))
    np.testing.assert_allclose(target.combine(LOSSES), expected)
    assert str(target) == words


def test_a_frame_is_combined_by_the_names_of_its_columns_and_keeps_its_index():
    frame = pd.DataFrame(LOSSES, columns=NAMES, index=["r0", "r1"])[["c", "a", "b"]]
    combined = Target.parse({"a": 3, "b": 1}, read_names(NAMES)).combine(frame)
    assert combined.to_dict() == {"r0": 1.25, "r1": 3.5}


def test_a_missing_loss_spoils_only_targets_that_use_it():
    losses = np.array([[1.0, np.nan, 3.0]])
    assert Target.parse(["a", "c"], read_names(NAMES)).combine(losses) == [2.0]
    assert np.isnan(Target.parse("mean", read_names(NAMES)).combine(losses)).all()
    assert np.isnan(Target.parse("worst", read_names(NAMES)).combine(losses)).all()


def test_the_worst_of_several_has_no_coefficients():
    target = Target.parse("worst", read_names(NAMES))
    assert not target.is_linear
    with pytest.raises(ValueError, match="not linear"):
        _ = target.coefficients


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
def test_coefficients_of_a_linear_target_reproduce_it(weights):
    target = Target.parse(dict(zip(NAMES, weights, strict=True)), read_names(NAMES))
    assert target.coefficients.sum() == pytest.approx(1)
    np.testing.assert_allclose(target.combine(LOSSES), LOSSES @ target.coefficients)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("xyz", "'xyz' is no target; known are 'a', 'b', 'c', 'mean', 'worst'"),
        (["a", "x"], "'x' is no target; known are 'a', 'b', 'c'"),
        (["a", "a"], "'a' is named more than once"),
        ({"a": -1.0}, "weight of 'a' is -1.0"),
        ({"a": float("nan")}, "weight of 'a' is nan"),
        ({"a": 0.0}, "names nothing"),
        ([], "names nothing"),
    ],
)
def test_what_is_no_target_is_named(value, message):
    with pytest.raises(RegressionError, match=message):
        Target.parse(value, read_names(NAMES))


def test_a_target_that_was_fitted_the_other_way_round_is_refused():
    fitted = read_names(["arc/acc", "arc/acc_norm"])
    assert Target.parse({"arc/acc": {"maximize": True}}, fitted).quantity.direction == "higher"
    with pytest.raises(
        RegressionError, match="'arc/acc' is better when lower here, and was fitted as better when higher"
    ):
        Target.parse({"arc/acc": {"maximize": False}}, fitted)


def test_a_target_is_in_a_table_that_has_all_of_it_whatever_else_is_there():
    target = Target.parse(["a", "c"], read_names(NAMES))
    table = pd.DataFrame(LOSSES, columns=NAMES)
    assert target.is_in(table)
    assert target.is_in(table[["c", "a"]])
    assert not target.is_in(table[["a", "b"]])
