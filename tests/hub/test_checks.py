"""Tables and JSON of strangers: refused by their counts before they are read, by their values after."""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regmix_hf.errors import HubError
from regmix_hf.hub import TableLimits, parquet_bytes, parse_json, read_table
from regmix_hf.runs.published import check_weights


def parquet(columns: dict[str, object], **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer


def test_a_plain_table_comes_back_as_it_went():
    frame = pd.DataFrame(
        {
            "run_id": ["a", "b", "b"],
            "weight/x": [0.1, np.nan, 1.0],
            "seed": [1, 2, 3],
            "ok": [True, False, True],
            "at": pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-03"]),
        }
    )
    pd.testing.assert_frame_equal(read_table(io.BytesIO(parquet_bytes(frame))), frame)


def test_a_table_on_disk_is_measured_before_it_is_opened(tmp_path: Path):
    path = tmp_path / "results.parquet"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(HubError, match="1,000 bytes; at most 10"):
        read_table(path, limits=TableLimits(max_bytes=10))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (TableLimits(max_rows=99), "has 100 rows; at most 99"),
        (TableLimits(max_columns=2), "has 3 columns; at most 2"),
        (TableLimits(max_values=299), "has 300 values; at most 299"),
        (TableLimits(max_text=9), "'name' has 10 characters; at most 9"),
    ],
)
def test_tables_that_hold_too_much_are_refused(limits, message):
    table = parquet({"a": [1] * 100, "b": [1.0] * 100, "name": ["x" * 10] * 100})
    assert len(read_table(table)) == 100
    with pytest.raises(HubError, match=message):
        read_table(table, limits=limits)


def test_too_many_domains_are_refused_by_their_count():
    table = parquet({f"weight/d{number}": [0.0] for number in range(10_001)})
    with pytest.raises(HubError, match="10,001 columns"):
        read_table(table, name="results")


def test_a_small_file_cannot_fill_the_memory_with_one_text_repeated():
    """A dictionary of one text of a megabyte, named a million times: a terabyte if it were written out."""
    indices = pa.array(np.zeros(1_000_000, dtype=np.int32))
    bomb = parquet({"name": pa.DictionaryArray.from_arrays(indices, ["x" * 1_000_000])}, store_schema=False)
    assert bomb.getbuffer().nbytes < 200_000
    with pytest.raises(HubError, match="1,000,000 characters"):
        read_table(bomb, name="bomb")


def test_nor_with_a_short_text_repeated_often():
    indices = pa.array(np.zeros(30_000, dtype=np.int32))
    bomb = parquet({"name": pa.DictionaryArray.from_arrays(indices, ["x" * 9_000])}, store_schema=False)
    assert bomb.getbuffer().nbytes < 20_000
    with pytest.raises(HubError, match="has 270,000,000 characters"):
        read_table(bomb, name="bomb")


def test_a_footer_that_counts_fewer_rows_than_there_are_is_not_believed():
    content = parquet({"x": np.zeros(6_000_000)}).getvalue()
    many, few = bytes.fromhex("80b6dc05"), bytes.fromhex("94808000")  # 6,000,000 and 10, in as many bytes
    assert content.count(many) == 1  # the sum; each of the parts is smaller
    lie = io.BytesIO(content.replace(many, few))
    assert pq.ParquetFile(lie).metadata.num_rows == 10
    with pytest.raises(HubError, match="6,000,000 rows"):
        read_table(lie, name="results")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"bytes"]),
        pa.array([[1, 2]]),
        pa.array([{"a": 1}]),
        pa.array([1], pa.decimal128(5, 0)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))),
    ],
    ids=["bytes", "list", "struct", "decimal", "extension"],
)
def test_columns_of_other_types_are_refused(column):
    with pytest.raises(HubError, match="which no table has"):
        read_table(parquet({"odd": column}), name="odd")


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", b"{}", pickle.dumps({"a": 1})])
def test_what_is_no_parquet_is_refused(content):
    with pytest.raises(HubError, match="cannot be read as Parquet"):
        read_table(io.BytesIO(content), name="results")


@given(st.data())
def test_a_damaged_file_is_refused_or_read_but_never_crashes(data):
    frame = pd.DataFrame({"run_id": ["a", "b"] * 20, "loss": np.arange(40.0)})
    content = bytearray(parquet_bytes(frame))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(HubError):
        read_table(io.BytesIO(bytes(content)), name="damaged")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, np.nan], "the weight of 'b' is nan"),
        ([1.5, -0.5], "the weight of 'b' is -0.5"),
        ([np.inf, 0.0], "the weight of 'a' is inf"),
        ([0.5, 0.4], "the weights sum to 0.9, not to 1"),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights, message):
    good, bad = [0.25, 0.75], weights
    table = pd.DataFrame([good, bad], columns=["weight/a", "weight/b"])
    check_weights(table.head(1), "mixtures")
    with pytest.raises(HubError, match=f"mixtures, row 1: {message}"):
        check_weights(table, "mixtures")


@pytest.mark.parametrize("table", [pd.DataFrame({"loss/a": [1.0]}), pd.DataFrame({"weight/a": []})])
def test_a_table_without_weights_is_refused(table):
    with pytest.raises(HubError, match=r"no row, or no column weight/<domain>"):
        check_weights(table, "mixtures")


def test_json_of_finite_numbers_is_read():
    assert parse_json(b'{"a": [1, 2.5e300, "NaN"]}', "facts.json") == {"a": [1, 2.5e300, "NaN"]}


@pytest.mark.parametrize(
    "text",
    [b'{"a": NaN}', b"[-Infinity]", b"1e999", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000],
    ids=["nan", "infinity", "too large", "broken", "no utf-8", "deep", "long number"],
)
def test_json_that_is_broken_or_not_finite_is_refused(text):
    with pytest.raises(HubError, match=r"facts\.json"):
        parse_json(text, "facts.json")
