"""A claim has one holder, and a dead holder holds nothing; a count of tokens is never half-written."""

import subprocess
import sys

import pytest

from regmix_hf.jobs.claims import claim
from regmix_hf.jobs.tokens import TokenCount, tokens_so_far

HOLD = """
import sys, time
from pathlib import Path
from regmix_hf.jobs.claims import claim
with claim(Path(sys.argv[1])) as granted:
    print(granted, flush=True)
    time.sleep(60)
"""


@pytest.mark.cold_processes
def test_a_claim_is_granted_once_and_again_after_its_holder_was_killed(tmp_path, within):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "True\n"
        with claim(tmp_path) as granted:
            assert not granted
        holder.kill()
    with claim(tmp_path) as granted:
        assert granted
    with claim(tmp_path) as granted:
        assert granted, "a claim that was let go is free"


def test_tokens_are_counted_from_nought_and_not_written_too_often(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("regmix_hf.jobs.tokens.time.monotonic", lambda: now[0])
    assert tokens_so_far(tmp_path) == 0
    count = TokenCount(tmp_path)
    count(10)
    assert tokens_so_far(tmp_path) == 0, "the file is fresh enough"
    now[0] = 1.0
    count(2**40)
    assert tokens_so_far(tmp_path) == 2**40
    TokenCount(tmp_path)
    assert tokens_so_far(tmp_path) == 0, "a run that begins again begins at nought"
