"""What other experts would be worth: `python -m tests.benchmarks.expert_variants RECIPE [KEY=VALUE]...`.

RECIPE is that of a study with experts and mixtures, as `tests.benchmarks.budgets` has it, whose proxies are
trained where they lack. Beside its experts others are trained: on half their domain and half the prior, and
for half and a quarter of the tokens; and its own are mixed at a temperature, one `t` for each target,
`-(1/t) log sum_d w_d p_d(x)^t`. Where proxies go on from a model of the study's own and experts keep theirs,

    proxy.model='{..., pretrained: {mixture: prior, num_train_tokens: 307200}}' proxy.keep_models=experts

what the experts changed in its weights is mixed instead, `theta_0 + sum_d w_d (theta_d - theta_0)`: a model
for each mixture of the study, measured as a run is at its end. What is done stays in the study's folder.
Prints how well each way ranks mixtures that nothing was fitted on, over random choices of which these are.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from regmix_hf import load_recipe, load_runs
from regmix_hf.corpus.corpus import Corpus
from regmix_hf.files import read_json
from regmix_hf.jobs.base import base_task
from regmix_hf.jobs.devices import Slot, num_cores
from regmix_hf.jobs.pool import Pool
from regmix_hf.jobs.proxies import ProxyWork, proxy_tasks
from regmix_hf.mixtures.table import EXPERT, read_mixtures
from regmix_hf.progress import Silent
from regmix_hf.quantities import bare
from regmix_hf.regression.expert_tokens import MixedLoss, expert_tokens
from regmix_hf.regression.experts import fit_lines
from regmix_hf.runs import Runs
from regmix_hf.runs.experts import Experts, joined
from regmix_hf.seeds import generator
from regmix_hf.stages import proxies
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.training.later import KeptRun, measure_kept
from regmix_hf.training.pretrained import hash_weights
from regmix_hf.training.spec import RunSpec, proxy_specs
from tests.benchmarks.experts import Fitted, quality

#: Mixtures that are fitted on, and how many of all judge.
COUNTS, NUM_TESTS = (8, 16, 32), 12
TEMPERATURES = np.array([0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.35, 1.6, 2.0])
#: What draws a temperature to 1: how far its logarithm usually is from 0.
_USUAL = 0.5
#: The folder of all this in that of the study, and the file of weights in that of a model.
_FOLDER, _WEIGHTS = "variants", "model.safetensors"

Array = NDArray[np.float64]
#: From rows to fit on and rows to predict to predictions.
Way = Callable[[NDArray[np.intp], NDArray[np.intp]], pd.DataFrame]


def others(specs: Sequence[RunSpec], prior: Mapping[str, float]) -> dict[str, list[RunSpec]]:
    """Other experts in the place of each of these, by what is other."""
    mixed = [{name: (weight + prior[name]) / 2 for name, weight in one.weights.items()} for one in specs]
    return {
        "half prior": [replace(one, weights=weights) for one, weights in zip(specs, mixed, strict=True)],
        **{
            f"1/{part} of the tokens": [
                replace(one, num_train_tokens=one.num_train_tokens // part) for one in specs
            ]
            for part in (2, 4)
        },
    }


def trained(study: Study, specs: Sequence[RunSpec], pool: Pool) -> dict[str, Experts]:
    """Train other experts where they lack, and read what they give each token."""
    prior = CorpusFacts.load(study.corpus).prior(study.recipe)
    found = {}
    for name, some in others(specs, prior).items():
        tasks = proxy_tasks(some, study.root / _FOLDER / name.replace(" ", "-").replace("/", "-"))
        pool.run(tasks, ProxyWork(study.corpus), Silent())
        found[name] = joined([Experts.read(task.folder / names.EXPERTS) for task in tasks])
    return found


def merged(study: Study, specs: Sequence[RunSpec], runs: Runs) -> pd.DataFrame:
    """What models lose that mix the experts' changes as runs mix domains, runs x targets."""
    folder, corpus, base = study.root / _FOLDER / "merged", Corpus(study.corpus), base_task(study)
    assert base is not None, "they go on from one model"
    tasks = [task for task in proxy_tasks(specs, study.proxies) if task.spec.split == EXPERT]
    start = load_file(base.folder / _WEIGHTS)
    own = [load_file(task.folder / names.MODEL / _WEIGHTS) for task in tasks]
    moved = {name: np.stack([one[name] - value for one in own]) for name, value in start.items()}
    weights = pd.DataFrame([task.spec.weights for task in tasks])[list(runs.domains)].to_numpy()
    shares = runs.weights.to_numpy() @ np.linalg.pinv(weights)
    like = replace(tasks[0].spec, split="fit", is_expert=False)
    rows = {}
    for run, share in zip(map(str, runs.weights.index), shares.astype(np.float32), strict=True):
        done, model = folder / run, folder / "model"
        if not (done / names.RESULT).exists():
            shutil.copytree(tasks[0].folder / names.MODEL, model, dirs_exist_ok=True)
            mixed = {name: start[name] + np.tensordot(share, moved[name], 1) for name in start}
            save_file(mixed, model / _WEIGHTS, metadata={"format": "pt"})
            done.mkdir(parents=True, exist_ok=True)
            measure_kept(KeptRun(like, model, hash_weights(model), like.measured), corpus, done)
        rows[run] = {bare(name): value for name, value in read_json(done / names.RESULT).items()}
    return pd.DataFrame(rows).T[list(runs.targets)].astype(np.float64)


