"""The loss of a mixture of experts: `f(w) = -mean_x log sum_d w_d p_d(x)` over the tokens of a target."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regmix_hf.errors import RegressionError
from regmix_hf.files import atomic_path
from regmix_hf.quantities import BPB
from regmix_hf.runs.experts import KEPT_TOKENS, Experts

Array = NDArray[np.float64]

#: Tokens whose probabilities exist at once in double precision.
_TOKENS_AT_ONCE = 4096
#: Least probability of a token beside that of the domain which gives it the most; single precision has less.
LEAST = 1e-37
#: Where experts that were filled up with other domains are told from these, what is left of a probability is
#: at least this share of what it was the difference of.
LEAST_LEFT = 0.01
#: Floating point puts so much into a matrix that is exact otherwise.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class ExpertTokens:
    """What experts give the tokens of some targets, by position.

    Attributes:
        weights: What each was trained on, experts x domains.
        logs: For each target the log-probability of each token in nats, experts x tokens; no tokens where
            they were not asked about it.
        units: For each target what one nat per token is in its unit.
    """

    weights: Array
    logs: tuple[NDArray[np.float16], ...]
    units: tuple[float, ...]

    def of_targets(self, targets: Sequence[int]) -> Self:
        """Return those of the targets at these positions."""
        return type(self)(
            self.weights, tuple(self.logs[t] for t in targets), tuple(self.units[t] for t in targets)
        )

    @property
    def losses(self) -> Array:
        """What each expert loses on each target, experts x targets; NaN where it was not asked."""
        asked = (
            -unit * logs.mean(axis=1, dtype=np.float64)
            if logs.shape[1]
            else np.full(len(self.weights), np.nan)
            for logs, unit in zip(self.logs, self.units, strict=True)
        )
        return np.stack(list(asked), axis=1)

    @property
    def without_expert(self) -> NDArray[np.intp]:
        """The domains whose share in a text the experts do not tell."""
        found = np.abs(self.shares.T @ self.weights - np.eye(self.weights.shape[1])).max(axis=0)
        return np.flatnonzero(found > _ROUNDING)

    @property
    def shares(self) -> Array:
        """How much of each expert a domain alone is, experts x domains.

        That is 1 of its own expert; of several equal ones as much of each; of one that was filled up with
        others more than 1, less what it was filled up with.
        """
        shares = np.linalg.pinv(self.weights.T)
        return np.asarray(np.where(np.abs(shares) < _ROUNDING, 0.0, shares))

    def mixed(self) -> list[MixedLoss]:
        """The formula of each target."""
        shares = self.shares
        pairs = zip(self.logs, self.units, strict=True)
        return [MixedLoss(_Given.of(logs, shares), unit) for logs, unit in pairs]

    def save(self, file: Path) -> None:
        """Write them as safetensors, atomically."""
        from safetensors.numpy import save_file

        arrays = {str(t): np.ascontiguousarray(logs) for t, logs in enumerate(self.logs)}
        facts = {"weights": self.weights.tolist(), "units": list(self.units)}
        with atomic_path(file) as temporary:
            save_file(arrays, temporary, metadata={"experts": json.dumps(facts)})

    @classmethod
    def load(cls, file: Path, *, num_domains: int, num_targets: int) -> Self:
        """Read what `save` wrote.

        Raises:
            RegressionError: The file is missing, damaged, or of other domains or targets.
        """
        from safetensors import SafetensorError, safe_open

        if not file.is_file():
            raise RegressionError(f"{file} is missing.")
        try:
            with safe_open(file, framework="numpy") as found:
                facts = json.loads((found.metadata() or {})["experts"])
                weights = np.array(facts["weights"], dtype=np.float64)
                units = tuple(float(unit) for unit in facts["units"])
                names = [str(target) for target in range(num_targets)]
                if weights.shape != (len(weights), num_domains) or len(units) != num_targets:
                    raise ValueError(f"weights of shape {weights.shape} and {len(units)} units")
                if set(found.keys()) != set(names):
                    raise ValueError(f"{len(found.keys())} targets, not {num_targets}")
                logs = tuple(cls._read(found, name, len(weights)) for name in names)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise RegressionError(f"{file} cannot be read: {error}") from error
        known = np.isfinite(weights).all() and all(np.isfinite(part).all() for part in logs)
        if not known or not all(math.isfinite(unit) and unit > 0 for unit in units):
            raise RegressionError(f"{file} holds numbers that are not finite.")
        return cls(weights, logs, units)

    @staticmethod
    def _read(found: object, name: str, num_experts: int) -> NDArray[np.float16]:
        part = found.get_slice(name)  # type: ignore[attr-defined]
        shape = list(part.get_shape())
        if part.get_dtype() != "F16" or len(shape) != 2 or shape[0] != num_experts:
            raise ValueError(f"{name} is {part.get_dtype()} of shape {shape}")
        return np.asarray(found.get_tensor(name))  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class _Given:
    """What domains give each token of a target; one for all who ask the same, as long as somebody does.

    Attributes:
        relative: `p_d(x) / max_d p_d(x)`, tokens x domains, in single precision, above 0.
        level: `-mean_x log max_d p_d(x)`, nats per token.
        logs: What it was made of: while it is there, nothing else has its place in memory.
    """

    relative: NDArray[np.float32]
    level: float
    logs: NDArray[np.float16]

    @classmethod
    def of(cls, logs: NDArray[np.float16], shares: Array) -> Self:
        """Make it of log-probabilities, experts x tokens, and how much of each expert a domain is."""
        key = (id(logs), shares.shape, shares.tobytes())
        if (known := _KNOWN.get(key)) is None:
            known = _KNOWN[key] = cls._made(logs, shares)
        return known

    @classmethod
    def _made(cls, logs: NDArray[np.float16], shares: Array) -> Self:
        num_tokens = logs.shape[1]
        relative = np.empty((num_tokens, shares.shape[1]), dtype=np.float32)
        highest = 0.0
        for start in range(0, num_tokens, _TOKENS_AT_ONCE):
            part = logs[:, start : start + _TOKENS_AT_ONCE].astype(np.float64)
            most = part.max(axis=0)
            given = np.exp(part - most)
            domains = np.maximum(shares.T @ given, LEAST_LEFT * (np.abs(shares).T @ given))
            largest = domains.max(axis=0)
            relative[start : start + _TOKENS_AT_ONCE] = np.maximum(domains / largest, LEAST).T
            highest += float((most + np.log(largest)).sum())
        return cls(relative, -highest / max(num_tokens, 1), logs)


#: A fit asks for the same again and again, and it takes four bytes a token and domain.
_KNOWN: WeakValueDictionary[tuple[int, tuple[int, ...], bytes], Any] = WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class MixedLoss:
    """The formula of one target, `unit * -mean_x log sum_d w_d p_d(x)`; convex in the weights.

    Without tokens it is 0.

    Attributes:
        given: What domains give each token.
        unit: What one nat per token is in the target's unit.
    """

    given: _Given
    unit: float

    def __call__(self, weights: Array) -> Array:
        """Value of each mixture, `(n, d) -> (n,)`, in the target's unit."""
        total = np.zeros(len(weights))
        for part in self._parts():
            total += np.log(part @ weights.T).sum(axis=0)
        return np.asarray(self.unit * (self.given.level - total / max(len(self.given.relative), 1)))

    def slope(self, weights: Array) -> Array:
        """Its derivatives with respect to the weights, `(n, d)`."""
        total = np.zeros_like(weights)
        for part in self._parts():
            total += (1.0 / (part @ weights.T)).T @ part
        return np.asarray(-self.unit * total / max(len(self.given.relative), 1))

    def sampling_error(self, weights: Array) -> float:
        """Standard error of the difference between two mixtures, `(2, d)`; 0 where no token was left out."""
        if len(self.given.relative) < KEPT_TOKENS:
            return 0.0
        logs = np.concatenate([np.log(part @ weights.T) for part in self._parts()])
        return float(self.unit * (logs[:, 0] - logs[:, 1]).std() / math.sqrt(len(logs)))

    def _parts(self) -> Iterator[Array]:
        for start in range(0, len(self.given.relative), _TOKENS_AT_ONCE):
            yield self.given.relative[start : start + _TOKENS_AT_ONCE].astype(np.float64)


