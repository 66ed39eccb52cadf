"""What a line of JSON gives, wherever reading began and however the file was written."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from regmix_hf.corpus import compressed, lines
from regmix_hf.corpus.files import Files
from regmix_hf.corpus.local_files import SourceFile
from regmix_hf.corpus.rows import RowTexts
from regmix_hf.errors import DataError

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def files_of(files: list[Path]) -> Files:
    return Files(tuple(SourceFile(str(file), "json") for file in files))


def read(files: list[Path], position: Any = None, texts: RowTexts | None = None) -> list[str]:
    texts = texts or RowTexts("text", {}, "here")
    rows = [row for batch in files_of(files).batches(position, ()) for row in batch.rows]
    return texts.of_all(rows)[0]


@pytest.mark.parametrize("ending", PACK)
def test_every_position_goes_on_with_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(lines, "ROWS", 3)
    monkeypatch.setattr(compressed, "FIRST_CHUNK_BYTES", 64)
    monkeypatch.setattr(compressed, "MAX_CHUNK_BYTES", 128)
    texts = [f"{k} " + "ä" * (k % 90) for k in range(60)]
    files = []
    for number in range(3):
        part = [json.dumps({"text": text}, ensure_ascii=False) for text in texts[20 * number :][:20]]
        files.append(tmp_path / f"{number}.jsonl{ending}")
        files[-1].write_bytes(PACK[ending]("\n".join(part).encode()))  # the last line without its end
    done: list[str] = []
    batches = list(files_of(files).batches(None, ()))
    for batch in batches:
        done += [row["text"] for row in batch.rows]
        assert done + read(files, batch.position) == texts
        for number, end in enumerate(batch.ends):  # each of its rows is a place to go on from, too
            later = [part.after([batch.file, end]).rows for part in batches]
            wanted = texts[len(done) - len(batch.rows) + number + 1 :]
            assert [row["text"] for rows in later for row in rows] == wanted
    assert done == texts


def test_empty_lines_windows_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}\n\n')
    assert read([file]) == ["a", "b"]


def test_half_a_surrogate_pair_becomes_a_replacement(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(r'{"text": "x \ud83d y"}' + "\n" + r'{"text": "x \ud83d\ude00 y"}' + "\n")
    assert read([file]) == ["x \ufffd y", "x \U0001f600 y"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('\n\n{"text": "a"}', ["a"]),
        ('[{"text": "a"},\n{"text": "b"}]', ["a", "b"]),
        ('[{"text": "a"}, {"text": "b"}]\n', ["a", "b"]),
        ('{\n"text": "a"\n}', ["a"]),
        ('{\n"text": "a"\n}\n{"text":\n "b"}', ["a", "b"]),
        ("", []),
    ],
)
def test_json_that_is_no_lines_is_read_too(tmp_path: Path, content: str, texts: list[str]) -> None:
    (tmp_path / "a.json").write_text(content)
    (tmp_path / "b.json").write_text('{"text": "last"}')
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    assert read(files) == [*texts, "last"]
    first = next(iter(files_of(files).batches(None, ())))
    assert read(files, first.position) == (["last"] if texts else [])


def test_column_missing_in_some_rows_is_null_there() -> None:
    rows = RowTexts("meta.text", {}, "here")
    rows.check_columns([{"meta": None}, {"meta": {"text": "a"}}])
    found = [rows.of_all([row])[0] for row in ({"meta": {"text": "a"}}, {"meta": None}, {}, {"meta": {}})]
    assert found == [["a"], [], [], []]


def test_column_with_a_dot_in_its_name_comes_before_a_nested_one() -> None:
    assert RowTexts("a.b", {}, "here").of_all([{"a.b": "yes", "a": {"b": "no"}}])[0] == ["yes"]


def test_truth_is_no_number_in_a_filter() -> None:
    rows = RowTexts("text", {"n": [1, True]}, "here")
    found = [rows.of_all([{"text": "a", "n": n}])[0] for n in (1, 1.0, True, 2, False)]
    assert found == [["a"], ["a"], ["a"], [], []]
    with pytest.raises(DataError, match="the filter on 'n' wants \\[1\\], but the column holds bool"):
        RowTexts("text", {"n": 1}, "here").of_all([{"text": "a", "n": True}])


def test_row_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n["b"]\n')
    with pytest.raises(DataError, match="a row is list, not an object"):
        read([tmp_path / "a.jsonl"])
