"""Weights of a final model that somebody else published: of the size and shapes that its recipe declares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regmix_hf.errors import HubError
from regmix_hf.hub import Expected, parse_json
from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.names import RESULT

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

_MEGABYTE = 1_000_000
#: No trained model has larger numbers in its configuration; without a bound, counting could take for ever.
_LARGEST = 10_000_000
_MOST_PARTS = 10_000
_KINDS = {"F16", "BF16", "F32", "F64"}
#: With these keys transformers would load code, or other libraries.
_CODE_KEYS = ("auto_map", "quantization_config", "custom_pipelines")
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)


class DeclaredModel:
    """A final model as a recipe declares it, whose own words are checked first; it costs no memory.

    Raises:
        RegmixError: The recipe declares no model that could have been trained.
    """

    def __init__(self, recipe: Recipe, facts: CorpusFacts):
        from regmix_hf.training.models import build_config
        from regmix_hf.training.presets import model_config

        keys = model_config(recipe.train.model, facts)
        for key, value in keys.items():
            most = _MOST_PARTS if "layer" in key or "expert" in key else _LARGEST
            if isinstance(value, int) and value > most:
                raise HubError(f"the recipe's train.model.{key} is {value:,}; at most {most:,} is believed.")
        self.config: PreTrainedConfig = build_config(keys, facts.context_length)
        self.shapes, self.num_weights = _shapes(self.config)

    @property
    def files(self) -> tuple[Expected, ...]:
        """What its repository may hold, of which nothing else is fetched."""
        # Four bytes a weight and its share of the header; names take more than small weights do.
        weights = 4 * self.num_weights + 1000 * len(self.shapes) + _MEGABYTE
        return (
            Expected("config.json", max_bytes=_MEGABYTE),
            Expected(RESULT, max_bytes=_MEGABYTE),
            Expected("generation_config.json", max_bytes=_MEGABYTE, required=False),
            Expected("model.safetensors", max_bytes=weights, required=False),
            Expected("model-*-of-*.safetensors", max_bytes=weights, max_files=1000, required=False),
            Expected("model.safetensors.index.json", max_bytes=10 * _MEGABYTE, required=False),
            *(Expected(name, max_bytes=200 * _MEGABYTE, required=False) for name in _TOKENIZER_FILES),
        )

    def check(self, folder: Path, run_id: str, name: str) -> None:
        """Check fetched files of the model that the run `run_id` trained.

        Raises:
            HubError: They are of another run or architecture, would have code loaded, or their weights are
                not of the declared shapes, or not finite.
        """
        for file in sorted(folder.glob("*config.json")):
            tree = parse_json(file.read_bytes(), f"{name}: {file.name}")
            for key in _CODE_KEYS:
                if not isinstance(tree, dict) or tree.get(key):
                    raise HubError(f"{name}: {file.name} asks for code or libraries of its own ({key}).")
        self._check_config(parse_json((folder / "config.json").read_bytes(), name), name)
        result = parse_json((folder / RESULT).read_bytes(), f"{name}: {RESULT}")
        if not isinstance(result, dict) or result.get("run_id") != run_id:
            raise HubError(f"{name} holds the model of another run than {run_id}.")
        parts = {file.name for file in folder.glob("model*.safetensors")}
        _check_index(folder, parts, name)
        self._check_weights([folder / part for part in sorted(parts)], name)

    def _check_config(self, published: Mapping[str, Any], name: str) -> None:
        declared = {"model_type": self.config.model_type, **self.config.to_dict()}
        for key in ("model_type", *declared):
            value = declared[key]
            shapes = isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_token_id")
            if (shapes or key == "model_type") and published.get(key, value) != value:
                raise HubError(
                    f"{name}: config.json says {key} {published[key]!r}; the recipe says {value!r}."
                )

    def _check_weights(self, files: list[Path], name: str) -> None:
        num_weights = 0
        for tensor, kind, shape, read in _tensors(files, name):
            if kind not in _KINDS or self.shapes.get(tensor, shape) != shape:
                wanted = self.shapes.get(tensor, "numbers")
                raise HubError(f"{name}: {tensor} is {kind} of shape {shape}; declared is {wanted}.")
            if not bool(read().isfinite().all()):
                raise HubError(f"{name}: {tensor} holds numbers that are not finite.")
            num_weights += math.prod(shape)
        if num_weights != self.num_weights:
            raise HubError(f"{name} holds {num_weights:,} weights; its recipe declares {self.num_weights:,}.")


def _shapes(config: PreTrainedConfig) -> tuple[dict[str, tuple[int, ...]], int]:
    """Shape of every tensor by name, and the number of weights, shared ones counted once."""
    import torch

    from regmix_hf.training.models import build_model

    with torch.device("meta"):
        model: PreTrainedModel = build_model(config, seed=0)
    state = model.state_dict(keep_vars=True)
    once = {id(tensor): tensor.numel() for tensor in state.values()}
    return {name: tuple(tensor.shape) for name, tensor in state.items()}, sum(once.values())


def _check_index(folder: Path, parts: set[str], name: str) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        if parts != {"model.safetensors"}:
            raise HubError(f"{name} holds {len(parts)} files of weights and no index of them.")
        return
    tree = parse_json(index.read_bytes(), f"{name}: {index.name}")
    places = tree.get("weight_map") if isinstance(tree, dict) else None
    if not isinstance(places, dict) or set(map(str, places.values())) != parts:
        raise HubError(f"{name}: {index.name} names other files than those that are there.")


def _tensors(
    files: list[Path], name: str
) -> Iterator[tuple[str, str, tuple[int, ...], Callable[[], Tensor]]]:
    """Name, kind and shape of every tensor by the headers, one after the other, and what reads it."""
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118
                    part = tensors.get_slice(tensor)
                    shape = tuple(part.get_shape())
                    yield tensor, part.get_dtype(), shape, partial(tensors.get_tensor, tensor)
        except SafetensorError as error:
            raise HubError(f"{name}: {file.name} cannot be read: {error}") from None
