"""A source that cannot be used gives one message that names the domain, the file or column, and a way out."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.errors import DataError
from regmix_hf.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
STREAMING = pytest.mark.parametrize("streaming", [False, True])


@pytest.fixture
def complaint(tmp_path: Path, make_recipe: MakeRecipe) -> Callable[..., DataError]:
    """What `prepare` says of a recipe with the one domain `bad`."""

    def complain(**domain: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            prepare_corpus(make_recipe({"bad": domain}), tmp_path / "corpus")
        assert "domain 'bad'" in caught.value.message
        return caught.value

    return complain


@STREAMING
def test_missing_file(complaint: Callable[..., DataError], tmp_path: Path, streaming: bool) -> None:
    error = complaint(path="json", data_files=str(tmp_path / "no.jsonl"), streaming=streaming)
    assert str(tmp_path / "no.jsonl") in error.message
    assert str(Path.cwd()) in str(error.hint)


def test_missing_folder(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    assert str(tmp_path / "no") in complaint(path=str(tmp_path / "no")).message


def test_file_given_as_path(complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]) -> None:
    file = write_jsonl("a.jsonl", ["text"])
    assert complaint(path=str(file)).hint == f"write `path: json` and `data_files: {file}`"


@STREAMING
def test_unreadable_line(complaint: Callable[..., DataError], tmp_path: Path, streaming: bool) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    good.write_text('{"text": "a"}\n' * 5)
    bad.write_text('{"text": "a"}\n' * 7 + '{"text": "b"\n' + '{"text": "c"}\n')
    error = complaint(path="json", data_files=[str(good), str(bad)], streaming=streaming)
    assert f"{bad}, line 8 is no JSON: Expecting ',' delimiter at column 13" in error.message


def test_unreadable_line_far_into_a_large_file(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(('{"text": "' + "x" * 1000 + '"}\n') * 11_000 + "{oops}\n")
    assert (
        f"{file}, line 11001 is no JSON"
        in complaint(path="json", data_files=str(file), streaming=True).message
    )


def test_unreadable_line_of_an_array_and_of_a_compressed_file(
    complaint: Callable[..., DataError], tmp_path: Path
) -> None:
    array, packed = tmp_path / "a.json", tmp_path / "b.jsonl.gz"
    array.write_text('[{"text": "a"},\n{"text": "b"\n{"text": "c"}]')
    packed.write_bytes(gzip.compress(b'{"text": "a"}\nnot json\n'))
    assert f"{array}, line 3 is no JSON" in complaint(path="json", data_files=str(array)).message
    assert f"{packed}, line 2 is no JSON" in complaint(path="json", data_files=str(packed)).message


@STREAMING
@pytest.mark.parametrize("kind", ["json", "text"])
def test_text_that_is_not_utf8(
    complaint: Callable[..., DataError], tmp_path: Path, kind: str, streaming: bool
) -> None:
    file = tmp_path / {"json": "a.jsonl", "text": "a.txt"}[kind]
    lines = ['{"text": "plain"}', '{"text": "caf\xe9!"}'] if kind == "json" else ["plain", "caf\xe9!"]
    file.write_bytes("\n".join(lines).encode("latin-1"))
    error = complaint(path=kind, data_files=str(file), streaming=streaming)
    column = lines[1].index("\xe9") + 1
    assert f"{file}, line 2 is not UTF-8: byte {column} is 0xe9." in error.message


def test_an_archive_is_called_one(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    file = tmp_path / "books.zip"
    file.write_bytes(b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xe9\xff")
    error = complaint(path="json", data_files=str(file))
    assert f"{file}, line 1 is not UTF-8" in error.message
    assert error.hint.startswith("it is packed, by its name: unpack it")
    assert "not a zip file" in complaint(path="text", data_files=str(file)).message
    named = file.rename(tmp_path / "books.epub")
    assert complaint(path="text", data_files=str(named)).hint.startswith("it holds zero bytes, as no text")
    named.write_bytes(b"caf\xe9")
    assert "iconv -f latin1" in complaint(path="text", data_files=str(named)).hint


def test_parquet_that_is_not_utf8(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    ends = pa.py_buffer(np.array([0, 4], dtype=np.int32).tobytes())
    column = pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(b"caf\xe9")])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    error = complaint(path="parquet", data_files=str(tmp_path / "a.parquet"))
    assert f"file {tmp_path / 'a.parquet'}, rows from 1 on: " in error.message
    assert "can't decode byte 0xe9" in error.message


def test_file_of_another_kind(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    assert "Parquet magic bytes" in complaint(path="parquet", data_files=str(tmp_path / "a.parquet")).message


@STREAMING
def test_text_column_that_is_not_there(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path], streaming: bool
) -> None:
    file = write_jsonl("a.jsonl", [{"content": "a", "id": 1}])
    error = complaint(path="json", data_files=str(file), streaming=streaming, text_column="contents")
    assert "there is no column 'contents'" in error.message
    assert error.hint == "columns are 'content', 'id'; did you mean 'content'?"


def test_nested_column_that_is_not_there(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl("a.jsonl", [{"text": "a", "meta": {"set": "x"}}])
    error = complaint(path="json", data_files=str(file), filter={"meta.sets": "x"})
    assert "column 'meta' has no 'sets'" in error.message
    assert error.hint == "columns are 'set'; did you mean 'set'?"


@pytest.mark.parametrize("value", [7, True, ["a"], {"b": "c"}])
def test_text_column_that_holds_no_text(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path], value: Any
) -> None:
    file = write_jsonl("a.jsonl", [{"text": value}])
    assert "'text' holds" in complaint(path="json", data_files=str(file)).message


def test_rows_of_different_types(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl("a.jsonl", [{"text": "a"}, {"text": 3}])
    assert "'text' holds" in complaint(path="json", data_files=str(file)).message


def test_files_of_different_columns(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    files = [str(write_jsonl("a.jsonl", ["a"])), str(write_jsonl("b.jsonl", [{"body": "b"}]))]
    error = complaint(path="json", data_files=files)
    assert f"there is no column 'text' ({files[1]})" in error.message
    assert error.hint == "columns are 'body'"


def test_filter_of_another_type(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    file = write_jsonl("a.jsonl", [{"text": "a", "n": 1}])
    error = complaint(path="json", data_files=str(file), filter={"n": "one"})
    assert "the filter on 'n' wants ['one'], but the column holds int" in error.message
    assert f"({file}, line 1)" in error.message


@STREAMING
def test_empty_file(complaint: Callable[..., DataError], tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "a.jsonl").write_text("")
    assert (
        "empty" in complaint(path="json", data_files=str(tmp_path / "a.jsonl"), streaming=streaming).message
    )


@STREAMING
def test_filter_that_nothing_passes(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path], streaming: bool
) -> None:
    file = write_jsonl("a.jsonl", [{"text": "a", "set": "x"}] * 10)
    error = complaint(path="json", data_files=str(file), filter={"set": "y"}, streaming=streaming)
    assert "empty: none of its 10 rows" in error.message


def test_domain_shorter_than_one_block(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    error = complaint(path="json", data_files=str(write_jsonl("a.jsonl", ["0123456789", "abcdefghij"])))
    assert "shorter than one block: it has 22 tokens, context_length is 32" in error.message


def test_single_document(complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]) -> None:
    error = complaint(path="json", data_files=str(write_jsonl("a.jsonl", ["x" * 1000])))
    assert "0 tokens in 0 documents are left to train on" in error.message


def test_validation_split_shorter_than_one_block(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path]
) -> None:
    files = {"train": str(write_jsonl("a.jsonl", ["x" * 99])), "test": str(write_jsonl("b.jsonl", ["short"]))}
    error = complaint(path="json", data_files=files, validation_split="test")
    assert "its validation text has 6 tokens" in error.message


@STREAMING
def test_split_that_is_not_there(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path], streaming: bool
) -> None:
    file = write_jsonl("a.jsonl", ["x" * 99])
    error = complaint(path="json", data_files=str(file), validation_split="valid", streaming=streaming)
    assert "valid" in error.message
    assert "['train']" in error.message


def test_split_that_a_saved_folder_does_not_have(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    saved = datasets.DatasetDict({"test": datasets.Dataset.from_dict({"text": ["a"]})})
    saved.save_to_disk(tmp_path / "saved")
    assert "no such split; it has test" in complaint(path=str(tmp_path / "saved")).message


@STREAMING
def test_hub_without_a_network(complaint: Callable[..., DataError], streaming: bool) -> None:
    error = complaint(path="nobody/nothing", streaming=streaming)
    assert "nobody/nothing" in error.message
    assert "network" in str(error.hint)


def test_address_that_nobody_answers(complaint: Callable[..., DataError]) -> None:
    error = complaint(path="json", data_files="http://127.0.0.1:9/a.jsonl", streaming=True)
    assert "http://127.0.0.1:9/a.jsonl" in error.message
    assert "network" in str(error.hint)


def test_connection_that_drops(
    complaint: Callable[..., DataError], write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class DroppedError(Exception):
        __module__ = "httpx2._exceptions"

    def drop(*_: Any) -> None:
        raise DroppedError("peer closed connection")

    monkeypatch.setattr("regmix_hf.corpus.rows.RowTexts.of_all", drop)
    error = complaint(path="json", data_files=str(write_jsonl("a.jsonl", ["a"])), streaming=True)
    assert "peer closed connection" in error.message
    assert "network" in str(error.hint)


def test_full_disk_is_no_fault_of_the_source(
    tmp_path: Path, make_recipe: MakeRecipe, write_jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    file = write_jsonl("a.jsonl", [f"text number {i} of many" for i in range(100)])
    monkeypatch.setattr("regmix_hf.corpus.reading.Reading.commit", full)
    with pytest.raises(OSError, match="No space left"):
        prepare_corpus(make_recipe({"a": {"path": "json", "data_files": str(file)}}), tmp_path / "corpus")
