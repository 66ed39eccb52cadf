"""Trainers that draw documents, or whatever a sample of their files is: shares of tokens are converted."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from regmix_hf.errors import MixtureError
from regmix_hf.exports.mixture import MixtureToTrain
from regmix_hf.exports.writing import json_text, yaml_text


def conversion(mixture: MixtureToTrain) -> str:
    """Say how shares of tokens became shares of documents, a line per domain.

    Raises:
        MixtureError: The mean length of a domain's documents is not known.
    """
    width = max(len(name) for name in mixture.weights)
    lines = [
        "It draws documents, not tokens: a share of the tokens, divided by the mean tokens of a document and",
        "normalised, is the share of the documents that gives it.",
        f"{'domain':<{width}}  tokens  tokens per document  documents",
    ]
    for name, drawn in mixture.document_shares.items():
        length = mixture.tokens_per_document[name]
        lines.append(f"{name:<{width}}  {mixture.shares[name]:6.4f}  {length:19,.1f}  {drawn:9.4f}")
    return "\n".join(lines)


def trl(mixture: MixtureToTrain) -> dict[str, str]:
    """Write a `DatasetMixtureConfig`."""
    shares = mixture.document_shares
    refuse_filters(mixture, "TRL")
    entries = [
        {**mixture.load_arguments(name), "columns": [mixture.source(name).text_column], "fraction": share}
        for name, share in shares.items()
    ]
    _refuse_key(entries, "revision", "TRL")
    _require_one_column(mixture)
    head = _how_many(mixture, shares) + "\n" + conversion(mixture)
    return {"dataset_mixture.yaml": yaml_text({"datasets": entries, "streaming": False}, head)}


def _how_many(mixture: MixtureToTrain, shares: dict[str, float]) -> str:
    """Say how many tokens TRL's mixture comes to: it never takes a document twice."""
    counted = {name: mixture.num_documents.get(name) for name in shares}
    known = {name: count for name, count in counted.items() if count}
    if len(known) < len(shares):
        return "`fraction` needs trl 1.16. No document is taken twice: the scarcest domain ends it."
    total = min(count / shares[name] for name, count in known.items())
    scarcest = min(known, key=lambda name: known[name] / shares[name])
    tokens = sum(total * share * mixture.tokens_per_document[name] for name, share in shares.items())
    return (
        f"`fraction` needs trl 1.16. No document is taken twice: {scarcest} ends the mixture after "
        f"{tokens:,.0f} tokens."
    )


def axolotl(mixture: MixtureToTrain) -> dict[str, str]:
    """Write Axolotl's `datasets`: it has no weights, so of each domain as many documents as it is to give."""
    refuse_filters(mixture, "Axolotl")
    if mixture.num_train_tokens is None:
        raise MixtureError(
            "Axolotl has no weights: how many documents it is to read follows from the tokens of the run, "
            "which are not known.",
            "give --num-train-tokens",
        )
    shown, entries = conversion(mixture), []
    for name, share in mixture.shares.items():
        entries += _axolotl_entries(mixture, name, share * mixture.num_train_tokens)
    head = (
        "Axolotl 0.19 has no weights: of every domain it reads as many documents as give its share of\n"
        f"{mixture.num_train_tokens:,} tokens; a domain that has fewer is listed more than once.\n"
    )
    return {"datasets.yaml": yaml_text({"datasets": entries}, head + shown)}


