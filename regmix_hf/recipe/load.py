"""Read a recipe: YAML 1.2, overrides on top, every complaint with its key, its value and what to write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from regmix_hf.errors import RecipeError, did_you_mean
from regmix_hf.files import parse_yaml
from regmix_hf.recipe.checks import check_recipe
from regmix_hf.recipe.ladder import with_section
from regmix_hf.recipe.schema import Recipe

#: What a recipe is called in its folder, and in a repository of runs.
RECIPE_FILE = "recipe.yaml"

_Section = TypeVar("_Section", bound=BaseModel)


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read `recipe.yaml`, or the folder that holds it, and apply overrides.

    Args:
        path: The file or its folder.
        overrides: `key.path=value` strings, applied in order; the value is read as YAML.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: The file is missing or no YAML, a key is unknown, or a value does not fit.
    """
    file = Path(path)
    if file.is_dir():
        file = file / RECIPE_FILE
    if not file.is_file():
        raise RecipeError(
            f"no recipe at {str(file)!r}.",
            "give a recipe.yaml, or the folder that holds it, e.g. recipes/quickstart",
        )
    tree = _parse_yaml(file)
    for override in overrides:
        keys, value = parse_override(override)
        _set(tree, keys, value, override)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{file}: " + "\n  ".join(_complaints(error, tree, Recipe))) from None
    check_recipe(recipe)
    for domain in recipe.domains.values():
        domain.from_folder(file.parent)
    return recipe


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `a.b=value` into its keys and its YAML value.

    >>> parse_override("proxy.training_args.learning_rate=4e-4")
    (['proxy', 'training_args', 'learning_rate'], 0.0004)
    """
    key, equals, value = text.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"{text!r} is no override.", "write key.path=value, e.g. sampling.num_mixtures=64")
    try:
        return keys, parse_yaml(value) if value.strip() else None
    except YAMLError as error:
        problem = error.problem if isinstance(error, MarkedYAMLError) else error
        raise RecipeError(
            f"the value of override {text!r} is no YAML: {problem}.",
            "in a map a blank stands behind each colon: 'key={a: 1, b: [2, 3]}'",
        ) from None


def read_section(section: type[_Section], overrides: Iterable[str], *, name: str) -> _Section:
    """Make one section of a recipe from its defaults and overrides of its keys.

    Raises:
        RecipeError: An unknown key, or a value that does not fit.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        keys, value = parse_override(override)
        _set(tree, keys, value, override)
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(f"{name}: " + "\n  ".join(_complaints(error, tree, section))) from None


def _parse_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{file} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}."
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RecipeError(f"{file}{where} is no YAML: {error.problem or error.context}.") from None
    except YAMLError as error:
        raise RecipeError(f"{file} is no YAML: {error}") from None
    if tree is None:
        raise RecipeError(f"{file} is empty.", "start from recipes/quickstart/recipe.yaml")
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{file} holds {type(tree).__name__}, not a mapping of keys.",
            "start from recipes/quickstart/recipe.yaml",
        )
    return tree


