"""Words on the command line about where runs are done."""

import shlex
from pathlib import Path

import pytest

from regmix_hf.recipe import load_recipe


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--workers", "3"], "--workers 3: workers are submitted to Slurm or as jobs"),
        (["proxies", "--on", "ray", "--workers", "3"], "Ray does as many runs at once"),
        (["proxies", "--on", "slurm", "--shard", "2/8"], "workers on slurm share out all runs themselves"),
        (["proxies", "--shard", "3"], "should be K/N, 2/8 say"),
        (["proxies", "--on", "jobs", "--print"], "only Slurm has a script"),
        (["run", "--on", "Slurm"], "should be 'local', 'ray', 'slurm' or 'jobs'"),
    ],
)
def test_words_on_where_runs_are_done_that_do_not_fit_are_refused(regmix, recipe, words, said):
    outcome = regmix(words[0], recipe, *words[1:])
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())


def test_a_script_that_is_printed_names_a_recipe_that_is_there(regmix, recipe):
    outcome = regmix("proxies", recipe, "--on", "slurm", "--workers", "3", "--print")
    assert "#SBATCH --array=1-3" in outcome.out
    (told,) = (word for word in shlex.split(outcome.out.splitlines()[-1]) if word.endswith(".yaml"))
    assert load_recipe(Path(told)).executor.place == "local"


def test_nothing_is_submitted_that_would_find_nothing_to_do(regmix, recipe):
    outcome = regmix("proxies", recipe, "--on", "slurm")
    assert outcome.code == 2
    assert "regmix prepare" in outcome.err
    assert "sbatch" not in outcome.err
