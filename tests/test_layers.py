"""Imports go down the floors only, and light things stay light."""

import re
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from tests.architecture import (
    FIRST_HEAVY_FLOOR,
    FLOOR_OF,
    FRONT,
    PACKAGE,
    files,
    files_imported,
    imports_of,
    part_of,
)

HEAVY = {"torch", "datasets", "transformers", "accelerate"}


def test_every_part_has_a_floor():
    assert {part_of(file) for file in files()} - FRONT == FLOOR_OF.keys()


def test_the_picture_of_the_architecture_has_every_part_on_its_floor():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    drawn = re.findall(r"^ {1,2}(\d+)  ((?:[a-z]+ {1,2})*[a-z]+)(?:   |$)", text, flags=re.MULTILINE)
    assert {part: int(floor) for floor, parts in drawn for part in parts.split()} == FLOOR_OF


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file):
    part = part_of(file)
    if part in FRONT:
        return
    for line, name in imports_of(file):
        top, _, rest = name.partition(".")
        below = rest.split(".")[0]
        if top == "regmix_hf" and below != part:
            assert below in FLOOR_OF, f"line {line}: {part} imports {name}: the front door is for others"
            assert FLOOR_OF[below] < FLOOR_OF[part], f"line {line}: {part} imports {name}, not below it"
        elif FLOOR_OF[part] < FIRST_HEAVY_FLOOR or part in ("runs", "regression", "choice"):
            assert top not in HEAVY, f"line {line}: {part} imports {top}"


def test_no_files_import_each_other_in_a_circle():
    TopologicalSorter(files_imported()).prepare()


LIGHT = (
    "import regmix_hf",
    "import regmix_hf.cli.app",
    "from regmix_hf import load_recipe, sample_mixtures",
    "from regmix_hf import MixtureRegressor, choose_mixture",
    "import regmix_hf.pipeline; [regmix_hf.pipeline.stage_of(v) for v in regmix_hf.pipeline.VERBS]",
    "import regmix_hf.training.spec",
    "from regmix_hf.corpus.survey import survey; from regmix_hf.recipe import Domain; "
    "list(survey(type('R', (), {'domains': {'a': Domain(path='json', data_files='a.jsonl')}})))",
)
#: Does each statement alone, in a process forked from one that has imported what all of them may.
ALONE = """
import os, sys
import numpy, pandas, scipy.optimize, scipy.stats, sklearn.model_selection, pydantic, rich.table, typer
HEAVY = {'torch', 'transformers', 'datasets', 'accelerate', 'evaluate', 'lightgbm', 'lm_eval', 'matplotlib'}
sys.path.insert(0, sys.argv[1])
for statement in sys.argv[2:]:
    if os.fork() == 0:
        exec(statement)
        print(statement, sorted(HEAVY & sys.modules.keys()), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.cold_processes
def test_light_imports_load_nothing_heavy(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    command = [sys.executable, "-c", ALONE, str(PACKAGE.parent), *LIGHT]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert out.stdout.splitlines() == [f"{statement} []" for statement in LIGHT]
