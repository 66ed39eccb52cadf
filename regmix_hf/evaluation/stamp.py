"""What decides, outside of a study, which tasks its models are scored on. Imports nothing of lm-eval."""

from __future__ import annotations

from pathlib import Path

from regmix_hf.corpus.local_files import stamps
from regmix_hf.files import hash_value
from regmix_hf.recipe import Recipe


def stamp_tasks(recipe: Recipe) -> dict[str, str]:
    """Hash what the recipe says of `proxy.tasks`, and the files of the user's own tasks; nothing without."""
    if not recipe.proxy.tasks:
        return {}
    said = [recipe.proxy.tasks, recipe.proxy.task_limit]
    return {"proxy.tasks": hash_value([said, recipe.evaluation.include_path]), **stamp_own_tasks(recipe)}


def stamp_own_tasks(recipe: Recipe) -> dict[str, str]:
    """Hash the files in `evaluation.include_path`; nothing without."""
    if recipe.evaluation.include_path is None:
        return {}
    folder = Path(recipe.evaluation.include_path)
    return {"files of include_path": hash_value(stamps(sorted(folder.rglob("*"))))}
