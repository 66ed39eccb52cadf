"""Push a study whenever a line arrives on stdin, each time in a process of its own.

Arguments: the recipe and overrides. Writes two lines for each push: the id of the process, and how it ended.
The processes are forked after the imports, which take far longer than a push.
"""

import os
import sys
import traceback

import undrawn  # noqa: F401 - every process would draw all of them

from regmix_hf import pipeline
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import push_study
from regmix_hf.study import Study

stages = [pipeline.stage_of(verb) for verb in pipeline.VERBS]
study = Study(load_recipe(sys.argv[1], sys.argv[2:]))

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            push_study(study, stages)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
