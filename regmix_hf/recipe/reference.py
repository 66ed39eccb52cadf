"""All keys of a recipe, from its schema: for people as a table, for editors as a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from regmix_hf.errors import RecipeError, did_you_mean
from regmix_hf.recipe.schema import Recipe

#: The type of a key that holds further keys.
SECTION = "keys"
_REF = "#/$defs/"
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": SECTION,
    "array": "list",
}


@dataclass(frozen=True)
class Key:
    """One key of a recipe.

    Attributes:
        path: With its sections, `sampling.num_mixtures`; `NAME` stands for a name that the user gives.
        type: What its value is, with its bounds.
        default: As YAML writes it; empty where the key must be given.
        meaning: What it decides, with its unit.
    """

    path: str
    type: str
    default: str
    meaning: str


def all_keys() -> list[Key]:
    """Every key, section by section, in the order of the schema."""
    schema = json_schema()
    return list(_keys(schema, schema["$defs"], ""))


def keys_below(path: str) -> list[Key]:
    """The keys at and below one, e.g. `sampling` or `proxy.num_train_tokens`.

    Raises:
        RecipeError: There is no such key.
    """
    keys = all_keys()
    found = [key for key in keys if key.path == path or key.path.startswith(f"{path}.")]
    if not found:
        sections = {part.rpartition(".")[0] for key in keys for part in [key.path] if "." in part}
        raise RecipeError(f"{path!r} is no key; {did_you_mean(path, sections | {key.path for key in keys})}")
    return found


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors that complete YAML."""
    schema = Recipe.model_json_schema()
    schema["required"].remove("proxy")  # a ladder stands in its place
    schema["$defs"]["Rung"].pop("required")  # and its entries go on from the one before
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def markdown() -> str:
    """All keys as a page of tables, one per section."""
    lines = [
        "# All keys of a recipe",
        "",
        "Made from the schema by `regmix keys --format markdown`. A key without a default must be given; "
        "`NAME` stands",
        "for a name of yours. Any key can follow a command: `regmix run RECIPE sampling.num_mixtures=64`.",
        "",
        "An editor with a YAML language server completes and checks recipes whose first line is",
        "",
        "    # yaml-language-server: $schema=recipe.schema.json",
        "",
        "with the path to that file of this folder, which `regmix keys --format schema` prints.",
    ]
    section = None
    for key in all_keys():
        if (of := key.path.rpartition(".")[0]) != section:
            section = of
            title = f"`{section}`" if section else "At the top"
            lines += ["", f"## {title}", "", "| key | value | default | meaning |", "|---|---|---|---|"]
        name = key.path.rpartition(".")[2]
        cells = [f"`{name}`", key.type, f"`{key.default}`" if key.default else "", key.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _keys(section: dict[str, Any], defs: dict[str, Any], prefix: str) -> Iterator[Key]:
    """The plain keys of a section first, then those of its sections."""
    nested: list[tuple[dict[str, Any], str]] = []
    required = section.get("required", [])
    for name, schema in section.get("properties", {}).items():
        path = f"{prefix}{name}"
        inner = list(_sections(schema, defs))
        nested += [(part, f"{path}.{below}") for part, below in inner]
        default = "" if name in required else _default(schema)
        yield Key(path, _type(schema, defs), default, " ".join(schema.get("description", "").split()))
    for part, path in nested:
        yield from _keys(part, defs, path)


def _sections(schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Sections that a key holds, with what stands between its path and theirs: nothing, or `NAME.`."""
    for option in _options(schema):
        if "$ref" in option:
            part = defs[option["$ref"].removeprefix(_REF)]
            if part.get("properties"):
                yield part, ""
        elif values := _values(option):
            yield from ((part, f"NAME.{below}") for part, below in _sections(values, defs))


def _values(option: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of what stands below names that the user gives; `None` where there are none."""
    patterns = list(option.get("patternProperties", {}).values()) or [option.get("additionalProperties")]
    return patterns[0] if isinstance(patterns[0], dict) else None


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return [inner for option in options for inner in (_options(option) if option is not schema else [option])]


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default", {})
    return "" if isinstance(value, dict) else json.dumps(value)  # a section's defaults are those of its keys


def _type(schema: dict[str, Any], defs: dict[str, Any]) -> str:
    words = [_one_type(option, defs) for option in _options(schema)]
    return " or ".join(dict.fromkeys(words))


def _one_type(option: dict[str, Any], defs: dict[str, Any]) -> str:
    if "$ref" in option:
        return _one_type(defs[option["$ref"].removeprefix(_REF)], defs)
    if "enum" in option:
        return " or ".join(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    word = _TYPES.get(option.get("type", ""), "anything")
    if word == "list":
        return f"list of {_type(option.get('items', {}), defs)}"
    if values := _values(option):
        return f"NAME: {_type(values, defs)}"
    bounds = [f"{sign} {option[bound]:.10g}" for bound, sign in _BOUNDS.items() if bound in option]
    return " ".join([word, ", ".join(bounds)]).strip()
