"""What names a run, what its seed follows from, and what its steps come to."""

from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest

from regmix_hf.errors import TrainingError
from regmix_hf.files import write_json
from regmix_hf.jobs.results import with_former_names
from regmix_hf.recipe import Recipe
from regmix_hf.training.spec import final_specs, proxy_specs, run_seed

RECIPE = {
    "name": "study",
    "seed": 5,
    "context_length": 16,
    "tokenizer": {"train": {"vocab_size": 300}},
    "domains": {"ones": {"path": "json"}, "threes": {"path": "json"}},
    "proxy": {
        "model": {"preset": "tiny", "hidden_size": 32},
        "num_train_tokens": 1000,
        "training_args": {"learning_rate": 1e-3, "per_device_train_batch_size": 4},
        "num_seeds": 2,
        "scale": "1M",
    },
    "train": {"model": {"preset": "regmix-1m"}, "num_train_tokens": 2000, "num_seeds": 2},
}
MIXTURES = pd.DataFrame(
    {
        "mixture_id": ["m0", "m1"],
        "split": ["fit", "holdout"],
        "weight/ones": [0.25, 1.0],
        "weight/threes": [0.75, 0.0],
    }
)


def recipe(**sections) -> Recipe:
    return Recipe.model_validate(
        {
            name: {**section, **sections.get(name, {})} if isinstance(section, dict) else section
            for name, section in RECIPE.items()
        }
    )


def test_every_mixture_is_run_with_every_seed(corpus):
    specs = proxy_specs(recipe(), corpus.facts, MIXTURES)
    assert [(s.mixture_id, s.split, s.scale) for s in specs] == [
        ("m0", "fit", "1M"),
        ("m0", "fit", "1M"),
        ("m1", "holdout", "1M"),
        ("m1", "holdout", "1M"),
    ]
    assert len({s.run_id for s in specs}) == 4
    assert specs[0].weights == {"ones": 0.25, "threes": 0.75}


def test_a_spec_holds_preset_overrides_corpus_and_defaults(corpus):
    spec = proxy_specs(recipe(), corpus.facts, MIXTURES)[0]
    expected = {
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "vocab_size": 48,
        "max_position_embeddings": 16,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    assert expected.items() <= spec.model.items()
    assert {
        "learning_rate": 1e-3,
        "adam_beta2": 0.95,
        "weight_decay": 0.1,
    }.items() <= spec.training_args.items()
    assert spec.text == {"ones": corpus.facts.domains["ones"].train.sha256, "threes": mock.ANY}
    assert spec.validation.keys() == {"ones", "threes", "judge"}


def test_final_runs_and_their_folders(corpus):
    mixtures = {"chosen": {"ones": 0.5, "threes": 0.5}, "prior": {"ones": 0.6, "threes": 0.4}}
    finals = final_specs(recipe(), corpus.facts, mixtures)
    assert [name for name, _ in finals] == ["chosen", "chosen-seed-1", "prior", "prior-seed-1"]
    assert [(s.mixture_id, s.split) for _, s in finals][:2] == [("chosen", "final")] * 2
    assert finals[0][1].model["hidden_size"] == 256


def test_a_run_does_not_depend_on_the_place_or_name_of_its_mixture(corpus):
    other_order = MIXTURES.iloc[::-1].assign(mixture_id=["x", "y"])
    specs = proxy_specs(recipe(), corpus.facts, MIXTURES)
    swapped = proxy_specs(recipe(), corpus.facts, other_order)
    assert [s.run_id for s in swapped] == [s.run_id for s in specs[2:] + specs[:2]]


def test_all_mixtures_share_their_seeds(corpus):
    specs = proxy_specs(recipe(), corpus.facts, MIXTURES)
    assert [s.seed for s in specs[:2]] == [s.seed for s in specs[2:]]


def test_rows_that_repeat_a_mixture_have_seeds_of_their_own_for_good(corpus):
    again = MIXTURES.assign(origin="repeat", mixture_id=["m2", "m3"], split="fit")
    table = pd.concat([MIXTURES.assign(origin="sampled"), again], ignore_index=True).assign(round=0)
    specs = proxy_specs(recipe(), corpus.facts, table)
    assert [s.run_id for s in specs[:4]] == [s.run_id for s in proxy_specs(recipe(), corpus.facts, MIXTURES)]
    assert [s.weights for s in specs[4:]] == [s.weights for s in specs[:4]]
    assert len({s.seed for s in specs}) == 2 + 4
    once = proxy_specs(recipe(proxy={"num_seeds": 1}), corpus.facts, table)
    assert [s.run_id for s in once] == [s.run_id for s in specs[::2]]
    grown = pd.concat([table, MIXTURES.assign(origin="sampled"), again.iloc[:1]], ignore_index=True)
    grown["origin"] = grown["origin"].where(grown.index < 6, "confirm")
    more = proxy_specs(recipe(), corpus.facts, grown)
    assert [s.run_id for s in more[:8]] == [s.run_id for s in specs]
    assert not {s.seed for s in more[12:]} & {s.seed for s in specs}


def test_seeds_differ_by_recipe_and_index():
    seeds = {run_seed(r, k) for r in (0, 1) for k in (0, 1)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    "change",
    [
        {"mixture_id": "other"},
        {"split": "holdout"},
        {"scale": "2M"},
        {"num_train_tokens": 43 * 16},  # the same whole blocks
        {"weights": {"threes": 0.3, "ones": 0.7, "judge": 0.0}},
        {"num_evaluations": 4},
        {"validation": {"judge": "other"}},
        {"corpus": "other"},
    ],
)
def test_what_leaves_the_outcome_alone_leaves_the_name_alone(spec, change):
    assert replace(spec, **change).run_id == spec.run_id


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"weights": {"ones": 0.71, "threes": 0.29}},
        {"num_train_tokens": 44 * 16},
        {"num_batch_tokens": 128},
        {"text": {"ones": "other", "threes": "same"}},
        {"tokenizer": "other"},
    ],
)
def test_what_decides_the_outcome_decides_the_name(spec, change):
    assert replace(spec, **change).run_id != spec.run_id


