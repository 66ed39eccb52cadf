"""A small finished study: real sampling, fit and choice, on runs, models and scores written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from regmix_hf.evaluation.promises import write_promises
from regmix_hf.files import read_parquet, write_json, write_parquet
from regmix_hf.jobs.results import collect, result_of
from regmix_hf.jobs.tasks import Task
from regmix_hf.mixtures import sample_mixtures
from regmix_hf.progress import Silent
from regmix_hf.recipe import load_recipe
from regmix_hf.runs.experts import Experts, TargetText
from regmix_hf.stages import choose, evaluate, fit, prepare, proxies, report, sample, train
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts
from regmix_hf.training.spec import RunSpec

from ..tiny import LLAMA

MODEL = {**LLAMA, "vocab_size": 300}


def recipe_tree(folder: Path) -> dict[str, Any]:
    """The recipe, as a user writes it."""
    return {
        "name": "small",
        "seed": 7,
        "output_dir": str(folder / "study"),
        "context_length": 128,
        "tokenizer": {"train": {"vocab_size": 300}},
        "domains": {
            "prose": {"path": "my-org/books", "name": "en", "revision": "4f3c2e1"},
            "code": {"path": "my-org/programs"},
            "maths": {"path": "json", "data_files": "maths.jsonl"},
            "letters": {"path": "my-org/letters", "validation_only": True},
        },
        "sampling": {"num_mixtures": 24, "num_holdout": 4},
        "proxy": {"model": MODEL, "num_train_tokens": 204_800, "scale": "0.2M"},
        "regression": {"estimators": ["power_law", "ridge"], "target": "mean"},
        "choice": {"num_candidates": 500, "top_k": 10, "num_confirm": 0},
        "train": {
            "model": MODEL,
            "num_train_tokens": 819_200,
            "mixtures": ["chosen", "prior"],
            "num_seeds": 2,
            "training_args": {"learning_rate": 4e-3, "lr_scheduler_type": "cosine"},
        },
        "evaluation": {"tasks": ["held_out_text"], "limit": 10},
        "hub": {"namespace": "me", "license": "apache-2.0"},
    }


def sample_short(folder: Path, write_corpus: Callable[..., Path], **changes: dict[str, Any]) -> Study:
    """Sample a study of short runs on random blocks, with some sections changed, as `recipe.json` says."""
    tree = recipe_tree(folder)
    tree["proxy"] |= {
        "num_train_tokens": 10_240,
        "num_evaluations": 1,
        "training_args": {"per_device_train_batch_size": 8, "use_cpu": True},
    }
    tree["train"]["num_train_tokens"] = 20_480
    for section, keys in changes.items():
        tree[section] = {**tree.get(section, {}), **keys}
    (folder / "recipe.json").write_text(json.dumps(tree))
    study = Study(load_recipe(folder / "recipe.json"))
    study.open()
    draw = np.random.default_rng(0)
    blocks = {name: draw.integers(300, size=(2, 300, 128)) for name in study.recipe.training_domains}
    splits = {name: (train, validation[:10]) for name, (train, validation) in blocks.items()}
    write_corpus(study.corpus, 300, {**splits, "letters": (None, draw.integers(300, size=(10, 128)))})
    (study.corpus / "tokenizer").mkdir()
    (study.corpus / "tokenizer" / "tokenizer.json").write_text("{}")
    study.finish(prepare.STAGE)
    sample.run(study, Silent())
    return study


def make_finished(folder: Path) -> None:
    """Write the recipe, and the finished study beside it."""
    (folder / "recipe.json").write_text(json.dumps(recipe_tree(folder)))
    finish_study(Study(load_recipe(folder / "recipe.json")))


def finish_study(study: Study) -> None:
    """Write what all stages leave."""
    study.open()
    _write_corpus(study)
    sample.run(study, Silent())
    train_proxies(study)
    fit.run(study, Silent())
    choose.run(study, Silent())
    train_models(study)
    score_models(study)
    report.run(study, Silent())


def tokens_of(study: Study) -> dict[str, int]:
    """Training tokens of every domain, each with fewer than the one before."""
    return {name: 500_000 - 50_000 * k for k, name in enumerate(study.recipe.training_domains)}


def _write_corpus(study: Study) -> None:
    def split(tokens: int) -> SplitFacts:
        counts = {"num_documents": tokens // 100, "num_bytes": 4 * tokens, "num_tokens": tokens}
        return SplitFacts(**counts, num_blocks=tokens // 128, sha256="0" * 64)

    domains = {
        name: DomainFacts(train=split(tokens), validation=split(12_800))
        for name, tokens in tokens_of(study).items()
    }
    for name in study.recipe.domains.keys() - domains.keys():
        domains[name] = DomainFacts(train=None, validation=split(12_800))
    CorpusFacts(
        context_length=128,
        vocab_size=study.recipe.tokenizer.train.vocab_size,
        eos_token_id=0,
        tokenizer_sha256="0" * 64,
        domains=domains,
    ).save(study.corpus)
    (study.corpus / "tokenizer").mkdir()
    study.finish(prepare.STAGE)


def losses_of(weights: dict[str, float], noise: float) -> dict[str, float]:
    """A law that text follows: the more of a domain, the lower its loss; letters are like prose."""
    own = {name: 2.0 + 0.5 * (weight + 0.05) ** -0.3 + noise for name, weight in weights.items()}
    return {**own, "letters": 1.0 + 0.9 * own["prose"]} if "prose" in own else own


def end_run(task: Task, level: float = 0.0, status: str = "ok") -> None:
    """Write what a run leaves in its folder."""
    spec: RunSpec = task.spec
    noise = level + 0.01 * np.random.default_rng(spec.seed).standard_normal()
    losses = losses_of(spec.weights, noise)
    losses |= {name: 1.0 + 0.9 * min(losses.values()) for name in spec.validation.keys() - losses.keys()}
    ok = status == "ok"
    points = [
        {"run_id": spec.run_id, "step": step, "num_tokens": step * 1024}
        | {f"loss/{name}": loss + early if ok else np.nan for name, loss in losses.items()}
        for step, early in ((100, 0.4), (200, 0.0))
    ]
    write_parquet(task.folder / "trajectory.parquet", pd.DataFrame(points))
    row: dict[str, Any] = {
        "run_id": spec.run_id,
        "mixture_id": spec.mixture_id,
        "split": spec.split,
        "scale": spec.scale or "0.2M",
        "seed": spec.seed,
        "status": status,
        "num_train_tokens": spec.num_tokens,
        "num_parameters": 600 * spec.model["hidden_size"],
    }
    for prefix in ("weight", "realized"):
        row |= {f"{prefix}/{name}": weight for name, weight in spec.weights.items()}
    row |= {f"epochs/{name}": w * spec.num_tokens / 400_000 for name, w in spec.weights.items()}
    for prefix, factor in (("loss", 1.0), ("bpb", 0.36), ("loss_stderr", 0.002)):
        row |= {f"{prefix}/{name}": loss * factor if ok else None for name, loss in losses.items()}
    if task.leaves and ok:
        expert_of(spec).write(task.folder / "experts.safetensors")
    write_json(task.folder / "result.json", {**row, "wall_seconds": 3.5, "device": "cpu", "versions": "v"})


def expert_of(spec: RunSpec) -> Experts:
    """What the run of one domain gives forty tokens of each text: likely ones of its own."""
    likely = {name: -losses for name, losses in losses_of(spec.weights, 0.0).items()}
    likely |= dict.fromkeys(spec.validation.keys() - likely.keys(), -3.0)
    spread = np.random.default_rng(spec.seed).exponential(1.0, 40)
    texts = {
        name: TargetText(sha256=sha256, num_tokens=40, bits_per_nat=0.36)
        for name, sha256 in spec.validation.items()
    }
    logs = {name: (likely[name] * spread[None]).astype(np.float16) for name in texts}
    return Experts(pd.DataFrame([spec.weights], [spec.run_id]), logs, texts)


def train_proxies(study: Study, *, diverged: int = 1) -> None:
    """Do the stage `proxies`, of whose runs the first ones diverge."""
    tasks = proxies.tasks_of(study)
    for number, task in enumerate(tasks):
        if result_of(task) is None:
            level = -0.2 * task.spec.rung  # the larger, the lower
            end_run(task, level=level, status="diverged" if number < diverged else "ok")
    collect(tasks, study.proxies)
    study.finish(proxies.STAGE)


def grow_study(study: Study) -> None:
    """Train proxies on six more mixtures, fit and choose again."""
    before = read_parquet(study.mixtures)
    drawn = sample_mixtures(tokens_of(study), study.recipe.sampling, random_state=8)
    drawn = drawn[drawn.filter(like="weight/").min(axis=1) > 0.02].head(6)  # not the corners, which repeat
    names = [f"m{len(before) + k:04d}" for k in range(len(drawn))]
    write_parquet(study.mixtures, pd.concat([before, drawn.assign(mixture_id=names)], ignore_index=True))
    study.finish(sample.STAGE)
    train_proxies(study)
    fit.run(study, Silent())
    choose.run(study, Silent())


def train_models(study: Study) -> None:
    """Do the stage `train`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    for task in train.tasks_of(study):
        end_run(task, level=-0.3 if task.spec.mixture_id == "chosen" else -0.2)
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**task.spec.model)).save_pretrained(task.folder)
        PreTrainedTokenizerFast(tokenizer_object=words, eos_token="a").save_pretrained(task.folder)
        (task.folder / "training_args.bin").write_bytes(b"\x80\x04a pickle that nobody may see")
    train.conclude(study, Silent())  # two names of one mixture have a folder each, too


def score_models(study: Study) -> None:
    """Do the stage `evaluate`."""
    rows = [
        {
            "model": row["mixture_id"],
            "run_id": row["run_id"],
            "mixture_id": row["mixture_id"],
            "seed": row["seed"],
            "task": task,
            "domain": domain,
            "num_fewshot": 0,
            "metric": metric,
            "value": value - 0.1 * (row["mixture_id"] == "chosen"),
            "stderr": 0.02,
            "num_samples": 10,
            "higher_is_better": metric == "acc",
        }
        for row in read_parquet(study.models / "results.parquet").to_dict("records")
        for task, domain, metric, value in (
            ("validation", study.recipe.training_domains[0], "bits_per_byte", 1.1),
            ("held_out_text", study.recipe.training_domains[0], "bits_per_byte", 1.2),
            ("held_out_text", study.recipe.training_domains[0], "byte_perplexity", 3.3),
            ("piqa", None, "acc", 0.6),
        )
    ]
    write_parquet(study.evaluation / "results.parquet", pd.DataFrame(rows))
    write_promises(study)
    study.finish(evaluate.STAGE)
