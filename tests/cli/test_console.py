"""Tables keep names, numbers and brackets whole at any width, and say what they had no room for."""

import json

import pytest

from regmix_hf.cli.console import Console, Format
from regmix_hf.cli.tables import Column, Kind, Table, interval, name, number
from regmix_hf.cli.views import plan_tables, promise_tables
from regmix_hf.plan import Plan, StagePlan
from regmix_hf.readable import duration
from regmix_hf.study import State
from regmix_hf.study.promises import Promise, Promises, Size

ROWS = [
    {
        "estimator": "kriged_power_law",
        "spearman": "0.98 [0.90, 1.00]",
        "pearson": "0.97 [0.90, 1.00]",
        "mae": 3e-5,
        "seconds": 57_459.0,
    },
    {"estimator": "own_weight", "spearman": "-", "pearson": "-", "mae": 0.25, "seconds": 30.0},
]


def printed(table: Table, capsys: pytest.CaptureFixture[str], monkeypatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    Console().tables([table])
    return capsys.readouterr().out.splitlines()


QUALITY = Kind(
    "quality",
    (
        *(name("estimator"), name("spearman"), name("pearson"), number("mae", "nats_per_token", ".4f")),
        *(number("seconds", "seconds", duration, "time"), Column("unit", for_machines=True)),
    ),
)


def of(*rows: dict[str, object]) -> Table:
    """A table of text and numbers whose columns are called as their keys."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return Table(Kind("t", tuple(Column(column, object) for column in columns)), rows, "t")


def table() -> Table:
    return Table(QUALITY, ROWS, "quality")


@pytest.mark.parametrize(
    ("columns", "left_out"), [(120, None), (60, "mae, time"), (40, "pearson, mae, time")]
)
def test_columns_without_room_are_left_out_and_named(columns, left_out, capsys, monkeypatch):
    lines = printed(table(), capsys, monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    assert "kriged_power_law" in text
    assert text.count("0.98 [0.90, 1.00]") == 1
    assert (f"no room for: {left_out}" in text) if left_out else ("no room" not in text)


def test_the_ends_of_an_interval_come_and_go_together(capsys, monkeypatch):
    kind = Kind("t", (name("mixture"), number("loss", None, ".2f"), *interval(None, ".2f")))
    row = {"mixture": "chosen", "loss": 3.0, "lower": 2.5, "upper": 3.5}

    def at(width: int) -> str:
        return "\n".join(printed(Table(kind, [row], "t"), capsys, monkeypatch, width))

    assert all(part in at(34) for part in ("loss", "2.50", "3.50"))
    assert "no room for: lower, upper" in at(33)
    assert "2.50" not in at(33)
    assert "3.00" in at(33)


def test_times_and_tiny_numbers_read_as_people_say_them(capsys, monkeypatch):
    text = "\n".join(printed(table(), capsys, monkeypatch, 120))
    assert all(part in text for part in ("time", "16 h", "30 s", "3e-05", "0.2500"))
    assert "seconds" not in text


def test_machines_get_numbers_under_the_names_of_columns(capsys):
    Console(Format.JSON).tables([table()])
    found = json.loads(capsys.readouterr().out)["quality"]
    assert found["rows"] == [{**row, "unit": None} for row in ROWS]
    assert found["units"] == {"mae": "nats_per_token", "seconds": "seconds"}


def test_a_cell_of_several_values_is_several_columns_for_a_person(capsys, monkeypatch):
    rows = [{"mixture": "[a]", "loss": {"x": 3.14159, "y": float("nan")}}]
    kind = Kind("t", (name("mixture"), Column("loss", dict[str, float], format=".2f")))
    text = "\n".join(printed(Table(kind, rows, "t"), capsys, monkeypatch, 120))
    assert all(part in text for part in ("[a]", "x", "3.14"))
    assert "y" not in text.split()
    Console(Format.JSON).tables([Table(kind, rows, "t")] * 2)
    assert json.loads(capsys.readouterr().out)["t"]["rows"] == 2 * [
        {"mixture": "[a]", "loss": {"x": 3.14159, "y": None}}
    ]


def test_long_text_wraps_instead_of_going(capsys, monkeypatch):
    words = "a folder (cpu, fsdp2, multi_gpu) and more words than fit into one line of sixty"
    lines = printed(of({"what": "configs", "value": words}), capsys, monkeypatch, 60)
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines[4:]).replace("configs", "").split()) == words


def test_a_plan_says_hours(capsys, monkeypatch):
    plan = Plan((StagePlan("proxies", State.MISSING, seconds=57_459.0),), ())
    monkeypatch.setenv("COLUMNS", "120")
    Console().tables(plan_tables(plan))
    assert "16 h" in capsys.readouterr().out


def test_promises_are_shown_with_the_sizes_they_speak_of():
    promises = Promises(
        target="mean of 2 targets",
        estimator="ridge",
        coverage=0.9,
        predicted_for=Size(scale="1M", num_train_tokens=1000),
        measured_on=Size(scale="60M", num_train_tokens=4000),
        mixtures=(
            Promise(
                **{"mixture": "chosen", "predicted": 3.0, "lower": 2.9, "upper": 3.1, "measured": 2.0},
                **{"deviation": None, "num_seeds": 1, "promised_gain": 0.0, "measured_gain": 0.0},
            ),
        ),
        scores={"spearman": None, "chosen_regret": 0.0},
    )
    rows, sizes, agreement = (table.rows for table in promise_tables(promises))
    assert (rows[0]["promised"], rows[0]["measured"], rows[0]["difference"]) == (3.0, 2.0, 1.0)
    assert [(row["parameters"], row["tokens"]) for row in sizes] == [("1M", 1000), ("60M", 4000)]
    assert list(agreement) == [
        {"metric": "spearman", "value": None},
        {"metric": "chosen_regret", "value": 0.0},
    ]


def test_a_column_that_holds_nothing_takes_no_room_but_a_machine_gets_it(capsys, monkeypatch):
    rows = [{"stage": "fit", "reason": "", "left": None}, {"stage": "choose", "reason": None, "left": 0}]
    lines = printed(of(*rows), capsys, monkeypatch, 120)
    assert "reason" not in "\n".join(lines)
    assert "left" in "\n".join(lines)
    Console(Format.JSON).tables([of(*rows)])
    assert json.loads(capsys.readouterr().out)["t"]["rows"] == rows