def test_of_training_arguments_only_those_that_decide_are_named(spec, with_arguments):
    for argument in ("save_steps", "dataloader_num_workers", "logging_steps", "per_device_train_batch_size"):
        assert with_arguments(spec, **{argument: 2}).run_id == spec.run_id
    for argument in ("learning_rate", "bf16", "adam_beta2", "warmup_steps"):
        assert with_arguments(spec, **{argument: 1}).run_id != spec.run_id


def test_steps_blocks_and_tokens(spec):
    assert (spec.num_blocks, spec.num_tokens, spec.batch_blocks, spec.num_steps) == (43, 688, 4, 11)
    assert [spec.tokens_at(step) for step in (0, 1, 10, 11)] == [0, 64, 640, 688]


def test_the_papers_proxies_take_a_thousand_steps(spec):
    paper = replace(
        spec,
        context_length=2048,
        num_train_tokens=1000 * 512 * 2048,
        num_batch_tokens=512 * 2048,
        num_evaluations=10,
    )
    assert paper.num_steps == 1000
    assert paper.evaluation_steps == tuple(range(100, 1001, 100))


def test_evaluations_are_never_more_than_steps(spec):
    assert replace(spec, num_evaluations=100).evaluation_steps == tuple(range(1, 12))
    assert replace(spec, num_evaluations=1).evaluation_steps == (11,)


def test_a_batch_in_tokens_takes_the_place_of_accumulation(corpus):
    spec = proxy_specs(recipe(proxy={"num_batch_tokens": 128}), corpus.facts, MIXTURES)[0]
    assert spec.batch_blocks == 8
    default = proxy_specs(recipe(), corpus.facts, MIXTURES)[0]
    assert default.batch_blocks == 4


def test_a_batch_that_is_not_whole_blocks(corpus):
    with pytest.raises(TrainingError, match=r"num_batch_tokens 100 is no multiple.*16(.|\n)*: 96"):
        proxy_specs(recipe(proxy={"num_batch_tokens": 100}), corpus.facts, MIXTURES)


def test_a_batch_that_is_not_whole_micro_batches(corpus):
    with pytest.raises(TrainingError, match=r"6 blocks per device, .* per_device_train_batch_size 4"):
        proxy_specs(recipe(proxy={"num_batch_tokens": 96}), corpus.facts, MIXTURES)


def test_a_batch_said_twice(corpus):
    arguments = {"gradient_accumulation_steps": 2}
    with pytest.raises(TrainingError, match="gradient_accumulation_steps 2 is given beside num_batch_tokens"):
        proxy_specs(
            recipe(proxy={"num_batch_tokens": 128, "training_args": arguments}), corpus.facts, MIXTURES
        )


def test_an_unknown_preset(corpus):
    with pytest.raises(TrainingError, match="'regmix-2m' is no preset; did you mean 'regmix-1m'"):
        proxy_specs(recipe(proxy={"model": {"preset": "regmix-2m"}}), corpus.facts, MIXTURES)


def test_text_that_a_run_gives_no_weight_leaves_its_name_alone(spec):
    ones = replace(spec, weights={"ones": 1.0, "threes": 0.0})
    more = {**spec.text, "threes": "other", "fives": "new"}
    assert replace(ones, text=more, weights={**ones.weights, "fives": 0.0}).run_id == ones.run_id
    assert replace(ones, text={**spec.text, "ones": "other"}).run_id != ones.run_id


def test_a_run_that_version_0_1_finished_keeps_its_name(spec, tmp_path):
    runs = [spec, replace(spec, seed=12), replace(spec, seed=13)]
    for run in runs[:2]:
        write_json(tmp_path / run.former_id / "result.json", {"run_id": run.former_id})
    named = with_former_names(runs, [tmp_path / run.former_id for run in runs])
    assert [run.run_id for run in named] == [runs[0].former_id, runs[1].former_id, runs[2].run_id]
    grown = replace(spec, corpus="with a sixth domain")
    assert with_former_names([grown], [tmp_path / grown.former_id]) == [grown]


def test_proxies_that_repeat_as_final_runs_do_are_other_runs_and_only_they(corpus):
    plain, matched = recipe(), recipe(proxy={"match_repetition": True})
    specs, others = (proxy_specs(one, corpus.facts, MIXTURES) for one in (plain, matched))
    assert not {spec.run_id for spec in specs} & {spec.run_id for spec in others}
    # a proxy is half as long as a final run, so it reads half of what there is
    assert others[0].part == {name: split.num_blocks // 2 for name, split in corpus.facts.training.items()}
    assert specs[0].part is None
    longer = recipe(proxy={"match_repetition": True}, train={"num_train_tokens": 4000})
    assert proxy_specs(longer, corpus.facts, MIXTURES)[0].run_id != others[0].run_id
    finals = [final_specs(one, corpus.facts, {"a": {"ones": 1.0}})[0][1].run_id for one in (plain, matched)]
    assert finals[0] == finals[1]
