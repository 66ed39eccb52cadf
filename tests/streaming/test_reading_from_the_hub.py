"""Text in a repository of a Hub that fails: the real client, killed, ends with the same blocks."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from regmix_hf.recipe import Recipe
from regmix_hf.study.corpus_facts import CorpusFacts

from ..hub.standin.faults import Fault, Moment
from ..hub.standin.server import StandIn, serve
from ..hub.standin.store import Blob, Person

pytestmark = pytest.mark.processes

PREPARE = Path(__file__).parent / "work" / "prepare_from_hub.py"
TOKEN = "hf_SecretOfTheReader"
FAULTS = (
    Fault.refused(500),
    Fault.refused(503),
    Fault.refused(429, retry_after=0),
    Fault(Moment.LOST_REPLY),
    Fault(Moment.DROPPED_BODY),
)
DOMAINS = ("pile_cc", "arxiv")


@pytest.fixture
def standin(
    as_lines: Callable[..., bytes], sentences: Callable[..., list[str]]
) -> Iterator[tuple[StandIn, int]]:
    """A Hub with private data in the layout of `sail/regmix-data`, and the bytes of its training text."""
    with serve() as hub:
        hub.store.people[TOKEN] = Person("me", "read")
        repo = hub.store.create("dataset", "me/regmix-data", private=True, author="me")
        files = dict(repo.head.files)
        for name in DOMAINS:
            for part in range(2):
                texts = sentences(1500, f"{name}-{part}-")
                files[f"train/{name}-{part:05d}.jsonl"] = Blob(as_lines(texts), large=True)
            files[f"valid/{name}-00000.jsonl"] = Blob(as_lines(sentences(60, "v")), large=False)
        repo.add_commit("main", files, title="Text", author="me")
        yield hub, sum(len(blob.content) for path, blob in files.items() if path.startswith("train/"))
    assert hub.bugs == []


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    return make_recipe(
        {
            name: {
                "path": "me/regmix-data",
                "data_files": {"train": f"train/{name}-*.jsonl", "validation": f"valid/{name}-*.jsonl"},
                "validation_split": "validation",
                "streaming": True,
                "num_tokens": 10**6,
            }
            for name in DOMAINS
        }
    )


@pytest.fixture
def begin(standin: tuple[StandIn, int], recipe: Recipe, tmp_path: Path) -> Callable[..., Any]:
    """Begin to prepare in a process whose client talks to the stand-in."""
    hub, _ = standin
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }

    def start(folder: str, budgets: Mapping[str, int] | None = None) -> Any:
        words = [str(tmp_path / "recipe.json"), str(tmp_path / folder), json.dumps(budgets)]
        with (tmp_path / "said.txt").open("ab") as said:
            return subprocess.Popen([sys.executable, str(PREPARE), *words], env=environment, stderr=said)

    return start


def sent(hub: StandIn) -> int:
    """Bytes of training text that were sent."""
    return sum(entry.sent for entry in hub.requests("/resolve/") if "/train/" in entry.request)


def finish(process: Any, folder: Path) -> CorpusFacts:
    assert process.wait(120) == 0, (folder.parent / "said.txt").read_text()
    return CorpusFacts.load(folder)


def test_killed_over_a_failing_hub_it_ends_with_the_same_blocks(
    standin: tuple[StandIn, int], begin: Callable[..., Any], tmp_path: Path
) -> None:
    hub, size = standin
    expected = finish(begin("undisturbed"), tmp_path / "undisturbed")
    assert sent(hub) < 2.2 * size  # the tokenizer is trained on the beginning of each domain
    hub.log.clear()
    hub.faults.at_random(3, 0.03, FAULTS)
    moments, kills = random.Random(4), 0
    for _ in range(2):
        process, before = begin("killed"), sent(hub)
        until = before + moments.randrange(size // 8, size // 2)
        while process.poll() is None and sent(hub) < until:
            time.sleep(0.001)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    assert finish(begin("killed"), tmp_path / "killed") == expected
    assert any(entry.fault for entry in hub.requests("/train/"))
    assert expected.domains["arxiv"].train is not None
    assert expected.domains["arxiv"].train.num_documents == 3000


def test_a_budget_asks_for_about_what_is_needed(
    standin: tuple[StandIn, int], begin: Callable[..., Any], tmp_path: Path
) -> None:
    hub, size = standin
    facts = finish(begin("corpus", {"pile_cc": 20_000, "arxiv": 10_000}), tmp_path / "corpus")
    for name, budget in (("pile_cc", 20_000), ("arxiv", 10_000)):
        train = facts.domains[name].train
        assert train is not None
        assert budget <= train.num_tokens < budget + 300
        read = sum(entry.sent for entry in hub.requests(f"/train/{name}"))
        # The tokenizer's sample, which is all of so small a text, is read apart.
        assert read < size / 2 * 1.1 + 1.6 * budget + 4 * 16_384
    valid = sum(entry.sent for entry in hub.requests("/valid/"))
    assert valid <= 4 * len(hub.repo("me/regmix-data").file("main", "valid/arxiv-00000.jsonl"))
