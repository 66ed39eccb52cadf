"""Presets and configs: sizes and costs counted by hand, and one message per mistake."""

import pytest
import torch
from transformers import AttentionInterface

from regmix_hf.errors import TrainingError
from regmix_hf.training.models import (
    CAUSAL_SDPA,
    ModelFacts,
    build_config,
    build_model,
    check_loss,
    model_facts,
)
from regmix_hf.training.presets import PRESETS
from tests.families import SAMPLE, judge

NEOX = {"vocab_size": 50_432, "max_position_embeddings": 2048}
SMALL = {**PRESETS["tiny"], "vocab_size": 100, "max_position_embeddings": 32}


def llama(layers: int, width: int, mlp_width: int) -> int:
    """Weights of a Llama without embedding and head: four square matrices and three of the MLP a layer."""
    return layers * (4 * width**2 + 3 * width * mlp_width + 2 * width) + width


@pytest.mark.parametrize(
    ("preset", "without_embeddings", "total", "scale"),
    [
        ("tiny", llama(2, 64, 192), 6_562_112, "107K"),
        ("regmix-1m", llama(2, 256, 512), 27_133_184, "1.3M"),
        ("regmix-60m", llama(10, 768, 1536), 136_462_080, "59M"),
        ("regmix-1b", llama(22, 2048, 5632), 1_337_026_560, "1.1B"),
        ("llama-7b", llama(32, 4096, 11008), 6_889_410_560, "6.5B"),
    ],
)
def test_parameters_of_the_presets(preset, without_embeddings, total, scale):
    facts = model_facts(build_config({**PRESETS[preset], **NEOX}, 2048), 2048)
    assert facts.num_non_embedding_parameters == without_embeddings
    assert facts.num_parameters == total == without_embeddings + 2 * 50_432 * PRESETS[preset]["hidden_size"]
    assert facts.scale == scale


def test_presets_have_the_papers_shape():
    config = build_config({**PRESETS["regmix-1m"], **NEOX}, 2048)
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 256, 512)
    assert (config.num_attention_heads, config.num_key_value_heads) == (8, 8)
    assert (config.rms_norm_eps, config.hidden_act) == (1e-5, "silu")
    assert not config.tie_word_embeddings
    assert not any(name.endswith("bias") for name in build_model(config, 0).state_dict())


def test_flops_per_token_by_hand():
    facts = model_facts(build_config(SMALL, 32), 32)
    weights = llama(2, 64, 192) + 64 * 100  # the embedding is looked up, the head is a matrix product
    assert facts.train_flops_per_token == 6 * weights + 12 * 2 * 2 * 32 * 32


def test_a_shared_embedding_is_counted_once():
    untied, tied = (
        model_facts(build_config({**SMALL, "tie_word_embeddings": t}, 32), 32) for t in (False, True)
    )
    assert untied.num_parameters - tied.num_parameters == 64 * 100
    assert untied.num_non_embedding_parameters == tied.num_non_embedding_parameters
    assert untied.train_flops_per_token == tied.train_flops_per_token


def test_the_largest_preset_is_counted_without_its_memory():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model_facts(build_config({**PRESETS["llama-7b"], **NEOX}, 2048), 2048)
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    )  # kilobytes; weights are 27 GB


@pytest.mark.parametrize(
    ("count", "scale"), [(999, "999"), (1_000, "1.0K"), (9_960_000, "10M"), (7_000_000_000, "7.0B")]
)
def test_scales(count, scale):
    assert ModelFacts(0, count, 0.0).scale == scale


def test_weights_follow_from_the_seed_alone():
    config = build_config(SMALL, 32)
    first = build_model(config, 1).state_dict()
    torch.rand(5)
    again, other = build_model(config, 1).state_dict(), build_model(config, 2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_drawing_weights_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_model(build_config(SMALL, 32), 1)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"model_type": "lama"}, "'lama' is no causal language model; did you mean 'llama'"),
        ({"model_type": None}, "None is no causal language model"),
        ({"hiden_size": 3}, "model.hiden_size: 'llama' has no such key; did you mean 'hidden_size'"),
        ({"hidden_size": 65}, "65.* is not a multiple of the number of attention heads"),
        ({"hidden_size": "wide"}, "expected int, got str .value: 'wide'"),
        ({"max_position_embeddings": 16}, "context_length 32 is longer .* max_position_embeddings 16"),
        ({"hidden_act": "swoosh"}, "swoosh"),
    ],
)
def test_configs_that_cannot_be_used(keys, says):
    with pytest.raises(TrainingError, match=says):
        model_facts(build_config({**SMALL, **keys}, 32), 32)


