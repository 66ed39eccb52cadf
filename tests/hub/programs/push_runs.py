"""Several people push the runs of their studies while they end, batch by batch, until each batch is in.

Arguments: batches, then the recipe of every person. In each study the results of proxies that have not ended
yet are called `later.json`; a run ends when its file gets its own name. Every person is a process of its own,
forked after the imports, which take far longer than a push.
"""

import os
import sys

import undrawn  # noqa: F401 - drawn anew after every lost race a picture takes half of the time

from regmix_hf import pipeline
from regmix_hf.errors import HubError
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import push_study
from regmix_hf.study import Study

num_batches, recipes = int(sys.argv[1]), sys.argv[2:]
stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]


def push_runs(recipe: str) -> None:
    """Push as `proxies` does while it trains, after every batch of runs that end."""
    study = Study(load_recipe(recipe))
    runs = sorted(study.proxies.glob("*/later.json"))
    for batch in range(num_batches):
        for run in runs[batch::num_batches]:
            run.rename(run.with_name("result.json"))
        for _ in range(100):
            try:
                push_study(study, stages, only=["runs"], tag=False)
            except HubError as error:
                print(error, file=sys.stderr)
            else:
                break
        else:
            sys.exit("the batch never got in")


children = []
for recipe in recipes:
    if (child := os.fork()) == 0:
        code = 1
        try:
            push_runs(recipe)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
