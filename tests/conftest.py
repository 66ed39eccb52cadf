"""Settings of every test: offline, quiet, reproducible."""

import gc
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TRANSFORMERS_VERBOSITY="error",
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    CUDA_VISIBLE_DEVICES="",
)

import joblib
import numpy as np
import psutil
import pyarrow as pa
import pytest
from filelock import FileLock
from hypothesis import settings

from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts
from tests.preloaded import Mode, start_as

#: Markers of tests that start Python processes, and how these begin.
STARTS = {"processes": Mode.PRELOADED, "cold_processes": Mode.COLD}

settings.register_profile("regmix", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("regmix")


def _mode(item: pytest.Item) -> Mode:
    """How processes of a test begin: its nearest marker says so."""
    return next((STARTS[mark.name] for mark in item.iter_markers() if mark.name in STARTS), Mode.NOT)


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: some wait, for processes, for time-outs, for the disk."""
    return int(joblib.cpu_count()) + 1


def pytest_xdist_setupnodes() -> None:
    """Fork the workers from one parent, so that the heavy imports are done once, not by each worker."""
    start_as(Mode.PRELOADED)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Call quick what starts no process, asks no stand-in Hub and is not long: `pytest -m quick`.

    Where workers share tests out the quick ones come last, so that none is left alone with a long one.
    """
    for item in items:
        is_long = item.get_closest_marker("long") is not None
        if _mode(item) is Mode.NOT and "standin" not in item.fixturenames and not is_long:
            item.add_marker("quick")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("quick") is not None)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives until the end: everything imported, and thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold a test, its fixtures included, to what it says about processes."""
    start_as(_mode(item))


def _write_split(file: Path, blocks: np.ndarray) -> SplitFacts:
    """Write blocks as `prepare` does: a stream of record batches, here of 7 fixed-size lists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema({"input_ids": pa.list_(pa.uint16(), blocks.shape[1])})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, len(blocks), 7):
            values = pa.array(blocks[start : start + 7].reshape(-1), pa.uint16())
            lists = pa.FixedSizeListArray.from_arrays(values, blocks.shape[1])
            writer.write_batch(pa.record_batch([lists], schema=schema))
    return SplitFacts(
        num_documents=len(blocks),
        num_bytes=4 * blocks.size,
        num_tokens=blocks.size,
        num_blocks=len(blocks),
        sha256=hashlib.sha256(blocks.astype("<i8").tobytes()).hexdigest(),
    )


@pytest.fixture(scope="session")
def write_corpus() -> Callable[..., Path]:
    """Write a corpus of given blocks, with no tokenizer.

    Called with a folder, a vocabulary size, and per domain `(train, validation)`: matrices of token ids, one
    row per block; `train` is `None` for a validation-only domain. Every token is 4 bytes of text.
    """

    def write(
        folder: Path, vocab_size: int, domains: Mapping[str, tuple[np.ndarray | None, np.ndarray]]
    ) -> Path:
        facts = {
            name: DomainFacts(
                train=None if train is None else _write_split(folder / name / "train.arrow", train),
                validation=_write_split(folder / name / "validation.arrow", validation),
            )
            for name, (train, validation) in domains.items()
        }
        CorpusFacts(
            context_length=next(iter(domains.values()))[1].shape[1],
            vocab_size=vocab_size,
            eos_token_id=0,
            tokenizer_sha256="0" * 64,
            domains=facts,
        ).save(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Have a folder made by the worker that needs it first. It is for all of them, and not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        whole, is_whole = shared / f"made-{name}", shared / f"made-{name}.whole"
        with FileLock(shared / f"made-{name}.lock"):
            if not is_whole.exists():
                shutil.rmtree(whole, ignore_errors=True)  # of a worker that failed, or was killed
                whole.mkdir()
                make(whole)
                is_whole.touch()
        return whole

    return folder


@pytest.fixture
def drawn_once(made_once: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw pictures of the same facts once."""
    from tests.drawn import DrawnOnce

    DrawnOnce(made_once("pictures", lambda folder: None)).use(monkeypatch)


class Recorder:
    """A `Progress` that remembers what it was told."""

    def __init__(self):
        self.notes, self.updates, self.total = [], [], None

    def note(self, message):
        self.notes.append(message)

    @contextmanager
    def bar(self, description, *, total, unit):
        self.total = total
        yield self

    def update(self, done, *, detail=""):
        self.updates.append((done, detail))


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def within():
    """Wait until something holds, and fail when it does not in time."""

    def wait(condition, seconds=20.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def spawn():
    """Start a process, in a session of its own, of which what it prints is read; kill it afterwards."""
    with ExitStack() as stack:

        def start(command, **options):
            options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True, **options}
            process = stack.enter_context(subprocess.Popen(command, **options))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def gone():
    """Whether none of some processes lives any more."""

    def all_gone(processes):
        return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)

    return all_gone
