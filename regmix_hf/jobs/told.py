"""The recipe as workers elsewhere read it: overrides included, and text where it was found from here."""

from __future__ import annotations

import json
from pathlib import Path

from regmix_hf.corpus.local_files import located
from regmix_hf.files import write_text
from regmix_hf.recipe import Executor
from regmix_hf.study import Study

_FILE = ".recipe.yaml"


def told_recipe(folder: Path) -> Path:
    """Where `tell_recipe` writes."""
    return folder / _FILE


def tell_recipe(study: Study, folder: Path) -> Path:
    """Write into `folder` the recipe for workers that share the study's folder, each of which works alone."""
    told = study.recipe.model_copy(
        update={
            "output_dir": study.root.resolve(),
            "domains": {name: located(domain) for name, domain in study.recipe.domains.items()},
            "executor": Executor(wait=study.recipe.executor.wait),
        }
    )
    file = told_recipe(folder)
    write_text(file, json.dumps(told.model_dump(mode="json"), indent=2))
    return file
