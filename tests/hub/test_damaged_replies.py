"""Whatever the Hub replies, a person reads one message that says who replied it and what to do."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from regmix_hf import load_runs
from regmix_hf.errors import RegmixError
from regmix_hf.hub import Patience, Publication, draft, publish
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.sharing.collection import collect_repositories
from regmix_hf.study.address import Address

from .standin.messages import Answer

#: What is asked of the Hub, by what a person does. A reply to each is damaged in every way.
READING = {
    "info": "GET /api/(datasets|models)/[^/]+/[^/]+(/revision/[^/]+)?",
    "tree": "GET /api/.*/tree/.*",
    "refs": "GET /api/.*/refs",
}
ASKED = {
    "pull": READING,
    "look": READING,
    "dry run": READING,
    "load_runs": {name: READING[name] for name in ("info", "tree")},
    "commits": {"commits": "GET /api/.*/commits/.*"},
    "publish": {
        "create": "POST /api/repos/create",
        "metadata": "POST /api/validate-yaml",
        "preupload": "POST /api/.*/preupload/.*",
        "batch": "POST .*/info/lfs/objects/batch",
        "commit": "POST /api/.*/commit/.*",
    },
    "collect": {
        "collections": "GET /api/collections",
        "collection": "GET /api/collections/.*",
        "new collection": "POST /api/collections",
        "item": "POST /api/collections/.*/items",
    },
}
_PER_REPLY = 16


def others(value: object) -> Iterator[object]:
    """Values of other types than a reply has in this place."""
    for other in ("words", 17, [], {}, None, True, -1.5):
        if type(other) is not type(value):
            yield other


def changed(tree: Any) -> Iterator[Any]:
    """A reply with one part missing or of another type."""
    if isinstance(tree, list):
        for k, item in enumerate(tree[:2]):
            for other in (*others(item), *changed(item)):
                yield [*tree[:k], other, *tree[k + 1 :]]
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield {key: kept for key, kept in tree.items() if key != name}
            for other in (*others(value), *changed(value)):
                yield {**tree, name: other}


def damages(name: str, body: bytes) -> Iterator[bytes]:
    """Other replies in place of one: cut off, garbage, of another kind, a part missing or of another type."""
    chance, tree = random.Random(name), json.loads(body)
    yield from (b"", body[: len(body) // 2], chance.randbytes(100), b"<html>", b"[" * 20_000, b"\xff\xfe{}")
    yield from (json.dumps(other).encode() for other in others(tree))
    parts = [json.dumps(other).encode() for other in changed(tree)]
    yield from chance.sample(parts, min(_PER_REPLY, len(parts)))


@pytest.fixture
def actions(hub, pushed, new_study, stages, runs, tmp_path) -> dict[str, Callable[[int], object]]:
    """What people do, each time in a place of its own."""
    hub.patience = Patience(attempts=2, races=2)
    address = Address.of(pushed.recipe)
    files = {"README.md": b"---\nlicense: mit\n---\n# a\n", "a.parquet": b"\0" * 2000}

    def new(number: int) -> object:
        repository = replace(runs, id=f"me/new{number}-runs")
        return publish(hub, [Publication(repository, files, "Add")])

    return {
        "pull": lambda number: pull_study("me/small", stages, tmp_path / f"pulled{number}"),
        "look": lambda number: draft(hub, [Publication(address.runs, files, "Add")], [address.mixture]),
        "dry run": lambda number: push_study(pushed, stages, only={"runs"}, dry_run=True),
        "load_runs": lambda number: load_runs("me/small-runs@v1"),
        "commits": lambda number: hub.commits(address.runs),
        "publish": new,
        "collect": lambda number: collect_repositories(
            hub, replace(address, name=f"small{number}"), [address.runs, address.mixture], private=False
        ),
    }


@pytest.mark.usefixtures("fetched_once")
def test_every_damaged_reply_gives_one_message_that_says_who_replied_it_and_what_to_do(
    standin, actions, hurried, monkeypatch, capsys
):
    answer, damage = standin.answer, None
    seen: dict[str, bytes] = {}
    pattern = ""

    def answer_damaged(request, fault):
        reply = answer(request, fault)
        line = f"{request.method} {request.path}"
        if reply.status >= 300 or not re.fullmatch(pattern, line):
            return reply
        if damage is None:
            seen.setdefault(pattern, reply.body)
            return reply
        return Answer(damage, reply.status, reply.headers)

    monkeypatch.setattr(standin, "answer", answer_damaged)
    places, num_replies, num_messages = itertools.count(), 0, 0
    wrong: list[tuple[str, str, bytes, str]] = []
    for action, requests in ASKED.items():
        for reply, pattern in requests.items():
            damage = None
            actions[action](next(places))
            # The pictures of a dry run take a second each; `look` is how it asks.
            most = 2 if action == "dry run" else None
            for content in itertools.islice(damages(f"{action} {reply}", seen.pop(pattern)), most):
                damage, num_replies = content, num_replies + 1
                try:
                    actions[action](next(places))
                except RegmixError as error:
                    num_messages += 1
                    if not re.search(r"'me/|127\.0\.0\.1", str(error)) or not error.hint:
                        wrong.append((action, reply, content[:150], str(error)))
                except Exception as unforeseen:  # what nobody foresaw is what is looked for
                    wrong.append((action, reply, content[:150], repr(unforeseen)[:200]))
    with capsys.disabled():
        print(f"\n{num_replies} damaged replies, {num_messages} messages, {len(wrong)} wrong")
    assert wrong == []
    assert num_replies >= 300
    assert num_messages >= num_replies // 2  # the others lack what nobody reads
