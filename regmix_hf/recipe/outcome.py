"""What of a recipe decides a number, and what decides only how soon, where, or how loudly it is had.

Keys are told apart by their path, so a domain may be called as a key is. What decides nothing makes no stage
stale and is no part of a run's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from regmix_hf.files import hash_value
from regmix_hf.recipe.ladder import with_swarm
from regmix_hf.recipe.schema import Recipe

_TRAININGS = ("proxy", "train")
#: Of a model's config: it picks a kernel and changes no number beyond floating-point noise.
_MODEL_WITHOUT_EFFECT = "attn_implementation"
#: Keys of a recipe that never change a number.
_WITHOUT_EFFECT = {
    ("output_dir",),
    ("executor",),
    ("corpus", "num_proc"),
    ("train", "accelerate_config"),
    ("train", "allow_repetition"),
    ("proxy", "keep_models"),
    *((section, "num_workers") for section in _TRAININGS),
    *((section, "model", _MODEL_WITHOUT_EFFECT) for section in _TRAININGS),
}
#: Keys of a domain that do not change the text it is trained on.
_SAME_TEXT = {"streaming", "num_tokens", "validation_split", "validation_only"}
#: Arguments that change speed, memory or what is said, and no result beyond floating-point noise.
_ARGUMENTS_WITHOUT_EFFECT = {
    *("activation_checkpointing", "activation_checkpointing_kwargs", "disable_tqdm"),
    *("gradient_accumulation_steps", "gradient_checkpointing", "gradient_checkpointing_kwargs"),
    *("liger_kernel_config", "log_level", "log_level_replica", "log_on_each_node"),
    *("per_device_eval_batch_size", "per_device_train_batch_size", "project", "report_to"),
    *("skip_memory_metrics", "torch_empty_cache_steps", "use_cpu", "use_liger_kernel"),
}
_PREFIXES_WITHOUT_EFFECT = ("dataloader_", "ddp_", "fsdp", "logging_", "save_", "torch_compile", "trackio_")
#: Without `num_batch_tokens` these two say what a step is.
_STEP = ("per_device_train_batch_size", "gradient_accumulation_steps")

#: Version 0.1 left these out wherever they stood.
_LEFT_OUT_BY_0_1 = {"output_dir", "num_proc", "num_workers", "accelerate_config", "allow_repetition"}
#: Keys that came after version 0.1, whose markers know nothing of them; whoever adds one names it here.
_SINCE_0_1 = {
    ("choice", "force"),
    ("choice", "groups"),
    ("choice", "num_confirm"),
    ("choice", "num_rounds"),
    ("regression", "min_signal"),
    ("sampling", "num_repeats"),
    ("sampling", "experts"),
    ("executor",),
    ("evaluation", "include_path"),
    ("proxies",),
    *(
        ("proxy", key)
        for key in ("match_repetition", "tasks", "metrics", "task_limit", "tasks_at", "keep_models")
    ),
    *((section, "model", key) for section in _TRAININGS for key in ("pretrained", "revision")),
}


def changes_outcome(argument: str) -> bool:
    """Tell whether a training argument decides a run's numbers, beyond floating-point noise."""
    return argument not in _ARGUMENTS_WITHOUT_EFFECT and not argument.startswith(_PREFIXES_WITHOUT_EFFECT)


def decisive_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training arguments that decide a run's numbers."""
    return {name: value for name, value in arguments.items() if changes_outcome(name)}


def decisive_model(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a model's config that decide a run's numbers."""
    return {name: value for name, value in config.items() if name != _MODEL_WITHOUT_EFFECT}


def decisive_source(domain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a domain that decide which text it is trained on."""
    return {name: value for name, value in domain.items() if name not in _SAME_TEXT}


def decisive(recipe: Recipe, key: str) -> Any:
    """Return what stands under a key, as `proxy` or `proxy.num_train_tokens`, without what decides nothing.

    Keys that have their default are left out too, so that a recipe may get new ones.
    """
    return _reach(_decisive(recipe), key)


def stamp_ladder(recipe: Recipe) -> dict[str, str]:
    """Hash what proxies of further sizes and lengths than the swarm's are; nothing without any."""
    further = decisive(recipe, "proxies")
    return {"proxies": hash_value(further)} if further else {}


def decisive_but_name(recipe: Recipe) -> dict[str, Any]:
    """Return all of a recipe that decides a number: equal for a study that only has another name."""
    return _without(_decisive(recipe), [("name",), ("hub",)])


def decisive_in_0_1(recipe: Recipe, key: str) -> Any:
    """Return what version 0.1 took for decisive under a key: the markers that it wrote hold its hash.

    And what the recipe says in keys that came later, so that a study is done anew where it says something.
    """
    said = _decisive(recipe)
    unsaid = [path for path in _SINCE_0_1 if _reach(said, ".".join(path)) is None]
    tree = _without(_with_swarm_apart(recipe.model_dump(mode="json")), unsaid)
    return _without_names(_reach(tree, key), _LEFT_OUT_BY_0_1)


def _decisive(recipe: Recipe) -> dict[str, Any]:
    tree = _with_swarm_apart(recipe.model_dump(mode="json", exclude_defaults=True))
    for section in _TRAININGS:
        tree[section] = _decisive_training(tree[section])
    if "proxies" in tree:
        rungs = [_decisive_training(rung) for rung in tree["proxies"]]
        tree["proxies"] = [_without({"proxy": rung}, _WITHOUT_EFFECT)["proxy"] for rung in rungs]
    return _without(tree, _WITHOUT_EFFECT)


def _with_swarm_apart(tree: dict[str, Any]) -> dict[str, Any]:
    """The first of a ladder under `proxy`, the others under `proxies`: so these leave the swarm as it is."""
    whole = with_swarm(tree)
    return {**whole, "proxies": whole["proxies"][1:]} if "proxies" in whole else whole


def _decisive_training(training: dict[str, Any]) -> dict[str, Any]:
    arguments = training.get("training_args", {})
    step = () if training.get("num_batch_tokens") else _STEP
    kept = {name: value for name, value in arguments.items() if changes_outcome(name) or name in step}
    return {**training, "training_args": kept}


def _reach(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _without(tree: dict[str, Any], paths: Collection[tuple[str, ...]]) -> dict[str, Any]:
    """Leave paths out, on a copy, and sections of which nothing is left."""
    left = {name: value for name, value in tree.items() if (name,) not in paths}
    for name in {path[0] for path in paths} & left.keys():
        below = {path[1:] for path in paths if path[0] == name}
        if isinstance(left[name], dict) and not (inner := _without(left[name], below)):
            del left[name]
        elif isinstance(left[name], dict):
            left[name] = inner
    return left


def _without_names(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without_names(item, names) for name, item in value.items() if name not in names}
    return value
