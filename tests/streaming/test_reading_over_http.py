"""Text over connections that fail, by processes that are killed: the same blocks, little asked for twice."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from regmix_hf.corpus.opening import open_source
from regmix_hf.recipe import Domain, Recipe

from .preparing import compressed, domain_of, finish, kill_after_bytes, parquet, tokenizer
from .server import FileServer

pytestmark = pytest.mark.processes


@pytest.fixture
def address(
    files: FileServer, as_lines: Callable[..., bytes], sentences: Callable[..., list[str]]
) -> Callable[..., list[str]]:
    """Serve two files of a kind; return their addresses."""

    def serve(kind: str, number: int = 1500) -> list[str]:
        parts = [sentences(number, prefix) for prefix in ("a", "b")]
        return [
            files.add(f"{k}.{kind}", parquet(part) if kind == "parquet" else compressed(kind, as_lines(part)))
            for k, part in enumerate(parts)
        ]

    return serve


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_killed_over_a_failing_network_it_ends_with_the_same_blocks(
    files: FileServer,
    address: Callable[..., list[str]],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
    kind: str,
) -> None:
    recipe = make_recipe({"a": domain_of(kind, address(kind))})
    expected = finish(recipe, tmp_path / "undisturbed")
    served = files.num_bytes()
    files.fail(5, 0.1, (500, 503, 429, "drop", "hang up"))
    moments = random.Random(2)
    kills = sum(
        kill_after_bytes(files, moments.randrange(served // 10, served // 2), recipe, tmp_path / "killed")
        for _ in range(6)
    )
    assert kills >= 3
    assert finish(recipe, tmp_path / "killed") == expected
    assert expected.domains["a"].train is not None
    assert expected.domains["a"].train.num_documents + expected.domains["a"].validation.num_documents >= 2000


def test_stalls_are_given_up_and_tried_again(
    files: FileServer, address: Callable[..., list[str]], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe({"a": domain_of("jsonl", address("jsonl"))})
    expected = finish(recipe, tmp_path / "undisturbed")
    files.fail(1, 0.1, ["stall"])
    assert finish(recipe, tmp_path / "stalled") == expected


def test_after_a_kill_little_is_asked_for_again(
    files: FileServer, address: Callable[..., list[str]], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """What is asked for again: what is read at first to see what there is, a commit, and what was ahead."""
    recipe = make_recipe({"a": domain_of("jsonl", address("jsonl", 4000))}, tokenizer=tokenizer(tmp_path))
    expected = finish(recipe, tmp_path / "undisturbed")
    whole, size = files.num_bytes(), sum(map(len, files.files.values()))
    assert whole < 1.4 * size  # more than once only by the looks at the first lines
    looks = whole - size
    files.sent.clear()
    for part in (0.3, 0.3):
        assert kill_after_bytes(files, int(part * size), recipe, tmp_path / "killed")
    assert finish(recipe, tmp_path / "killed") == expected
    again = files.num_bytes() - size
    assert again < 3 * looks + 2 * (20_000 + 4 * 16_384 + 20_000)
    assert again < 0.5 * size


def test_a_budget_asks_for_about_what_is_needed(
    files: FileServer, address: Callable[..., list[str]], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe(
        {"a": domain_of("jsonl", address("jsonl", 20_000), num_tokens=3_000_000)},
        tokenizer=tokenizer(tmp_path),
    )
    size = sum(map(len, files.files.values()))
    facts = finish(recipe, tmp_path / "corpus", {"a": 100_000}).domains["a"]
    assert facts.train is not None
    assert 100_000 <= facts.train.num_tokens < 100_000 + 300  # one document more at the most
    assert facts.part_of == 3_000_000
    assert size > 2_500_000
    # A token is a byte; a fifth is held out; looks at the first lines and what is read ahead come on top.
    assert files.num_bytes() < 1.6 * 100_000 / 0.8 + 10 * 16_384
    on_disk = sum(path.stat().st_size for path in (tmp_path / "corpus" / "a").iterdir() if path.is_file())
    assert on_disk < 4 * 100_000


def test_a_budget_gives_the_same_blocks_wherever_it_was_killed(
    files: FileServer, address: Callable[..., list[str]], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe({"a": domain_of("jsonl", address("jsonl"), num_tokens=10**6)})
    budgets = {"a": 120_000}
    expected = finish(recipe, tmp_path / "undisturbed", budgets)
    served = files.num_bytes()
    files.fail(5, 0.1, (500, "drop"))
    killed = [
        kill_after_bytes(files, served // part, recipe, tmp_path / "killed", budgets) for part in (8, 5, 3, 2)
    ]
    assert sum(killed) >= 2
    assert finish(recipe, tmp_path / "killed", budgets) == expected


def test_address_with_a_wrong_line_is_named(files: FileServer, hurried: None) -> None:
    address = files.add("a.jsonl", b'{"text": "a"}\n' * 5 + b'{"text": "b"\n')
    source = open_source("a", Domain(path="json", data_files=address, streaming=True), "train")
    with pytest.raises(Exception, match=r"a\.jsonl, a line before byte 83 is no JSON: Expecting"):
        list(source.pieces(None))


@pytest.mark.parametrize("ranges", [False, True])
def test_compressed_file_that_the_server_says_is_encoded(
    files: FileServer,
    as_lines: Callable[..., bytes],
    sentences: Callable[..., list[str]],
    hurried: None,
    ranges: bool,
) -> None:
    files.ranges = ranges
    texts = sentences(3000)
    address = files.add("a.jsonl.gz", compressed("jsonl.gz", as_lines(texts)))
    files.headers["Content-Encoding"] = "gzip"
    source = open_source("a", Domain(path="json", data_files=address, streaming=True), "train")
    assert [text for piece in source.pieces(None) for text in piece.texts] == texts
