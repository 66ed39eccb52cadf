"""Killed at any moment and called again, `prepare` goes on and ends with the same bytes."""

import multiprocessing
import os
import random
import runpy
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import psutil
import pytest

from regmix_hf.recipe import Recipe

pytestmark = pytest.mark.processes

#: Prepares with small commits, and kills itself at the given one of the steps that change the folder.
SCRIPT = """
import os, signal, sys
from pathlib import Path
from regmix_hf.corpus import dataset_source, lines, reading
from regmix_hf.corpus.prepare import prepare_corpus
from regmix_hf.recipe import Recipe

FILES = ("reading.py", "prepare.py", "blocks.py", "regmix_hf/files.py", "tokenizer.py")
READING_ONLY = ("_sample", "_equal", "_divide", "_without_long_words")
steps = 0

def count(frame, event, argument):
    global steps
    code = frame.f_code
    if code.co_filename.endswith(FILES) and code.co_name not in READING_ONLY:
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

reading.COMMIT_BYTES = 3_000
dataset_source._ROWS = lines.ROWS = 64
recipe = Recipe.model_validate_json(Path(recipe).read_text())
sys.setprofile(count)
prepare_corpus(recipe, Path(folder))
sys.setprofile(None)
Path(folder + ".steps").write_text(str(steps))
"""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["regmix_hf.corpus.prepare", "regmix_hf.corpus.file_source"])
    return context


@pytest.fixture
def recipe(
    make_recipe: Callable[..., Recipe],
    jsonl_domain: Callable[..., dict[str, Any]],
    sentences: Callable[..., list[str]],
) -> Recipe:
    """A recipe with every way to read and to validate."""
    own = {"train": jsonl_domain("t", sentences(600, "t"))["data_files"]}
    own["validation"] = jsonl_domain("v", sentences(600, "v"))["data_files"]
    domains = {
        "stream": jsonl_domain("stream", sentences(1000, "s")),
        "rows": jsonl_domain("rows", sentences(1000, "r"), streaming=False),
        "split": {"path": "json", "data_files": own, "validation_split": "validation"},
        "small": jsonl_domain("small", sentences(12)),
        "only": jsonl_domain("only", sentences(600, "o"), validation_only=True),
    }
    return make_recipe(
        domains,
        corpus={"num_proc": 1, "max_validation_tokens": 3000},
        tokenizer={"train": {"vocab_size": 320}},
    )


@pytest.fixture
def start(processes: ForkServerContext, tmp_path: Path) -> Callable[..., Any]:
    """Start a process that prepares a folder of the test."""
    (tmp_path / "prepare.py").write_text(SCRIPT)

    def start(recipe: Recipe, name: str, kill_at: int = 0) -> Any:
        (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
        names = {"recipe": str(tmp_path / "recipe.json"), "folder": str(tmp_path / name), "kill_at": kill_at}
        process = processes.Process(target=runpy.run_path, args=(str(tmp_path / "prepare.py"), names))
        process.start()
        return process

    return start


def run(process: Any) -> int:
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return int(process.exitcode)


def contents(folder: Path) -> dict[str, bytes]:
    """All that a finished corpus holds, markers included."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_killed_preparation_ends_with_the_same_bytes(
    start: Callable[..., Any], recipe: Recipe, tmp_path: Path
) -> None:
    assert run(start(recipe, "undisturbed")) == 0
    steps = int((tmp_path / "undisturbed.steps").read_text())
    moments = random.Random(0)
    kills = went_on = 0
    while kills < 10 and run(start(recipe, "killed", moments.randrange(1, steps // 3))) != 0:
        kills += 1
        went_on += any((tmp_path / "killed").glob("*/.*/state.json"))
    assert kills >= 5
    assert went_on >= 3
    assert run(start(recipe, "killed")) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    leftovers = [path for path in (tmp_path / "killed").rglob(".*.tmp") if path.parent.name in recipe.domains]
    assert not leftovers


def test_killed_preparation_goes_on_where_it_was(
    start: Callable[..., Any], recipe: Recipe, tmp_path: Path
) -> None:
    assert run(start(recipe, "undisturbed")) == 0
    steps = int((tmp_path / "undisturbed.steps").read_text())
    assert run(start(recipe, "killed", steps * 9 // 10)) != 0
    assert run(start(recipe, "killed")) == 0
    assert int((tmp_path / "killed.steps").read_text()) < steps // 2


@pytest.mark.parametrize("change", [{"context_length": 16}, {"seed": 3}, {"domains"}], ids=str)
def test_killed_preparation_of_another_recipe_is_not_mixed_in(
    start: Callable[..., Any],
    recipe: Recipe,
    jsonl_domain: Callable[..., dict[str, Any]],
    sentences: Callable[..., list[str]],
    tmp_path: Path,
    change: Any,
) -> None:
    assert run(start(recipe, "killed", 20_000)) != 0  # of about 33,000 steps
    assert any((tmp_path / "killed").glob("*/.*/state.json"))
    if change == {"domains"}:
        jsonl_domain("stream", sentences(700, "z"))  # the same file with another text
        changed = recipe
    else:
        changed = recipe.model_copy(update=change)
    for folder in ("killed", "fresh"):
        assert run(start(changed, folder)) == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "fresh")


def test_killed_preparation_leaves_no_process(
    start: Callable[..., Any], recipe: Recipe, tmp_path: Path
) -> None:
    several = recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update={"num_proc": 2})})
    process = start(several, "killed")
    while not any((tmp_path / "killed").glob("*/.*/state.json")) and process.exitcode is None:
        process.join(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    assert run(process) != 0
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
