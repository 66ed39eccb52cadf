"""What `--format json` prints, verb by verb, as models, of which JSON schemas are made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from regmix_hf.cli.tables import OF_TARGET, OF_VERB, Column, Kind
from regmix_hf.recipe.reference import Key


class _Printed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Environment(_Printed):
    """`regmix env`."""

    python: str
    platform: str
    cores: int
    memory_bytes: int
    free_disk_bytes: int
    gpus: list[str]
    cuda: str | None = Field(description="The version torch was built for.")
    accelerate_config_folder: str
    accelerate_configs: list[str]
    packages: dict[str, str | None] = Field(description="Versions; null: not installed.")


class Validated(_Printed):
    """`regmix validate`."""

    recipe: str
    checked: list[str]


class Keys(_Printed):
    """`regmix keys`."""

    keys: list[Key]


class Failure(_Printed):
    """The last line on stderr of a verb that fails, whatever it prints elsewhere."""

    error: str = Field(description="What kind of error it is.")
    message: str
    hint: str | None = Field(description="What to write or run instead.")
    exit_code: int


_OTHERS: dict[str, type[BaseModel]] = {"env": Environment, "validate": Validated, "keys": Keys}
#: Verbs that print for machines.
VERBS = (*OF_VERB, *_OTHERS)


def output_model(verb: str) -> type[BaseModel]:
    """What `regmix VERB --format json` prints: names of tables, each of which may be missing."""
    if verb in _OTHERS:
        return _OTHERS[verb]
    tables: dict[str, Any] = {kind.name: (_table(kind) | None, None) for kind in OF_VERB[verb]}
    return create_model(f"Output of {verb}", __base__=_Printed, **tables)


def _table(kind: Kind) -> type[BaseModel]:
    """`rows` of values, `units` of those that have one, and what all of it is about."""
    row = create_model(f"{kind.name} row", __base__=_Printed, **_fields(kind.columns))
    units: dict[str, Any] = {
        column.key: (str | None, None) if column.unit == OF_TARGET else (Literal[column.unit], ...)
        for column in kind.columns
        if column.unit
    }
    fields: dict[str, Any] = {
        **_fields(kind.about),
        "units": (create_model(f"{kind.name} units", __base__=_Printed, **units), ...),
        "rows": (list[row], ...),
    }
    return create_model(kind.name, __base__=_Printed, **fields)


def _fields(columns: tuple[Column, ...]) -> dict[str, Any]:
    return {column.key: (column.type | None, Field(description=column.unit)) for column in columns}
