"""Stage 5, `choose`: the mixture with the best predicted target that the final run's data allows."""

from __future__ import annotations

from regmix_hf.mixtures import around_prior, sampling_constraints
from regmix_hf.mixtures.final import final_constraints
from regmix_hf.progress import Progress
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.corpus_facts import CorpusFacts

STAGE = Stage(
    verb="choose",
    folder=names.MIXTURE,
    keys=(
        "seed",
        "domains",
        "sampling",
        "regression.target",
        "regression.estimator",
        "choice",
        "proxy.num_train_tokens",
        "train.num_train_tokens",
    ),
    inputs=(
        f"{names.CORPUS}/{names.CORPUS_FACTS}",
        f"{names.PROXIES}/{names.RESULTS}",
        f"{names.REGRESSION}/{names.FIT_SUMMARY}",
    ),
    outputs=(names.CHOSEN_MIXTURE, names.CHOSEN_TABLE),
)


def run(study: Study, progress: Progress) -> None:
    """Choose with the regressor that `fit` selected, and write the mixture and what it promises.

    Raises:
        StudyError: The corpus or the fit is not there yet.
        MixtureError: No mixture meets the constraints; the message names those that clash.
    """
    from regmix_hf.choice import FittedRuns, write_chosen

    recipe = study.recipe
    facts = CorpusFacts.load(study.corpus)
    tokens = facts.available_tokens(recipe)
    constraints = final_constraints(recipe, tokens)
    study.require(study.regression / names.FIT_SUMMARY, "fit")
    fitted = FittedRuns.load(
        study.regression, estimator=recipe.regression.estimator, target=recipe.regression.target
    )
    drawn_within = sampling_constraints(
        recipe.sampling, tokens, num_train_tokens=recipe.proxy.num_train_tokens
    )
    problem = fitted.problem(
        around_prior(facts.prior(recipe), recipe.sampling, drawn_within),
        constraints,
        choice=recipe.choice,
        random_state=recipe.seed,
    )
    chosen = problem.solve(progress)
    epochs = {
        name: weight * recipe.train.num_train_tokens / tokens[name] for name, weight in chosen.weights.items()
    }
    write_chosen(chosen, study.mixture.parent, epochs=epochs)
    progress.note(f"chosen: {chosen.reason}")
    progress.note(f"predictions and intervals are those of a new run {chosen.speaks_of}")
    for warning in chosen.warnings:
        progress.note(f"warning: {warning}")
    study.finish(STAGE, {"method": chosen.method, "predicted": chosen.predicted.loss})
