"""A stand-in Hub on loopback and the real client pointed at it, in this process or in others."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from regmix_hf import pipeline
from regmix_hf.cards import explorer_page
from regmix_hf.cards.export_parts import export_parts
from regmix_hf.exports import MixtureToTrain
from regmix_hf.hub import Hub, Repository, Snapshot
from regmix_hf.recipe import load_recipe
from regmix_hf.sharing import push_study
from regmix_hf.study import Stage, Study

from .finished import grow_study, make_finished
from .standin.faults import ALL, Fault, Moment
from .standin.server import StandIn, serve
from .standin.store import Person

PROGRAMS = Path(__file__).parent / "programs"
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


@pytest.fixture
def start(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start a program whose client talks to the stand-in."""

    def popen(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, env=environment, text=True, **pipes)

    return popen


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
def fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load files of one content once, by their hash: for tests of what is made of them, again and again."""
    download, loaded = Hub.download, {}

    def once(hub: Hub, snapshot: Snapshot, path: str, folder: Path, *, max_bytes: int) -> Path:
        file = snapshot.files.get(path)
        content = (
            loaded.get((file.git_oid, file.sha256, file.size)) if file and file.size <= max_bytes else None
        )
        if file is None or content is None:
            target = download(hub, snapshot, path, folder, max_bytes=max_bytes)
            if file is not None:
                loaded[file.git_oid, file.sha256, file.size] = target.read_bytes()
            return target
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        return folder / path

    monkeypatch.setattr(Hub, "download", once)


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


@pytest.fixture(autouse=True)
def _pictures(drawn_once: None) -> None:
    """How pictures look is for `tests/cards`."""


#: What `export_parts` found for a mixture, by its pickle.
_taken_apart: dict[bytes, object] = {}


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what trainers are told apart once for what is the same, which `tests/cards` is about."""

    def once(mixture: MixtureToTrain) -> object:
        key = pickle.dumps(mixture)
        if key not in _taken_apart:
            _taken_apart[key] = export_parts(mixture)
        return _taken_apart[key]

    monkeypatch.setattr(explorer_page, "export_parts", once)


@pytest.fixture(scope="session")
def finished(made_once: Callable[..., Path]) -> Path:
    """The recipe of a finished study, which lies beside it. Not to be changed."""
    return made_once("finished", make_finished) / "recipe.json"


@pytest.fixture
def new_study(finished: Path, tmp_path: Path) -> Callable[..., Study]:
    """Copy the finished study, with overrides of its recipe; a `name` is that of the folder."""

    def make(*overrides: str, folder: str = "study") -> Study:
        shutil.copytree(finished.parent / "study", tmp_path / folder)
        return Study(load_recipe(finished, [f"output_dir={tmp_path / folder}", *overrides]))

    return make


@pytest.fixture
def grow(finished: Path, made_once: Callable[..., Path]) -> Callable[[Study], None]:
    """Put into a copy of the finished study what `grow_study` does there, which is done once."""

    def make(folder: Path) -> None:
        shutil.copytree(finished.parent / "study", folder / "study")
        grow_study(Study(load_recipe(finished, [f"output_dir={folder / 'study'}"])))

    def copy(study: Study) -> None:
        for part in (study.mixtures.parent, study.proxies, study.regression, study.mixture.parent):
            shutil.copytree(made_once("grown", make) / "study" / part.name, part, dirs_exist_ok=True)

    return copy


@pytest.fixture
def pushed(
    hub: Hub,
    standin: StandIn,
    new_study: Callable[..., Study],
    stages: list[Stage],
    made_once: Callable[..., Path],
) -> Study:
    """A copy of the finished study, which the stand-in holds as its owner pushed it."""
    study, store = new_study(), standin.store

    def push(folder: Path) -> None:
        push_study(study, stages)
        (folder / "store").write_bytes(pickle.dumps((store.repos, store.collections)))

    held = (made_once("pushed", push) / "store").read_bytes()
    store.repos, store.collections = pickle.loads(held)  # noqa: S301 - written above
    return study


@pytest.fixture(scope="session")
def stages() -> list[Stage]:
    """All stages, in order."""
    return [pipeline.stage_of(verb) for verb in pipeline.VERBS]
