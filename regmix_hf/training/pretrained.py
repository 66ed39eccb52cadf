"""Models to start from, out of a folder or from the Hub: looked at, fetched and loaded; never run as code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regmix_hf.errors import HubError, StudyError, TrainingError
from regmix_hf.files import hash_file, hash_value, read_record
from regmix_hf.hub import Expected, Hub, Repository, Snapshot, fetch
from regmix_hf.recipe import Model, Recipe
from regmix_hf.study import names
from regmix_hf.study.corpus_facts import CheckpointFacts

_CONFIG, _GENERATION = "config.json", "generation_config.json"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
#: Weights that only unpickling reads: whoever unpickles runs what a stranger wrote.
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MEGABYTE = 1_000_000
_MOST_BYTES = 4_000_000 * _MEGABYTE


@dataclass(frozen=True)
class Source:
    """Where a model to start from lies.

    Attributes:
        name: What to call it in messages.
        files: Names of its files, without those in folders.
        read: Reads a small one.
        bring: Puts files into a folder.
    """

    name: str
    files: Collection[str]
    read: Callable[[str], bytes]
    bring: Callable[[list[str], Path], None]


def open_source(model: Model) -> Source:
    """Find the model that a recipe's `pretrained` names.

    Raises:
        TrainingError: There is no such folder, and it is no name on the Hub.
        HubError: There is no such repository or revision, or it is not ours to read.
    """
    assert isinstance(model.pretrained, str)
    folder = Path(model.pretrained)
    if folder.is_dir():
        return _folder_source(folder)
    try:
        repository = Repository("model", model.pretrained)
    except HubError:
        raise TrainingError(
            f"model.pretrained: {model.pretrained!r} is no folder here and no NAMESPACE/NAME on the Hub.",
            f"a relative path starts at the working directory, {Path.cwd()}",
        ) from None
    hub = Hub()
    snapshot = hub.snapshot(repository, model.revision)
    return _hub_source(hub, snapshot)


def _folder_source(folder: Path) -> Source:
    def bring(files: list[str], into: Path) -> None:
        for name in files:
            shutil.copyfile(folder / name, into / name)

    files = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    return Source(str(folder), files, lambda name: (folder / name).read_bytes(), bring)


def _hub_source(hub: Hub, snapshot: Snapshot) -> Source:
    def bring(files: list[str], into: Path) -> None:
        expected = [Expected(name, max_bytes=_MOST_BYTES) for name in files]
        fetch(hub, snapshot, expected, into, via=into / ".arriving")
        shutil.rmtree(into / ".arriving", ignore_errors=True)

    files = [name for name in snapshot.files if "/" not in name]
    name = str(snapshot.repository)
    return Source(name, files, lambda file: hub.read(snapshot, file, max_bytes=10 * _MEGABYTE), bring)


def read_shape(source: Source, context_length: int) -> dict[str, Any]:
    """Read the keys of a model's config, and look whether it is one to start from; load no weight.

    Args:
        source: Where it lies.
        context_length: Tokens of a block, which it must take.

    Returns:
        Keys that `models.build_config` takes.

    Raises:
        TrainingError: It is pickled, quantised, code of its own, no causal language model, or too short.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from regmix_hf.training.models import build_config, constructor_names

    weight_files(source)
    tree = _json(source, _CONFIG)
    kind, built_as = tree.get("model_type"), tree.get("architectures") or []
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        own = "; it is code of its own, which is not run" if tree.get("auto_map") else ""
        raise _refusal(source, f"is a {kind!r}, no causal language model of `transformers`{own}")
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    wanted = [known] if isinstance(known, str) else list(known)
    if built_as and not set(built_as) & set(wanted):
        raise _refusal(source, f"is a {built_as[0]}, not a {wanted[0]}")
    if tree.get("quantization_config"):
        raise _refusal(source, "is quantised, and cannot be trained on")
    config_class = CONFIG_MAPPING[kind]
    try:
        whole = config_class.from_dict({key: value for key, value in tree.items() if key != "auto_map"})
    except Exception as error:  # each config class validates in its own way, and says what is wrong
        said = str(error).strip().splitlines()[-1].strip()
        raise _refusal(source, f"has a {_CONFIG} that is none: {said}") from error
    taken = {name for name in constructor_names(config_class) if "implementation" not in name}
    keys = {key: value for key, value in whole.to_dict().items() if key in taken and key != "dtype"}
    keys = {"model_type": kind, **keys}
    build_config(keys, context_length)
    return keys


