"""Models of runs: their `transformers` config checked, their size and cost counted, their weights drawn."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AttentionInterface,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from regmix_hf.errors import TrainingError, did_you_mean

#: What the corpus decides, for models that have such a key: those without positions take any length.
_OF_CORPUS = {"max_position_embeddings", "bos_token_id", "eos_token_id"}
#: Picks the kernel of attention (default: SDPA where the model has it). Every config takes it, none names it.
_ATTENTION = "attn_implementation"
#: SDPA that is told that attention is causal, for blocks without padding. `transformers` makes no mask for
#: kernels it does not know. For its own `sdpa` it looks for documents packed side by side in every step,
#: which waits for the device; compiled, it makes a mask of blocks x context x context, which no fused kernel
#: takes.
CAUSAL_SDPA = "causal_sdpa"


def _causal_sdpa(
    module: torch.nn.Module, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any
) -> Any:
    # With a mask what is still to come is not masked, neither by it nor by the kernel.
    if attention_mask is not None:
        raise TrainingError(
            f"model: {type(module).__name__} makes a mask of its own.",
            "write model.attn_implementation: sdpa",
        )
    return sdpa_attention_forward(module, query, key, value, None, **kwargs)


AttentionInterface.register(CAUSAL_SDPA, _causal_sdpa)


@dataclass(frozen=True)
class ModelFacts:
    """Size and cost of one model.

    Attributes:
        num_parameters: All weights, shared ones counted once.
        num_non_embedding_parameters: Without the token embedding and the output head.
        train_flops_per_token: Of forward and backward pass, see `model_facts`.
    """

    num_parameters: int
    num_non_embedding_parameters: int
    train_flops_per_token: float

    @property
    def scale(self) -> str:
        """The number of non-embedding parameters in two digits or three, e.g. `1.3M`."""
        for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
            if self.num_non_embedding_parameters >= unit:
                count = self.num_non_embedding_parameters / unit
                return f"{count:.1f}{name}" if count < 9.95 else f"{count:.0f}{name}"
        return str(self.num_non_embedding_parameters)


def build_config(model: Mapping[str, Any], context_length: int) -> PreTrainedConfig:
    """Build the `transformers` config of `RunSpec.model` and check it.

    Args:
        model: Keys of the config, `model_type` included. Of two names for one value the later counts.
        context_length: Tokens of the longest text it must take.

    Raises:
        TrainingError: An unknown `model_type` or key, a value of the wrong type, a width the heads do not
            divide, or a context longer than the model takes.
    """
    model_type = model.get("model_type")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        hint = did_you_mean(str(model_type), MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        raise TrainingError(f"model.model_type: {model_type!r} is no causal language model; {hint}")
    config_class = CONFIG_MAPPING[model_type]
    names = constructor_names(config_class)
    if "vocab_size" not in names:
        text = getattr(config_class.sub_configs.get("text_config"), "model_type", None)
        raise TrainingError(
            f"model.model_type: {model_type!r} has no vocabulary of its own: it is no model of text alone.",
            f"write {text if text in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else 'llama'!r}",
        )
    keys: dict[str, Any] = {}
    for key, value in model.items():
        if key == "model_type" or (key in _OF_CORPUS and key not in names):
            continue
        if key not in names and not _reads(config_class, key, value):
            raise TrainingError(f"model.{key}: {model_type!r} has no such key; {did_you_mean(key, names)}")
        keys[names.get(key, key)] = value
    for attention in (_ATTENTION, "experts_implementation"):
        _require_no_kernel(attention, keys.get(attention))
    try:
        config: PreTrainedConfig = config_class(**keys)
    except Exception as error:  # each config class validates in its own way, and says what is wrong
        raise TrainingError(f"model: {_last_line(error)}") from error
    _check_shape(config, context_length)
    if getattr(config, "is_encoder_decoder", False):
        raise TrainingError(
            f"model.model_type: {model_type!r} is an encoder with a decoder.", "write another, e.g. 'llama'"
        )
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise TrainingError(
            f"model.model_type: {model_type!r} is an encoder, which sees the tokens that it is to predict.",
            "write model.is_decoder: true" if "is_decoder" in names else "write another, e.g. 'llama'",
        )
    return config


def constructor_names(config_class: type[PreTrainedConfig]) -> dict[str, str]:
    """Names under which the keys of a config may be given, with those of its constructor.

    A config has several names for some of its values, and its constructor takes either: the one that others
    are kept under, or, in some families of experts, one of the others.
    """
    taken = set(inspect.signature(config_class.__init__).parameters) - {"self", "kwargs"} | {_ATTENTION}
    names = {name: name for name in taken}
    for alias, name in config_class.attribute_map.items():
        for one, other in ((alias, name), (name, alias)):
            if other in taken:
                names.setdefault(one, other)
    return names


def _reads(config_class: type[PreTrainedConfig], key: str, value: Any) -> bool:
    """Tell whether a config makes something of a key that its constructor does not name.

    Published configs have older names, which are read into newer ones. Others only become attributes.
    """
    if key.startswith("_"):
        return False
    try:
        plain, given = vars(config_class()), vars(config_class(**{key: value}))
    except Exception:  # each class complains in its own way of what it does read, and of nothing else
        return False
    return any(given.get(name) != plain[name] for name in plain) or key not in given


def _require_no_kernel(key: str, attention: Any) -> None:
    """Refuse attention that `transformers` would fetch from the Hub: a kernel is code.

    Where the package `kernels` is there and `flash_attn` is not, it does so for `flash_attention_2`, too.
    """
    words = [str(word) for word in (attention.values() if isinstance(attention, Mapping) else [attention])]
    flash = find_spec("kernels") is not None and find_spec("flash_attn") is None
    for word in words:
        if "/" in word or (flash and word.startswith("flash_attention")):
            raise TrainingError(
                f"model.{key}: {word!r} would be fetched from the Hub, and it is code.",
                "write `sdpa` or `eager`, or install `flash_attn` for `flash_attention_2`",
            )


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().removeprefix("ValueError: ").removeprefix("TypeError: ")


def _check_shape(config: PreTrainedConfig, context_length: int) -> None:
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and 0 <= longest < context_length:
        raise TrainingError(
            f"context_length {context_length} is longer than the model's max_position_embeddings {longest}.",
            f"write context_length: {longest}, or model.max_position_embeddings: {context_length}",
        )
    width = getattr(config, "hidden_size", None)
    for layer in _layers(config):
        heads = getattr(layer, "num_attention_heads", None)
        if width and heads and width % heads and not getattr(layer, "head_dim", None):
            raise TrainingError(f"model: hidden_size {width} is no multiple of num_attention_heads {heads}.")


def _layers(config: PreTrainedConfig) -> list[PreTrainedConfig]:
    """The config of every layer: where they differ, a config has no one value."""
    num_layers = getattr(config, "num_hidden_layers", 0)
    each = getattr(config, "per_layer_config", None)  # of newer versions of transformers
    return [each[number] if each else config for number in range(num_layers)]


def model_facts(config: PreTrainedConfig, context_length: int) -> ModelFacts:
    """Count a model's weights and operations without giving it memory.

    Training FLOPs per token are `6 N + 12 L H Q T`: 6 for every weight in a matrix product, `N` (forward 2,
    backward 4; Kaplan et al. 2020, arXiv 2001.08361, section 2.1), here with the output head and without the
    embedding, which is only looked up; and the attention scores of `L` layers with `H` heads of width `Q`
    over `T` tokens, not halved for causality (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
    """
    with torch.device("meta"):
        model = _initialised(config)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    total = sum(parameter.numel() for parameter in model.parameters())
    tables = {id(module.weight): module.weight.numel() for module in (embedding, head) if module is not None}
    without = total - sum(tables.values())
    in_products = without + (head.weight.numel() if head is not None else 0)
    attention = 0
    for layer in _layers(config):
        heads = getattr(layer, "num_attention_heads", 0)
        head_width = getattr(layer, "head_dim", None) or (config.hidden_size // heads if heads else 0)
        attention += 12 * heads * head_width * context_length
    return ModelFacts(total, without, float(6 * in_products + attention))


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """Build a model with the modules and names of its own, and of every parameter hardly a number."""
    with torch.device("meta"):
        model = _initialised(config)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape = [min(size, 2) for size in parameter.shape]
            setattr(module, name, torch.nn.Parameter(torch.zeros(shape, device="cpu")))
    return model


def check_loss(config: PreTrainedConfig) -> None:
    """Check that a model divides its loss by the tokens of a whole step, by trying it without its layers.

    A model that cannot do without them is taken at its word.

    Raises:
        TrainingError: It does not: encoder-decoders take the mean over a micro-batch.
    """
    model = _without_layers(config)
    input_ids = torch.zeros((1, 4), dtype=torch.long)
    try:
        with torch.no_grad():
            losses = [
                model(input_ids=input_ids, labels=input_ids, num_items_in_batch=torch.tensor(count)).loss
                for count in (5, 10)
            ]
    except Exception:  # whatever needs its layers says so in its own way
        return
    if not torch.allclose(losses[0], 2 * losses[1]) or losses[0] == 0:
        raise TrainingError(
            f"model.model_type: {config.model_type!r} does not divide its loss by the tokens of a step.",
            "write another, e.g. 'llama'",
        )


def _without_layers(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of zeros for a handful of words, all lists of modules empty."""
    config = copy.deepcopy(config)
    config.vocab_size, config.use_cache = 8, False
    if getattr(config, "pad_token_id", None) is not None:
        config.pad_token_id = 0
    with torch.device("meta"):
        model = _initialised(config)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.ModuleList):
                setattr(module, name, torch.nn.ModuleList())
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.zeros(parameter.shape, device="cpu")))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.zeros(buffer.shape, dtype=buffer.dtype, device="cpu"))
    return model


