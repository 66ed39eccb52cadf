"""Blocks that are not those that were prepared are refused when they are opened, and written anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regmix_hf.corpus import blocks
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.errors import StudyError
from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts


@pytest.fixture
def recipe(
    make_recipe: Callable[..., Recipe],
    jsonl_domain: Callable[..., dict[str, Any]],
    sentences: Callable[..., list[str]],
) -> Recipe:
    return make_recipe({"a": jsonl_domain("a", sentences(300)), "b": jsonl_domain("b", sentences(100, "b"))})


def alter(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_altered_token_is_found_and_mended(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    facts = prepare_corpus(recipe, folder)
    file = folder / "a" / "train.arrow"
    good = file.read_bytes()
    Corpus(folder).blocks("a", "train")
    alter(file, len(good) // 2)
    with pytest.raises(StudyError, match="its token ids are not those that were written"):
        Corpus(folder).blocks("a", "train")
    Corpus(folder).blocks("a", "validation")
    with pytest.raises(StudyError, match=r"train\.arrow is not what was prepared"):
        list(Corpus(folder).check())
    assert prepare_corpus(recipe, folder) == facts
    assert file.read_bytes() == good
    assert len(list(Corpus(folder).check())) == 2


@pytest.mark.parametrize("content", [b"", b"no blocks", None])
def test_files_that_are_cut_off_or_gone(recipe: Recipe, tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "corpus"
    prepare_corpus(recipe, folder)
    file = folder / "b" / "validation.arrow"
    good = file.read_bytes()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content or good[: len(good) // 2])
    with pytest.raises(StudyError, match=r"validation\.arrow is not what was prepared"):
        Corpus(folder).blocks("b", "validation")
    prepare_corpus(recipe, folder)
    assert file.read_bytes() == good


def test_of_a_large_file_a_sample_is_looked_at_when_it_is_opened_and_all_when_asked(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "SAMPLED_BLOCKS", 8)
    facts = prepare_corpus(recipe, tmp_path).domains["a"].train
    assert facts is not None
    monkeypatch.setattr(blocks, "WHOLE_TOKENS", 0)
    file = tmp_path / "a" / "train.arrow"
    good = file.read_bytes()
    ids = np.array(Corpus(tmp_path).blocks("a", "train")["input_ids"], dtype=np.uint16)
    start = good.index(ids.tobytes())
    sampled = set(np.linspace(0, len(ids) - 1, 8).astype(int).tolist())
    other = next(block for block in range(len(ids)) if block not in sampled)
    for block, is_seen in ((min(sampled), True), (other, False)):
        file.write_bytes(good)
        alter(file, start + 64 * block)
        if is_seen:
            with pytest.raises(StudyError, match="token ids"):
                Corpus(tmp_path).blocks("a", "train")
        else:
            Corpus(tmp_path).blocks("a", "train")
        with pytest.raises(StudyError, match="token ids"):
            list(Corpus(tmp_path).check())


def test_fingerprint_is_of_the_blocks_and_counts_alone(recipe: Recipe, tmp_path: Path) -> None:
    facts = prepare_corpus(recipe, tmp_path)
    tree = facts.tree
    assert tree["domains"]["a"]["read"]["train"]["num_rows"] == 300
    for domain in tree["domains"].values():  # as version 0.1 wrote it
        del domain["read"]
        for split in ("train", "validation"):
            del domain[split]["sample_sha256"]
    old = CorpusFacts.model_validate(tree)
    assert old.fingerprint == facts.fingerprint
    old.save(tmp_path)
    Corpus(tmp_path).blocks("a", "train")
