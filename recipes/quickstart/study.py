"""The quickstart through the Python API, from top to bottom: an example to copy.

    python recipes/quickstart/study.py [key.path=value]...

It does what `regmix run recipes/quickstart` does, in the same folder, and looks at the numbers on the way.
Stopped or killed, it goes on where it was; what is done is not done again.
"""

import sys
from pathlib import Path

from regmix_hf import MixtureRegressor, choose_mixture, load_recipe, load_runs
from regmix_hf.choice import read_chosen
from regmix_hf.cli.console import Console
from regmix_hf.pipeline import run
from regmix_hf.study import Study, names
from regmix_hf.study.corpus_facts import CorpusFacts
from regmix_hf.study.promises import Promises


def main(*overrides: str) -> None:
    """Ask, train proxies, fit, choose, train on the choice and on what it has to beat, compare."""
    # The question is a recipe: text, models, and what is to become small.
    study = Study(load_recipe(Path(__file__).parent, overrides))
    recipe, progress = study.recipe, Console()
    target = str(recipe.regression.target)

    # Text becomes blocks of tokens, mixtures are drawn around the prior, a small model is trained on each,
    # and one on each domain alone: an expert.
    run(study, last="proxies", progress=progress)

    # A table of runs: shares of training tokens on one side, losses in nats per token on the other.
    runs = load_runs(study.root)
    fitted, experts = runs.part("fit"), runs.experts
    print(f"{len(fitted)} runs and {len(experts)} experts; {target}: {_range(fitted.losses[target])}")

    # What experts say of a mixture, and a law from shares to losses. Do they know mixtures that they were not
    # fitted on? Each is predicted by a fit on others.
    model = MixtureRegressor("experts_and_law", random_state=recipe.seed)
    model.fit(fitted.weights, fitted.losses, experts=experts)
    unseen = fitted.losses - model.out_of_fold_residuals
    print(f"rank correlation {unseen[target].corr(fitted.losses[target], method='spearman'):.2f} out of fold")

    # The best mixture by both. The recipe's own choice, below, also bounds how often text is repeated.
    prior = CorpusFacts.load(study.corpus).prior(recipe)
    chosen = choose_mixture(model, target, prior=prior, swarm=fitted.weights, choice=recipe.choice)
    print(f"predicted: {chosen.predicted.loss:.3f} chosen, {chosen.prior_predicted.loss:.3f} prior")
    print("\n".join(f"warning: {warning}" for warning in chosen.warnings))

    # The same as stages, with every family compared and judged; then the final models, and the report.
    run(study, progress=progress)
    for domain, weight in read_chosen(study.mixture).items():
        print(f"{domain:<20}{prior[domain]:>8.1%} ->{weight:>7.1%}")
    for one in Promises.load(study.evaluation / names.PROMISES).mixtures:
        print(f"{one.mixture:<20}promised {one.predicted:.3f}, measured {one.measured:.3f}")
    print(f"Read {study.page}")


def _range(losses) -> str:
    return f"{losses.min():.3f} to {losses.max():.3f} nats per token"


if __name__ == "__main__":
    main(*sys.argv[1:])