def _axolotl_entries(mixture: MixtureToTrain, name: str, tokens: float) -> list[dict[str, Any]]:
    source, arguments = mixture.source(name), mixture.load_arguments(name)
    wanted = max(1, round(tokens / mixture.tokens_per_document[name]))
    available = mixture.num_documents.get(name) or wanted
    kind = {"type": "completion", "field": source.text_column}
    if source.path in ("json", "parquet", "csv", "text", "arrow"):
        files = _train_files(source.data_files, source.split)
        kind |= {"ds_type": source.path}
        arguments = {"path": files[0], "data_files": files}
    _refuse_key([arguments], "data_dir", "Axolotl")
    split = arguments.pop("split", "train")
    counts = [available] * (wanted // available) + [wanted % available] * (wanted % available > 0)
    return [{**arguments, "split": f"{split}[:{count}]", **kind} for count in counts]


def _train_files(data_files: Any, split: str) -> list[str]:
    files = data_files[split] if isinstance(data_files, dict) else data_files
    return [files] if isinstance(files, str) else list(files)


def llamafactory(mixture: MixtureToTrain) -> dict[str, str]:
    """Write what goes into LlamaFactory's training file, and the `dataset_info.json` that it names."""
    shares = mixture.document_shares
    refuse_filters(mixture, "LlamaFactory")
    info = {name: _llamafactory_source(mixture, name) for name in shares}
    tree = {
        "stage": "pt",
        "dataset": ",".join(shares),
        "dataset_dir": ".",
        "mix_strategy": "interleave_over",
        "interleave_probs": DoubleQuotedScalarString(",".join(f"{share:.6g}" for share in shares.values())),
        "packing": True,
    }
    return {"llamafactory.yaml": yaml_text(tree, conversion(mixture)), "dataset_info.json": json_text(info)}


def _llamafactory_source(mixture: MixtureToTrain, name: str) -> dict[str, Any]:
    source = mixture.source(name)
    columns = {"columns": {"prompt": source.text_column}}
    if source.path in ("json", "parquet", "csv", "text", "arrow"):
        files = _train_files(source.data_files, source.split)
        if len(files) != 1 or any(mark in files[0] for mark in "*?["):
            raise MixtureError(
                f"LlamaFactory reads one file or one folder as a data set, and {name!r} is {files}.",
                "put the files into a folder of their own and name it in `data_files`",
            )
        return {"file_name": files[0], **columns}
    told = {
        "hf_hub_url": source.path,
        "subset": source.name,
        "split": source.split,
        "folder": source.data_dir,
    }
    return {**{key: value for key, value in told.items() if value is not None}, **columns}


def streaming(mixture: MixtureToTrain) -> dict[str, str]:
    """Write the `streams` of MosaicML streaming, as LLM Foundry's YAML has them."""
    if mixture.samples is None:
        raise MixtureError(
            "MosaicML streaming draws samples, and a sample may be a block of tokens or a document.",
            "say which yours are, with --samples blocks or --samples documents",
        )
    if mixture.samples == "blocks":
        shares = mixture.shares
        head = (
            "`proportion` is a share of samples. A sample is a block of as many tokens as every other,\n"
            "so it is a share of training tokens."
        )
    else:
        shares, head = mixture.document_shares, conversion(mixture)
    streams = {name: {"local": mixture.place(name), "proportion": share} for name, share in shares.items()}
    return {"streams.yaml": yaml_text({"streams": streams}, head)}


def refuse_filters(mixture: MixtureToTrain, trainer: str) -> None:
    """Refuse a mixture with a domain that is only a part of a data set.

    Raises:
        MixtureError: There is one.
    """
    for name in mixture.shares:
        if mixture.source(name).filter:
            raise MixtureError(
                f"{trainer} reads whole data sets, and {name!r} is the filtered part of one.",
                "write the kept rows into files of their own, or export `--to datasets`",
            )


def _refuse_key(entries: list[dict[str, Any]], key: str, trainer: str) -> None:
    for entry in entries:
        if key in entry:
            raise MixtureError(
                f"{trainer} has no key for the {key} {entry[key]!r} of {entry['path']!r}.",
                "leave it out of the recipe, or export `--to datasets`",
            )


def _require_one_column(mixture: MixtureToTrain) -> None:
    columns = {mixture.source(name).text_column: name for name in mixture.shares}
    if len(columns) > 1:
        (first, one), (second, other), *_ = columns.items()
        raise MixtureError(
            f"TRL puts data sets below each other, so their texts need one column: {one!r} has "
            f"{first!r}, {other!r} has {second!r}.",
            "rename the column in the files, or export `--to datasets`",
        )
