"""Tasks of lm-eval by name: found, loaded with their documents, or refused before any model is."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regmix_hf.errors import DataError, RecipeError
from regmix_hf.evaluation.held_out_text import HELD_OUT_TEXT

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

#: Of the recipe, where names of tasks stand.
_EVALUATION = "evaluation.tasks"


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


def load_tasks(names: Sequence[str], local_tasks: Path, include_path: str | None = None) -> LoadedTasks:
    """Find and load tasks; lm-eval's own index (seconds to build) is only opened when it is needed.

    Args:
        names: Tasks, groups or tags of lm-eval, and `held_out_text`.
        local_tasks: The folder of the tasks made of validation documents.
        include_path: A folder with task files of the user's own.

    Raises:
        RecipeError: lm-eval has no task of a name.
        DataError: A task's documents cannot be had, e.g. because there is no network.
    """
    if not names:
        return LoadedTasks(local=None, public=None)
    from lm_eval.tasks import TaskManager

    others = [name for name in names if name != HELD_OUT_TEXT]
    public = _load(others, _index(others, include_path, _EVALUATION), _EVALUATION) if others else None
    local = None
    if HELD_OUT_TEXT in names:
        manager = TaskManager(include_path=str(local_tasks), include_defaults=False)
        local = _load([HELD_OUT_TEXT], manager, _EVALUATION)
    return LoadedTasks(local, public)


def load_each(names: Sequence[str], include_path: str | None, key: str) -> dict[str, TaskSet]:
    """Find and load tasks and groups, each by itself.

    `include_path` is a folder with task files of the user's own, `key` where the names stand in the recipe.

    Raises:
        RecipeError: lm-eval has no task of a name, or there is no such folder.
        DataError: A task's documents cannot be had, e.g. because there is no network.
    """
    if not names:
        return {}
    manager = _index(names, include_path, key)
    return {name: _load([name], manager, key) for name in names}


def _index(names: Sequence[str], include_path: str | None, key: str) -> TaskManager:
    """The smallest index that knows all names: that of the user's own files, else with lm-eval's.

    Raises:
        RecipeError: There is no such folder, or no task of a name.
    """
    from lm_eval.tasks import TaskManager

    if include_path is not None:
        own = _own_tasks(include_path)
        if set(names) <= set(own.all_tasks):
            return own
    manager = TaskManager(include_path=include_path)
    check_names(names, manager, key)
    return manager


def _own_tasks(include_path: str) -> TaskManager:
    """The index of the user's own files alone."""
    from lm_eval.tasks import TaskManager

    if not Path(include_path).is_dir():
        raise RecipeError(
            f"evaluation.include_path: {include_path!r} is no folder.",
            f"a relative path starts at the working directory, {Path.cwd()}",
        )
    return TaskManager(include_path=include_path, include_defaults=False)


def check_names(names: Sequence[str], manager: TaskManager, key: str = _EVALUATION) -> None:
    """Refuse names that lm-eval does not know.

    Raises:
        RecipeError: At the first such name.
    """
    known = [*manager.all_tasks, HELD_OUT_TEXT]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists what there is"
            raise RecipeError(f"{key}: lm-eval has no task {name!r}.", hint)


def check_task_names(names: Sequence[str], include_path: str | None = None, key: str = _EVALUATION) -> None:
    """Refuse names that lm-eval does not know, without its index where each is found in a file of its tasks.

    Raises:
        RecipeError: At the first such name, or there is no folder `include_path`.
    """
    wanted = {name for name in names if name != HELD_OUT_TEXT}
    if include_path is not None:
        wanted -= set(_own_tasks(include_path).all_tasks)
    if wanted and wanted - _files_of(frozenset(wanted)).keys():
        _index(sorted(wanted), include_path, key)


def configs_of(names: Sequence[str], include_path: str | None = None) -> dict[str, dict[str, Any]]:
    """What the files of tasks and groups say, without their documents; code that they name is not run.

    Names that `check_task_names` took. Left out are those that no file of its own defines, such as tags.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    own: Mapping[str, Any] = {} if include_path is None else _own_tasks(include_path).task_index
    configs = {name: dict(own[name].cfg) for name in names if name in own and own[name].cfg is not None}
    files = _files_of(frozenset(set(names) - configs.keys()))
    found = {name: load_yaml(file, resolve_func=False) for name, file in files.items()}
    own_files = {name: one for name, one in found.items() if name == (one.get("group") or one.get("task"))}
    return configs | own_files


@cache
def _files_of(names: frozenset[str]) -> Mapping[str, Path]:
    """A file of lm-eval that gives each of the names to a task, group or tag, the likeliest files first.

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
    found: dict[str, Path] = {}
    for file in files:
        if found.keys() == names:
            break
        found |= {name.decode(): file for name in pattern.findall(file.read_bytes())} | found
    return found


def _load(names: Sequence[str], manager: TaskManager, key: str) -> TaskSet:
    from datasets.exceptions import DatasetsError

    try:
        return TaskSet(manager.load(list(names)))
    except (OSError, DatasetsError, RuntimeError) as error:  # offline; not found; "scripts are not supported"
        instead = f", or evaluate only on {HELD_OUT_TEXT}" if key == _EVALUATION else ", or leave it out"
        raise DataError(
            f"{key}: the documents of {', '.join(names)} cannot be loaded: {error}",
            f"go online once so that they are cached{instead}",
        ) from error
