"""Local files give the same text whether they are streamed or not, however they were written."""

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regmix_hf.corpus.local_files import located, stamp_local_files
from regmix_hf.corpus.opening import open_source
from regmix_hf.corpus.read_facts import read_facts
from regmix_hf.corpus.reading import Counts
from regmix_hf.errors import DataError
from regmix_hf.recipe import Domain, Recipe

STREAMING = pytest.mark.parametrize("streaming", [False, True])
MakeRecipe = Callable[..., Recipe]


def read(**keys: Any) -> list[str]:
    return [text for piece in open_source("a", Domain(**keys), "train").pieces(None) for text in piece.texts]


def left_out(**keys: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for piece in open_source("a", Domain(**keys), "train").pieces(None):
        for reason, number in piece.left_out.items():
            counts[reason] = counts.get(reason, 0) + number
    return counts


def complaint(**keys: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(**keys)
    return caught.value


@STREAMING
@pytest.mark.parametrize(
    "shards",
    [
        ['{"text": "a", "meta": {"x": 1}}', '{"text": "b", "meta": {"y": [2]}}'],
        ['{"text": "a", "id": 1}', '{"text": "b", "id": "x"}'],
        ['{"text": "a"}', '{"text": "b", "more": 1}'],
        ['{"text": "a", "text": "a"}', '{"text": "b"}'],
        ['{"text": null}\n{"text": "a"}', '{"text": "b"}'],
        ['{"text": "a", "when": "2020-01-01"}', '{"text": "b", "when": "soon"}'],
        ['{"text": "a"}', "", '{"text": "b"}'],
        ['[{"text": "a"}]', '{"text": "b"}'],
    ],
    ids=["nested", "types", "column more", "key twice", "null first", "dates", "no rows", "array"],
)
def test_shards_of_json_that_differ(tmp_path: Path, shards: list[str], streaming: bool) -> None:
    for number, shard in enumerate(shards):
        (tmp_path / f"{number}.jsonl").write_text(shard + "\n")
    assert read(path="json", data_files=str(tmp_path / "*.jsonl"), streaming=streaming) == ["a", "b"]


@STREAMING
def test_date_like_text_is_text_in_a_filter(tmp_path: Path, streaming: bool) -> None:
    rows = [{"text": "a", "when": "2020-01-01"}, {"text": "b", "when": "2021-01-01"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = {"path": "json", "data_files": str(tmp_path / "a.jsonl"), "streaming": streaming}
    assert read(filter={"when": "2020-01-01"}, **keys) == ["a"]


@STREAMING
def test_shards_of_parquet_that_differ(tmp_path: Path, streaming: bool) -> None:
    text = pa.array(["a", None, ""])
    tables = [
        pa.table({"text": pa.array([None, None], pa.null()), "n": [1, 2]}),
        pa.table({"text": pa.array([], pa.string())}),
        pa.table({"text": text, "n": ["x", "y", "z"]}),
        pa.table({"text": text.cast(pa.large_string())}),
        pa.table({"text": text.cast(pa.string_view())}),
        pa.table({"text": text.dictionary_encode()}),
        pa.table({"text": text.cast(pa.binary())}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    keys = {"path": "parquet", "data_files": str(tmp_path / "*.parquet"), "streaming": streaming}
    assert read(**keys) == ["a"] * 5
    assert left_out(**keys) == {"null": 2 + 5, "empty": 5}


@pytest.mark.parametrize("type", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_filters_know_text_of_every_kind(tmp_path: Path, type: pa.DataType) -> None:
    kinds = pa.array(["x", "y", None])
    kinds = kinds.dictionary_encode().cast(type) if pa.types.is_dictionary(type) else kinds.cast(type)
    nested = pa.StructArray.from_arrays([kinds], ["kind"])
    pq.write_table(pa.table({"text": ["a", "b", "c"], "kind": kinds, "meta": nested}), tmp_path / "a.parquet")
    for column in ("kind", "meta.kind"):
        keys = {"path": "parquet", "data_files": str(tmp_path / "a.parquet"), "filter": {column: ["y", "z"]}}
        assert read(**keys) == ["b"]
        assert left_out(**keys) == {"filtered": 2}


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"]), pa.array(["d"])]
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns, names=["text", "text", "body", "body"]), file)
    error = complaint(path="parquet", data_files=str(file))
    assert f"file {file}, rows from 1 on: there are 2 columns named 'text'" in error.message
    pq.write_table(pa.table(columns[1:], names=["text", "n", "n"]), file)
    assert read(path="parquet", data_files=str(file)) == ["b"]


@STREAMING
@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_compressed_files_that_end_too_early(tmp_path: Path, ending: str, streaming: bool) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    pack["zst"] = lambda data: pa.Codec("zstd").compress(data, asbytes=True)
    lines = "".join(json.dumps({"text": f"{k * 7919 % 1013} {k}"}) + "\n" for k in range(2000)).encode()
    packed, file = pack[ending](lines), tmp_path / f"a.jsonl.{ending}"
    keys = {"path": "json", "data_files": str(file), "streaming": streaming}
    file.write_bytes(packed)
    assert len(read(**keys)) == 2000
    for size in (0, 1, len(packed) // 2, len(packed) - 3):
        file.write_bytes(packed[:size])
        error = complaint(**keys)
        assert error.message == f"domain 'a': {file} ends too early: its compressed text is cut off."
        assert error.hint is not None
    if ending != "zst":  # which has no checksum, as Arrow writes it
        file.write_bytes(packed[: len(packed) // 2] + b"\x00\xff\x00\xff" + packed[len(packed) // 2 + 4 :])
        assert f"domain 'a': {file}" in complaint(**keys).message
    text = tmp_path / f"b.txt.{ending}"
    text.write_bytes(packed[:-3])
    assert f"{text} ends too early" in complaint(path="text", data_files=str(text)).message


def test_checksum_that_does_not_fit(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b'{"text": "a"}\n'))
    packed[-6] ^= 255
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    error = complaint(path="json", data_files=str(tmp_path / "a.jsonl.gz"))
    assert f"{tmp_path / 'a.jsonl.gz'} is damaged: " in error.message
    assert "gzip -t" in str(error.hint)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the program zstd")
def test_window_that_is_too_long(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.zst"
    command = ["zstd", "-q", "--ultra", "-22", "--long=31", "--zstd=wlog=31", "-o", str(file)]
    subprocess.run(command, input=b'{"text": "a"}\n' * 1000, check=True)
    error = complaint(path="json", data_files=str(file))
    assert f"{file} was compressed over a longer window" in error.message
    assert "zstd -d --long=31 a.jsonl.zst" in str(error.hint)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"text": ' + b"[" * 100_000, "line 2 is no JSON: it is nested too deep."),
        (b'{"text": "b", "n": ' + b"9" * 5000 + b"}", "line 2 is no JSON: Exceeds the limit"),
        (b"\0\0", "line 2 is no JSON: Expecting value at column 1."),
        (b'{"text": "\xe4"}', "line 2 is not UTF-8: byte 11 is 0xe4."),
        (b"[1]", "a row is list, not an object with columns"),
    ],
    ids=["deep", "long number", "NUL", "latin-1", "list"],
)
def test_lines_that_are_none(tmp_path: Path, line: bytes, fault: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "a"}\n' + line + b"\n")
    message = complaint(path="json", data_files=str(file)).message
    assert fault in message
    assert str(file) in message


def test_damaged_files_give_a_message_that_names_them(tmp_path: Path) -> None:
    draw = random.Random(1)
    lines = "".join(
        json.dumps({"text": f"hällo {k}"}, ensure_ascii=False) + "\n" for k in range(200)
    ).encode()
    pq.write_table(pa.table({"text": [f"{k}" for k in range(200)]}), tmp_path / "good", row_group_size=50)
    files = {
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.bz2": bz2.compress(lines),
        "a.jsonl.xz": lzma.compress(lines),
        "a.jsonl.zst": pa.Codec("zstd").compress(lines, asbytes=True),
        "a.parquet": (tmp_path / "good").read_bytes(),
    }
    messages = []
    for name, good in files.items():
        for _ in range(8):
            start, end = sorted(draw.sample(range(len(good)), 2))
            cut, longer = good[:start], good[:start] + draw.randbytes(9) + good[start:]
            for content in (cut, longer, good[:start] + good[end:]):
                (tmp_path / name).write_bytes(content)
                try:
                    read(path="parquet" if name == "a.parquet" else "json", data_files=str(tmp_path / name))
                except DataError as error:
                    messages.append((str(tmp_path / name), error.message))
    assert len(messages) > 100
    assert all(file in message for file, message in messages)


def test_file_that_was_decompressed_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_text('{"text": "a"}\n')
    assert read(path="json", data_files=str(tmp_path / "a.jsonl.gz")) == ["a"]


def test_text_files_are_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\n")
    (tmp_path / "b.txt").write_text("null")
    (tmp_path / "c.txt").write_text("")
    keys = {"path": "text", "data_files": str(tmp_path / "*.txt")}
    assert read(**keys) == ["one\ntwo\n\nthree\n", "null"]
    assert read(sample_by="paragraph", **keys) == ["one\ntwo", "three", "null"]
    assert read(sample_by="line", **keys) == ["one", "two", "three", "null"]


@pytest.mark.parametrize("sample_by", ["document", "paragraph", "line"])
def test_text_goes_on_at_every_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample_by: str
) -> None:
    monkeypatch.setattr("regmix_hf.corpus.lines.ROWS", 3)
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {k}\n" + "\n" * (k % 3) for k in range(20)))
    domain = Domain(path="text", data_files=str(tmp_path / "*.txt"), sample_by=sample_by)
    done: list[str] = []
    for piece in open_source("a", domain, "train").pieces(None):
        done += piece.texts
        rest = open_source("a", domain, "train").pieces(json.loads(json.dumps(piece.position)))
        assert done + [text for later in rest for text in later.texts] == read(**domain.model_dump())


def test_folder_of_everything(tmp_path: Path) -> None:
    folder = tmp_path / "data [v2]"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "a.md").write_text("# a")
    (folder / "deep/testing.rst").write_text("b")
    (folder / "deep/er/c.txt.gz").write_bytes(gzip.compress(b"c"))
    (folder / "deep/d.jsonl").write_text('{"text": "d"}\n')
    (folder / "deep/d.json").write_text('[{"text": "NA"}]')
    pq.write_table(pa.table({"text": ["e"]}), folder / "e.parquet")
    (folder / "deep/f.jsonl.zst").write_bytes(pa.Codec("zstd").compress(b'{"text": "f"}', asbytes=True))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / ".hidden.txt").write_text("hidden")
    texts = ["# a", "e", "NA", "d", "f", "b", "c"]
    assert read(path=str(folder)) == texts
    assert read(path=str(folder), data_files="**/*.md") == ["# a"]
    assert read(path="text", data_files=f"{folder}/**/*.[mr][ds]*") == ["# a", "b"]
    assert read(path="json", data_files=str(folder / "deep")) == ["NA", "d", "f"]


def test_tables_of_a_folder_belong_to_the_splits_that_their_names_say(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "test", "other"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    domain = Domain(path=str(tmp_path), validation_split="test")
    assert read(path=str(tmp_path)) == ["other", "train-0", "train-1"]
    assert [p.texts for p in open_source("a", domain, "validation").pieces(None)] == [["test"]]


def test_file_is_read_once_whatever_matches_it(tmp_path: Path) -> None:
    (tmp_path / "data/more").mkdir(parents=True)
    (tmp_path / "data/a.txt").write_text("a")
    (tmp_path / "data/more/b.txt").write_text("b")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.txt").write_text("c")
    (tmp_path / "elsewhere/hard.txt").hardlink_to(tmp_path / "data/a.txt")
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/more/circle").symlink_to(tmp_path / "data")
    patterns = [str(tmp_path / "data/a.txt"), str(tmp_path / "data/**/*.txt")]
    source = open_source("a", Domain(path="text", data_files=patterns), "train")
    assert [text for piece in source.pieces(None) for text in piece.texts] == ["a", "c", "b"]
    found, num_files = source.read_files
    assert (num_files, found.num_twice, found.num_links) == (3, 2, 1)


def test_paths_start_at_the_recipe_where_nothing_is_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("here", "recipe"):
        (tmp_path / place / "docs").mkdir(parents=True)
    (tmp_path / "recipe/docs/a.txt").write_text("of the recipe")
    monkeypatch.chdir(tmp_path / "here")
    domain = Domain(path="text", data_files="docs/*.txt").from_folder(Path("../recipe"))
    source = open_source("a", domain, "train")
    assert source.read_files[0].start == Path("../recipe")
    assert [piece.texts for piece in source.pieces(None)] == [["of the recipe"]]
    before = source.identity
    (tmp_path / "here/docs/a.txt").write_text("of the working directory")
    source = open_source("a", domain, "train")
    assert source.read_files[0].start is None
    assert [piece.texts for piece in source.pieces(None)] == [["of the working directory"]]
    assert source.identity != before


def test_worker_that_does_not_know_the_recipes_folder_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe/docs").mkdir(parents=True)
    (tmp_path / "recipe/docs/a.md").write_text("text")
    monkeypatch.chdir(tmp_path)
    domains = [Domain(path="text", data_files="docs/*.md"), Domain(path="docs"), Domain(path="someone/text")]
    told = [located(domain.from_folder(Path("recipe"))).model_dump() for domain in domains]
    assert told[0]["data_files"] == {"train": ["recipe/docs/*.md"]}
    assert told[1]["path"] == "recipe/docs"
    assert told[2] == domains[2].model_dump()
    for words in told[:2]:
        assert read(**words) == ["text"]


def test_replaced_file_of_the_same_size_and_time_is_seen(
    tmp_path: Path, make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jsonl"
    recipe = make_recipe({"a": {"path": "json", "data_files": str(file)}})
    stamps = []
    for bound in (1 << 20, 0):  # known by content, and by what the file system says
        monkeypatch.setattr("regmix_hf.corpus.local_files.HASHED_BYTES", bound)
        for text in ("old", "new"):
            file.write_text(json.dumps({"text": text}))
            os.utime(file, (10**9, 10**9))
            assert read(path="json", data_files=str(file)) == [text]
            stamps.append(stamp_local_files(recipe))
    assert stamps[0] != stamps[1]
    assert stamps[2] != stamps[3]


def test_same_content_is_the_same_whenever_it_was_written(tmp_path: Path, make_recipe: MakeRecipe) -> None:
    file = tmp_path / "a.jsonl"
    recipe = make_recipe({"a": {"path": "json", "data_files": str(file)}})
    stamps = []
    for time in (10**9, 2 * 10**9):
        file.write_text('{"text": "a"}')
        os.utime(file, (time, time))
        stamps.append(stamp_local_files(recipe))
    assert stamps[0] == stamps[1]


def test_rows_without_the_column_say_what_they_have(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": "a"}, {"content": "b", "id": "1"}, {"n": 1}, {"text": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert left_out(path="json", data_files=str(tmp_path / "a.jsonl")) == {
        "no such column but 'content'": 1,
        "no such column": 1,
        "null": 1,
    }


@STREAMING
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_text(tmp_path: Path, separator: str, streaming: bool) -> None:
    folder = tmp_path / "a [b]"
    folder.mkdir()
    rows = [["id", "text"], ["1", "NA"], ["2", "null"], ["3", "12"], ["4", '"a, b; c | d"'], ["5", ""]]
    file = folder / "a.csv"
    file.write_text("".join(separator.join(row) + "\n" for row in rows))
    keys = {"path": "csv", "data_files": str(folder / "*.csv"), "streaming": streaming}
    assert read(**keys) == ["NA", "null", "12", "a, b; c | d"]
    file.write_text("".join(separator.join(row) + "\n" for row in rows[:2]).replace("NA", "XY"))
    assert read(**keys) == ["XY"]


def test_what_lies_beside_tables_of_a_folder_is_counted(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "README.md", "cover.png", "back.png"):
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables" / name).write_text("text\none\n")
    source = open_source("a", Domain(path=str(tmp_path / "tables")), "train")
    assert [text for piece in source.pieces(None) for text in piece.texts] == ["one", "one"]
    facts = read_facts(source, Counts(num_rows=2, num_texts=2))
    assert (facts.num_files, facts.num_other_files) == (2, 3)
    assert source.read_files[0].left_out == ((".png", 2), (".md", 1))


@STREAMING
@pytest.mark.parametrize("kept", [0, 40])
def test_a_parquet_file_that_was_cut_off_is_named_whether_it_is_the_first_or_not(
    tmp_path: Path, streaming: bool, kept: int
) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    for name in ("a", "c"):
        (tmp_path / f"{name}.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:kept])
        domain = Domain(path=str(tmp_path), streaming=streaming)
        with pytest.raises(DataError) as looked_at:
            open_source("a", domain, "train").check_first_rows()
            read(**domain.model_dump(exclude_unset=True))
        for error in (complaint(**domain.model_dump(exclude_unset=True)), looked_at.value):
            assert f"{name}.parquet" in error.message
            assert "write it again" in str(error.hint)
        (tmp_path / f"{name}.parquet").unlink()
