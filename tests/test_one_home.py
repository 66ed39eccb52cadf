"""What has a home stands nowhere else: the names of a study's folders and files."""

import ast
import re

import pytest

from regmix_hf.recipe import RECIPE_FILE
from regmix_hf.study import names
from tests.architecture import PACKAGE, files

HOME = PACKAGE / "study" / "names.py"
#: Below the study: what it writes for other trainers has names of its own.
OF_OTHERS = PACKAGE / "exports"
#: `report` is also a verb.
NAMES = {value for key, value in vars(names).items() if key.isupper() and isinstance(value, str)} - {
    names.REPORT
}


def texts_of(file):
    """Line and text of every string of a file that is no docstring; what an f-string puts in is `x`."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    inside = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            inside.update(map(id, node.values))
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(parts)
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def named_in(text):
    """Names of the study's files that stand in a text as words of their own, in a path or a sentence."""
    there = (name for name in NAMES if name in text)
    return {name for name in there if re.search(rf"(?<![\w.*-]){re.escape(name)}(?!\w|[.-]\w)", text)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("corpus.json", {"corpus.json"}),
        ("6-models/results.parquet", {"6-models", "results.parquet"}),
        ("x/results.parquet", {"results.parquet"}),
        ("x: summary.json lacks", {"summary.json"}),
        ("all of it is in corpus.json.", {"corpus.json"}),
        ("final_results.parquet", {"final_results.parquet"}),
        ("x.lock", set()),
        ("*.lock", set()),
        ("llama-mixture.yaml", set()),
    ],
)
def test_a_name_is_found_as_a_word_of_its_own(text, found):
    assert named_in(text) == found


@pytest.mark.parametrize(
    "file",
    [file for file in files() if file != HOME and OF_OTHERS not in file.parents],
    ids=lambda file: str(file.relative_to(PACKAGE)),
)
def test_names_of_a_study_stand_in_one_file(file):
    again = [(line, sorted(found)) for line, text in texts_of(file) if (found := named_in(text))]
    assert not again, f"take them from regmix_hf.study.names: {again}"
    alone = [line for line, text in texts_of(file) if text == RECIPE_FILE]
    assert len(alone) == (file == PACKAGE / "recipe" / "load.py"), f"take RECIPE_FILE: lines {alone}"
