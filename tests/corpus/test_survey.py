"""`validate` looks at the text without reading it: what is there is counted, what is not is an error."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regmix_hf.corpus.survey import survey
from regmix_hf.errors import DataError, RecipeError
from regmix_hf.evaluation.tasks import check_task_names
from regmix_hf.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def look(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """What a survey says of a recipe of one domain `a`, or of several."""
    monkeypatch.chdir(tmp_path)

    def survey_of(**domain: Any) -> list[str]:
        domains = domain if all(isinstance(value, dict) for value in domain.values()) else {"a": domain}
        return list(survey(make_recipe(domains)))

    return survey_of


@pytest.fixture
def complaint(look: Callable[..., list[str]]) -> Callable[..., DataError]:
    def complain(**domain: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            look(**domain)
        assert "domain 'a'" in caught.value.message
        return caught.value

    return complain


def test_files_are_counted_and_sized(
    look: Callable[..., list[str]], complaint: Callable[..., DataError], tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("a.md", "b.rst", "c.txt.gz"):
        content = b"x" * 1500
        (tmp_path / "docs" / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    (tmp_path / "docs/picture.png").write_bytes(b"")
    error = complaint(path="text", data_files="docs/a.md")
    assert "is one document" in error.message
    assert "sample_by: paragraph" in str(error.hint)
    packed = (tmp_path / "docs/c.txt.gz").stat().st_size
    left_out = "left out, of kinds that are not read here: 1 .png"
    assert look(path="docs") == [f"a: 3 files, 3.0 kB, {packed} bytes of it compressed; {left_out}"]
    pq.write_table(pa.table({"text": ["x"] * 30}), tmp_path / "rows.parquet")
    packed = (tmp_path / "rows.parquet").stat().st_size
    assert look(path="parquet", data_files="rows.parquet") == [f"a: 1 file, {packed} bytes compressed"]
    files = ["docs/a.md", "docs/*.md", "docs/*.tex"]
    assert look(path="text", data_files=files, sample_by="line") == [
        "a: 1 file, 1.5 kB; 1 name more of the same files, each read once; nothing matches 'docs/*.tex'"
    ]


def test_what_is_not_there(complaint: Callable[..., DataError], tmp_path: Path) -> None:
    (tmp_path / "manuals").mkdir()
    (tmp_path / "manuals/a.txt").write_text("a")
    (tmp_path / "a.jsonl").write_text('{"content": "a", "set": "x"}\n')
    error = complaint(path="text", data_files="manual/*.txt")
    assert "no file matches 'manual/*.txt'" in error.message
    assert str(error.hint).startswith("did you mean 'manuals'?")
    assert "no file matches 'manuals/*.md'" in complaint(path="text", data_files="manuals/*.md").message
    assert "did you mean 'manuals'?" in str(complaint(path="manual").hint)
    assert "did you mean 'json'?" in str(complaint(path="jsn", data_files="a.jsonl").hint)
    assert "there is no folder './nothing/there'" in complaint(path="./nothing/there").message
    assert complaint(path="a.jsonl").hint == "write `path: json` and `data_files: a.jsonl`"
    error = complaint(path="json", data_files="a.jsonl")
    assert error.hint == "columns are 'content', 'set'"
    error = complaint(path="json", data_files="a.jsonl", text_column="content", filter={"sett": "x"})
    assert error.hint == "columns are 'content', 'set'; did you mean 'set'?"
    error = complaint(path="json", data_files="a.jsonl", text_column="content", validation_split="test")
    assert "no split 'test'; there is ['train']" in error.message
    error = complaint(path="python_environment", name="docstring")
    assert "did you mean 'docstrings'?" in str(error.hint)


def test_columns_of_parquet_and_tables(
    look: Callable[..., list[str]], complaint: Callable[..., DataError], tmp_path: Path
) -> None:
    pq.write_table(pa.table({"text": ["a"], "meta": [{"set": "x"}]}), tmp_path / "a.parquet")
    keys = {"path": "parquet", "data_files": "*.parquet"}
    assert len(look(filter={"meta.set": "x"}, **keys)) == 1
    assert "has no 'sets'" in complaint(filter={"meta.sets": "x"}, **keys).message
    assert "holds struct" in complaint(text_column="meta", **keys).message
    (tmp_path / "a.csv").write_text("id;body\n1;a\n")
    assert look(path="csv", data_files="a.csv", text_column="body") == [
        "a: 1 file, 12 bytes, read by `datasets`"
    ]
    assert complaint(path="csv", data_files="a.csv").hint == "columns are 'id', 'body'"


def test_same_rows_in_two_domains_are_said(look: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "set": "x"}\n{"text": "b", "set": "y"}\n')
    domain = {"path": "json", "data_files": "a.jsonl"}
    said = look(a=domain, b=domain, c={**domain, "filter": {"set": "x"}})
    assert said[-1] == "the domains a, b are made of the same rows of 1 file"
    (tmp_path / "linked.jsonl").hardlink_to(tmp_path / "a.jsonl")
    assert look(a=domain, b={**domain, "data_files": "linked.jsonl"})[-1] == said[-1]
    assert len(look(b={**domain, "filter": {"set": "y"}}, c={**domain, "filter": {"set": "x"}})) == 2


def test_recipes_folder_is_named(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a")
    recipe = make_recipe({"a": {"path": "text", "data_files": "text/*", "sample_by": "line"}})
    recipe.domains["a"].from_folder(tmp_path)
    (line,) = survey(recipe)
    assert line == f"a: 1 file, 1 bytes; paths start at the recipe's folder {str(tmp_path)!r}"


def test_hub_is_unchecked_when_offline(
    look: Callable[..., list[str]], complaint: Callable[..., DataError], tmp_path: Path
) -> None:
    said = "a: someone/text on the Hub, unchecked: HF_HUB_OFFLINE is set"
    assert look(path="someone/text") == [said]
    (tmp_path / "someone/texts").mkdir(parents=True)
    assert look(path="someone/text") == [f"{said}; did you mean 'someone/texts'?"]
    assert complaint(path="someone/te*").hint == (
        "patterns stand in `data_files`: `path: text` and `data_files: someone/te*`"
    )


def test_tasks_that_lm_eval_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    class Index:
        def __init__(self, include_path: str | None):
            self.all_tasks = ("hellaswag",)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", Index)
    check_task_names(["held_out_text", "hellaswag", "piqa"])
    with pytest.raises(RecipeError, match="no task 'helaswag'"):
        check_task_names(["helaswag"])
