"""Tables of losses that others published are taken for losses: nothing is asked, nothing left out."""

from pathlib import Path

import pytest

from regmix_hf.runs.layout import Columns
from regmix_hf.runs.runs import load_runs

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there are no published tables at {DATA}")
def test_no_published_loss_is_taken_for_a_score():
    pairs = [("foreign-targets", "mixtures.csv", "losses.csv")]
    published = "regmix-published-runs"
    for scale in ("train_{}_1m.csv", "test_{}_1m.csv", "test_{}_60m.csv"):
        pairs.append((published, scale.format("mixture"), scale.format("pile_loss")))
    runs = [load_runs(mixtures=DATA / folder / w, losses=DATA / folder / v) for folder, w, v in pairs]
    columns = Columns(ignore=("n_tokens",), where=(("model_size", "122e6"),))
    runs.append(load_runs(DATA / "scale-ladder" / "runs.csv", columns=columns))
    assert [len(one.targets) for one in runs] == [8, 13, 13, 13, 8]
    assert all(one.unsaid == () for one in runs)
