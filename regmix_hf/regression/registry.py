"""The families of regressors by name, imported when asked for."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from regmix_hf.errors import RegressionError, did_you_mean

if TYPE_CHECKING:
    from regmix_hf.regression.base import MixtureEstimator

#: Name -> (module of this package, class).
_FAMILIES = {
    "auto": ("auto", "Auto"),
    "experts": ("experts", "Experts"),
    "experts_and_law": ("experts_and_law", "ExpertsAndLaw"),
    "gaussian_process": ("gaussian_process", "GaussianProcess"),
    "kriged_power_law": ("kriged_power_law", "KrigedPowerLaw"),
    "lightgbm": ("lightgbm", "LightGBM"),
    "log_linear": ("log_linear", "LogLinear"),
    "own_weight": ("own_weight", "OwnWeight"),
    "power_law": ("power_law", "PowerLaw"),
    "ridge": ("ridge", "Ridge"),
    "scaled_law": ("scaled_law", "ScaledLaw"),
}

#: Families that cannot be fitted on mixtures and losses alone.
WITH_EXPERTS = ("experts", "experts_and_law")
#: Names of all families that can.
ESTIMATORS = tuple(sorted(_FAMILIES.keys() - set(WITH_EXPERTS)))


def estimator_class(name: str) -> type[MixtureEstimator]:
    """Import the family `name`.

    Raises:
        RegressionError: No family has this name.
    """
    if name not in _FAMILIES:
        raise RegressionError(f"{name!r} is no estimator.", did_you_mean(name, _FAMILIES))
    module, attribute = _FAMILIES[name]
    family: type[MixtureEstimator] = getattr(import_module(f"regmix_hf.regression.{module}"), attribute)
    return family


def build_estimator(name: str, random_state: int, params: dict[str, Any]) -> MixtureEstimator:
    """Make an unfitted estimator of the family `name`.

    Raises:
        RegressionError: The family does not exist, or does not take one of `params`.
    """
    family = estimator_class(name)
    known = inspect.signature(family).parameters.keys() - {"random_state"}
    for param in params:
        if param not in known:
            raise RegressionError(f"{name} takes no {param!r}.", did_you_mean(param, known))
    return family(random_state=random_state, **params)
