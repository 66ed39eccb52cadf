"""Fitted regressors on the Hub: `ModelHubMixin`'s methods, done by what `regmix_hf.hub` guarantees."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin
from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.errors import HubError, RegressionError
from regmix_hf.hub import (
    Expected,
    Hub,
    Publication,
    Published,
    Repository,
    Snapshot,
    fetch,
    parse_json,
    publish,
)
from regmix_hf.hub.publish import Files
from regmix_hf.regression.tree_check import check_trees

_MEGABYTE = 1_000_000
#: What one saved regressor consists of.
FILES = (
    Expected("config.json", max_bytes=_MEGABYTE),
    Expected("out_of_fold.safetensors", max_bytes=200 * _MEGABYTE),
    Expected("estimator*.safetensors", max_bytes=500 * _MEGABYTE, max_files=20, required=False),
    Expected("trees-*.txt", max_bytes=2000 * _MEGABYTE, max_files=1000, required=False),
)
#: Stands in a card for the version it is published as.
_OWN_VERSION = "{own version}"
CARD = """\
---
{{ card_data }}
---

# {{ repo_id.split("/")[1] }}

{{ about }}

```python
from regmix_hf import MixtureRegressor

model = MixtureRegressor.from_pretrained("{{ repo_id }}", revision="{{ revision | default('main', true) }}")
```
"""


class SharedRegressor(ModelHubMixin):
    """A regressor that is saved, published and loaded by the names `ModelHubMixin` has for it.

    The mixin's own ways are not taken: its push is `upload_folder`, which commits again after a lost reply
    and has no version, and it reads `config.json` before anything is checked. What it offers beside and
    cannot be done within these guarantees is refused by name, never ignored.
    """

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **options: Any,
    ) -> str | None:
        """Write the fit into a folder: arrays as safetensors, trees as text, and last `config.json`.

        Args:
            save_directory: The folder; made if it is missing.
            push_to_hub: Publish the fit, too.
            repo_id: Where to, `NAMESPACE/NAME`.
            **options: Of `push_to_hub`.

        Returns:
            What `push_to_hub` returns, if that was asked for.

        Raises:
            RegressionError: Not fitted yet.
            HubError: As `push_to_hub`.
        """
        if push_to_hub and repo_id is None:
            raise HubError("push_to_hub=True needs a repo_id.", "write repo_id='NAMESPACE/NAME'")
        if not push_to_hub:
            _refuse(options)
        self._save_pretrained(Path(save_directory))
        return self.push_to_hub(repo_id, **options) if push_to_hub and repo_id is not None else None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        commit_message: str = "Add the regressor",
        **options: Any,
    ) -> str:
        """Publish the fit as a new version (`v1`, `v2`, ...) of a model repository, in one commit.

        Nothing is published when the newest version holds this very fit. A card that is there stays, but for
        the version that it names.

        Args:
            repo_id: `NAMESPACE/NAME`; made if it is missing.
            private: Whether a repository that has to be made is private; a public one is then refused.
            commit_message: Title of the commit.
            **options: Of `ModelHubMixin.push_to_hub`; those that would break a promise are refused.

        Returns:
            Address of the version, which ends with its name, e.g. `v2`.

        Raises:
            HubError: Not logged in, not permitted, or the Hub fails for longer than patience.
        """
        _refuse(options)
        with tempfile.TemporaryDirectory() as folder:
            self._save_pretrained(Path(folder))
            published = self._publish(Path(folder), repo_id, commit_message, private=bool(private))
        return f"{Hub().api.endpoint}/{repo_id}/tree/{published.version}"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        subfolder: str = "",
        **options: Any,
    ) -> Self:
        """Read what `save_pretrained` or `push_to_hub` wrote; predictions are the same to the last bit.

        Args:
            pretrained_model_name_or_path: A folder, or a repository on the Hub, `NAMESPACE/NAME`, unless a
                folder has that name.
            revision: Version, tag, branch or commit of the repository; default: the newest.
            subfolder: Where in the folder or repository the regressor lies. A study's repository has the one
                that chose the mixture at its top, and every other under the name of its family.
            **options: Of `ModelHubMixin.from_pretrained`; those that would break a promise are refused.

        Raises:
            RegressionError: A file is missing, damaged, too large, of another format, or does not fit the
                others.
            HubError: There is no such repository or revision, or a file of it is missing or too large.
        """
        _refuse(options)
        source = pretrained_model_name_or_path
        if isinstance(source, str) and not Path(source).exists() and source.count("/") == 1:
            with fetched(source, revision, subfolder) as folder:
                return cls._from_pretrained(model_id=str(folder))
        return cls._from_pretrained(model_id=str(Path(source) / subfolder))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **_: Any) -> Self:
        """Read a regressor from the folder `model_id`, whose files are checked before they are read."""
        check_files(Path(model_id))
        return cls._load(Path(model_id))

    @classmethod
    def _load(cls, folder: Path) -> Self:
        raise NotImplementedError

    @property
    def _about(self) -> str:
        """What the fit is, in a sentence for its card."""
        raise NotImplementedError

    def generate_model_card(self, *, repo_id: str = "NAMESPACE/NAME", **values: Any) -> ModelCard:
        """Write the card of a repository that holds this fit alone."""
        return super().generate_model_card(repo_id=repo_id, about=self._about, **values)

    def _publish(self, saved: Path, repo_id: str, message: str, *, private: bool) -> Published:
        files = {path.name: path for path in sorted(saved.iterdir())}

        def with_card(snapshot: Snapshot) -> Files:
            if REPOCARD_NAME not in snapshot.files:
                card = str(self.generate_model_card(repo_id=repo_id, revision=_OWN_VERSION))
            else:
                there = Hub().read(snapshot, REPOCARD_NAME, max_bytes=_MEGABYTE).decode(errors="replace")
                named = re.escape(f'from_pretrained("{repo_id}", revision="') + "v[0-9]+"
                card = re.sub(named, f'from_pretrained("{repo_id}", revision="{_OWN_VERSION}', there)
            return {**files, REPOCARD_NAME: lambda version: card.replace(_OWN_VERSION, version).encode()}

        owned = tuple(file.pattern for file in FILES)
        publication = Publication(Repository("model", repo_id), with_card, message, private, owned)
        return publish(Hub(), [publication])


def under(folder: str) -> tuple[Expected, ...]:
    """The files of a regressor that lies in a folder of its repository."""
    prefix = f"{folder}/" if folder else ""
    return tuple(
        Expected(f"{prefix}{file.pattern}", file.max_bytes, file.max_files, file.required) for file in FILES
    )


def check_files(folder: Path) -> None:
    """Check a regressor's files as far as loading it does not: their sizes, and what LightGBM would believe.

    Raises:
        RegressionError: A file cannot be trusted.
    """
    for file in FILES:
        size = sum(path.stat().st_size for path in folder.glob(file.pattern))
        if size > file.max_bytes:
            raise RegressionError(
                f"{folder / file.pattern} has {size:,} bytes; at most {file.max_bytes:,} are read."
            )
    for path in sorted(folder.glob("trees-*.txt")):
        check_trees(path)


@contextmanager
def fetched(repo_id: str, revision: str | None, subfolder: str) -> Iterator[Path]:
    """Yield a folder with the files of a published regressor.

    Raises:
        HubError: There is no such repository or revision, or a file is missing, too large or not as it
            should be.
    """
    hub = Hub()
    snapshot = hub.snapshot(Repository("model", repo_id), revision)
    with tempfile.TemporaryDirectory() as temporary:
        fetch(hub, snapshot, under(subfolder), Path(temporary))
        folder = Path(temporary) / subfolder
        parse_json((folder / "config.json").read_bytes(), "config.json")
        yield folder


#: Options of the mixin that would break a promise: what asks for nothing, and why the rest is refused.
_REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "token": ((None, True), "the token is that of `hf auth login` or HF_TOKEN"),
    "force_download": ((None, False, True), "files are fetched every time"),
    "cache_dir": ((None,), "files are checked where they arrive, and not kept"),
    "local_files_only": ((None, False), "name the folder that holds the files"),
    "config": ((None,), "the configuration is that of the fit"),
    "branch": ((None, "main"), "a version is a tag on the main branch"),
    "create_pr": ((None, False), "a version is a tag on the main branch"),
    "allow_patterns": ((None,), "a version holds all files of the fit"),
    "ignore_patterns": ((None,), "a version holds all files of the fit"),
    "delete_patterns": ((None,), "files of an earlier fit go by themselves"),
    "model_card_kwargs": ((None,), "the card says what the fit is, and one that is there stays"),
}


def _refuse(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in _REFUSED:
            raise TypeError(f"unexpected option {name!r}")
        harmless, reason = _REFUSED[name]
        if not any(value is one or value == one for one in harmless):
            raise HubError(f"{name} is not supported here: {reason}.")
