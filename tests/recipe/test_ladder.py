"""Proxies of several sizes in a recipe: what an entry says, what it takes from the one before it."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from regmix_hf.cards.rendering import recipe_yaml
from regmix_hf.errors import RecipeError
from regmix_hf.recipe import Recipe, load_recipe
from regmix_hf.recipe.outcome import decisive, stamp_ladder

REST = """
name: two
context_length: 16
tokenizer: {train: {vocab_size: 300}}
domains:
  a: {path: json, data_files: {train: a.jsonl}}
  b: {path: json, data_files: {train: b.jsonl}}
sampling: {num_mixtures: 20}
train: {model: {model_type: llama, hidden_size: 16}, num_train_tokens: 4096}
"""
PROXY = "{model: {preset: tiny}, num_train_tokens: 1_024, num_seeds: 2, training_args: {learning_rate: 4e-4}}"
LADDER = f"""
proxies:
  - {PROXY}
  - {{scale: 1M, model: {{preset: regmix-1m}}, num_mixtures: 8, num_seeds: 1}}
  - {{num_train_tokens: 2_048, num_mixtures: 4}}
"""


@pytest.fixture
def read(tmp_path: Path):
    def load(text: str, *overrides: str):
        (tmp_path / "recipe.yaml").write_text(REST + text)
        return load_recipe(tmp_path / "recipe.yaml", overrides)

    return load


@pytest.fixture
def complaint(read):
    def message(*overrides: str) -> str:
        with pytest.raises(RecipeError) as caught:
            read(LADDER, *overrides)
        return str(caught.value)

    return message


def test_an_entry_goes_on_from_the_one_before(read):
    recipe = read(LADDER)
    assert list(recipe.rungs) == ["proxies.0", "proxies.1", "proxies.2"]
    _, second, third = recipe.rungs.values()
    assert recipe.proxy == read(f"proxy: {PROXY}").proxy
    assert second.training_args == {"learning_rate": 4e-4}
    assert (second.num_train_tokens, second.num_seeds, second.scale) == (1024, 1, "1M")
    assert (third.model.preset, third.num_train_tokens, third.num_seeds, third.scale) == (
        *("regmix-1m", 2048, 1, None),
    )
    assert [rung.num_mixtures for rung in recipe.proxies] == [None, 8, 4]


def test_the_swarm_of_a_ladder_is_the_proxy_of_a_recipe_without_one(read):
    alone, ladder = read(f"proxy: {PROXY}"), read(LADDER)
    assert list(alone.rungs) == ["proxy"]
    assert decisive(alone, "proxy") == decisive(ladder, "proxy")
    assert decisive(alone, "proxies") is None
    assert stamp_ladder(alone) == {}
    assert stamp_ladder(ladder) != stamp_ladder(read(LADDER, "proxies.2.num_mixtures=5"))
    assert stamp_ladder(ladder) == stamp_ladder(read(LADDER, "proxies.0.training_args.save_steps=5"))
    assert "proxies" not in json.loads(alone.model_dump_json())


def test_a_ladder_that_is_written_down_is_read_the_same(read):
    recipe = read(LADDER)
    for text in (recipe_yaml(recipe), recipe.model_dump_json()):
        again = Recipe.model_validate(YAML(typ="safe", pure=True).load(text))
        assert (again.proxies, again.proxy) == (recipe.proxies, recipe.proxy)


def test_workers_are_told_the_same_and_what_they_override_of_the_swarm_is_handed_on(read, tmp_path):
    recipe = read(LADDER)
    told = tmp_path / "told.yaml"
    told.write_text(recipe.model_dump_json())  # as workers of Slurm find it, all defaults written out
    assert load_recipe(told).proxies == recipe.proxies
    assert [rung.num_workers for rung in load_recipe(told, ["proxy.num_workers=3"]).proxies] == [3, 3, 3]


def test_overrides_reach_entries_by_number_and_the_swarm_by_its_old_name(read):
    recipe = read(LADDER, "proxies.1.num_mixtures=6", "proxy.num_workers=1", "proxies.2.scale=long")
    assert [rung.num_mixtures for rung in recipe.proxies] == [None, 6, 4]
    assert [rung.num_workers for rung in recipe.proxies] == [1, 1, 1]
    assert recipe.proxies[2].scale == "long"


def test_an_override_of_one_argument_leaves_the_others_of_an_entry_as_they_were_handed_on(read):
    recipe = read(LADDER, "proxies.1.training_args.warmup_steps=5", "proxies.2.model.revision=null")
    first, second, third = (rung.training_args for rung in recipe.proxies)
    assert first == {"learning_rate": 4e-4}
    assert second == third == {"learning_rate": 4e-4, "warmup_steps": 5}
    assert recipe.proxies[2].model == recipe.proxies[1].model


@pytest.mark.parametrize(
    ("later", "arguments"),
    [
        ("{warmup_steps: 5}", {"learning_rate": 4e-4, "warmup_steps": 5}),
        ("{learning_rate: 1e-3}", {"learning_rate": 1e-3}),
        ("{learning_rate: null, bf16: true}", {"bf16": True}),
        ("{learning_rate: null}", {}),
    ],
)
def test_arguments_of_a_later_entry_are_laid_over_those_before_it_as_overrides_are(read, later, arguments):
    text = LADDER.replace("num_seeds: 1}", f"num_seeds: 1, training_args: {later}}}")
    recipe = read(text)
    assert [rung.training_args for rung in recipe.proxies[1:]] == [arguments] * 2
    assert read(LADDER, f"proxies.1.training_args={later}").proxies == recipe.proxies
    for written in (recipe_yaml(recipe), recipe.model_dump_json()):
        again = Recipe.model_validate(YAML(typ="safe", pure=True).load(written))
        assert again.proxies == recipe.proxies
    whole = read(LADDER)
    repeated = read(LADDER.replace("num_seeds: 1}", "num_seeds: 1, training_args: {learning_rate: 4e-4}}"))
    assert stamp_ladder(repeated) == stamp_ladder(whole) != stamp_ladder(recipe)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("proxies.0.num_mixtures=3", ["proxies.0.num_mixtures", "sampling.num_mixtures 20"]),
        ("proxies.1.num_mixtures=21", ["proxies.1.num_mixtures 21", "20 mixtures"]),
        ("proxies.1.num_mixtures=null", ["proxies.1.num_mixtures is missing"]),
        ("proxies.1.num_mixture=3", ["proxies.1.num_mixture", "did you mean 'num_mixtures'?"]),
        ("proxies.0.num_train_token=3", ["proxies.0.num_train_token: unknown", "did you mean"]),
        ("proxies.2.num_train_tokens=1024", ["proxies.2 has the model and the length of one before"]),
        ("proxies.0.scale=1M", ["proxies.1.scale '1M' is that of one before it"]),
        ("proxies.2.num_workers=3", ["proxies.2.num_workers is 3", "all share it"]),
        ("proxies.1.training_args={use_cpu: true}", ["proxies.1.training_args.use_cpu"]),
        ("proxies.7.num_seeds=1", ["proxies.7.num_seeds=1", "entries up to proxies.2", "proxies=[...]"]),
        ("sampling.num_repeats=20", ["num_repeats 20 is more than half of sampling.num_mixtures 20"]),
        (
            "proxies.1.model.pretrained={mixture: prior, num_train_tokens: 64}",
            ["proxies.1.model.pretrained", "a model of the study's own is of one size"],
        ),
    ],
)
def test_what_a_ladder_cannot_be_is_named_with_what_to_write(complaint, override, says):
    message = complaint(override)
    for part in says:
        assert part in message


def test_one_and_several_together_are_refused(read):
    with pytest.raises(RecipeError, match="`proxy` and `proxies` are both there"):
        read(LADDER + f"\nproxy: {PROXY}")
