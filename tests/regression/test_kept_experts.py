"""What is kept of experts: of whom, of which tokens, and how it is read back."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf import MixtureRegressor
from regmix_hf.errors import StudyError
from regmix_hf.runs import experts as kept
from regmix_hf.runs.experts import TargetText, joined
from tests.mixed_experts import DOMAINS, NUM_TOKENS


def test_experts_of_two_people_stand_together_in_any_order(asked, mixtures, tmp_path):
    first, second = asked.of_run("x"), joined([asked.of_run("z"), asked.of_run("y")])
    losses = pd.DataFrame({"web": mixtures[:, 0]})
    weights = pd.DataFrame(mixtures, columns=DOMAINS)
    found = []
    for number, parts in enumerate(([first, second], [second, asked, first])):
        file = tmp_path / f"{number}.safetensors"
        joined(parts).write(file)
        together = kept.Experts.read(file)
        assert len(together) == 3
        found.append(MixtureRegressor("experts").fit(weights, losses, experts=together).predict(weights))
    pd.testing.assert_frame_equal(*found, rtol=1e-12)


def test_targets_that_not_all_were_asked_alike_are_lost(asked, recorder):
    other = TargetText(sha256="other", num_tokens=NUM_TOKENS[0], bits_per_nat=0.5)
    changed = kept.Experts(asked.weights, asked.logs, {**asked.texts, "web": other})
    whole = kept.pooled_experts([asked.of_run("x"), changed], recorder)
    assert list(whole.texts) == ["bpb/quiz"]
    assert recorder.notes == ["experts of several sources were not asked the same about web: left out"]
    assert list(asked.of_now({"web": "web", "bpb/quiz": "other"}).texts) == ["web"]
    assert kept.pooled_experts([], recorder) is None


def test_the_tokens_that_are_kept_follow_from_the_text_alone(monkeypatch):
    monkeypatch.setattr(kept, "KEPT_TOKENS", 100)
    long = TargetText(sha256="a", num_tokens=1000, bits_per_nat=1.0)
    assert len(set(long.kept.tolist())) == 100
    assert long.kept.max() > 500
    np.testing.assert_array_equal(long.kept, long.model_copy(update={"bits_per_nat": 2.0}).kept)
    assert not np.array_equal(long.kept, long.model_copy(update={"sha256": "b"}).kept)
    np.testing.assert_array_equal(long.model_copy(update={"num_tokens": 3}).kept, [0, 1, 2])


@pytest.mark.parametrize("fault", ["half", "positive", "no mixture", "short"])
def test_kept_tokens_that_are_damaged_are_named(asked, tmp_path, fault):
    file = tmp_path / "experts.safetensors"
    weights, logs = asked.weights, {name: values.copy() for name, values in asked.logs.items()}
    if fault == "positive":
        logs["web"][0, 0] = 0.5
    if fault == "no mixture":
        weights = weights * 0.5
    if fault == "short":
        logs["web"] = logs["web"][:, 1:]
    kept.Experts(weights, logs, asked.texts).write(file)
    if fault == "half":
        file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(StudyError, match=r"experts\.safetensors"):
        kept.Experts.read(file)