def _set(tree: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    node: Any = tree
    if keys[0] == "proxy" and tree.get("proxies"):
        keys = ["proxies", "0", *keys[1:]]  # the swarm of a ladder
    if keys[0] == "proxies":
        with_section(tree.get("proxies"), keys[1:])
    keys = _with_dots(tree, keys)
    for depth, key in enumerate(keys[:-1]):
        if _has_entry(node, key):
            node = node[int(key)]
        elif isinstance(node, dict):
            node = node.setdefault(key, {})
        else:
            raise _no_keys(override, keys[:depth], node)
    if _has_entry(node, keys[-1]):
        node[int(keys[-1])] = value
    elif isinstance(node, dict):
        node[keys[-1]] = value
    else:
        raise _no_keys(override, keys[:-1], node)


def _no_keys(override: str, keys: list[str], node: Any) -> RecipeError:
    """Complain of an override that reaches into what has no such key."""
    where = ".".join(keys)
    if isinstance(node, list):
        held, count = (f"entries up to {where}.{len(node) - 1}" if node else "no entry"), f"{where}=[...]"
        return RecipeError(f"override {override!r}: {where!r} holds {held}.", f"write all of them: {count}")
    return RecipeError(f"override {override!r}: {where!r} holds {node!r}, not keys.")


def _has_entry(node: Any, key: str) -> bool:
    """Whether a key is the number of an entry of a list, e.g. that of `proxies.1.num_mixtures`."""
    return isinstance(node, list) and key.isdecimal() and int(key) < len(node)


def _with_dots(tree: dict[str, Any], keys: list[str]) -> list[str]:
    """Join the parts of names that hold dots: at every depth, the longest name that is there."""
    node: Any = tree
    joined: list[str] = []
    while keys:
        names = [".".join(keys[:end]) for end in range(len(keys), 0, -1)]
        name = next((name for name in names if isinstance(node, dict) and name in node), keys[0])
        joined.append(name)
        keys = keys[name.count(".") + 1 :]
        node = node.get(name) if isinstance(node, dict) else None
    return joined


def _complaints(error: ValidationError, tree: dict[str, Any], schema: type[BaseModel]) -> Iterable[str]:
    """One line per key: the branches of a union that all failed become one complaint."""
    messages: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for detail in error.errors(include_url=False):
        if _is_said_before(detail["loc"], tree):
            continue
        location = _location(detail, tree)
        key = ".".join(location)
        messages.setdefault(key, []).append(_message(detail, location, schema))
        values[key] = detail["input"]
    for key, parts in messages.items():
        value = values[key]
        shown = "" if isinstance(value, dict) and len(value) > 3 else f" (value {value!r})"
        yield f"{key or 'recipe'}: {' or '.join(parts)}{shown}"


def _is_said_before(location: tuple[int | str, ...], tree: Any) -> bool:
    """Whether a mistake is that of an entry of `proxies` before: under `proxy` stands a copy of the first."""
    match location:
        case ("proxy", *_):
            return bool(tree.get("proxies"))
        case ("proxies", int(number), key, *_):
            return number > 0 and key not in tree["proxies"][number]
    return False


def _location(detail: ErrorDetails, tree: Any) -> list[str]:
    """The path of keys to the mistake, without the names that pydantic gives to branches of unions."""
    location = []
    for depth, part in enumerate(detail["loc"]):
        if isinstance(tree, dict) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and isinstance(part, int):
            tree = tree[part]
        elif not (detail["type"] == "missing" and depth == len(detail["loc"]) - 1):
            continue
        location.append(str(part))
    return location


def _message(detail: ErrorDetails, location: list[str], schema: type[BaseModel]) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key; {did_you_mean(location[-1], known_keys(location[:-1], schema))}"
    if detail["type"] == "missing":
        return "the key is missing"
    if detail["type"] == "string_pattern_mismatch":
        return f"the name must match {detail['ctx']['pattern']}"
    if detail["type"] == "dict_type":
        return "should be names with values: {NAME: ...}"
    if detail["type"] == "model_type":
        keys = ", ".join(f"{key}: ..." for key in known_keys(location, schema)[:2])
        return f"should be keys with values: {{{keys}}}"
    if detail["type"] in ("list_type", "tuple_type"):
        return (
            f"should be a list: [{detail['input']}]"
            if isinstance(detail["input"], str)
            else "should be a list"
        )
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[0].lower() + message[1:]


def known_keys(location: list[str], schema: type[BaseModel] = Recipe) -> list[str]:
    """Return the keys of the section at `location`, walking the schema by name."""
    section = schema
    for part in location:
        field = section.model_fields.get(part)
        if field is None:  # the name of a domain, or the branch of a union
            continue
        sections = [t for t in _types(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
        if sections:
            section = sections[0]
    return list(section.model_fields)


def _types(annotation: Any) -> list[Any]:
    parts = [part for arg in get_args(annotation) for part in _types(arg)]
    return parts or [annotation]
