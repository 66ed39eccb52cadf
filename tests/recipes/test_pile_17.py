"""The paper's own study, to the last number: what `recipes/pile-17` says is what RegMix published."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from regmix_hf.mixtures import sample_mixtures, sampling_constraints
from regmix_hf.mixtures.dirichlet import NUM_STRENGTHS
from regmix_hf.mixtures.final import given_mixture
from regmix_hf.plan import make_plan
from regmix_hf.preflight import check_study
from regmix_hf.recipe import load_recipe
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.models import build_config, model_facts
from regmix_hf.training.presets import model_config
from regmix_hf.training.spec import final_specs, proxy_specs

FOLDER = Path(__file__).parents[2] / "recipes" / "pile-17"
README = (FOLDER / "README.md").read_text()
PRIOR = {
    "arxiv": 0.113285273,
    "freelaw": 0.079608651,
    "nih_exporter": 0.003913491,
    "pubmed_central": 0.185375901,
    "wikipedia_en": 0.051081359,
    "dm_mathematics": 0.015962925,
    "github": 0.101750772,
    "philpapers": 0.003707518,
    "stackexchange": 0.066529351,
    "enron_emails": 0.001750772,
    "gutenberg_pg_19": 0.027085479,
    "pile_cc": 0.236869207,
    "ubuntu_irc": 0.01184346,
    "europarl": 0.007929969,
    "hackernews": 0.008032956,
    "pubmed_abstracts": 0.038825953,
    "uspto_backgrounds": 0.046446962,
}
VOCABULARY, CONTEXT = 50_432, 2048


@pytest.fixture(scope="module")
def recipe():
    return load_recipe(FOLDER)


@pytest.fixture(scope="module")
def facts():
    """What `prepare` will find out of the tokenizer; no text is needed for what is checked here."""
    return CorpusFacts(
        context_length=CONTEXT, vocab_size=50_277, eos_token_id=0, tokenizer_sha256="", domains={}
    )


@pytest.fixture(scope="module")
def tokens(recipe):
    return {name: recipe.domains[name].num_tokens for name in recipe.training_domains}


@pytest.fixture(scope="module")
def proxy(recipe, facts, tokens):
    return proxy_specs(recipe, facts, sample_mixtures(tokens, recipe.sampling))[0]


@pytest.fixture(scope="module")
def final(recipe, facts, tokens):
    (_, spec), *_ = final_specs(recipe, facts, {"prior": given_mixture(recipe, "prior", tokens)})
    return spec


def test_the_17_domains_have_the_published_shares(tokens):
    assert {name: count / sum(tokens.values()) for name, count in tokens.items()} == pytest.approx(
        PRIOR, rel=2e-6
    )


def test_every_domain_reads_its_own_files_and_is_validated_on(recipe):
    for name, domain in recipe.domains.items():
        assert domain.streaming
        assert domain.validation_split == "validation"
        assert domain.data_files == {"train": f"train/{name}-*.jsonl", "validation": f"valid/{name}-*.jsonl"}


def test_the_variant_differs_by_its_sources_alone(recipe):
    variant = load_recipe(FOLDER / "uncopyrighted.yaml")
    own = {"name", "output_dir", "domains"}
    assert variant.model_dump(exclude=own) == recipe.model_dump(exclude=own)
    assert list(variant.domains) == list(recipe.domains)
    for name, domain in variant.domains.items():
        sources = {"path", "data_files", "filter"}
        assert domain.model_dump(exclude=sources) == recipe.domains[name].model_dump(exclude=sources)
        assert domain.path == "monology/pile-uncopyrighted"
    sets = [domain.filter["meta.pile_set_name"] for domain in variant.domains.values()]
    assert len(set(sets)) == 17
    assert {"Pile-CC", "Wikipedia (en)", "Gutenberg (PG-19)", "NIH ExPorter", "DM Mathematics"} <= set(sets)


def test_512_mixtures_are_drawn_as_the_paper_draws_them(recipe, tokens):
    sampling = recipe.sampling
    assert (sampling.temperature, sampling.min_strength, sampling.max_strength) == (0.5, 0.1, 5.0)
    assert NUM_STRENGTHS == 15
    constraints = sampling_constraints(sampling, tokens, num_train_tokens=recipe.proxy.num_train_tokens)
    capped = {name: min(1.0, 15 * share) for name, share in PRIOR.items()}
    assert dict(zip(constraints.domains, constraints.upper, strict=True)) == pytest.approx(capped, rel=2e-6)
    table = sample_mixtures(tokens, sampling, constraints=constraints, random_state=recipe.seed)
    assert (table["split"] == "fit").sum() == 512
    weights = table.filter(like="weight/").to_numpy()
    assert weights[weights > 0].min() >= 2e-4 * (1 - 1e-9)
    assert np.allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("preset", "shape", "without", "total"),
    [
        # 2 L w (2 w + 1.5 f) + (2 L + 1) w weights in L layers of width w and ffn f, and 2 x 50,432 x w.
        ("regmix-1m", (2, 256, 8, 512), 1_312_000, 27_133_184),
        ("regmix-60m", (10, 768, 8, 1536), 58_998_528, 136_462_080),
        ("regmix-1b", (22, 2048, 16, 5632), 1_130_457_088, 1_337_026_560),
        ("llama-7b", (32, 4096, 32, 11008), 6_476_271_616, 6_889_410_560),
    ],
)
def test_presets_have_the_published_shapes_and_the_documented_sizes(
    recipe, facts, preset, shape, without, total
):
    model = recipe.proxy.model.model_copy(update={"preset": preset})
    config = build_config(model_config(model, facts), CONTEXT)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    assert tuple(getattr(config, name) for name in names) == shape
    assert (config.vocab_size, config.hidden_act, config.rms_norm_eps) == (VOCABULARY, "silu", 1e-5)
    assert not config.tie_word_embeddings
    assert not config.attention_bias
    assert not config.mlp_bias
    size = model_facts(config, CONTEXT)
    assert (size.num_non_embedding_parameters, size.num_parameters) == (without, total)
    layers, width, _, ffn = shape
    assert without == layers * width * (4 * width + 3 * ffn) + (2 * layers + 1) * width
    row = f"| `{preset}` | {layers} | {width} | {shape[2]} | {ffn} | {without:,} | {total:,} |"
    assert row in README


def test_a_proxy_takes_a_thousand_steps_of_a_million_tokens(proxy):
    assert (proxy.num_steps, proxy.batch_blocks, proxy.num_tokens) == (1000, 512, 1_048_576_000)
    assert proxy.evaluation_steps == tuple(range(100, 1001, 100))
    assert proxy.model["vocab_size"] == VOCABULARY


def test_a_final_run_takes_25_thousand_steps_of_a_million_tokens(final):
    assert (final.num_steps, final.batch_blocks) == (25_000, 512)
    assert final.num_tokens == 26_214_400_000
    assert final.evaluation_steps == tuple(range(1000, 25_001, 1000))


@pytest.mark.parametrize("run", ["proxy", "final"])
def test_the_optimiser_is_the_papers(run, request):
    arguments = request.getfixturevalue(run).training_args
    assert (arguments["adam_beta1"], arguments["adam_beta2"]) == (0.9, 0.95)
    assert (arguments["weight_decay"], arguments["max_grad_norm"]) == (0.1, 1.0)
    assert arguments["bf16"]


def learning_rates(spec, steps):
    """The learning rates that the scheduler of `transformers` gives at these steps, in order."""
    arguments = spec.training_args
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments["learning_rate"])
    scheduler = get_scheduler(
        arguments["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=arguments["warmup_steps"],
        num_training_steps=spec.num_steps,
        scheduler_specific_kwargs=arguments.get("lr_scheduler_kwargs"),
    )
    return [arguments["learning_rate"] * scheduler.lr_lambdas[0](step) for step in steps]


def test_a_proxy_warms_up_for_100_steps_and_stays(proxy):
    assert learning_rates(proxy, (0, 50, 100, 1000)) == pytest.approx([0.0, 2e-4, 4e-4, 4e-4])


def test_a_final_run_warms_up_for_1000_steps_and_falls_by_a_cosine_to_its_floor(final):
    rates = learning_rates(final, (0, 100, 1000, 13_000, 25_000))
    assert rates == pytest.approx([0.0, 4e-5, 4e-4, (4e-4 + 1e-5) / 2, 1e-5])


def test_baselines_are_normalised_when_read(recipe, tokens):
    sums = {name: round(sum(weights.values()), 3) for name, weights in recipe.baselines.items()}
    assert sums == {"human": 0.787, "doremi": 0.815, "pile_cc_only": 1.0, "paper": 1.0}
    for name in recipe.baselines:
        assert sum(given_mixture(recipe, name, tokens).values()) == pytest.approx(1.0)
    assert given_mixture(recipe, "human", tokens)["pile_cc"] == pytest.approx(0.1121 / 0.7868)
    assert given_mixture(recipe, "doremi", tokens)["pile_cc"] == pytest.approx(0.6057 / 0.8148)


def test_the_published_optimum_is_a_baseline(recipe):
    paper = recipe.baselines["paper"]
    leading = {"pile_cc": 0.8701, "ubuntu_irc": 0.0642, "pubmed_abstracts": 0.0242, "wikipedia_en": 0.0159}
    assert {name: round(paper[name], 4) for name in leading} == leading
    assert round(paper["hackernews"], 4) == 0.0119
    assert max(weight for name, weight in paper.items() if name not in {*leading, "hackernews"}) < 0.0032
    assert set(paper) == set(PRIOR)


def test_13_tasks_are_scored_with_zero_to_five_examples(recipe):
    assert len(recipe.evaluation.tasks) == 13
    assert recipe.evaluation.num_fewshot == [0, 1, 2, 3, 4, 5]


def test_the_mixture_is_chosen_as_the_paper_chooses_it(recipe):
    assert (recipe.regression.estimator, recipe.regression.target) == ("lightgbm", "pile_cc")
    assert (recipe.choice.num_candidates, recipe.choice.top_k) == (1_000_000, 100)


def commands():
    """Every command of the README that takes one of its recipes, as words."""
    lines = README.replace("\\\n", " ").splitlines()
    taking = [line for line in lines if re.match(r"\s*(regmix|accelerate) .*recipes/pile-17", line)]
    return [shlex.split(line, comments=True) for line in taking]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_is_a_valid_study(words, tmp_path):
    start = next(place for place, word in enumerate(words) if word.startswith("recipes/pile-17"))
    overrides = [word for word in words[start + 1 :] if "=" in word and not word.startswith("-")]
    recipe = load_recipe(FOLDER.parents[1] / words[start], [*overrides, f"output_dir={tmp_path}"])
    assert check_study(Study(recipe))


def test_a_dry_run_counts_the_search_as_published_searches_are_counted(recipe, tmp_path):
    study = Study(recipe.model_copy(update={"output_dir": tmp_path / "study"}))
    notes = " ".join(make_plan(study).notes)
    counted = 6 * 1_312_000 * 544 * 1_048_576_000
    assert f"{counted:.1e} counted as published searches are" in notes
    assert "RegMix 3.5e+18, DoReMi 3.7e+19" in notes
    assert not study.root.exists()
