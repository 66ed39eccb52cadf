"""What a line of JSON gives, wherever reading began and however the file was written."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from regmix_hf.corpus import json_lines
from regmix_hf.corpus.json_lines import JsonLines
from regmix_hf.corpus.rows import RowTexts
from regmix_hf.corpus.source import open_source
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


def read(files: list[Path], position: Any = None, texts: RowTexts | None = None) -> list[str]:
    texts, lines = texts or RowTexts("text", {}, "here"), JsonLines(tuple(map(str, files)))
    rows = [row for batch in lines.batches(position) for row in batch.rows]
    return [text for row in rows if (text := texts.of(row)) is not None]


@pytest.mark.parametrize("ending", PACK)
def test_every_position_goes_on_with_the_next_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(json_lines, "_ROWS", 3)
    monkeypatch.setattr(json_lines, "FIRST_CHUNK_BYTES", 64)
    monkeypatch.setattr(json_lines, "MAX_CHUNK_BYTES", 128)
    texts = [f"{k} " + "ä" * (k % 90) for k in range(60)]
    files = []
    for number in range(3):
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts[20 * number :][:20]]
        files.append(tmp_path / f"{number}.jsonl{ending}")
        files[-1].write_bytes(PACK[ending]("\n".join(lines).encode()))  # the last line without its end
    done: list[str] = []
    batches = list(JsonLines(tuple(map(str, files))).batches(None))
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
    assert JsonLines.can_read([str(file)])


def test_half_a_surrogate_pair_becomes_a_replacement(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(r'{"text": "x \ud83d y"}' + "\n" + r'{"text": "x \ud83d\ude00 y"}' + "\n")
    assert read([file]) == ["x \ufffd y", "x \U0001f600 y"]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('{"text": "a"}\n', True),
        ('\n\n{"text": "a"}', True),
        ('[{"text": "a"},\n{"text": "b"}]', False),
        ('{\n"text": "a"\n}', False),
        ("", True),
    ],
)
def test_other_json_is_left_to_datasets(tmp_path: Path, content: str, lines: bool) -> None:
    (tmp_path / "a.json").write_text(content)
    assert JsonLines.can_read([str(tmp_path / "a.json")]) is lines
    if "text" in content:
        domain = Domain(path="json", data_files=str(tmp_path / "a.json"), streaming=True)
        texts = [text for piece in open_source("a", domain, "train").pieces(None) for text in piece.texts]
        assert texts[0] == "a"


def test_column_missing_in_some_rows_is_null_there() -> None:
    rows = RowTexts("meta.text", {}, "here")
    rows.check_columns([{"meta": None}, {"meta": {"text": "a"}}])
    assert [rows.of(row) for row in ({"meta": {"text": "a"}}, {"meta": None}, {}, {"meta": {}})] == [
        "a",
        None,
        None,
        None,
    ]


def test_column_with_a_dot_in_its_name_comes_before_a_nested_one() -> None:
    assert RowTexts("a.b", {}, "here").of({"a.b": "yes", "a": {"b": "no"}}) == "yes"


def test_truth_is_no_number_in_a_filter() -> None:
    rows = RowTexts("text", {"n": [1, True]}, "here")
    assert [rows.of({"text": "a", "n": n}) for n in (1, 1.0, True, 2, False)] == ["a", "a", "a", None, None]
    with pytest.raises(DataError, match="the filter on 'n' wants \\[1\\], but the column holds bool"):
        RowTexts("text", {"n": 1}, "here").of({"text": "a", "n": True})


def test_row_that_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n["b"]\n')
    with pytest.raises(DataError, match="a row is list, not an object"):
        read([tmp_path / "a.jsonl"])
