"""What vouches for parts of a corpus, damaged: one message that names it, never other text."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.corpus.rules import rules_of
from regmix_hf.errors import RegmixError
from regmix_hf.recipe import Recipe

from .test_prepare import files_of

MARKERS = (".identity.json", "a/train.json", "a/holdout.json", "b/validation.json", "a/.train/state.json")


@pytest.fixture
def recipe(
    make_recipe: Callable[..., Recipe], jsonl_domain: Callable[..., dict], sentences: Callable[..., list[str]]
) -> Recipe:
    """Two domains: one whose validation is carved out, and one to validate on."""
    own = {**jsonl_domain("b", sentences(60, prefix="b")), "validation_only": True}
    return make_recipe({"a": jsonl_domain("a", sentences(80)), "b": own})


@pytest.fixture
def corpus(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its corpus, as a process leaves it that was killed before it threw away the tokens it had read."""
    with monkeypatch.context() as patched:
        patched.setattr("regmix_hf.corpus.prepare._Preparation._discard", lambda self, text: None)
        prepare_corpus(recipe, tmp_path / "whole")
    return tmp_path / "whole"


def damages(name: str, content: bytes) -> Iterator[bytes]:
    """Other contents: cut off, garbage, of another kind, a part missing or of another type."""
    chance, tree = random.Random(name), json.loads(content)
    yield from (b"", content[: len(content) // 2], chance.randbytes(99), b"[]", b"null", b"{}", b"[" * 20_000)
    for key, value in tree.items():
        if key != "read":  # which version 0.1 did not write
            yield json.dumps({kept: of for kept, of in tree.items() if kept != key}).encode()
        for other in ("words", [1], {"a": "b"}, -1.5):
            if type(other) is not type(value):
                yield json.dumps({**tree, key: other}).encode()


def test_a_damaged_marker_gives_one_message_that_names_it_or_what_it_vouches_for_is_made_again(
    recipe, corpus, tmp_path, capsys
):
    right, num_inputs, num_messages, wrong = files_of(corpus), 0, 0, []
    for name in MARKERS:
        for content in damages(name, (corpus / name).read_bytes()):
            folder = tmp_path / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(corpus, folder)
            (folder / name).write_bytes(content)
            if name.endswith("state.json"):
                (folder / "a" / "train.json").unlink()  # or nobody asks it
            num_inputs += 1
            try:
                prepare_corpus(recipe, folder)
                rules_of(folder, recipe.domains)
            except RegmixError as error:
                num_messages += 1
                if str(folder / name) not in str(error) or not error.hint:
                    wrong.append((name, content[:100], str(error)[:200]))
            except Exception as unforeseen:  # what nobody foresaw is what is looked for
                wrong.append((name, content[:100], repr(unforeseen)[:200]))
            else:
                if files_of(folder) != right:
                    wrong.append((name, content[:100], "another corpus"))
    with capsys.disabled():
        print(f"\n{num_inputs} damaged markers, {num_messages} messages, {len(wrong)} wrong")
    assert wrong == []
    assert num_inputs >= 80
    assert num_messages >= 80


def test_tokens_that_are_gone_are_read_again(recipe, corpus):
    (corpus / "a" / "train.json").unlink()
    (corpus / "a" / ".train" / "held-out.index").unlink()
    right = files_of(corpus)
    prepare_corpus(recipe, corpus)
    assert files_of(corpus) == right
