"""Find the data mixture a language model should be pre-trained on, by regression over small proxy models.

The public names are loaded when first used, so that `import regmix_hf` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regmix_hf.version import VERSION

if TYPE_CHECKING:
    from regmix_hf.choice import choose_mixture
    from regmix_hf.mixtures import sample_mixtures
    from regmix_hf.recipe import load_recipe
    from regmix_hf.regression import MixtureRegressor
    from regmix_hf.runs.runs import load_runs

__version__ = VERSION
__all__ = ["MixtureRegressor", "choose_mixture", "load_recipe", "load_runs", "sample_mixtures"]

_HOMES = {
    "MixtureRegressor": "regmix_hf.regression",
    "choose_mixture": "regmix_hf.choice",
    "load_recipe": "regmix_hf.recipe",
    "load_runs": "regmix_hf.runs.runs",
    "sample_mixtures": "regmix_hf.mixtures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'regmix_hf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
