"""What was promised and measured, and the page to explore with, go to the Hub without what is private."""

from __future__ import annotations

import json
import sys

from regmix_hf.sharing import pull_study, push_study
from regmix_hf.study.names import PROMISES
from regmix_hf.study.promises import Promises


def test_promises_go_to_the_hub_without_the_machine_and_come_back(hub, standin, new_study, stages, tmp_path):
    study = new_study()
    kept = study.evaluation / PROMISES  # as earlier versions kept it
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "_interpreter_path": sys.executable}))
    push_study(study, stages)
    mixture = standin.repo("me/small-mixture")
    text = mixture.file("main", PROMISES).decode()
    assert not any(word in text for word in ("_interpreter_path", "_git_commit_hash", sys.executable))
    pulled = pull_study("me/small", stages, tmp_path / "pulled").study
    there, back = (Promises.load(one.evaluation / PROMISES) for one in (study, pulled))
    assert back == there
    assert [one.mixture for one in back.mixtures] == ["chosen", "prior"]
    card = mixture.file("main", "README.md").decode()
    assert card.index("## Promised and measured") < card.index("## The mixture")


def test_the_mixture_can_be_explored_where_it_is_published(hub, standin, new_study, stages):
    study = new_study()
    push_study(study, stages)
    mixture = standin.repo("me/small-mixture")
    assert mixture.file("main", "explorer.html").decode().startswith("<!DOCTYPE html>")
    assert str(study.root) not in mixture.file("main", "explorer.html").decode()
    assert "(explorer.html)" in mixture.file("main", "README.md").decode()


def test_promises_that_are_stale_stay_at_home(hub, standin, new_study, stages):
    push_study(new_study("evaluation.limit=5"), stages)
    mixture = standin.repo("me/small-mixture")
    assert PROMISES not in mixture.head.files
    assert "Promised and measured" not in mixture.file("main", "README.md").decode()