def build_model(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """Build a model in float32 whose initial weights follow from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _initialised(config)


def load_model(config: PreTrainedConfig, folder: Path) -> PreTrainedModel:
    """Load a model in float32 from safetensors in a folder.

    Raises:
        TrainingError: The folder lacks weights that a model of this config has.
    """
    with torch.random.fork_rng(devices=[]):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(found["missing_keys"]):
        raise TrainingError(
            f"model.pretrained: {len(missing)} weights of a {config.model_type!r} are not there, "
            f"{missing[0]} the first.",
            "name a model that was saved whole",
        )
    return _with_own_kernel(model, config)


def _initialised(config: PreTrainedConfig) -> PreTrainedModel:
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # what a config lets pass, as activations, each model refuses in its own way
        raise TrainingError(
            f"model: no {config.model_type!r} can be built of this config: {error}"
        ) from error
    return _with_own_kernel(model, config)


def _with_own_kernel(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    if model.config._attn_implementation == "sdpa" and _attends_to_all_before(config):
        model.set_attn_implementation(CAUSAL_SDPA)
    return model


def _attends_to_all_before(config: PreTrainedConfig) -> bool:
    """Tell whether every layer attends to all tokens before one, with no window, chunks or recurrence."""
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    keys = ("sliding_window", "attention_chunk_size", "keep_window_size")
    windows = [getattr(config, key, None) for key in keys]
    is_causal = getattr(config, "is_causal", True) and not getattr(config, "is_encoder_decoder", False)
    return is_causal and layers == {"full_attention"} and not any(windows)
