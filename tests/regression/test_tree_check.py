"""Trees from strangers are trees before LightGBM walks through them."""

import re
from pathlib import Path

import numpy as np
import pytest

from regmix_hf.errors import RegressionError
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.tree_check import check_trees


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a fit on a law of three domains writes for one target."""
    folder = tmp_path_factory.mktemp("trees")
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    losses = 3.0 - weights[:, :1] + weights[:, 1:2] ** 2
    MixtureRegressor("lightgbm", num_iterations=5).fit(weights, losses).save_pretrained(folder)
    (file,) = folder.glob("*.txt")
    return file.read_text()


def test_what_lightgbm_writes_passes(trees: str, tmp_path: Path) -> None:
    (tmp_path / "trees.txt").write_text(trees)
    check_trees(tmp_path / "trees.txt")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("left_child", "99999", "do not form a tree"),
        ("left_child", "0", "do not form a tree"),
        ("right_child", "-99999", "do not form a tree"),
        ("left_child", "0_1", "something else than numbers"),  # 1 to Python, 0 to LightGBM
        ("right_child", "\u0661", "something else than numbers"),
        ("num_leaves", "", "no trees"),
        ("split_feature", "7", "something else than the 3 domains"),
        ("decision_type", "1", "something else than the 3 domains"),
        ("leaf_value", "nan", "finite leaves"),
        ("leaf_value", "x", "no trees"),
        ("threshold", "0.5 0.5", "splits"),
        ("num_leaves", "2000000000", "finite leaves"),
        ("num_cat", "1", "plain splits"),
        ("max_feature_idx", "", "no trees"),
        ("shrinkage", "nan", "no number"),
        ("shrinkage", "0.01\nshrinkage=1", "twice"),
        ("num_class", "1000000000", "of one regression"),  # LightGBM would take memory for each
        ("num_tree_per_iteration", "2", "of one regression"),
        ("num_tree_per_iteration", "1\naverage_output", "no NAME=VALUE"),
        ("objective", "multiclass", "of one regression"),
        ("label_index", "-1", "of one regression"),
        ("tree_sizes", "99999999999", "tree_sizes are others"),
        ("version", "v3", "of one regression"),
    ],
)
def test_what_it_would_follow_blindly_does_not(
    trees: str, tmp_path: Path, field: str, value: str, message: str
) -> None:
    """The first number of a field is another one."""
    changed, count = re.subn(rf"^{field}=\S*", f"{field}={value}", trees, count=1, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / "trees.txt").write_text(changed)
    with pytest.raises(RegressionError, match=message):
        check_trees(tmp_path / "trees.txt")
