"""What all parts of a recipe are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DomainName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=96)]
#: A domain as runs call it: tables may name it in any way, a recipe only as it names its own.
RunsDomain = Annotated[str, StringConstraints(min_length=1)]
Tokens = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )
