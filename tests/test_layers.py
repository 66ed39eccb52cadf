"""Imports go down the layers only, and light things stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "regmix_hf"

#: The first dotted part below `regmix_hf` -> layer.
LAYERS = {
    "errors": 0,
    "progress": 0,
    "recipe": 0,
    "hub": 1,
    "study": 1,
    "mixtures": 1,
    "regression": 1,
    "choice": 1,
    "corpus": 2,
    "training": 2,
    "evaluation": 2,
    "swarm": 3,
    "cards": 3,
    "sharing": 3,
    "stages": 4,
    "pipeline": 4,
    "plan": 4,
    "preflight": 4,
    "cli": 5,
    "proxies": 5,
    "train": 5,
}
#: The package's front door re-exports lazily and is above everything.
FRONT = {"__init__", "__main__"}
FORBIDDEN_BELOW_2 = {"torch", "datasets", "transformers", "accelerate"}


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_a_layer():
    assert {part_of(file) for file in FILES} - FRONT <= LAYERS.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file):
    part = part_of(file)
    if part in FRONT:
        return
    for line, name in imports_of(file):
        top, _, rest = name.partition(".")
        if top == "regmix_hf" and rest:
            below = rest.split(".")[0]
            assert LAYERS[below] <= LAYERS[part], f"line {line}: {part} imports {name}, which lies above it"
        elif LAYERS[part] < 2:
            assert top not in FORBIDDEN_BELOW_2, f"line {line}: layer {LAYERS[part]} imports {top}"


@pytest.mark.parametrize(
    "statement",
    [
        "import regmix_hf",
        "import regmix_hf.cli.app",
        "from regmix_hf import load_recipe, sample_mixtures",
        "from regmix_hf import MixtureRegressor, choose_mixture",
        "import regmix_hf.pipeline; [regmix_hf.pipeline.stage_of(v) for v in regmix_hf.pipeline.VERBS]",
    ],
)
def test_light_imports_load_nothing_heavy(statement):
    heavy = (
        "{'torch', 'transformers', 'datasets', 'accelerate', 'evaluate', 'lightgbm', 'lm_eval', 'matplotlib'}"
    )
    code = f"import sys; {statement}; print(sorted({heavy} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
