"""The recipe: what one study is, as a checked, immutable object read from `recipe.yaml`."""

from regmix_hf.recipe.executor import Executor, Ray
from regmix_hf.recipe.load import RECIPE_FILE, load_recipe, parse_override
from regmix_hf.recipe.model import Model
from regmix_hf.recipe.schema import (
    Choice,
    Domain,
    Evaluation,
    Group,
    Hub,
    Recipe,
    Regression,
    Sampling,
    SharedRuns,
    Train,
)
from regmix_hf.recipe.tokenizer import TrainedTokenizer
from regmix_hf.recipe.training import Proxy

__all__ = [
    "RECIPE_FILE",
    "Choice",
    "Domain",
    "Evaluation",
    "Executor",
    "Group",
    "Hub",
    "Model",
    "Proxy",
    "Ray",
    "Recipe",
    "Regression",
    "Sampling",
    "SharedRuns",
    "Train",
    "TrainedTokenizer",
    "load_recipe",
    "parse_override",
]
