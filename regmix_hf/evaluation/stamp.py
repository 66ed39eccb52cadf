"""What decides, outside of a study, which tasks its models are scored on. Imports nothing of lm-eval."""

from __future__ import annotations

from pathlib import Path

from regmix_hf.corpus.local_files import stamps
from regmix_hf.files import hash_value
from regmix_hf.recipe import Recipe


def stamp_tasks(recipe: Recipe) -> dict[str, str]:
    """Hash what the recipe says of tasks of proxies, and the files of the user's own; nothing without."""
    proxy = recipe.proxy
    said = {"proxy.tasks": proxy.tasks, "proxy.metrics": proxy.metrics}
    stamps = {
        key: hash_value([[value, proxy.task_limit], recipe.evaluation.include_path])
        for key, value in said.items()
        if value
    }
    return {**stamps, **stamp_own_tasks(recipe)} if stamps else {}


def stamp_own_tasks(recipe: Recipe) -> dict[str, str]:
    """Hash the files in `evaluation.include_path`; nothing without."""
    if recipe.evaluation.include_path is None:
        return {}
    folder = Path(recipe.evaluation.include_path)
    return {"files of include_path": hash_value(stamps(sorted(folder.rglob("*"))))}
