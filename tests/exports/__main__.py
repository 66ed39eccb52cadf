"""Give exports to the trainers' own code: `python -m tests.exports`.

Prints one line per trainer: the version that is installed, and what its own parser, or its own sampler, made
of the file. A library that is not installed is named as not tried. The gate holds the written
files to what these parsers took (`tests/exports/test_exports.py`).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from runpy import run_path
from typing import Any

from ruamel.yaml import YAML

from regmix_hf.exports import MixtureToTrain, render_export
from regmix_hf.recipe import Domain

SHARES = {"books": 0.5, "web": 0.3, "tweets": 0.2}
#: Words of a document of each domain; one word is one token here.
WORDS = {"books": 500, "web": 50, "tweets": 5}
DOCUMENTS = {"books": 100, "web": 600, "tweets": 4_000}


def mixture(**changes: Any) -> MixtureToTrain:
    """Three domains in files of the working directory."""
    values: dict[str, Any] = {
        "name": "chosen",
        "weights": SHARES,
        "num_train_tokens": 40_000,
        "context_length": 16,
        "domains": {name: Domain(path="json", data_files=f"{name}.jsonl") for name in SHARES},
        "tokens_per_document": WORDS,
        "num_documents": DOCUMENTS,
    }
    return MixtureToTrain(**values | changes)


def tree(to: str, **changes: Any) -> Any:
    """The export for a trainer that reads YAML, as a tree."""
    return YAML(typ="safe").load(next(iter(render_export(mixture(**changes), to).values())))


def shares_of(tokens: dict[str, float]) -> dict[str, float]:
    """Shares of the tokens, rounded for people."""
    total = sum(tokens.values())
    return {name: round(tokens[name] / total, 3) for name in SHARES}


def trl() -> Any:
    from trl.scripts.utils import DatasetMixtureConfig, get_dataset

    rows = get_dataset(DatasetMixtureConfig(**tree("trl")))["train"]["text"]
    return shares_of(_words(rows))


def _words(texts: Any) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts[text.split()[0]] += len(text.split())
    return counts


def olmo_core() -> Any:
    from olmo_core.data.source_mixture import SourceMixtureList

    sources = SourceMixtureList.from_dict(tree("olmo-core"))
    sources.validate()
    for source in sources.sources:
        source.validate()
    return {source.source_name: source.target_ratio for source in sources.sources}


def megatron_bridge() -> Any:
    from megatron.core.datasets.utils import get_blend_from_list

    words = render_export(mixture(), "megatron-lm")["data_args.sh"]
    given = words.split("--data-path\n")[1].split("--split")[0].split()
    places, weights = get_blend_from_list(given)
    assert [places, weights] == tree("megatron-bridge")["dataset"]["blend"]
    return dict(zip(places, weights, strict=True))


def streaming() -> Any:
    from streaming import MDSWriter, Stream, StreamingDataset

    for name, count in DOCUMENTS.items():
        with MDSWriter(out=f"{name}-mds", columns={"text": "str"}) as out:
            for _ in range(count):
                out.write({"text": " ".join([name] * WORDS[name])})
    streams = tree("streaming", samples="documents", location="{domain}-mds")["streams"]
    data = StreamingDataset(
        streams=[Stream(**stream) for stream in streams.values()], batch_size=1, shuffle=False
    )
    return shares_of(_words(row["text"] for row in data))


def litgpt() -> Any:
    from litgpt.data import DataModule

    program = run(render_export(mixture(), "litgpt")["litgpt_mixture.py"])
    module = program["Mixture"]()
    assert isinstance(module, DataModule)
    module.connect(batch_size=2, max_seq_length=16)
    return program["DOMAINS"]


def run(program: str) -> dict[str, Any]:
    """Run an exported program; return what it defines."""
    Path("exported.py").write_text(program)
    return run_path("exported.py", run_name="exported")


def axolotl() -> Any:
    from axolotl.utils.schemas.datasets import SFTDataset
    from datasets import load_dataset

    tokens: Counter[str] = Counter()
    for entry in tree("axolotl")["datasets"]:
        read = SFTDataset(**entry)
        rows = load_dataset(read.ds_type, data_files=read.data_files, split=read.split)
        tokens += _words(rows[read.field])
    return shares_of(tokens)


def llamafactory() -> Any:
    from datasets import load_dataset
    from llamafactory.data.data_utils import merge_dataset
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams.data_args import DataArguments

    files = render_export(mixture(), "llamafactory")
    Path("dataset_info.json").write_text(files["dataset_info.json"])
    told = YAML(typ="safe").load(files["llamafactory.yaml"])
    told.pop("stage")
    arguments = DataArguments(**told)
    attributes = get_dataset_list(arguments.dataset, arguments.dataset_dir)
    parts = [load_dataset("json", data_files=a.dataset_name, split=a.split) for a in attributes]
    merged = merge_dataset(parts, arguments, seed=1)
    return shares_of(_words(merged[attributes[0].prompt]))


def torchtitan() -> Any:
    program = run(render_export(mixture(), "torchtitan")["torchtitan_mixture.py"])
    return {source.dataset: source.weight for source in program["dataloader"].sources}


def nanotron() -> Any:
    from nanotron.config import NanosetDatasetsArgs

    (stage,) = tree("nanotron")["data_stages"]
    read = NanosetDatasetsArgs(**stage["data"]["dataset"])
    return dict(zip(read.dataset_folder, read.dataset_weights, strict=True))


TRIALS: dict[str, Callable[[], Any]] = {
    "trl": trl,
    "ai2-olmo-core": olmo_core,
    "megatron-core": megatron_bridge,
    "mosaicml-streaming": streaming,
    "litgpt": litgpt,
    "axolotl": axolotl,
    "llamafactory": llamafactory,
    "torchtitan": torchtitan,
    "nanotron": nanotron,
}


def main() -> None:
    """Try every library that is installed."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, count in DOCUMENTS.items():
            row = json.dumps({"text": " ".join([name] * WORDS[name])})
            Path(f"{name}.jsonl").write_text((row + "\n") * count)
        for package, trial in TRIALS.items():
            try:
                found = version(package)
            except PackageNotFoundError:
                print(f"{package:<20}not installed: not tried")
                continue
            try:
                print(f"{package:<20}{found:<10}{trial()}")
            except Exception as error:  # one library's trouble is no other's
                print(f"{package:<20}{found:<10}failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