def fetch_checkpoint(source: Source, keys: dict[str, Any], corpus: Path) -> CheckpointFacts:
    """Put the weights of a model into the folder of a corpus, unless they are there.

    Args:
        source: Where it lies.
        keys: Of its config, from `read_shape`.
        corpus: The folder of the corpus.

    Raises:
        HubError: A file cannot be had, or is not what its commit says.
    """
    files = weight_files(source)
    extra = [_CONFIG, *(name for name in (_INDEX, _GENERATION) if name in source.files)]
    place = corpus / names.CHECKPOINTS
    arriving = place / f".{hash_value([source.name, sorted(files)])[:12]}"
    arriving.mkdir(parents=True, exist_ok=True)
    source.bring([*files, *extra], arriving)
    facts = CheckpointFacts(sha256=hash_weights(arriving), config=keys)
    folder = place / facts.folder
    if folder.exists():
        shutil.rmtree(folder)
    arriving.replace(folder)
    return facts


def weight_files(source: Source) -> list[str]:
    """Names of the files of a model's weights.

    Raises:
        TrainingError: There are none in safetensors.
    """
    if _WHOLE in source.files:
        return [_WHOLE]
    if _INDEX in source.files:
        parts = _json(source, _INDEX).get("weight_map")
        if isinstance(parts, dict) and parts and set(parts.values()) <= set(source.files):
            return sorted(set(parts.values()))
        raise _refusal(source, f"lacks parts that its {_INDEX} names")
    if pickled := [name for name in source.files if name.endswith(_PICKLED)]:
        raise TrainingError(
            f"model.pretrained: {source.name} has its weights in {pickled[0]} only: a pickle, which may run "
            "code when it is read.",
            "save it with `save_pretrained` as safetensors, or name a revision that has them",
        )
    raise _refusal(source, f"has no {_WHOLE}")


def weights_of(corpus: Path, start: str) -> Path:
    """The folder, in that of the corpus, of the weights that a run starts from; see `RunSpec.start`.

    Raises:
        StudyError: They are not there, or others.
    """
    folder = corpus / names.CHECKPOINTS / start
    marker = folder / names.RESULT  # of a run of this study; what came from elsewhere has none
    if marker.exists():
        row = read_record(marker, run_id=str, status=str)
        is_whole = row["run_id"] == start and row["status"] == "ok"
    else:
        is_whole = folder.is_dir() and hash_weights(folder)[: len(start)] == start
    if not is_whole:
        raise StudyError(
            f"{folder} does not hold the weights that runs start from.",
            "run `regmix prepare`, and `regmix proxies` where the study makes them itself",
        )
    return folder


def models_from_elsewhere(recipe: Recipe) -> dict[str, Model]:
    """The models of a recipe that start from one on the Hub or in a folder, by `Model.checkpoint`."""
    models = [training.model for training in (*recipe.rungs.values(), recipe.train)]
    return {model.checkpoint: model for model in models if model.checkpoint is not None}


def check_vocabulary(source: Source, keys: Mapping[str, Any], vocab_size: int) -> None:
    """Refuse a model that has no place for every token of the tokenizer.

    Raises:
        TrainingError: It has fewer.
    """
    if keys["vocab_size"] < vocab_size:
        raise TrainingError(
            f"model.pretrained: {source.name} knows {keys['vocab_size']:,} tokens; the tokenizer has "
            f"{vocab_size:,}.",
            "leave `tokenizer` out, then it is the model's own",
        )


def hash_weights(folder: Path) -> str:
    """Hash of all weights in a folder."""
    files = sorted(folder.glob("*.safetensors"))
    return hash_value([[file.name, hash_file(file)] for file in files])


def _json(source: Source, name: str) -> dict[str, Any]:
    if name not in source.files:
        raise _refusal(source, f"has no {name}")
    try:
        tree = json.loads(source.read(name))
    except ValueError as error:
        raise _refusal(source, f"has a {name} that is no JSON") from error
    if not isinstance(tree, dict):
        raise _refusal(source, f"has a {name} that says nothing")
    return tree


def _refusal(source: Source, what: str) -> TrainingError:
    return TrainingError(
        f"model.pretrained: {source.name} {what}.",
        "name a causal language model of `transformers` in safetensors",
    )
