"""What the Hub takes as metadata of a card, as far as its documentation says so.

The Hub's own check is an endpoint, whose code is not public. This one refuses all that the specifications do
not name (huggingface/hub-docs: `modelcard.md`, `datasetcard.md` and the list of licences; the tasks of
huggingface.js), so it is stricter where they differ from what is let through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

Metadata = Mapping[str, object]

#: Of a dataset in `model-index`, in the words of the Hub's refusals; ids elsewhere are alike.
REPO_ID = re.compile(r"(?:[\w-]+/)?[\w.-]+")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual")
_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
    cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
    agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl
    openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 gemma
    unknown other
"""
#: Those this project could mean; the Hub knows more, of pictures and sound.
_TASKS = """
    text-classification token-classification question-answering translation summarization
    feature-extraction text-generation fill-mask sentence-similarity tabular-classification tabular-regression
    time-series-forecasting text-ranking text-retrieval other
"""
_SIZES = """
    n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T
    n>1T
"""
LICENSES, TASKS, SIZES = (frozenset(words.split()) for words in (_LICENSES, _TASKS, _SIZES))
_MODEL_KEYS = {
    *("language", "license", "license_name", "license_link", "library_name", "tags", "datasets", "metrics"),
    *("base_model", "pipeline_tag", "model-index"),
}
_DATASET_KEYS = {
    *("language", "license", "license_name", "license_link", "tags", "pretty_name", "size_categories"),
    *("source_datasets", "task_categories", "task_ids", "configs", "dataset_info"),
}
_RESULT_KEYS = {
    "task": ({"type"}, {"name"}),
    "dataset": ({"type", "name"}, {"config", "split", "revision", "args"}),
    "source": ({"name", "url"}, set()),
}


def problems(kind: str, metadata: Metadata) -> list[str]:
    """Say what is wrong with the metadata of a card of a `model` or `dataset` repository."""
    return list(_problems(kind, metadata))


def _problems(kind: str, metadata: Metadata) -> Iterator[str]:
    for key in metadata.keys() - (_DATASET_KEYS if kind == "dataset" else _MODEL_KEYS):
        yield f'"{key}" is not allowed'
    yield from _license(metadata)
    for key in ("tags", "metrics", "datasets", "source_datasets", "size_categories", "task_categories"):
        if key in metadata and not _is_texts(metadata[key]):
            yield f'"{key}" must be an array of strings'
            return
    checks: dict[str, tuple[Callable[[str], object], str]] = {
        "datasets": (REPO_ID.fullmatch, "a dataset id"),
        "source_datasets": (REPO_ID.fullmatch, "a dataset id"),
        "base_model": (REPO_ID.fullmatch, "a model id"),
        "size_categories": (SIZES.__contains__, "a size"),
        "task_categories": (TASKS.__contains__, "a task"),
        "pipeline_tag": (TASKS.__contains__, "a task"),
        "language": (LANGUAGE.fullmatch, "a language"),
    }
    for key, (check, what) in checks.items():
        for value in _listed(metadata.get(key)):
            if not isinstance(value, str) or not check(value):
                yield f'"{key}" with value {value!r} is not {what}'
    for key in ("pretty_name", "library_name"):
        if not isinstance(metadata.get(key, "x"), str):
            yield f'"{key}" must be a string'
    yield from _configs(metadata.get("configs", []))
    yield from _model_index(metadata.get("model-index", []))


def _license(metadata: Metadata) -> Iterator[str]:
    for value in _listed(metadata.get("license")):
        if value not in LICENSES:
            yield f'"license" must be one of [{", ".join(sorted(LICENSES))}]'
        if value == "other" and not isinstance(metadata.get("license_name"), str):
            yield '"license_name" is required when "license" is "other"'


def _configs(configs: object) -> Iterator[str]:
    if not isinstance(configs, list):
        yield '"configs" must be an array'
        return
    names = [config.get("config_name") for config in configs]
    if len(set(names)) != len(names) or not _is_texts(names):
        yield '"configs" need different names'
    if sum(config.get("default", False) is True for config in configs) > 1:
        yield '"configs" have more than one default'
    for config in configs:
        files = config.get("data_files")
        splits = isinstance(files, list) and all(
            isinstance(file, dict) and file.keys() == {"split", "path"} for file in files
        )
        if not (isinstance(files, str) or _is_texts(files) or splits):
            yield f'"configs.{config.get("config_name")}.data_files" is no file, list of files or splits'
        for key in config.keys() - {"config_name", "data_files", "default"}:
            yield f'"configs.{key}" is not allowed'


def _model_index(index: object) -> Iterator[str]:
    if not isinstance(index, list):
        yield '"model-index" must be an array'
        return
    for number, model in enumerate(index):
        place = f"model-index[{number}]"
        if model.keys() != {"name", "results"} or not isinstance(model["name"], str):
            yield f'"{place}" needs "name" and "results"'
        elif not isinstance(model["results"], list) or not model["results"]:
            yield f'"{place}.results" must be an array of results'
        else:
            for count, result in enumerate(model["results"]):
                yield from _result(result, f"{place}.results[{count}]")


def _result(result: Metadata, place: str) -> Iterator[str]:
    for key in {"task", "dataset", "metrics"} - result.keys():
        yield f'"{place}.{key}" is required'
    for key in result.keys() - {"task", "dataset", "metrics", "source"}:
        yield f'"{place}.{key}" is not allowed'
    for part, (required, optional) in _RESULT_KEYS.items():
        yield from _part(result.get(part), f"{place}.{part}", required, optional)
    task, dataset = result.get("task"), result.get("dataset")
    if isinstance(task, dict) and task.get("type") not in TASKS:
        yield f'"{place}.task.type" is no task'
    if isinstance(dataset, dict) and not REPO_ID.fullmatch(str(dataset.get("type"))):
        pattern = r"/^(?:[\w-]+\/)?[\w-.]+$/"
        yield f'"{place}.dataset.type" with value "{dataset.get("type")}" fails to match {pattern}'
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        yield f'"{place}.metrics" must be an array of metrics'
        return
    for count, metric in enumerate(metrics):
        where = f"{place}.metrics[{count}]"
        yield from _part(metric, where, {"type", "value"}, {"name", "config", "args", "verified"})
        value = metric.get("value")
        if not isinstance(value, str | int | float) or value != value:
            yield f'"{where}.value" must be a number or a text'


def _part(part: object, place: str, required: set[str], optional: set[str]) -> Iterator[str]:
    if part is None:
        return
    if not isinstance(part, dict):
        yield f'"{place}" must be an object'
        return
    for key in required - part.keys():
        yield f'"{place}.{key}" is required'
    for key in part.keys() - required - optional:
        yield f'"{place}.{key}" is not allowed'
    for key in ("type", "name", "config", "split", "revision", "url"):
        if key in part and not (isinstance(part[key], str) and part[key]):
            yield f'"{place}.{key}" must be a string'
    if not isinstance(part.get("args", {}), dict):
        yield f'"{place}.args" must be an object'


def _listed(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)
