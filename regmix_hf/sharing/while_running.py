"""Publish a study while it grows, so that a lost machine loses no finished run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from regmix_hf.errors import RegmixError
from regmix_hf.hub import Hub
from regmix_hf.jobs.claims import Claim, Watch, claim
from regmix_hf.progress import Progress
from regmix_hf.sharing.arriving_runs import bring_runs
from regmix_hf.sharing.push import Push, push_study
from regmix_hf.study import Stage, Study
from regmix_hf.study.address import Address
from regmix_hf.study.names import PUBLISHER, RESULT, UNPUBLISHED

#: What each stage changes of what is published.
_PARTS = {
    "proxies": ("runs",),
    "fit": ("regressor",),
    "choose": ("mixture",),
    "train": ("model", "mixture"),
    "evaluate": ("model", "mixture"),
}
#: Seconds between two counts of finished proxies.
_LOOK_INTERVAL_S = 5.0


class Publisher:
    """Publishes what stages finish, without versions; the last push gives it one.

    A Hub that cannot be reached while stages run costs a note, not the run: what was not published then is
    published by the next push. Of several processes that train the proxies of one study, ranks of a launch or
    machines that share its folder, one publishes; when it dies, another goes on.

    Args:
        study: Whose recipe says `hub.push_to_hub`.
        stages: All stages of a study.
        progress: Gets the notes.

    Raises:
        HubError: Nobody is logged in, which is better known before hours of training.
    """

    def __init__(self, study: Study, stages: Sequence[Stage], progress: Progress):
        self._study, self._stages, self._progress = study, stages, progress
        self._others = Watch()
        Hub().require_login(Address.of(study.recipe).runs)

    @contextmanager
    def around(self, verb: str) -> Iterator[None]:
        """Publish what the stage `verb` finishes inside the block; runs also while they end.

        Until that is done a mark stands in the study's folder, by which running the stage again knows.
        """
        if verb not in _PARTS:
            yield
            return
        mark = self._study.root / UNPUBLISHED / verb
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        if verb == "proxies":
            self._bring()
            with self._watching():
                yield
            with self._claim() as granted:
                if granted is None:  # somebody else, who also has all runs by now, is about to
                    return
                published = self._try(_PARTS[verb])
        else:
            yield
            published = self._try(_PARTS[verb])
        if published:
            mark.unlink(missing_ok=True)
        else:
            self._progress.note(
                f"{verb}: what it did stays; the same command, or `regmix push`, publishes it"
            )

    def finish(self) -> Push:
        """Publish all that is finished as a new version.

        Raises:
            HubError: It cannot be published; `regmix push` tries again.
        """
        return push_study(self._study, self._stages, progress=self._progress)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, ended: threading.Event) -> None:
        hub, published = self._study.recipe.hub, 0
        assert hub is not None
        while not ended.is_set():
            with self._claim() as granted:
                while not ended.wait(_LOOK_INTERVAL_S) and granted:
                    count = sum(1 for _ in self._study.proxies.glob(f"*/{RESULT}"))
                    if count - published >= hub.push_every:
                        self._try(_PARTS["proxies"])
                        published = count

    def _claim(self) -> AbstractContextManager[Claim | None]:
        """Try to be the one who publishes runs."""
        folder = self._study.proxies / PUBLISHER
        return claim(folder, self._others.look(folder)[1])

    def _bring(self) -> None:
        """Fetch what others have trained, so that nobody trains it again."""
        try:
            came = str(bring_runs(Hub(progress=self._progress), self._study))
        except (RegmixError, OSError) as error:
            self._progress.note(f"warning: runs of others not fetched: {error}")
        else:
            if came:
                self._progress.note(came)

    def _try(self, parts: Sequence[str]) -> bool:
        """Publish, or note why not; tell which."""
        try:
            push = push_study(self._study, self._stages, only=parts, tag=False, progress=self._progress)
        except (RegmixError, OSError) as error:
            self._progress.note(f"warning: {', '.join(parts)} not published: {error}")
            return False
        for repository in sorted(push.changed):
            self._progress.note(f"published: {repository}")
        return True
