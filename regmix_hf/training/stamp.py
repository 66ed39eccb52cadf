"""What decides, outside of a study, which weights its runs start from. Imports nothing that is slow."""

from __future__ import annotations

from pathlib import Path

from regmix_hf.corpus.local_files import stamps
from regmix_hf.files import hash_value
from regmix_hf.recipe import Recipe


def stamp_starts(recipe: Recipe) -> dict[str, str]:
    """Hash what the recipe says of models from elsewhere, and the files of local ones; nothing without."""
    found = {}
    trainings = {"proxy": recipe.proxy, **dict(list(recipe.rungs.items())[1:]), "train": recipe.train}
    for section, training in trainings.items():
        start = training.model.pretrained
        if isinstance(start, str):
            files = sorted(Path(start).iterdir()) if Path(start).is_dir() else []
            said = [training.model.checkpoint, stamps(files)]
            found[f"{section}.model.pretrained"] = hash_value(said)
    return found
