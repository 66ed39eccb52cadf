"""Tasks of lm-eval by name: found, loaded with their documents, or refused before any model is."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regmix_hf.errors import DataError, RecipeError
from regmix_hf.evaluation.held_out_text import HELD_OUT_TEXT

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


class TaskSet:
    """Tasks and groups of lm-eval with their documents in memory, ready for any number of models.

    Args:
        loaded: What `TaskManager.load` returned.
    """

    def __init__(self, loaded: dict[str, Any]):
        self.loaded = loaded
        # Kept, because `show_examples` overwrites it in the tasks.
        self._own_examples = {name: task.get_config("num_fewshot") for name, task in loaded["tasks"].items()}

    def show_examples(self, num_fewshot: int | None, seed: int) -> None:
        """Set how many solved examples every task shows, and the seed that picks them.

        As lm-eval's command line does: a task that fixes 0 keeps 0, and `None` leaves it to the task, which
        shows none when it does not say.
        """
        for name, task in self.loaded["tasks"].items():
            own = self._own_examples[name]
            shown = own if own == 0 or num_fewshot is None else num_fewshot
            task.set_config(key="num_fewshot", value=shown or 0)
            task.set_fewshot_seed(seed=seed)


@dataclass(frozen=True)
class LoadedTasks:
    """What a recipe's task names stand for.

    Attributes:
        local: The tasks of `held_out_text`, or `None` when it was not asked for.
        public: All others, or `None` when there were none.
    """

    local: TaskSet | None
    public: TaskSet | None


def load_tasks(names: Sequence[str], local_tasks: Path) -> LoadedTasks:
    """Find and load tasks; lm-eval's own index (seconds to build) is only opened when it is needed.

    Args:
        names: Tasks, groups or tags of lm-eval, and `held_out_text`.
        local_tasks: The folder of the tasks made of validation documents.

    Raises:
        RecipeError: lm-eval has no task of a name.
        DataError: A task's documents cannot be had, e.g. because there is no network.
    """
    if not names:
        return LoadedTasks(local=None, public=None)
    from lm_eval.tasks import TaskManager

    public_names = [name for name in names if name != HELD_OUT_TEXT]
    public = None
    if public_names:
        manager = TaskManager()
        check_names(public_names, manager)
        public = _load(public_names, manager)
    local = None
    if HELD_OUT_TEXT in names:
        manager = TaskManager(include_path=str(local_tasks), include_defaults=False)
        local = _load([HELD_OUT_TEXT], manager)
    return LoadedTasks(local, public)


def check_names(names: Sequence[str], manager: TaskManager) -> None:
    """Refuse names that lm-eval does not know.

    Raises:
        RecipeError: At the first such name.
    """
    known = [*manager.all_tasks, HELD_OUT_TEXT]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists what there is"
            raise RecipeError(f"evaluation.tasks: lm-eval has no task {name!r}.", hint)


def check_task_names(names: Sequence[str]) -> None:
    """Refuse names that lm-eval does not know, without its index where each is found in a file of its tasks.

    Raises:
        RecipeError: At the first such name.
    """
    wanted = {name for name in names if name != HELD_OUT_TEXT}
    if wanted and wanted - _named_in_files(wanted):
        from lm_eval.tasks import TaskManager

        check_names(sorted(wanted), TaskManager())


def _named_in_files(names: set[str]) -> set[str]:
    """Those of the names that a file of lm-eval gives to a task, group or tag, the likeliest files first.

    The index, which reads all 14,000 files, takes 12 seconds.
    """
    spec = importlib.util.find_spec("lm_eval")
    folders = [Path(place, "tasks") for place in (spec and spec.submodule_search_locations) or ()]
    files = [file for folder in folders for file in folder.rglob("*.yaml")]
    beside = Counter(file.parent for file in files)
    words = {name.split("_")[0] for name in names}

    def order(file: Path) -> tuple[bool, int]:
        return not any(word in f"{file.parent.name}/{file.name}" for word in words), beside[file.parent]

    files.sort(key=order)
    pattern = re.compile(
        rb"(?m)^(?:task|group|tag):[ \t]*[\"']?("
        + b"|".join(re.escape(name.encode()) for name in names)
        + rb")[\"']?[ \t]*$"
    )
    found: set[str] = set()
    for file in files:
        found |= {name.decode() for name in pattern.findall(file.read_bytes())}
        if found == names:
            break
    return found


def _load(names: Sequence[str], manager: TaskManager) -> TaskSet:
    from datasets.exceptions import DatasetsError

    try:
        return TaskSet(manager.load(list(names)))
    except (OSError, DatasetsError, RuntimeError) as error:  # offline; not found; "scripts are not supported"
        raise DataError(
            f"evaluation.tasks: the documents of {', '.join(names)} cannot be loaded: {error}",
            f"go online once so that they are cached, or evaluate only on {HELD_OUT_TEXT}",
        ) from error
