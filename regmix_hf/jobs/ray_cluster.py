"""A Ray cluster as a place to run jobs: its nodes need no study, only this package.

This process claims tasks, hands each to Ray as one plain task, and records what comes back as bytes. What all
tasks read goes into Ray's object store once and from there to the disk of every node that lacks it; what one
task alone reads, a final model to evaluate, lies on a node's disk for as long as the task is there. A worker
that dies is Ray's to retry; one that saw an exception does no other task (see `Dispatch`).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from regmix_hf.errors import RegmixError, TrainingError
from regmix_hf.files import hash_file, hash_value
from regmix_hf.jobs.claims import Claim, LostClaimError, take
from regmix_hf.jobs.devices import ONE_THREAD
from regmix_hf.jobs.dispatch import MAX_ATTEMPTS, Dispatch
from regmix_hf.jobs.messages import Assignment, Raised, Refused
from regmix_hf.jobs.results import bring
from regmix_hf.jobs.tasks import Do, OutOfMemoryError, PortableWork, Task
from regmix_hf.jobs.tokens import TokenCount
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of
from regmix_hf.recipe import Ray
from regmix_hf.study.names import LEASE, LOCK, LOG, ROOM, TOKENS
from regmix_hf.version import VERSION

#: Seconds between two looks at what others do.
_LOOK_INTERVAL_S = 0.5
_CHUNK_BYTES = 1 << 26
#: Tasks handed to Ray for each that the cluster can do at once, so that no node waits for this process.
_AHEAD = 2
#: Filled in a worker of Ray once an exception came to pass in it.
_SPOILED: list[str] = []
#: In a worker of Ray: where folders are that all tasks read, by their digests; the work that is open.
_KEPT: dict[str, Path] = {}
_OPEN: list[tuple[PortableWork[Any], Do[Any]]] = []
#: Files up to this size, in bytes, are known by their content.
_HASHED_BYTES = 1 << 24
#: How files begin that say who is at work in a folder.
_TRANSIENT = (LOCK, LEASE, ROOM, TOKENS)


@dataclass(frozen=True)
class RayCluster:
    """Workers of a Ray cluster; a `regmix_hf.jobs.place.Place` for work whose folders can be moved.

    Attributes:
        ray: The recipe's section.
        stays: Whether it stays until others have ended their tasks.
    """

    ray: Ray
    stays: bool = True

    def run(self, tasks: Sequence[Task[Any]], work: PortableWork[Any], progress: Progress) -> Counter[str]:
        """Do all tasks that have no result yet (see `Place.run`).

        Raises:
            TrainingError: Ray is not installed, there is no such cluster, or it lacks what a run asks for.
        """
        dispatch = Dispatch(tasks, work)
        if num_open := len(dispatch.queue):
            total = sum(task.num_tokens for task in dispatch.queue)
            with (
                self._connected() as width,
                progress.bar(count_of(num_open, "run"), total=total, unit="tokens") as bar,
            ):
                flight = _Flight(dispatch, self._submitter(work), _AHEAD * width)
                try:
                    while dispatch.is_open and (self.stays or not dispatch.is_left_to_others):
                        flight.turn()
                        dispatch.look_elsewhere()
                        bar.update(dispatch.num_tokens, detail=dispatch.summary)
                finally:
                    flight.land()
        return dispatch.counts

    def staying(self) -> RayCluster:
        """The same cluster, for one who stays until others have ended their tasks."""
        return replace(self, stays=True)

    @contextmanager
    def _connected(self) -> Iterator[int]:
        """Connect to the cluster; yield how many runs it can do at once."""
        try:
            import ray
        except ImportError:
            raise TrainingError("`ray` is not installed.", "pip install 'regmix_hf[ray]'") from None
        is_ours = not ray.is_initialized()
        if is_ours:
            try:
                ray.init(
                    address=self.ray.address or "local", log_to_driver=False, logging_level=logging.ERROR
                )
            except ConnectionError as error:
                raise TrainingError(
                    f"executor.ray.address {self.ray.address!r}: {str(error).splitlines()[0]}",
                    "leave it out to start Ray on this machine alone",
                ) from None
        try:
            yield self._width(ray.cluster_resources())
        finally:
            if is_ours:
                ray.shutdown()

    def _width(self, resources: Mapping[str, float]) -> int:
        """How many runs fit side by side; Ray itself would wait in silence for what nobody has."""
        asked = {"CPU": self.ray.num_cpus, "GPU": self.ray.num_gpus}
        for name, amount in asked.items():
            if amount > resources.get(name, 0.0):
                there = resources.get(name, 0.0)
                raise TrainingError(
                    f"a run asks for {amount:g} {name}, and the Ray cluster has {there:g}.",
                    f"lower executor.ray.num_{name.lower()}s, or add such a node",
                )
        return min(int(resources[name] / amount) for name, amount in asked.items() if amount)

    def _submitter(self, work: PortableWork[Any]) -> Callable[[Task[Any]], Any]:
        """What hands a task to Ray and returns a reference to its answer."""
        import ray

        environment = dict(ONE_THREAD)
        if not self.ray.num_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""  # a task that asks for no GPU sees all of them
        remote = ray.remote(
            num_cpus=self.ray.num_cpus,
            num_gpus=self.ray.num_gpus,
            max_retries=MAX_ATTEMPTS - 1,
            runtime_env={"env_vars": environment},
        )(_do)
        parcels = _packed(work.moved)

        def submit(task: Task[Any]) -> Any:
            own = _packed(partial(work.brought, task.spec))
            return remote.remote(work, task.spec, parcels, own, VERSION)

        return submit


@dataclass(frozen=True)
class _Parcel:
    """A folder in the object store.

    Attributes:
        folder: Where it is at home; nodes that see it there take it from there.
        digest: Of its files (see `_digest`).
        files: References to pieces of every file, by its path.
    """

    folder: Path
    digest: str
    files: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, folder: Path) -> _Parcel:
        import ray

        def pieces(file: Path) -> Iterator[Any]:
            with file.open("rb") as content:
                while piece := content.read(_CHUNK_BYTES):
                    yield ray.put(piece)

        files = _files_in(folder)
        return cls(folder, _digest(folder), {name: list(pieces(folder / name)) for name in files})

    def kept(self) -> Path:
        """Return the folder, or one on this node's disk that holds the same, made once per node."""
        if self.digest not in _KEPT:
            _KEPT[self.digest] = self._kept()
        return _KEPT[self.digest]

    def _kept(self) -> Path:
        if self._is_seen:
            return self.folder
        home = Path(tempfile.gettempdir()) / f"regmix-{self.digest[:16]}-{os.getuid()}"
        if home.exists():
            return home
        staging = Path(tempfile.mkdtemp(dir=home.parent, prefix=f"{home.name}."))
        self._unpack(staging)
        try:
            staging.rename(home)
        except OSError:  # another worker of this node was first
            shutil.rmtree(staging)
        return home

    def opened(self, place: Path) -> Path:
        """Return the folder, or one in `place` that holds the same."""
        if self._is_seen:
            return self.folder
        self._unpack(place / self.digest)
        return place / self.digest

    @property
    def _is_seen(self) -> bool:
        return self.folder.is_dir() and _digest(self.folder) == self.digest

    def _unpack(self, folder: Path) -> None:
        import ray

        for name, pieces in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as file:
                for piece in pieces:
                    file.write(ray.get(piece))