def expert_tokens(
    experts: Experts | None, targets: Sequence[str], domains: Sequence[str], *, required: bool
) -> ExpertTokens | None:
    """Put what experts give into the order of a fit's targets and domains; `None` where they do not know it.

    Raises:
        RegressionError: It is required and not there.
    """
    fault = _fault(experts, targets, domains)
    if experts is None or fault is not None:
        if required:
            raise RegressionError(
                f"experts: {fault}.",
                "write sampling.experts: true in a recipe, and run `regmix proxies`; tables have none"
                if experts is None
                else "remove the folders of those that `regmix status` counts, and run `regmix proxies`",
            )
        return None
    found = _tokens(experts, targets, domains)
    if required and len(lacking := found.without_expert):
        raise RegressionError(
            f"experts: there is none of domain {domains[int(lacking[0])]!r} that ended well "
            f"({len(lacking)} such domains).",
            "`regmix proxies` tries failed runs again; what diverges needs a lower learning rate",
        )
    return None if len(found.without_expert) else found


def _fault(experts: Experts | None, targets: Sequence[str], domains: Sequence[str]) -> str | None:
    if experts is None:
        return "there are none among the runs"
    if other := [name for name in experts.weights.columns if name not in domains]:
        return f"they were trained on {other[0]!r}, which is no domain of the runs"
    if len(lacking := not_asked(experts, targets)) == len(targets):
        return f"they were not asked about {lacking[0]!r} as it is measured now"
    return None


def not_asked(experts: Experts, targets: Sequence[str]) -> list[str]:
    """The targets that experts know nothing of: others than losses and right answers, or later ones."""
    return [name for name in targets if _text_of(name, experts) not in experts.texts]


def of_experts(losses: pd.DataFrame, experts: Experts | None) -> pd.DataFrame:
    """Say which losses, runs x targets, are those of experts themselves, of what these were asked about.

    A mixture of the swarm that is one domain alone is such a run. There the formula is that run: it tells
    neither how models of mixtures fare beside the formula, nor how good that is. Runs are known by their ids,
    the index.
    """
    found = pd.DataFrame(False, losses.index, losses.columns)
    if experts is not None:
        asked = ~losses.columns.isin(not_asked(experts, list(map(str, losses.columns))))
        found[:] = losses.index.isin(experts.weights.index)[:, None] & asked
    return found


def _tokens(experts: Experts, targets: Sequence[str], domains: Sequence[str]) -> ExpertTokens:
    asked = [_text_of(name, experts) for name in targets]
    nothing = np.empty((len(experts), 0), dtype=np.float16)
    return ExpertTokens(
        experts.weights.reindex(columns=list(domains), fill_value=0.0).to_numpy(dtype=np.float64),
        tuple(experts.logs.get(text, nothing) for text in asked),
        tuple(
            experts.texts[text].bits_per_nat if name.startswith(BPB) and text in experts.texts else 1.0
            for name, text in zip(targets, asked, strict=True)
        ),
    )


def _text_of(target: str, experts: Experts) -> str:
    """A loss in bits per byte is of the text of the domain; a task has no other name."""
    return target if target in experts.texts else target.removeprefix(BPB)
