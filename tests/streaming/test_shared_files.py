"""Domains that are one stream behind different filters: read once for all, and the same blocks as alone."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from regmix_hf.recipe import Recipe

from .preparing import compressed, domain_of, finish, kill_after_bytes, parquet, tokenizer
from .server import FileServer

pytestmark = pytest.mark.processes

#: Kind of text -> share of the rows.
KINDS = {"web": 0.6, "code": 0.3, "rare": 0.1}
NUM_ROWS = 4000


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Rows of three kinds in random order, each text once."""
    draw = random.Random(4)
    kinds = draw.choices(list(KINDS), list(KINDS.values()), k=NUM_ROWS)
    return [
        {"text": f"{kind} {number} " + "lorem ipsum " * draw.randrange(1, 12), "meta": {"set": kind}}
        for number, kind in enumerate(kinds)
    ]


@pytest.fixture
def serve(
    files: FileServer, rows: list[dict[str, Any]], as_lines: Callable[..., bytes]
) -> Callable[[str, str], list[str]]:
    """Serve the rows in two files below a folder; return their addresses."""

    def add(kind: str, folder: str) -> list[str]:
        addresses = []
        for number, part in enumerate((rows[: NUM_ROWS // 3], rows[NUM_ROWS // 3 :])):
            if kind == "parquet":
                content = parquet([row["text"] for row in part], meta=pa.array([row["meta"] for row in part]))
            else:
                content = compressed(kind, as_lines(part))
            addresses.append(files.add(f"{folder}-{number}.{kind}", content))
        return addresses

    return add


@pytest.fixture
def together(
    serve: Callable[[str, str], list[str]], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> Callable[[str], Recipe]:
    """A recipe of domains that share files."""

    def make(kind: str) -> Recipe:
        addresses = serve(kind, "shared")
        domains = {name: domain_of(kind, addresses, filter={"meta.set": name}) for name in KINDS}
        return make_recipe(
            domains, tokenizer=tokenizer(tmp_path), corpus={"num_proc": 1, "max_validation_tokens": 2000}
        )

    return make


def blocks(folder: Path) -> dict[str, bytes]:
    return {
        f"{name}/{split}": (folder / name / f"{split}.arrow").read_bytes()
        for name in KINDS
        for split in ("train", "validation")
    }


BUDGETS = [None, {"web": 20_000, "code": 5_000}, {"web": 5_000, "code": 5_000, "rare": 20_000}]


@pytest.mark.parametrize("budgets", BUDGETS, ids=["everything", "some", "all"])
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.zst", "parquet"])
def test_together_gives_the_blocks_of_each_alone(
    serve: Callable[[str, str], list[str]],
    together: Callable[[str], Recipe],
    tmp_path: Path,
    kind: str,
    budgets: dict[str, int] | None,
) -> None:
    recipe = together(kind)
    copies = {
        name: domain.model_copy(update={"data_files": serve(kind, name)})
        for name, domain in recipe.domains.items()
    }
    alone = finish(recipe.model_copy(update={"domains": copies}), tmp_path / "alone", budgets)
    assert finish(recipe, tmp_path / "together", budgets) == alone
    assert blocks(tmp_path / "together") == blocks(tmp_path / "alone")


def test_every_byte_is_asked_for_about_once(
    files: FileServer, together: Callable[[str], Recipe], tmp_path: Path
) -> None:
    recipe = together("jsonl")
    size = sum(map(len, files.files.values()))
    finish(recipe, tmp_path / "corpus")
    # Each domain looks at the beginning, and decides by it what is held out; the files are read once.
    assert files.num_bytes() < 2 * size


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.zst", "parquet"])
def test_killed_and_cut_off_it_ends_with_the_same_blocks(
    files: FileServer, together: Callable[[str], Recipe], tmp_path: Path, kind: str
) -> None:
    recipe = together(kind)
    expected = finish(recipe, tmp_path / "undisturbed")
    served = files.num_bytes()
    files.fail(5, 0.1, (500, "drop", "hang up"))
    moments = random.Random(3)
    kills = sum(
        kill_after_bytes(files, moments.randrange(served // 8, served // 2), recipe, tmp_path / "killed")
        for _ in range(6)
    )
    assert kills >= 3
    assert finish(recipe, tmp_path / "killed") == expected
    assert blocks(tmp_path / "killed") == blocks(tmp_path / "undisturbed")


def test_validation_splits_are_read_once_too(
    files: FileServer,
    serve: Callable[[str, str], list[str]],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    train, validation = serve("jsonl", "train"), serve("jsonl", "valid")
    domains = {
        name: domain_of(
            "jsonl",
            {"train": train, "validation": validation},
            filter={"meta.set": name},
            validation_split="validation",
        )
        for name in KINDS
    }
    recipe = make_recipe(domains, tokenizer=tokenizer(tmp_path))
    size = sum(map(len, files.files.values()))
    facts = finish(recipe, tmp_path / "corpus")
    assert set(facts.domains) == set(KINDS)
    assert files.num_bytes() < 1.5 * size
