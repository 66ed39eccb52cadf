"""Text is found wherever `datasets` finds it, in the column and the rows that the recipe names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regmix_hf.corpus.opening import open_source
from regmix_hf.corpus.source import Source
from regmix_hf.recipe import Domain

TEXTS = [f"text {i}" for i in range(1000)]
ROWS = [
    {"meta": {"set": "A" if i % 4 == 0 else "B", "n": i % 5}, "body": {"text": t}}
    for i, t in enumerate(TEXTS)
]


def read(source: Source, position: Any = None) -> list[str]:
    return [text for piece in source.pieces(position) for text in piece.texts]


def open_train(**keys: Any) -> Source:
    return open_source("a", Domain(**keys), "train")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["json", "parquet", "text"])
def test_local_files(tmp_path: Path, kind: str, streaming: bool) -> None:
    file = tmp_path / f"data.{kind}"
    if kind == "json":
        file.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    elif kind == "text":
        file.write_text("\n".join(TEXTS))
    else:
        pq.write_table(pa.table({"text": TEXTS}), file)
    source = open_train(path=kind, data_files=str(file), streaming=streaming, sample_by="line")
    assert read(source) == TEXTS


def test_relative_paths_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/a.txt").write_text("one\ntwo")
    assert read(open_train(path="text", data_files="data/*.txt")) == ["one\ntwo"]
    assert read(open_train(path="data")) == ["one\ntwo"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_folder_that_datasets_saved(tmp_path: Path, split: str) -> None:
    data = datasets.Dataset.from_dict({"text": TEXTS})
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({split: data}).save_to_disk(tmp_path / "several")
    assert read(open_train(path=str(tmp_path / "one"), split=split)) == TEXTS
    assert read(open_train(path=str(tmp_path / "several"), split=split)) == TEXTS


def test_splits_are_kept_apart(tmp_path: Path) -> None:
    files = {name: str(tmp_path / f"{name}.txt") for name in ("train", "valid")}
    for name, file in files.items():
        Path(file).write_text(name)
    domain = Domain(path="text", data_files=files, validation_split="valid")
    assert read(open_source("a", domain, "train")) == ["train"]
    assert read(open_source("a", domain, "validation")) == ["valid"]
    assert open_source("a", domain, "train").identity != open_source("a", domain, "validation").identity


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"meta.set": "A"}, lambda i: i % 4 == 0),
        ({"meta.set": ["A", "B"]}, lambda i: True),
        ({"meta.n": [0, 2]}, lambda i: i % 5 in (0, 2)),
        ({"meta.set": "A", "meta.n": 1}, lambda i: i % 4 == 0 and i % 5 == 1),
        ({"meta.set": "C"}, lambda i: False),
    ],
    ids=["one value", "several values", "numbers", "two columns", "no row"],
)
def test_filter_on_nested_columns(
    write_jsonl: Callable[..., Path], wanted: Any, kept: Callable[[int], bool], streaming: bool
) -> None:
    file = write_jsonl("rows.jsonl", ROWS)
    source = open_train(
        path="json", data_files=str(file), text_column="body.text", filter=wanted, streaming=streaming
    )
    assert read(source) == [text for i, text in enumerate(TEXTS) if kept(i)]
    assert sum(piece.num_rows for piece in source.pieces(None)) == 1000


def test_column_whose_name_has_a_dot(write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl("rows.jsonl", [{"a.b": "yes", "a": {"b": "no"}}])
    assert read(open_train(path="json", data_files=str(file), text_column="a.b")) == ["yes"]


def test_null_and_empty_texts_are_left_out(write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl("rows.jsonl", [{"text": "a"}, {"text": None}, {"text": ""}, {"text": "b"}])
    assert read(open_train(path="json", data_files=str(file))) == ["a", "b"]


@pytest.mark.parametrize("streaming", [False, True])
def test_reading_goes_on_at_every_position(
    write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    monkeypatch.setattr("regmix_hf.corpus.encode.PIECE_CHARS", 1000)
    files = [str(write_jsonl(f"{k}.jsonl", TEXTS[k * 300 : (k + 1) * 300])) for k in range(4)]
    keys = {"path": "json", "data_files": files, "streaming": streaming}
    pieces = list(open_train(**keys).pieces(None))
    done: list[str] = []
    positions = 0
    for piece in pieces:
        done += piece.texts
        if piece.position is not None:
            position = json.loads(json.dumps(piece.position))
            assert done + read(open_train(**keys), position) == TEXTS
            positions += 1
    assert len(pieces) > positions >= 4


def test_identity_follows_the_files(write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl("rows.jsonl", ["a"])
    before = open_train(path="json", data_files=str(file)).identity
    assert open_train(path="json", data_files=str(file)).identity == before
    assert open_train(path="json", data_files=str(file), filter={"text": "a"}).identity != before
    write_jsonl("rows.jsonl", ["a", "b"])
    assert open_train(path="json", data_files=str(file)).identity != before