def _packed(moving: Callable[[Callable[[Path], Path]], object]) -> dict[Path, _Parcel]:
    """Put every folder that `moving` moves into the object store."""
    parcels: dict[Path, _Parcel] = {}

    def pack(folder: Path) -> Path:
        parcels[folder] = _Parcel.of(folder)
        return folder

    moving(pack)
    return parcels


def _files_in(folder: Path) -> list[str]:
    """Paths of what a folder holds, without what those have there who are at work in it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not any(p.startswith(_TRANSIENT) for p in path.parts))


def _digest(folder: Path) -> str:
    """Tell a folder from others: by what small files in it hold, and by how large the large ones are."""
    sizes = {name: (folder / name).stat().st_size for name in _files_in(folder)}
    return hash_value(
        {name: size if size > _HASHED_BYTES else hash_file(folder / name) for name, size in sizes.items()}
    )


@dataclass
class _Flight:
    """Tasks that are with Ray."""

    dispatch: Dispatch
    submit: Callable[[Task[Any]], Any]
    width: int
    flying: dict[Any, tuple[Task[Any], Claim]] = field(default_factory=dict)

    def turn(self) -> None:
        """Hand over what there is room for, then wait a little and take what came back."""
        import ray

        while len(self.flying) < self.width and (assignment := self.dispatch.next()):
            self._begin(assignment)
        if self.flying:
            back, _ = ray.wait(list(self.flying), timeout=_LOOK_INTERVAL_S)
            for reference in back:
                self._end(reference)

    def _begin(self, assignment: Assignment) -> None:
        held = take(assignment.task.folder, assignment.dead)
        if held is None:
            self.dispatch.is_elsewhere(assignment.task)
            return
        TokenCount(assignment.task.folder)
        self.flying[self.submit(assignment.task)] = assignment.task, held

    def _end(self, reference: Any) -> None:
        import ray

        task, held = self.flying.pop(reference)
        try:
            answer = ray.get(reference)
            if not isinstance(answer, _Failed):
                room = held.room()
                for name, content in answer.items():
                    (room / name).parent.mkdir(parents=True, exist_ok=True)
                    (room / name).write_bytes(content)
                status = bring(task, room, held)
                held.release()
                assert status is not None, "a worker sends files only where a result is among them"
                self.dispatch.ended(task, status)
            else:
                held.release()
                self._failed(task, answer)
        except LostClaimError:
            held.release()
            self.dispatch.is_elsewhere(task)
        except ray.exceptions.RayError as error:
            held.release()
            reason = f"its worker died: {type(error).__name__}"
            self.dispatch.gave_up(task, f"{reason} ({MAX_ATTEMPTS} times tried by Ray)")

    def _failed(self, task: Task[Any], answer: _Failed) -> None:
        with (task.folder / LOG).open("a") as log:
            log.write(answer.printed)
        match answer.message:
            case Raised(reason, out_of_memory):
                (self.dispatch.did_not_fit if out_of_memory else self.dispatch.broke)(task, reason)
            case Refused(error):
                raise error

    def land(self) -> None:
        """Give up what is still with Ray."""
        import ray

        for reference, (_, held) in self.flying.items():
            ray.cancel(reference, force=True)
            held.release()
        self.flying.clear()


@dataclass(frozen=True)
class _Failed:
    """How a task ended that left nothing, and what was printed."""

    message: Raised | Refused
    printed: str = ""


def _do(
    work: PortableWork[Any],
    spec: Any,
    parcels: Mapping[Path, _Parcel],
    own: Mapping[Path, _Parcel],
    version: str,
) -> dict[str, bytes] | _Failed:
    """Do one task in a worker of Ray, with the folders of all tasks and its own: what it left, by path."""
    if _SPOILED:
        os._exit(1)  # Ray gives the task to a fresh process
    if version != VERSION:
        wrong = f"a node of the Ray cluster has regmix_hf {VERSION}, this machine {version}."
        return _Failed(Refused(TrainingError(wrong, "install the same version on all nodes")))
    try:
        do = _opened(work.moved(lambda folder: parcels[folder].kept()))
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as place:
            here = work.brought(spec, lambda folder: own[folder].opened(Path(place)))
            do(here, Path(folder), lambda num_tokens: None)
            files = (path for path in Path(folder).rglob("*") if path.is_file())
            return {str(path.relative_to(folder)): path.read_bytes() for path in files}
    except RegmixError as error:
        return _Failed(Refused(error))
    except Exception as error:
        _SPOILED.append(str(error))
        reason = f"{type(error).__name__}: {error}"
        return _Failed(Raised(reason, isinstance(error, OutOfMemoryError)), traceback.format_exc())


def _opened(work: PortableWork[Any]) -> Do[Any]:
    """Load everything once per process."""
    if not _OPEN or _OPEN[0][0] != work:
        _OPEN[:] = [(work, work.open())]
    return _OPEN[0][1]
