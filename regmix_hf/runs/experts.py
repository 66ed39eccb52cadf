"""What experts, models of one domain each, give the tokens of every target: kept in the place of the models.

With `p_e(x)` the probability that expert `e` gives a token of a target's text, mixing these probabilities
predicts the loss of a model trained on the mixture of the experts' texts (Belenki et al. 2025, arXiv
2502.15950; Thudi et al. 2025, "MixMin"). So of a model nothing else is needed, for any mixture.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regmix_hf.files import atomic_path, damaged
from regmix_hf.mixtures.mixture import is_no_mixture
from regmix_hf.progress import Progress
from regmix_hf.seeds import generator

#: Tokens of a target that are kept, at most, by chance. Where two mixtures differ by half a nat on a token,
#: the difference of their means over as many is known to 0.002 nats.
KEPT_TOKENS = 50_000
#: Half precision rounds what is almost certain up to certainty, no further.
_CERTAIN = 0.0
Half = NDArray[np.float16]


class TargetText(BaseModel):
    """What a target is measured on.

    Attributes:
        sha256: Of all of it: of the blocks that a domain validates on, or of the answers of a task.
        num_tokens: That are scored; some of them are kept.
        bits_per_nat: What one nat per token is in bits per byte.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    sha256: str
    num_tokens: Annotated[int, Field(gt=0)]
    bits_per_nat: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

    @property
    def kept(self) -> NDArray[np.int64]:
        """Which tokens are kept, in their order: the same for everybody who measures the same text.

        So the draw does not follow from the seed of a recipe: experts of several people stand together.
        """
        if self.num_tokens <= KEPT_TOKENS:
            return np.arange(self.num_tokens)
        draw = generator(0, "tokens of experts", self.sha256)
        return np.sort(draw.choice(self.num_tokens, KEPT_TOKENS, replace=False))


class _Facts(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    run_ids: list[str]
    domains: list[str]
    weights: list[list[Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]]]
    targets: dict[str, TargetText]


@dataclass(frozen=True, eq=False)
class Experts:
    """Experts of one study, or of several on the same text.

    Attributes:
        weights: Experts x domains, what each was trained on; the index are the runs' ids.
        logs: Target, named as in `Runs`, -> log-probability of each token that was kept, in nats,
            experts x tokens.
        texts: Target -> what it is measured on.
    """

    weights: pd.DataFrame
    logs: Mapping[str, Half]
    texts: Mapping[str, TargetText]

    def __len__(self) -> int:
        return len(self.weights)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            StudyError: The file is damaged, or holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = _Facts.model_validate_json((file.metadata() or {}).get("experts", ""))
                if set(file.keys()) != set(facts.targets):
                    raise damaged(path, "holds other targets than it says")
                for name, text in facts.targets.items():
                    part = file.get_slice(name)  # what does not fit is not read
                    expected = [len(facts.run_ids), min(text.num_tokens, KEPT_TOKENS)]
                    if part.get_dtype() != "F16" or list(part.get_shape()) != expected:
                        raise damaged(path, f"holds no log-probabilities of {expected} tokens for {name!r}")
                logs = {name: file.get_tensor(name) for name in facts.targets}
        except (SafetensorError, OSError, ValueError) as error:
            detail = "its facts" if isinstance(error, ValidationError) else str(error)
            raise damaged(path, f"cannot be read: {detail}") from error
        shape = (len(facts.run_ids), len(facts.domains))
        weights = np.array(facts.weights, dtype=np.float64).reshape(-1, shape[1]) if facts.weights else None
        if weights is None or weights.shape != shape or len(set(facts.run_ids)) != shape[0]:
            raise damaged(path, "does not say what its experts were trained on")
        table = pd.DataFrame(weights, index=facts.run_ids, columns=facts.domains)
        if is_no_mixture(table).any():
            raise damaged(path, "holds weights that are no mixture")
        for name, values in logs.items():
            if not np.isfinite(values).all() or values.max() > _CERTAIN:
                raise damaged(path, f"holds what are no log-probabilities for {name!r}")
        return cls(table, logs, facts.targets)

    def write(self, path: Path) -> None:
        """Write them as safetensors, atomically."""
        from safetensors.numpy import save_file

        facts = _Facts(
            run_ids=list(map(str, self.weights.index)),
            domains=list(map(str, self.weights.columns)),
            weights=self.weights.to_numpy().tolist(),
            targets=dict(self.texts),
        )
        with atomic_path(path) as temporary:
            save_file(
                {name: np.ascontiguousarray(values, np.float16) for name, values in self.logs.items()},
                temporary,
                metadata={"experts": json.dumps(facts.model_dump())},
            )

    def of_run(self, run_id: str) -> Self:
        """Return one of them."""
        row = np.flatnonzero(self.weights.index == run_id)
        return type(self)(self.weights.loc[[run_id]], {n: v[row] for n, v in self.logs.items()}, self.texts)

    def of_targets(self, targets: Collection[str]) -> Self:
        """Return what is known of these targets."""
        kept = [name for name in self.logs if name in targets]
        return type(self)(
            self.weights, {name: self.logs[name] for name in kept}, {name: self.texts[name] for name in kept}
        )

    def asked_more(self, later: Self) -> Self:
        """Return the same experts with what they were asked later.

        Args:
            later: What is known of the very same ones.
        """
        return type(self)(self.weights, {**self.logs, **later.logs}, {**self.texts, **later.texts})

    def adds_nothing_to(self, others: Experts) -> bool:
        """Whether others are at least these experts, and were asked all that these were."""
        known = set(self.weights.index) <= set(others.weights.index)
        return known and self.texts.items() <= others.texts.items()

    def of_now(self, measured: Mapping[str, str]) -> Self:
        """Return what is known of the text that is measured now.

        Args:
            measured: Target -> hash of what it is measured on.
        """
        return self.of_targets([n for n, text in self.texts.items() if measured.get(n) == text.sha256])


def joined(parts: Sequence[Experts]) -> Experts:
    """Put experts beside each other, of one table at least, each once, over targets all were asked about."""
    domains = list(dict.fromkeys(str(name) for part in parts for name in part.weights.columns))
    targets = [
        name
        for name, text in parts[0].texts.items()
        if all(part.texts.get(name) == text for part in parts[1:])
    ]
    weights = pd.concat([part.weights.reindex(columns=domains, fill_value=0.0) for part in parts])
    first = np.flatnonzero(~weights.index.duplicated())
    return Experts(
        weights.iloc[first],
        {name: np.concatenate([part.logs[name] for part in parts])[first] for name in targets},
        {name: parts[0].texts[name] for name in targets},
    )


def pooled_experts(parts: Sequence[Experts], progress: Progress) -> Experts | None:
    """Put the experts of several sources beside each other; `None` where none has any.

    Args:
        parts: Of each source that has them.
        progress: Told which targets are lost because not all were asked about the same text.
    """
    if not parts:
        return None
    whole = joined(parts)
    if lost := sorted({name for part in parts for name in part.texts} - whole.texts.keys()):
        progress.note(f"experts of several sources were not asked the same about {', '.join(lost)}: left out")
    return whole


def read_experts(path: Path) -> Experts | None:
    """Read the experts of a study; `None` where it has none.

    Raises:
        StudyError: The file is damaged.
    """
    return Experts.read(path) if path.exists() else None
