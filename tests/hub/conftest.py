"""A stand-in Hub on loopback and the real client pointed at it, in this process or in others."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import pickle
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from matplotlib.figure import Figure

from regmix_hf import pipeline
from regmix_hf.cards import mixture_plots, pictures
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.style import png
from regmix_hf.hub import Hub, Repository
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import push_study, runs_part
from regmix_hf.study import Stage, Study

from .finished import finish_study, recipe_tree
from .standin.faults import ALL, Fault, Moment
from .standin.server import StandIn, serve
from .standin.store import Person

TOKEN = "hf_SecretOfTheWriterMustNeverBeSeen"
READ_TOKEN = "hf_SecretOfTheReaderMustNeverBeSeen"
OTHER_TOKEN = "hf_SecretOfSomebodyElseMustNeverBeSeen"


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    """A Hub of three people: `me`, who also belongs to `team`; `me` with a token that only reads; `other`."""
    with serve() as hub:
        hub.store.job_folder = tmp_path
        hub.store.people |= {
            TOKEN: Person("me", "write", ("team",)),
            READ_TOKEN: Person("me", "read", ("team",)),
            OTHER_TOKEN: Person("other", "write"),
        }
        yield hub
        for job in hub.store.jobs.values():
            job.process.kill()
            job.process.wait()
    assert hub.bugs == []


@pytest.fixture
def tokens() -> dict[str, str]:
    """The tokens of those who have one."""
    return {"writer": TOKEN, "reader": READ_TOKEN, "other": OTHER_TOKEN}


@pytest.fixture
def environment(standin: StandIn, tmp_path: Path) -> dict[str, str]:
    """Environment of a process whose client talks to the stand-in as `me`."""
    return {
        **os.environ,
        "HF_ENDPOINT": standin.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "hf-home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


#: Reading the certificates of all the world takes each client 20 ms, and the stand-in has none.
_certificates = functools.cache(ssl.create_default_context)


@pytest.fixture
def hub(standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The client of this process, logged in as `me`, pointed at the stand-in as the environment would do it.

    The client reads its environment once, when it is imported, which other tests did long before.
    """
    home = tmp_path / "hf-home"
    monkeypatch.setattr(ssl, "create_default_context", _certificates)
    monkeypatch.setattr(constants, "ENDPOINT", standin.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", standin.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "agents.json"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.close_session()
    yield Hub()
    huggingface_hub.close_session()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every wait last a hundredth of its time: the client waits a second or more after each failure."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds / 100))


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Go on with another token, or with none."""

    def change(token: str | None) -> None:
        if token is None:
            monkeypatch.delenv("HF_TOKEN")
        else:
            monkeypatch.setenv("HF_TOKEN", token)

    return change


@pytest.fixture
def runs() -> Repository:
    """A dataset repository that does not exist yet."""
    return Repository("dataset", "me/study-runs")


@pytest.fixture
def model() -> Repository:
    """A model repository that does not exist yet."""
    return Repository("model", "me/study-regressor")


@pytest.fixture(params=ALL, ids=lambda fault: fault.name)
def fault(request: pytest.FixtureRequest) -> Fault:
    """Everything that may happen to a request, one after the other."""
    return request.param


@pytest.fixture
def strike(standin: StandIn) -> Callable[..., None]:
    """Let something go wrong, e.g. `strike("POST .*/commit/", status=503)`."""

    def script(
        request: str,
        *,
        status: int | None = None,
        moment: str | None = None,
        retry_after: str | int | None = None,
        message: str = "injected fault",
        action: Callable[[], None] | None = None,
        skip: int = 0,
        times: int = 1,
    ) -> None:
        if status is not None:
            fault = Fault.refused(status, retry_after=retry_after, message=message)
        else:
            fault = Fault(Moment(moment), action=action)
        standin.faults.script(request, fault, skip=skip, times=times)

    return script


class DrawnOnce:
    """Draws every picture of the same facts once: that takes long, and how it looks is for `tests/cards`."""

    def __init__(self) -> None:
        self._figures: dict[bytes, Figure | None] = {}
        self.png = functools.cache(png)

    def by(self, draw: Callable[..., Figure | None]) -> Callable[..., Figure | None]:
        """Draw by this function what it did not draw before."""

        def drawn(*given: object) -> Figure | None:
            shown, facts = given, given[0]
            if isinstance(facts, StudyFacts):  # without the recipe, which names the folder
                shown = (facts.target, facts.swarm, facts.regression, facts.choice, facts.final)
            key = hashlib.sha256(pickle.dumps((draw.__name__, shown))).digest()
            if key not in self._figures:
                self._figures[key] = draw(*given)
            return self._figures[key]

        return drawn


@pytest.fixture(scope="session")
def drawn_once() -> DrawnOnce:
    return DrawnOnce()


@pytest.fixture(autouse=True)
def _pictures(drawn_once: DrawnOnce, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pictures, runs_part):
        monkeypatch.setattr(module, "png", drawn_once.png)
    for name, draw in pictures.PICTURES.items():
        monkeypatch.setitem(pictures.PICTURES, name, drawn_once.by(draw))
    monkeypatch.setattr(mixture_plots, "draw_effects", drawn_once.by(mixture_plots.draw_effects))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a finished study, which lies beside it. Not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "recipe.json").write_text(json.dumps(recipe_tree(folder)))
    finish_study(Study(load_recipe(folder / "recipe.json")))
    return folder / "recipe.json"


@pytest.fixture
def new_study(finished: Path, tmp_path: Path) -> Callable[..., Study]:
    """Copy the finished study, with overrides of its recipe; a `name` is that of the folder."""

    def make(*overrides: str, folder: str = "study") -> Study:
        shutil.copytree(finished.parent / "study", tmp_path / folder)
        return Study(load_recipe(finished, [f"output_dir={tmp_path / folder}", *overrides]))

    return make


@pytest.fixture(scope="session")
def as_pushed() -> list[object]:
    """What the stand-in holds after the first push of the finished study, once there was one."""
    return []


@pytest.fixture
def pushed(
    hub: Hub, standin: StandIn, new_study: Callable[..., Study], stages: list[Stage], as_pushed: list[object]
) -> Study:
    """A copy of the finished study, which the stand-in holds as its owner pushed it."""
    study, store = new_study(), standin.store
    if not as_pushed:
        push_study(study, stages)
        as_pushed[:] = copy.deepcopy([store.repos, store.collections])
    store.repos, store.collections = copy.deepcopy(as_pushed)
    return study


@pytest.fixture(scope="session")
def stages() -> list[Stage]:
    """All stages, in order."""
    return [pipeline.stage_of(verb) for verb in pipeline.VERBS]
