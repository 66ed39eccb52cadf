"""The keys of a model: its shape, or what it starts from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Tag, model_validator

from regmix_hf.recipe.section import DomainName, Section, Tokens

#: Picks a kernel of attention, whatever the model.
_ATTENTION = "attn_implementation"


class Base(Section):
    """A model of the study's own, trained once, that all proxies start from."""

    mixture: DomainName
    """What it is trained on: `prior`, `uniform` or a key of `baselines`."""
    num_train_tokens: Tokens
    """Tokens it trains on, with the shape and the arguments of the proxies."""


def _kind_of_start(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "base" if isinstance(value, dict | Base) else None


Start = Annotated[
    Annotated[str, Tag("name")] | Annotated[Base, Tag("base")],
    Discriminator(
        _kind_of_start,
        custom_error_type="pretrained",
        custom_error_message="give a Hub id, a folder, or {mixture: prior, num_train_tokens: 100_000_000}",
    ),
]


class Model(Section):
    """A preset by name, or any `transformers` config; keys beside `preset` override the preset's."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )
    preset: str | None = None
    """Name of a shape of this package: `regmix-1m`, `regmix-60m`, `regmix-1b`, `llama-7b` or `tiny`."""
    model_type: str | None = None
    """A decoder-only architecture of `transformers`, e.g. `llama`; keys of its config stand beside it."""
    pretrained: Start | None = None
    """What training starts from: a model on the Hub or a folder, in the place of a shape, or beside a shape
    `{mixture: prior, num_train_tokens: N}`: one of the study's own. `null`: random weights."""
    revision: str | None = None
    """A commit, tag or branch of a model on the Hub; pin it, so that weights cannot change."""

    @model_validator(mode="after")
    def _names_a_shape(self) -> Self:
        if isinstance(self.pretrained, str):
            given = [key for key in ("preset", "model_type") if getattr(self, key) is not None]
            given += [key for key in self.config if key != _ATTENTION]
            if given:
                raise ValueError(f"`pretrained` has a shape of its own; leave `{given[0]}` out")
            return self
        if self.revision is not None:
            raise ValueError("`revision` is that of a model on the Hub, and `pretrained` names none")
        if self.preset is None and self.model_type is None:
            raise ValueError(
                "give `preset: NAME`, `model_type: NAME` with the keys of its config, or `pretrained: NAME`"
            )
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The keys of the `transformers` config that the recipe itself gives."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def reference(self) -> str | None:
        """The model from elsewhere to start from: a folder, or `NAMESPACE/NAME[@REVISION]`."""
        if not isinstance(self.pretrained, str):
            return None
        return f"{self.pretrained}@{self.revision}" if self.revision else self.pretrained

    @property
    def checkpoint(self) -> str | None:
        """What the facts of a corpus call the model to start from; `None`: it is none from elsewhere."""
        if not isinstance(self.pretrained, str):
            return None
        return hashlib.sha256(f"{self.pretrained}@{self.revision}".encode()).hexdigest()[:12]
