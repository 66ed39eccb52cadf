"""Runs stand together where their losses can be compared; a domain that a table lacks weighs nothing."""

import pandas as pd
import pytest

from regmix_hf.errors import HubError
from regmix_hf.runs.comparable import Swarm, below_each_other, check_comparable, weighed
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts


def split(text: str) -> SplitFacts:
    return SplitFacts(num_documents=1, num_bytes=4, num_tokens=1, num_blocks=1, sha256=text)


def corpus(tokenizer="t", length=16, **domains: str) -> CorpusFacts:
    """A corpus of domains by name: `train/validation`, or the validation text alone."""
    facts = {}
    for name, texts in domains.items():
        *train, validation = texts.split("/")
        facts[name] = DomainFacts(train=split(train[0]) if train else None, validation=split(validation))
    return CorpusFacts(
        context_length=length, vocab_size=9, eos_token_id=0, tokenizer_sha256=tokenizer, domains=facts
    )


def swarm(name: str, facts: CorpusFacts | None, scale="1M", tokens=100) -> Swarm:
    row = {"run_id": name, "status": "ok", "scale": scale, "num_train_tokens": tokens, "weight/web": 1.0}
    return Swarm(name, facts, pd.DataFrame([row]))


MINE = corpus(web="a/b", code="c/d", judge="e")


@pytest.mark.parametrize(
    "other",
    [
        MINE,
        corpus(web="a/b"),  # fewer domains
        corpus(web="a/b", code="c/d", judge="e", press="x"),  # one more to validate on
        corpus(web="a/b", code="d"),  # which validates only where the other trains, too
    ],
)
def test_runs_on_the_same_text_stand_together(other):
    check_comparable(swarm("mine", MINE), swarm("theirs", other), allow=(), hint="")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (corpus(tokenizer="u", web="a/b"), "holds runs of another tokenizer than mine: u, not t."),
        (corpus(web="z/b"), "holds runs of another corpus than mine: the text of 'web' is another."),
        (corpus(web="a/z"), "another corpus than mine: the text of 'web' is another."),
        (corpus(web="a/b", maths="x/y"), "it trains on 'maths', of which there is no text here."),
        (corpus(press="x"), "they have no domain in common."),
        (corpus(length=32, web="a/b"), "its blocks have another length"),
        (None, "holds runs of another tokenizer than mine: None, not t."),
    ],
)
def test_runs_on_other_text_are_refused(other, message):
    with pytest.raises(HubError) as caught:
        check_comparable(swarm("mine", MINE), swarm("theirs", other), allow=(), hint="allow {kind}")
    assert message in caught.value.message
    assert caught.value.hint.startswith("their losses cannot be compared; allow ")


def test_a_difference_that_is_allowed_is_none_but_another_is():
    theirs = swarm("theirs", corpus(tokenizer="u", web="z/b"), scale="60M")
    with pytest.raises(HubError, match="another scale than mine: 60M, 100 tokens, not 1M, 100 tokens"):
        check_comparable(swarm("mine", MINE), theirs, allow=("tokenizer", "corpus"), hint="")
    check_comparable(swarm("mine", MINE), theirs, allow=("tokenizer", "corpus", "scale"), hint="")


def test_runs_of_a_size_that_a_ladder_has_stand_beside_it():
    ladder = Swarm("mine", MINE, pd.concat([swarm("a", MINE).results, swarm("b", MINE, "60M").results]))
    check_comparable(ladder, swarm("theirs", MINE, "60M"), allow=(), hint="")
    with pytest.raises(HubError, match="another scale than mine: 1B, 100 tokens, not 1M, 100 tokens or 60M"):
        check_comparable(ladder, swarm("theirs", MINE, "1B"), allow=(), hint="")


def test_a_domain_that_a_table_does_not_have_weighs_nothing_there():
    old = pd.DataFrame({"run_id": ["r0"], "weight/web": [1.0], "loss/web": [2.0]})
    new = pd.DataFrame({"run_id": ["r1"], "weight/web": [0.5], "weight/code": [0.5], "loss/code": [3.0]})
    table = below_each_other([old, new])
    assert table["weight/code"].tolist() == [0.0, 0.5]
    assert table["loss/code"].isna().tolist() == [True, False]
    assert weighed(table) is table
