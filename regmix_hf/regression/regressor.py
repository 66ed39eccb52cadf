"""The one class users meet: mixtures in, predicted losses and intervals out, by name, stored as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from regmix_hf.errors import RegressionError
from regmix_hf.files import write_json
from regmix_hf.quantities import BPB, Quantity, fitting, read_names
from regmix_hf.readable import count_of
from regmix_hf.regression.absurd import find_absurd
from regmix_hf.regression.base import UnfittedError, check_runs, of_largest
from regmix_hf.regression.expert_tokens import expert_tokens, of_experts
from regmix_hf.regression.frames import Table, losses_table, weights_table
from regmix_hf.regression.intervals import HalfWidth, OutOfFold, entropy, number_rows
from regmix_hf.regression.pretrained import CARD, SharedRegressor
from regmix_hf.regression.registry import build_estimator
from regmix_hf.regression.repetition import Repetition
from regmix_hf.regression.repetition_fit import fit_repetition
from regmix_hf.regression.saved_config import FORMAT, quantities_in, read_config
from regmix_hf.regression.storage import read_arrays, write_arrays
from regmix_hf.regression.target import Target, scales_of
from regmix_hf.runs.experts import Experts
from regmix_hf.tables import SIZES

#: What is saved of the cross-validation, and the names of its dimensions.
_MISSED = {
    "losses": ("runs", "targets"),
    "predicted": ("runs", "targets"),
    "entropy": ("runs",),
    "mixture": ("runs",),
}
#: Of these, what is not there in a folder that was saved before intervals held the noise between seeds.
_NEW = ("mixture",)


class MixtureRegressor(
    SharedRegressor,
    RegressorMixin,
    BaseEstimator,
    library_name="regmix_hf",
    pipeline_tag="tabular-regression",
    tags=["regmix", "data-mixture"],
    model_card_template=CARD,
):
    """Predict the losses of runs from the mixtures they train on.

    An estimator of scikit-learn's: it can be cloned, scored, searched over and cross-validated.

    Args:
        estimator: The family, one of `regmix_hf.regression.ESTIMATORS`.
        random_state: Seed of all that is random in the fit; equal seeds give equal fits.
        **params: Passed to the family.

    Attributes:
        domains_: Names of the domains, in the order of the columns fitted on.
        targets_: Names of the targets.
        quantities_: Unit and direction of each, by name, in their order.
        num_runs_: Runs fitted on.
        num_dropped_: For each target the runs left out because their loss was missing or absurd.

    A family that `takes_sizes` is fitted on runs of several sizes and lengths, all attributes but `domains_`
    and `targets_` speaking of those of the largest size (`of_largest`), and so do its predictions; `at` gives
    a copy for another size.

    Raises:
        RegressionError: The family does not exist or does not take one of `params`.
    """

    domains_: tuple[str, ...]
    targets_: tuple[str, ...]
    quantities_: dict[str, Quantity]
    num_runs_: int
    num_dropped_: dict[str, int]

    def __init__(self, estimator: str = "power_law", *, random_state: int = 0, **params: Any):
        self.estimator = estimator
        self.random_state = random_state
        self.params = params
        self.model = build_estimator(estimator, random_state, params)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return `estimator`, `random_state` and what is passed to the family, by name."""
        return {"estimator": self.estimator, "random_state": self.random_state, **self.params}

    def set_params(self, **params: Any) -> Self:
        """Change any of them; what was fitted is forgotten.

        Raises:
            RegressionError: The family does not exist or does not take one of them.
        """
        self.__dict__ = type(self)(**{**self.get_params(), **params}).__dict__
        return self

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        return f"MixtureRegressor({self.estimator!r}, random_state={self.random_state}{params})"

    @property
    def is_smooth(self) -> bool:
        """Whether `gradient` is there."""
        return self.model.is_smooth

    @property
    def out_of_fold_residuals(self) -> NDArray[np.float64]:
        """Loss minus its prediction by a fit on other mixtures, fitted runs x targets; NaN without either."""
        self._check_fitted()
        return self._out_of_fold.residuals

    def out_of_fold(self, target: Target) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The fitted runs' values of `target`, and predictions by fits on other mixtures; NaN without."""
        self._check_fitted()
        missed = self._out_of_fold.combined(target)
        return missed.losses[:, 0], missed.predicted[:, 0]

    @property
    def holds_seed_noise(self) -> bool:
        """Whether intervals hold the noise between seeds: some mixture was run more than once."""
        self._check_fitted()
        return self._out_of_fold.holds_seed_noise

    def fit(
        self,
        weights: Table,
        losses: Table | pd.Series,
        quantities: Mapping[str, Quantity] | None = None,
        *,
        sizes: pd.DataFrame | None = None,
        epochs: pd.DataFrame | None = None,
        experts: Experts | None = None,
    ) -> Self:
        """Fit all targets, and measure by cross-validation how far predictions of unseen runs are off.

        Args:
            weights: Runs x domains. Rows must sum to 1 within 1 % and are normalised.
            losses: Runs x targets, matched to `weights` by index where both are tables. Missing losses
                (NaN) are left out target by target, and so are those far beside all others of their size
                and length (`find_absurd`).
            quantities: Unit and direction of each target. Default: what their names say (`read_names`).
            sizes: `num_parameters` and `num_train_tokens` of each run, in the order of `weights`. `None`: all
                runs are of one size and length.
            epochs: How often each run read each domain, runs x domains, in the order of `weights`: its weight
                times the tokens of the run over the tokens that there are. What repeating costs
                (`Repetition`) is told apart from what the family fits; predictions are of runs that repeat
                as those of the largest size do, a copy's by `reading`. `None`: repeating plays no part.
            experts: What models of single domains give each token of the targets, for families that use it;
                in these, runs that are experts themselves (by the ids in the index) do not count.

        Raises:
            RegressionError: Tables that do not match or hold what is no weight or no loss, a target whose
                losses are all equal or of which nobody says which way is better, too few runs, or sizes,
                epochs or missing experts that the family cannot do with.
        """
        mixtures = weights_table(weights)
        truth = losses_table(losses, mixtures)
        size = None if sizes is None else sizes[list(SIZES)].to_numpy(np.float64)
        truth = truth.mask(find_absurd(truth.to_numpy(), size))
        self.domains_, self.targets_ = tuple(mixtures.columns), tuple(truth.columns)
        known = quantities or read_names(self.targets_, self.domains_)
        self.quantities_ = fitting({name: known[name] for name in self.targets_}, truth)
        largest = np.ones(len(mixtures), bool) if size is None else of_largest(size)
        self.num_runs_ = int(largest.sum())
        self.num_dropped_ = {name: int(truth[name][largest].isna().sum()) for name in self.targets_}
        own = own_domains(self.targets_, self.domains_)
        X, y = mixtures.to_numpy(), truth.to_numpy()
        self.model = build_estimator(self.estimator, self.random_state, self.params)
        if len(self.domains_) == 1:
            raise RegressionError(f"there is one domain, {self.domains_[0]!r}: every mixture is the same.")
        told = of_experts(truth, experts if self.model.takes_experts else None).to_numpy()
        small = self._signs * np.where(told, np.nan, y)
        check_runs(self.estimator, self.model.min_runs(len(self.domains_)), X, small, self.targets_)
        if epochs is not None and not self.model.takes_epochs:
            raise RegressionError(f"{self.estimator} takes no epochs.", "fit `power_law` or `auto`")
        again = fit_repetition(mixtures, small, own, epochs, size, self.random_state)
        tokens = expert_tokens(experts, self.targets_, self.domains_, required=self.model.needs_experts)
        self.model.fit(X, small - again.seen, own_domains=own, sizes=size, experts=tokens)
        unseen = self.model.out_of_fold(X, small - again.seen, own) + again.unseen
        self.model.repetition_ = again.term
        missed = np.where(told, np.nan, self._signs * unseen)[largest]
        self._judge_by(OutOfFold(y[largest], missed, entropy(X)[largest], number_rows(X)[largest]))
        return self

    def at(self, num_parameters: float, num_train_tokens: float) -> Self:
        """Return a copy whose predictions and intervals are those of runs of this size and length.

        Raises:
            RegressionError: The family knows one size only, or a number is not above 0.
        """
        self._check_fitted()
        part = copy(self)
        part.model = self.model.at(num_parameters, num_train_tokens)
        part._judge_by(self._out_of_fold)
        return part

    @property
    def knows_repetition(self) -> bool:
        """Whether it tells what repeating text costs: some fitted run read a domain more than once."""
        self._check_fitted()
        return self.model.repetition_ is not None

    def reading(self, available_tokens: Mapping[str, float], num_train_tokens: float) -> Self:
        """Return a copy whose predictions are those of runs so long over so much text of each domain.

        Intervals are wider by what rests on more epochs than any fitted run read, in squares.

        Raises:
            RegressionError: No fitted run repeated any text, a domain is missing, or a number is not above 0.
        """
        self._check_fitted()
        if (repetition := self.model.repetition_) is None:
            raise RegressionError(
                "no fitted run read a domain more than once: what repeating costs is not known.",
                "give `fit` the epochs of runs that repeat, or bound epochs: choice.max_epochs",
            )
        lacking = [name for name in self.domains_ if not available_tokens.get(name, 0.0) > 0]
        if lacking or not num_train_tokens > 0:
            raise RegressionError(
                f"a run of {num_train_tokens} tokens over {dict(available_tokens)}: of "
                f"{', '.join(lacking) or 'the run'} no number of tokens above 0 is given."
            )
        part, available = copy(self), np.array([available_tokens[name] for name in self.domains_])
        part.model = copy(self.model)
        part.model.repetition_ = repetition.reading(available, num_train_tokens)
        return part

    def predict(self, weights: Table) -> pd.DataFrame:
        """Predict losses, runs x targets, with the index of `weights`.

        Args:
            weights: Runs x domains; a table's columns are matched by name, an array's by position.

        Raises:
            RegressionError: Not fitted, domains that are unknown or missing, or rows that are no mixture.
        """
        return self._predict(self._mixtures(weights))

    def predict_interval(self, weights: Table, coverage: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Lower and upper bounds that hold the loss of a new run with probability `coverage`.

        They hold the uncertainty of the fit and, where `holds_seed_noise`, the noise between seeds, and end
        where values do (`Quantity.bounds`).

        Raises:
            RegressionError: As `predict`; or the runs are too few for this coverage.
        """
        mixtures = self._mixtures(weights)
        losses = self._predict(mixtures)
        half = self._out_of_fold.half_widths(coverage, losses.to_numpy(), mixtures.to_numpy())
        half = np.hypot(half, self.model.beyond(mixtures.to_numpy()))
        least, most = map(list, zip(*(one.bounds for one in self.quantities_.values()), strict=True))
        lower, upper = ((losses + ends).clip(least, most, axis=1) for ends in (-half, half))
        return lower, upper

    def predict_target(self, weights: Table, target: Target, coverage: float = 0.9) -> pd.DataFrame:
        """Predict what `target` makes of the losses: columns `loss`, `lower` and `upper`.

        The interval comes from what cross-validation missed of that very value.

        Raises:
            RegressionError: As `predict_interval`.
        """
        mixtures = self._mixtures(weights)
        losses = self._predict(mixtures)
        loss = target.combine(losses)
        missed = self._out_of_fold.combined(target)
        centre = np.asarray(loss, dtype=np.float64)[:, None]
        half = missed.half_widths(coverage, centre, mixtures.to_numpy())[:, 0]
        known = losses - self._signs * self.model.beyond(mixtures.to_numpy())
        half = np.hypot(half, target.combine(known) - loss)
        lower, upper = ((loss + ends).clip(*target.quantity.bounds) for ends in (-half, half))
        return pd.DataFrame({"loss": loss, "lower": lower, "upper": upper})

    def interval_sizes(self, coverage: float, target: Target | None = None) -> list[HalfWidth]:
        """What intervals are made of, for each target, or for `target` alone.

        Raises:
            RegressionError: As `predict_interval`.
        """
        self._check_fitted()
        missed = self._out_of_fold if target is None else self._out_of_fold.combined(target)
        return missed.sizes(coverage)

    def gradient(self, weights: Table) -> NDArray[np.float64]:
        """Derivatives of the predictions with respect to the weights, runs x targets x domains.

        Raises:
            RegressionError: As `predict`; or the family is not smooth.
        """
        return self._signs[:, None] * self.model.gradient(self._mixtures(weights).to_numpy())

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each target over the fitted runs."""
        self._check_fitted()
        return scales_of(pd.DataFrame(self._out_of_fold.losses, columns=list(self.targets_)))

    @property
    def _signs(self) -> NDArray[np.float64]:
        """What each target is multiplied by: families make small what they are given."""
        return np.array([quantity.sign for quantity in self.quantities_.values()])

    @property
    def _about(self) -> str:
        made = ((len(self.targets_), "target"), (len(self.domains_), "domain"), (self.num_runs_, "run"))
        targets, domains, runs = (count_of(number, thing) for number, thing in made)
        return f"A `{self.estimator}` regressor of {targets} on the weights of {domains}, fitted on {runs}."

    def _save_pretrained(self, save_directory: Path) -> None:
        self._check_fitted()
        folder = save_directory
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder)
        if self.model.repetition_ is not None:
            self.model.repetition_.save(folder)
        missed = {name: getattr(self._out_of_fold, name) for name in _MISSED}
        write_arrays(folder / "out_of_fold.safetensors", missed)
        config = {
            "library_name": "regmix_hf",
            "format": FORMAT,
            "estimator": self.estimator,
            "random_state": self.random_state,
            "params": self.params,
            "domains": list(self.domains_),
            "targets": list(self.targets_),
            "quantities": [quantity.plain for quantity in self.quantities_.values()],
            "num_runs": self.num_runs_,
            "num_dropped": self.num_dropped_,
        }
        write_json(folder / "config.json", config)

    @classmethod
    def _load(cls, folder: Path) -> Self:
        config = read_config(folder / "config.json")
        # How many threads is for this machine to say.
        params = {name: value for name, value in config["params"].items() if name != "num_threads"}
        domains, targets = tuple(config["domains"]), tuple(config["targets"])
        try:
            regressor = cls(config["estimator"], random_state=config["random_state"], **params)
            regressor.model.load(folder, num_domains=len(domains), num_targets=len(targets))
            regressor.model.repetition_ = Repetition.load(
                folder, num_domains=len(domains), num_targets=len(targets)
            )
        except RegressionError:
            raise
        except (TypeError, ValueError) as error:
            raise RegressionError(f"{folder / 'config.json'}: params {params!r}: {error}.") from error
        regressor.domains_, regressor.targets_ = domains, targets
        regressor.quantities_ = quantities_in(config, folder / "config.json")
        regressor.num_runs_, regressor.num_dropped_ = config["num_runs"], config["num_dropped"]
        lengths = {"domains": len(domains), "targets": len(targets), "runs": regressor.num_runs_}
        file = folder / "out_of_fold.safetensors"
        arrays = read_arrays(file, _MISSED, lengths, may_be_nan=("losses", "predicted"), may_lack=_NEW)
        regressor._judge_by(OutOfFold(**arrays, elsewhere=None))
        return regressor

    def _judge_by(self, missed: OutOfFold) -> None:
        """Make intervals of what was missed out of fold, and of how the model's predictions differ."""
        there = self.model.elsewhere
        self._out_of_fold = replace(missed, elsewhere=there and there.signed(self._signs))

    def _predict(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        losses = self._signs * self.model.predict(mixtures.to_numpy())
        return pd.DataFrame(losses, index=mixtures.index, columns=list(self.targets_))

    def _mixtures(self, weights: Table) -> pd.DataFrame:
        self._check_fitted()
        return weights_table(weights, self.domains_)

    def _check_fitted(self) -> None:
        if not hasattr(self, "_out_of_fold"):
            raise UnfittedError(f"{self!r} is not fitted yet.", "call fit first")


def own_domains(targets: Sequence[str], domains: Sequence[str]) -> list[int]:
    """For each target the number of the domain whose loss it is, in nats or in bits, or -1."""
    owners = [name.removeprefix(BPB) for name in targets]
    return [domains.index(name) if name in domains else -1 for name in owners]