def by_line(runs: Runs, told: Array) -> Way:
    """By an offset and a slope on what is said of each run, runs x targets."""
    losses = runs.losses.to_numpy()

    def way(fitted: NDArray[np.intp], tests: NDArray[np.intp]) -> pd.DataFrame:
        offset, slope = fit_lines(told[fitted], losses[fitted])
        return pd.DataFrame(offset + slope * told[tests], runs.weights.index[tests], runs.targets)

    return way


def at_temperature(runs: Runs, *, drawn_to_one: bool) -> Way:
    """By experts mixed at the temperature that misses least of runs left out, one for each target.

    Args:
        runs: With experts.
        drawn_to_one: Average over all temperatures instead, by how likely what each missed makes it, and how
            near to 1 it is.
    """
    tokens = expert_tokens(runs.experts, runs.targets, runs.domains, required=True)
    assert tokens is not None, "else it raises"
    formulas, losses = tokens.mixed(), runs.losses.to_numpy()
    weights = runs.weights.to_numpy()
    told = [np.stack([_at(one, t)(weights) for one in formulas], axis=1) for t in TEMPERATURES]
    lines = [by_line(runs, one) for one in told]

    def way(fitted: NDArray[np.intp], tests: NDArray[np.intp]) -> pd.DataFrame:
        missed = np.stack([_left_out(one[fitted], losses[fitted]) for one in told])
        unlikely = len(fitted) / 2 * np.log((missed**2).mean(axis=1))
        shares = (unlikely == unlikely.min(axis=0)).astype(np.float64)
        if drawn_to_one:
            unlikely += 0.5 * (np.log(TEMPERATURES) / _USUAL)[:, None] ** 2
            shares = np.exp(unlikely.min(axis=0) - unlikely)
        shares /= shares.sum(axis=0)
        predicted = np.stack([line(fitted, tests).to_numpy() for line in lines])
        mean = np.einsum("it,int->nt", shares, predicted)
        return pd.DataFrame(mean, runs.weights.index[tests], runs.targets)

    return way


def _at(formula: MixedLoss, temperature: float) -> MixedLoss:
    given = formula.given
    relative = given.relative ** np.float32(temperature)
    return replace(
        formula,
        given=replace(given, relative=relative, level=given.level * temperature),
        unit=formula.unit / temperature,
    )


def _left_out(told: Array, losses: Array) -> Array:
    """What lines through all other runs miss of each, runs x targets."""
    missed = np.empty_like(losses)
    for row in range(len(told)):
        rest = np.arange(len(told)) != row
        offset, slope = fit_lines(told[rest], losses[rest])
        missed[row] = offset + slope * told[row] - losses[row]
    return missed


def ways(runs: Runs, variants: Mapping[str, Experts]) -> Iterator[tuple[str, Way]]:
    """Ways to predict by experts of the study and by other ones."""
    kinds = {"experts": runs, **{name: replace(runs, experts=one) for name, one in variants.items()}}
    for name, some in kinds.items():
        yield name, lambda fitted, tests, some=some: Fitted(some, "experts", fitted).predict(tests)
    best, drawn = (at_temperature(runs, drawn_to_one=one) for one in (False, True))
    yield "a temperature", best
    yield "temperatures, drawn to 1", drawn

    @cache
    def law(*fitted: int) -> Fitted:
        return Fitted(runs, "experts_and_law", np.array(fitted))

    yield "experts and law", lambda fitted, tests: law(*fitted).predict(tests)
    yield (
        "temperatures, drawn to 1, and law",
        # In the mean of both, the experts' half is put in the place of what it was.
        lambda fitted, tests: (
            law(*fitted).predict(tests)
            + (drawn(fitted, tests) - Fitted(runs, "experts", fitted).predict(tests)) / 2
        ),
    )


def table(runs: Runs, every: Mapping[str, Way], counts: Sequence[int], repeats: int) -> pd.DataFrame:
    """Quality of each way: mean over random choices of what judges, deviation of ranks and error."""
    rows = []
    for repeat in range(repeats):
        order = generator(0, "budget", repeat).permutation(len(runs))
        pool, tests = order[:-NUM_TESTS], order[-NUM_TESTS:]
        for count in counts:
            for name, predict in every.items():
                found = quality(runs, tests, predict(pool[:count], tests))
                rows.append({"mixtures": count, "by": name, **found})
    groups = pd.DataFrame(rows).groupby(["mixtures", "by"], sort=False)
    spread = groups.std()[["ranks", "error"]].add_suffix(" +-")
    return pd.concat([groups.mean(), spread], axis=1).reset_index()


def main() -> None:
    """Train, merge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--workers", type=int, default=num_cores())
    told = parser.parse_intermixed_args()
    study = Study(load_recipe(told.recipe, told.overrides))
    pool = Pool([Slot()] * told.workers, study.root / _FOLDER)
    proxies.run(study, Silent(), pool)
    specs = proxy_specs(study.recipe, CorpusFacts.load(study.corpus), read_mixtures(study.mixtures))
    runs = load_runs(study.root)
    if base_task(study) is None:
        every = dict(ways(runs, trained(study, [one for one in specs if one.split == EXPERT], pool)))
    else:
        every = {
            "experts": lambda fitted, tests: Fitted(runs, "experts", fitted).predict(tests),
            "merged weights": by_line(runs, merged(study, specs, runs).to_numpy()),
        }
    print(table(runs, every, told.counts, told.repeats).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