def test_another_model_type_with_names_of_its_own():
    gpt = {
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": 1,
        "n_head": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    config = build_config({"vocab_size": 100, "max_position_embeddings": 32, **gpt}, 32)
    assert config.n_positions == 32
    facts = model_facts(config, 32)
    assert facts.num_parameters - facts.num_non_embedding_parameters == 100 * 32
    with pytest.raises(TrainingError, match="max_position_embeddings 16"):
        build_config({"vocab_size": 100, "max_position_embeddings": 32, **gpt, "n_positions": 16}, 32)


OF_CORPUS = {"vocab_size": 100, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 0}


@pytest.mark.parametrize(
    ("model_type", "key", "value", "read"),
    [
        ("qwen3_moe", "num_experts", 4, "num_local_experts"),  # kept under another name than it is given
        ("qwen3_moe", "num_local_experts", 4, "num_local_experts"),
        ("mixtral", "num_experts", 4, "num_local_experts"),
        ("deepseek_v3", "num_local_experts", 4, "n_routed_experts"),
        ("kimi_linear", "num_experts", 4, "num_local_experts"),
        ("llama", "rope_theta", 5e5, "rope_theta"),
        ("gpt_neox", "rotary_pct", 0.5, "partial_rotary_factor"),  # read into a newer one
        ("gpt_neox", "rotary_pct", 0.25, "partial_rotary_factor"),  # which is the default
    ],
)
def test_keys_under_the_names_of_published_configs(model_type, key, value, read):
    config = build_config({**OF_CORPUS, "model_type": model_type, key: value}, 32)
    kept = getattr(config, read, None)
    assert value == (config.rope_parameters[read] if kept is None else kept)


@pytest.mark.parametrize(
    "key", ["num_expert", "auto_map", "rope_tetha", "_attn_implementation", "_attn_implementation_internal"]
)
def test_keys_that_a_config_only_carries_along(key):
    with pytest.raises(TrainingError, match=rf"model.{key}: 'qwen3_moe' has no such key"):
        build_config({**OF_CORPUS, "model_type": "qwen3_moe", key: "x"}, 32)


def test_experts_are_no_code_from_the_hub_either():
    with pytest.raises(TrainingError, match=r"model.experts_implementation: 'some/kernel' .* code"):
        build_config({**OF_CORPUS, "model_type": "qwen3_moe", "experts_implementation": "some/kernel"}, 32)


def test_what_the_corpus_says_is_left_out_where_a_model_has_no_word_for_it():
    config = build_config(
        {**OF_CORPUS, "model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 1}, 10**6
    )
    assert not hasattr(config, "max_position_embeddings")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"model_type": "bart"}, "'bart' is an encoder with a decoder"),
        ({"model_type": "bert"}, "'bert' is an encoder, which sees(.|\n)*write model.is_decoder: true"),
        ({"model_type": "xlm"}, "'xlm' is an encoder, which sees(.|\n)*e.g. 'llama'"),
        ({"model_type": "gemma3"}, "'gemma3' has no vocabulary of its own(.|\n)*write 'gemma3_text'"),
        ({"model_type": "musicgen"}, "'musicgen' has no vocabulary of its own(.|\n)*write 'llama'"),
        ({"model_type": "cpmant"}, "'cpmant' does not divide its loss by the tokens of a step"),
        ({"model_type": "trocr"}, "'trocr' does not divide its loss by the tokens of a step"),
    ],
)
def test_models_whose_losses_cannot_be_compared(keys, says):
    with pytest.raises(TrainingError, match=says):
        check_loss(build_config({**OF_CORPUS, **keys}, 32))


def test_the_loss_of_a_large_model_is_tried_without_its_memory():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_loss(build_config({**PRESETS["llama-7b"], **NEOX}, 2048))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("model_type", SAMPLE)
def test_families_that_are_not_refused_train_as_told(model_type):
    refused = {"bart", "cpmant"}
    assert judge(model_type).split(":")[0] == ("refused" if model_type in refused else "ok")


def test_attention_with_a_mask_of_its_own_is_not_taken_for_causal():
    assert judge("doge") == "ok"
    config = build_config({**SMALL, "model_type": "llama"}, 32)
    attention = build_model(config, 0).model.layers[0].self_attn
    heads = torch.zeros(1, 2, 4, 32)
    with pytest.raises(TrainingError, match="LlamaAttention makes a mask of its own"):
        AttentionInterface()[CAUSAL_SDPA](attention, heads, heads, heads, torch.zeros(1, 1, 4, 4))
