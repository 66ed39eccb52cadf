"""Reading a recipe: what YAML means, what overrides do, and one clear message per mistake."""

from pathlib import Path

import pytest

from regmix_hf.errors import RecipeError
from regmix_hf.recipe import load_recipe

RECIPE = """
name: two
seed: 7
context_length: 16
tokenizer: {train: {vocab_size: 300}}
domains:
  a: {path: json, data_files: {train: a.jsonl}}
  b: {path: json, data_files: {train: b.jsonl}}
proxy: {model: {preset: regmix-1m}, num_train_tokens: 1_024, training_args: {learning_rate: 4e-4}}
train: {model: {model_type: llama, hidden_size: 16}, num_train_tokens: 2048}
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def test_reads_a_file_or_its_folder(recipe_file):
    assert load_recipe(recipe_file) == load_recipe(recipe_file.parent)


def test_numbers_are_numbers_and_words_are_words(recipe_file):
    recipe_file.write_text(RECIPE + "baselines: {no: {a: 1}}\n")
    recipe = load_recipe(recipe_file)
    assert recipe.proxy.training_args["learning_rate"] == 0.0004
    assert recipe.proxy.num_train_tokens == 1024
    assert list(recipe.baselines) == ["no"]


def test_output_dir_defaults_to_the_name(recipe_file):
    assert load_recipe(recipe_file).output_dir == Path("runs/two")


def test_the_keys_of_a_model_config_are_kept(recipe_file):
    assert load_recipe(recipe_file).train.model.config == {"hidden_size": 16}


def test_overrides_reach_names_that_hold_dots(recipe_file):
    line = "  en.wiki-2.0: {path: json, data_files: a.jsonl, filter: {meta.set: x}}\n"
    recipe_file.write_text(RECIPE.replace("proxy:", line + "proxy:"))
    overrides = ["split=web", "filter.meta.set=y"]
    overrides = ["domains.a.split=web", *(f"domains.en.wiki-2.0.{override}" for override in overrides)]
    domains = load_recipe(recipe_file, overrides).domains
    assert (domains["en.wiki-2.0"].split, domains["en.wiki-2.0"].filter) == ("web", {"meta.set": "y"})
    assert domains["a"].split == "web"
    assert domains["a"].folder == recipe_file.parent


def test_overrides_apply_in_order_and_create_sections(recipe_file):
    recipe = load_recipe(recipe_file, ["seed=8", "seed=9", "sampling.num_mixtures=4", "hub.namespace=me"])
    assert (recipe.seed, recipe.sampling.num_mixtures, recipe.hub.namespace) == (9, 4, "me")


def test_validation_only_domains_are_not_trained_on(recipe_file):
    recipe = load_recipe(recipe_file, ["domains.b.validation_only=true"])
    assert recipe.training_domains == ("a",)


def complaint(file: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sampling.num_mixture=4", ["sampling.num_mixture", "4", "did you mean 'num_mixtures'?"]),
        ("domains.a.pth=x", ["domains.a.pth", "did you mean 'path'?"]),
        ("domains.A={path: x}", ["'A'", "must match"]),
        ("domains.b.validation_only=[]", ["domains.b.validation_only", "[]"]),
        ("seed=x", ["seed", "'x'"]),
        ("seed=-1", ["seed", "-1"]),
        ("context_length=.nan", ["context_length", "nan"]),
        ("tokenizer={trian: 1}", ["tokenizer.trian", "did you mean 'train'?"]),
        ("tokenizer=3", ["tokenizer", "3", "{train: {vocab_size: 4096}}"]),
        ("proxy.model={hidden_size: 3}", ["proxy.model", "preset"]),
        ("train.mixtures=[chsen]", ["'chsen'", "did you mean 'chosen'?"]),
        ("train.mixtures=[prior, prior]", ["'prior'", "more than once"]),
        ("regression.target=bb", ["'bb'", "no domain"]),
        ("regression.target={a: -1}", ["regression.target", "-1"]),
        ("regression.target=bpb/arc_easy", ["'arc_easy'", "no domain or task"]),
        ("regression.target=bpb/mmlu_anatomy", ["'mmlu_anatomy'", "no domain or task"]),  # of a group
        ("regression.target={mean_of: ['bpb/mmlu_*']}", ["'bpb/mmlu_*'", "there are a, b, bpb/a"]),
        ("regression.target=bpb/aa", ["'aa'", "no domain or task"]),
        ("regression.target={a: {wieght: 1}}", ["regression.target", "did you mean 'weight'?"]),
        ("regression.target={mean_of: [a], scal: spread}", ["regression.target", "scale: spread"]),
        ("regression.target={mean_of: []}", ["regression.target", "names nothing"]),
        ("regression.min_signal=-1", ["regression.min_signal", "-1"]),
        ("sampling.min={a: 0.9}", ["sampling", "'a'", "0.9", "0.5"]),
        ("sampling.max={c: 0.9}", ["sampling.max", "'c'"]),
        ("baselines={prior: {a: 1}}", ["baselines.prior", "taken"]),
        ("baselines={a/b: {a: 1}}", ["'a/b'", "must match"]),
        ("baselines={tasks: {a: 1}}", ["baselines.tasks", "folder"]),
        ("baselines={x: {a: 0}}", ["baselines.x", "sum to 0"]),
        ("baselines={x: {a: -1}}", ["baselines.x.a", "-1"]),
        ("baselines={x: {a: .nan}}", ["baselines.x.a", "nan"]),
        ("proxy.num_train_tokens=10", ["proxy.num_train_tokens", "10", "16"]),
        ("choice.num_candidates=10", ["choice.top_k", "100", "10"]),
        ("sampling={num_mixtures: 6, num_repeats: 4}", ["sampling.num_repeats 4", "num_mixtures 6"]),
        ("proxy.metrics=[arc_easy]", ["'arc_easy' is no metric of a task", "arc_easy/acc_norm"]),
        ("proxy.metrics=[weight/acc]", ["'weight/acc' is no metric of a task"]),
        ("proxy.metrics=[a_task/acc_nom]", ["no metric 'acc_nom'", "did you mean 'acc_norm'"]),
        ("proxy.metrics=['gsm8k/exact_match,flexible-extract']", ["what a model writes", "bpb/gsm8k"]),
        ("proxy.metrics=[piqa/acc, piqa/acc]", ["'piqa/acc' more than once"]),
        ("regression.target=piqa/acc", ["'piqa/acc' is measured of no proxy", "proxy.metrics: [piqa/acc]"]),
        ("regression.target=piqa/ac", ["no metric 'ac'", "did you mean 'acc'"]),
        ("sampling.min_strength=9", ["min_strength", "9", "5"]),
        ("seed", ["'seed'", "key.path=value"]),
        ("name.x=1", ["'name'", "'two'"]),
        ("seed=[1", ["seed=[1", "no YAML"]),
    ],
)
def test_a_wrong_value_is_named_with_what_to_write(recipe_file, override, says):
    message = complaint(recipe_file, "sampling.max={a: 0.5}", "proxy.tasks=[mmlu]", override)
    for part in says:
        assert part in message


def test_a_mistyped_task_is_named_and_not_the_target_that_is_right(recipe_file):
    message = complaint(recipe_file, "proxy.tasks=[piqa, arc_esay]", "regression.target=[a, bpb/arc_easy]")
    assert message.startswith("proxy.tasks: 'arc_esay' is scored, and regression.target names bpb/arc_easy")
    assert "did you mean 'arc_easy'?" in message
    assert "if the task is 'arc_esay', regression.target: bpb/arc_esay" in message
    message = complaint(recipe_file, "proxy.metrics=[arc_esay/acc]", "regression.target=arc_easy/acc")
    assert message.startswith("proxy.metrics: 'arc_esay/acc' is scored, and regression.target names arc_easy")


def test_a_metric_that_lacks_is_added_to_those_there_are(recipe_file):
    message = complaint(recipe_file, "proxy.metrics=[arc_easy/acc]", "regression.target=piqa/acc")
    assert "proxy.metrics: [arc_easy/acc, piqa/acc]" in message


def test_every_domain_validation_only_is_refused(recipe_file):
    message = complaint(recipe_file, "domains.a.validation_only=true", "domains.b.validation_only=true")
    assert "nothing to train on" in message


def test_a_proxy_that_is_longer_than_a_final_run_cannot_repeat_as_rarely(recipe_file):
    message = complaint(recipe_file, "proxy.match_repetition=true", "proxy.num_train_tokens=4096")
    assert "a proxy of 4096 tokens is longer than a final run of 2048" in message


def test_a_mean_of_both_directions_is_refused_before_anything_runs(recipe_file):
    metrics = "proxy.metrics=[piqa/acc]"
    for target in ("[a, piqa/acc]", "['piqa/*', a]", "{worst_of: [a, piqa/acc]}"):
        message = complaint(recipe_file, metrics, f"regression.target={target}")
        assert "less of 'a' is better, and more of 'piqa/acc'" in message
        assert "scale: spread" in message
    for target in ("piqa/acc", "{a: 1, piqa/acc: 0}", "{mean_of: [a, piqa/acc], scale: spread}", "mean"):
        load_recipe(recipe_file, [metrics, f"regression.target={target}"])


def test_a_missing_file_is_named(tmp_path):
    assert "recipes/quickstart" in complaint(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (RECIPE + "x: [1\n", "line"),
        ("- a\n", "not a mapping"),
        ("# nothing\n", "is empty"),
        (RECIPE + "name: again\n", "name"),
        (RECIPE.replace("  b:", "  a:"), "duplicate"),
    ],
)
def test_what_is_no_recipe_is_refused(recipe_file, text, says):
    recipe_file.write_text(text)
    assert says in complaint(recipe_file)


def test_a_recipe_that_is_not_utf8_names_the_byte(recipe_file):
    recipe_file.write_bytes(RECIPE.encode() + b"# \xff\n")
    assert "0xff" in complaint(recipe_file)


def test_an_override_that_is_no_yaml_says_how_a_map_is_written(recipe_file):
    said = complaint(recipe_file, "choice.groups.code={domains:[a],max:0.1}")
    assert "is no YAML: expected" in said
    assert "a blank stands behind each colon" in said


@pytest.mark.parametrize(
    ("override", "form"),
    [
        ("regression.estimators=experts", "regression.estimators: should be a list: [experts]"),
        ("sampling=5", "sampling: should be keys with values: {num_mixtures: ..., experts: ...}"),
        (
            "choice.groups.code=[a]",
            "choice.groups.code: should be keys with values: {domains: ..., min: ...}",
        ),
        ("choice.max=0.3", "choice.max: should be names with values: {NAME: ...}"),
    ],
)
def test_what_has_another_form_is_told_the_form_to_write(recipe_file, override, form):
    assert form in complaint(recipe_file, override)
