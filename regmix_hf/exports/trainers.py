"""The trainers that a mixture can be written for: what each one's weights mean, and its words for them.

Schemas were read in trl 1.16, ai2-olmo-core 3.0, mosaicml-streaming 0.13, litgpt 0.5.13, litdata 0.2.76,
axolotl 0.19, torchtitan 0.3, llamafactory 0.9.5 and megatron-bridge 0.3; nanotron's in its public source.
`python -m tests.exports` gives the files to those of them that are installed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regmix_hf.errors import MixtureError, did_you_mean
from regmix_hf.exports.documents import axolotl, llamafactory, refuse_filters, streaming, trl
from regmix_hf.exports.mixture import MixtureToTrain
from regmix_hf.exports.writing import csv_text, json_text, python_text, yaml_text

_TOKENS = "Weights are shares of training tokens."
_BLOCKS = f"{_TOKENS} Every sample is a sequence of as many tokens, so they are shares of samples, too."


@dataclass(frozen=True)
class Trainer:
    """One program, or plain format, that a mixture can be written for.

    Attributes:
        name: What `--to` calls it.
        title: What people call it.
        weighs: What its weights are shares of.
        render: Writes the files: name -> content, the main one first.
    """

    name: str
    title: str
    weighs: Literal["tokens", "documents", "samples"]
    render: Callable[[MixtureToTrain], dict[str, str]]


def render_export(mixture: MixtureToTrain, to: str) -> dict[str, str]:
    """Write a mixture for a trainer: name of a file -> its content, the main one first.

    Raises:
        MixtureError: There is no such trainer, or it needs to know what is not known.
    """
    if to not in TRAINERS:
        raise MixtureError(f"--to {to!r} is no trainer that is known; {did_you_mean(to, TRAINERS)}")
    return TRAINERS[to].render(mixture)


def render_every(mixture: MixtureToTrain) -> tuple[dict[str, dict[str, str]], dict[str, MixtureError]]:
    """Write a mixture for every trainer that what is known of it is enough for.

    Returns:
        Trainer -> its files, as `render_export` gives them; trainer -> why there are none.
    """
    written, left_out = {}, {}
    for name in TRAINERS:
        try:
            written[name] = render_export(mixture, name)
        except MixtureError as error:
            left_out[name] = error
    return written, left_out


def _yaml(mixture: MixtureToTrain) -> dict[str, str]:
    tree: dict[str, Any] = {"name": mixture.name, "weights": mixture.shares}
    return {"mixture.yaml": yaml_text(tree, f"{_TOKENS}\nCopy them into the `baselines` of a recipe.")}


def _json(mixture: MixtureToTrain) -> dict[str, str]:
    tree = {"name": mixture.name, "weights_are": "shares of training tokens", "weights": mixture.shares}
    return {"mixture.json": json_text(tree)}


def _csv(mixture: MixtureToTrain) -> dict[str, str]:
    columns: dict[str, Mapping[str, float]] = {"weight": mixture.shares}
    if all(mixture.tokens_per_document.get(name) for name in mixture.shares):
        columns |= {
            "tokens_per_document": mixture.tokens_per_document,
            "share_of_documents": mixture.document_shares,
        }
    return {"mixture.csv": csv_text("domain", list(mixture.shares), columns)}


def _datasets(mixture: MixtureToTrain) -> dict[str, str]:
    if mixture.blocks is None and (mixture.tokenizer is None or mixture.context_length is None):
        raise MixtureError(
            "a tokenizer that others can load, or the tokens of a block, is not known.",
            "export from a recipe whose text is prepared, or whose tokenizer lies on the Hub",
        )
    return {"mixture.py": python_text("datasets.py.jinja", mixture)}


def _megatron(mixture: MixtureToTrain) -> dict[str, str]:
    pairs = [f"    {share:.6g} {shlex.quote(mixture.place(name))}" for name, share in mixture.shares.items()]
    lines = [
        *(f"# {line}" for line in _BLOCKS.splitlines()),
        "# Names are prefixes of the .bin and .idx files; source this file, then pass",
        '# "${DATA_ARGS[@]}" to the training script.',
        "DATA_ARGS=(",
        "  --data-path",
        *pairs,
        "  --split 99,1,0",
        ")",
    ]
    return {"data_args.sh": "\n".join(lines) + "\n"}


def _bridge(mixture: MixtureToTrain) -> dict[str, str]:
    places = [mixture.place(name) for name in mixture.shares]
    tree = {"dataset": {"blend": [places, list(mixture.shares.values())], "split": "99,1,0"}}
    return {"blend.yaml": yaml_text(tree, f"{_BLOCKS}\nNames are prefixes of the .bin and .idx files.")}


def _olmo_core(mixture: MixtureToTrain) -> dict[str, str]:
    sources = [
        {
            "source_name": name,
            "target_ratio": share,
            "paths": [f"{mixture.place(name)}/*.npy"],
            "max_repetition_ratio": mixture.repetition(name),
        }
        for name, share in mixture.shares.items()
    ]
    head = f"{_TOKENS} Give them to SourceMixtureList, and `requested_tokens` to SourceMixtureDatasetConfig."
    return {"sources.yaml": yaml_text({"sources": sources}, head)}


def _nanotron(mixture: MixtureToTrain) -> dict[str, str]:
    dataset = {
        "dataset_folder": [mixture.place(name) for name in mixture.shares],
        "dataset_weights": list(mixture.shares.values()),
    }
    data = {"dataset": dataset, "num_loading_workers": 1, "seed": mixture.seed}
    stage = {"name": mixture.name, "start_training_step": 1, "data": data}
    head = f"{_BLOCKS}\nFolders hold tokens written by datatrove."
    return {"data_stages.yaml": yaml_text({"data_stages": [stage]}, head)}


def _torchtitan(mixture: MixtureToTrain) -> dict[str, str]:
    refuse_filters(mixture, "torchtitan")
    return {"torchtitan_mixture.py": python_text("torchtitan.py.jinja", mixture)}


def _litgpt(mixture: MixtureToTrain) -> dict[str, str]:
    return {"litgpt_mixture.py": python_text("litgpt.py.jinja", mixture)}


#: By the name that `--to` takes.
TRAINERS: dict[str, Trainer] = {
    trainer.name: trainer
    for trainer in (
        Trainer("yaml", "YAML", "tokens", _yaml),
        Trainer("json", "JSON", "tokens", _json),
        Trainer("csv", "CSV", "tokens", _csv),
        Trainer("datasets", "Hugging Face datasets", "tokens", _datasets),
        Trainer("trl", "TRL", "documents", trl),
        Trainer("megatron-lm", "Megatron-LM", "tokens", _megatron),
        Trainer("megatron-bridge", "NeMo and Megatron Bridge", "tokens", _bridge),
        Trainer("olmo-core", "OLMo-core", "tokens", _olmo_core),
        Trainer("streaming", "MosaicML streaming", "samples", streaming),
        Trainer("torchtitan", "torchtitan", "tokens", _torchtitan),
        Trainer("nanotron", "nanotron", "tokens", _nanotron),
        Trainer("axolotl", "Axolotl", "documents", axolotl),
        Trainer("litgpt", "litgpt", "tokens", _litgpt),
        Trainer("llamafactory", "LlamaFactory", "documents", llamafactory),
    )
}
