"""Promised against measured: what was predicted for every final mixture, and what its models did."""

from __future__ import annotations

import math

import pandas as pd

from regmix_hf.evaluation.model import finite
from regmix_hf.files import read_parquet, read_yaml, write_json
from regmix_hf.quantities import measured
from regmix_hf.regression import MixtureRegressor
from regmix_hf.regression.final_run import as_final_runs_read
from regmix_hf.regression.metrics import as_metric, evaluate_metric
from regmix_hf.regression.target import Target
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promise, Promises, Size
from regmix_hf.tables import SIZES, by_domain

#: The mixture that promises were made of.
_CHOSEN = "chosen"


def write_promises(study: Study) -> Promises | None:
    """Write `promises.json`; `None`, and no file, where nothing was promised or no model has a value of it.

    Raises:
        RegressionError: The fit cannot be read.
    """
    file = study.evaluation / names.PROMISES
    promises = _promises(study)
    if promises is None:
        file.unlink(missing_ok=True)
        return None
    write_json(file, promises.model_dump(mode="json"))
    return promises


def _promises(study: Study) -> Promises | None:
    if not study.mixture.exists() or not (study.regression / names.FIT_SUMMARY).exists():
        return None
    results = read_parquet(study.models / names.RESULTS)
    ended = results[results["status"] == "ok"]
    if ended.empty:
        return None
    record = read_yaml(study.mixture)
    regressor = MixtureRegressor.from_pretrained(study.regression / record["estimator"])
    if not regressor.num_runs_:  # experts alone rank mixtures, and promise no loss
        return None
    size = record["predicted"].get("size")
    if size is not None:
        regressor = regressor.at(**size)
    if (facts := CorpusFacts.find(study.corpus)) is not None:
        tokens = facts.available_tokens(study.recipe)
        regressor = as_final_runs_read(regressor, study.recipe.train.num_train_tokens, tokens)
    target = Target.parse(study.recipe.regression.target, regressor.quantities_, regressor.scales)
    coverage = float(record["predicted"]["coverage"])
    if not target.is_in(measured(ended)):
        return None
    values = target.combine(measured(ended).astype(float)).dropna()
    ended = ended.loc[values.index]  # models that were trained before a target came have no value of it
    if ended.empty:
        return None
    losses = values.groupby(ended["mixture_id"], sort=False)
    weights = by_domain(ended, "weight").fillna(0.0).groupby(ended["mixture_id"], sort=False).first()
    table = regressor.predict_target(weights[list(regressor.domains_)], target, coverage)
    table = table.assign(measured=losses.mean(), deviation=losses.std(), num_seeds=losses.size())
    return Promises(
        target=str(target),
        unit=target.quantity.unit,
        direction=target.quantity.direction,
        estimator=regressor.estimator,
        coverage=coverage,
        predicted_for=_proxy_size(study) if size is None else _counted(**size),
        measured_on=_size(ended) if size is None else _counted_in(ended),
        mixtures=_rows(table, target.quantity.sign),
        scores=_scores(_different(table, weights), target.quantity.sign),
    )


def _rows(table: pd.DataFrame, sign: float) -> tuple[Promise, ...]:
    ahead = table[["loss", "measured"]].astype(float) * math.nan
    if _CHOSEN in table.index:
        ahead = sign * (table[["loss", "measured"]] - table.loc[_CHOSEN, ["loss", "measured"]].astype(float))
        ahead += 0.0  # no negative zero of the chosen one against itself
    return tuple(
        Promise(
            mixture=str(name),
            predicted=row["loss"],
            lower=row["lower"],
            upper=row["upper"],
            measured=row["measured"],
            deviation=finite(row["deviation"]),
            num_seeds=int(row["num_seeds"]),
            promised_gain=finite(loss),
            measured_gain=finite(measured),
        )
        for (name, row), (loss, measured) in zip(table.iterrows(), ahead.to_numpy(), strict=True)
    )


def _different(table: pd.DataFrame, weights: pd.DataFrame) -> pd.DataFrame:
    """Keep one of mixtures with the same weights, the chosen one first: their models are the same."""
    first = sorted(table.index, key=lambda name: name != _CHOSEN)
    return table.loc[~weights.loc[first].duplicated().reindex(table.index)]


def _scores(table: pd.DataFrame, sign: float) -> dict[str, float | None]:
    """Compute all metrics over different final mixtures, the chosen one first, of what is to be small."""
    import evaluate

    metrics = [evaluate_metric("spearman")]
    if _CHOSEN in table.index:
        table = table.loc[[_CHOSEN, *(name for name in table.index if name != _CHOSEN)]]
        what = "measured loss of the first mixture, minus the least measured loss"
        metrics.append(as_metric("chosen_regret", what, lambda measured, _: measured[0] - min(measured)))
    combined = evaluate.combine(metrics)
    predicted, measured = ((sign * table[name]).tolist() for name in ("loss", "measured"))
    scores = combined.compute(predictions=predicted, references=measured)
    return {name: finite(value) for name, value in scores.items()}


def _proxy_size(study: Study) -> Size:
    """Of the study's own proxies where there are any, else what the recipe says of those it took."""
    results = study.proxies / names.RESULTS
    if results.exists():
        table = read_parquet(results)
        return _size(table[table["status"] == "ok"])
    return Size(scale=study.recipe.proxy.scale, num_train_tokens=study.recipe.proxy.num_train_tokens)


def _counted(num_parameters: float, num_train_tokens: float) -> Size:
    """The size that a mixture was chosen for, embeddings counted, as what is promised says it everywhere."""
    return Size(scale=f"{num_parameters:,.0f}", num_train_tokens=int(num_train_tokens))


def _counted_in(ended: pd.DataFrame) -> Size:
    """The same of final models; version 0.1 did not count their parameters."""
    if "num_parameters" not in ended or ended["num_parameters"].isna().any():
        return _size(ended)
    return _counted(**ended[list(SIZES)].iloc[0])


def _size(results: pd.DataFrame) -> Size:
    scale = results["scale"].dropna()
    return Size(
        scale=None if scale.empty else str(scale.iloc[0]),
        num_train_tokens=int(results["num_train_tokens"].iloc[0]),
    )
