"""Prepared text and mixtures on the Hub, for workers that share no folder and would each tokenize it all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.errors import HubError
from regmix_hf.files import read_record, write_json
from regmix_hf.hub import Expected, Hub, Publication, Snapshot, fetch, parse_json, publish
from regmix_hf.progress import Progress
from regmix_hf.readable import count_of, short
from regmix_hf.runs.published import read_corpus_facts
from regmix_hf.sharing.tables import json_file
from regmix_hf.study import Stage, Study, names
from regmix_hf.study.address import Address

_MEGABYTE = 1_000_000
_MOST_DOMAINS = 2000
_MOST_FILES_OF_MODELS = 500
#: What is fetched: nothing else that a repository may hold comes in.
_FILES = (
    Expected(f"{names.CORPUS}/{names.CORPUS_FACTS}", max_bytes=5 * _MEGABYTE),
    Expected(f"{names.CORPUS}/tokenizer/*.json", max_bytes=200 * _MEGABYTE, max_files=20),
    Expected(f"{names.CORPUS}/tokenizer/*.txt", max_bytes=200 * _MEGABYTE, max_files=5, required=False),
    Expected(f"{names.CORPUS}/*/*.arrow", max_bytes=4_000_000 * _MEGABYTE, max_files=2 * _MOST_DOMAINS),
    Expected(
        f"{names.CORPUS}/*/{names.HELD_OUT}",
        max_bytes=100_000 * _MEGABYTE,
        max_files=_MOST_DOMAINS,
        required=False,
    ),
    *(
        Expected(
            f"{names.CORPUS}/{pattern}", max_bytes=10_000 * _MEGABYTE, max_files=_MOST_DOMAINS, required=False
        )
        for pattern in (f"{names.TASKS}/*.parquet", f"{names.METRICS}/*.parquet", f"{names.METRICS}/*.json")
    ),
    *(
        Expected(
            f"{names.CORPUS}/{names.CHECKPOINTS}/*/*.{kind}",
            max_bytes=4_000_000 * _MEGABYTE,
            max_files=_MOST_FILES_OF_MODELS,
            required=False,
        )
        for kind in ("safetensors", "json", "txt", "parquet")
    ),
    Expected(f"{names.MIXTURES}/{names.MIXTURES_TABLE}", max_bytes=200 * _MEGABYTE),
)
_CARD = """---
pretty_name: Prepared text of {name}
---
Blocks of token ids, the tokenizer and the mixtures of the study `{name}`, for workers that train its proxies
(`regmix proxies --on jobs`, or `hub.corpus: true`). The text can be had back from them.
"""


def push_corpus(hub: Hub, study: Study, stages: Sequence[Stage], progress: Progress) -> None:
    """Publish the corpus and the mixtures of a study, for its owners only unless the recipe says `public`.

    Args:
        hub: The connection.
        study: With a corpus and mixtures.
        stages: Those that made them.
        progress: Told first how much it is.

    Raises:
        HubError: Not logged in, not permitted, or the repository is public and this is not to be.
    """
    assert study.recipe.hub is not None
    repository, folder = Address.of(study.recipe).corpus, study.corpus
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files: dict[str, Path | bytes] = {
        f"{names.CORPUS}/{path.relative_to(folder)}": path
        for path in paths
        if not path.name.startswith(".") and not path.name.endswith(".tmp")
    }
    files[f"{names.MIXTURES}/{names.MIXTURES_TABLE}"] = study.mixtures
    size = sum(path.stat().st_size for path in files.values() if isinstance(path, Path))
    is_private = study.recipe.hub.corpus != "public"
    who = "for you alone" if is_private else "for everybody"
    progress.note(f"corpus: {count_of(len(files), 'file')}, {short(size)} bytes, to {repository}, {who}")
    markers = {stage.verb: read_record(study.marker(stage)) for stage in stages}
    files[names.STAGES] = json_file(markers)
    files[REPOCARD_NAME] = _CARD.format(name=study.recipe.name).encode()
    owned = ("*", "*/*", "*/*/*", "*/*/*/*")
    publication = Publication(repository, files, "Add the prepared text", is_private, owned)
    publish(hub, [publication], tag=False)


def fetch_corpus(hub: Hub, study: Study, stages: Sequence[Stage], progress: Progress) -> bool:
    """Fetch corpus and mixtures, if there are some of this very recipe; tell whether there were.

    What the recipe says decides. Text on the machine where the corpus was prepared is not asked for here.

    Raises:
        HubError: What is there is no corpus.
    """
    snapshot = hub.find(Address.of(study.recipe).corpus)
    if snapshot is None or names.STAGES not in snapshot.files:
        return False
    name = str(snapshot.repository)
    markers = _markers(hub, snapshot, stages, name)
    for stage in stages:
        if changed := study.keys_changed(stage, markers[stage.verb]):
            progress.note(f"{name} is not fetched: it was prepared with another {', '.join(changed)}")
            return False
    place = f"{names.CORPUS}/{names.CORPUS_FACTS}"
    facts = read_corpus_facts(hub.read(snapshot, place, max_bytes=5 * _MEGABYTE), f"{name}: {place}")
    if set(facts.domains) != set(study.recipe.domains):
        raise HubError(f"{name} holds other domains than the recipe names.")
    progress.note(f"fetching the corpus from {name}")
    arriving = study.root / ".arriving-corpus"
    fetch(hub, snapshot, _FILES, study.root, via=arriving)
    shutil.rmtree(arriving, ignore_errors=True)
    for stage in stages:
        now = {
            "outputs": study.written(stage),
            "fingerprint": study.seen_from_here(stage, markers[stage.verb]),
        }
        write_json(study.marker(stage), {**markers[stage.verb], **now})
    return True


def _markers(
    hub: Hub, snapshot: Snapshot, stages: Sequence[Stage], name: str
) -> Mapping[str, dict[str, Any]]:
    tree = parse_json(hub.read(snapshot, names.STAGES, max_bytes=_MEGABYTE), f"{name}: {names.STAGES}")
    for stage in stages:
        marker = tree.get(stage.verb) if isinstance(tree, dict) else None
        if not isinstance(marker, dict) or not isinstance(marker.get("fingerprint"), dict):
            raise HubError(f"{name}: {names.STAGES} does not say how `{stage.verb}` was done.")
    return dict(tree)
