"""All keys of a recipe, told from the schema: the page and the file for editors say what the code says."""

import json
from pathlib import Path

import pytest

from regmix_hf.errors import RecipeError
from regmix_hf.recipe import Recipe
from regmix_hf.recipe.reference import all_keys, json_schema, keys_below, markdown

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_page_is_what_the_schema_says():
    hint = "write it anew: regmix keys --format markdown > recipes/README.md"
    assert (RECIPES / "README.md").read_text() == markdown(), hint


def test_the_file_for_editors_is_the_schema():
    hint = "write it anew: regmix keys --format schema > recipes/recipe.schema.json"
    assert json.loads((RECIPES / "recipe.schema.json").read_text()) == json_schema(), hint


def test_every_recipe_names_the_file_for_editors():
    for recipe in RECIPES.glob("*/*.yaml"):
        assert "# yaml-language-server: $schema=../recipe.schema.json\n" in recipe.read_text(), recipe


@pytest.mark.parametrize("key", all_keys(), ids=lambda key: key.path)
def test_every_key_has_a_meaning_and_a_value(key):
    assert key.meaning.endswith("."), key
    assert key.type != "anything"


def test_all_keys_are_there_with_their_bounds_and_defaults():
    keys = {key.path: key for key in all_keys()}
    assert set(Recipe.model_fields) <= {path.split(".")[0] for path in keys}
    assert keys["sampling.num_mixtures"].type == "whole number >= 0"
    assert keys["sampling.num_mixtures"].default == "512"
    assert keys["seed"].type == "whole number >= 0, < 4294967296"
    assert keys["domains.NAME.sample_by"].type == "`document` or `paragraph` or `line`"
    assert keys["proxy.model.preset"].default == "null"
    assert keys["context_length"].default == ""


def test_a_section_is_listed_alone():
    assert {key.path.split(".")[0] for key in keys_below("corpus")} == {"corpus"}
    assert [key.path for key in keys_below("corpus.num_proc")] == ["corpus.num_proc"]
    with pytest.raises(RecipeError, match="did you mean 'sampling'"):
        keys_below("samplng")
