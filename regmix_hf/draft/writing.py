"""Put a first recipe down: filled in, checked as `validate` does, and never over another."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from regmix_hf.corpus.read_facts import size_of
from regmix_hf.draft.domains import Findings, find_domains
from regmix_hf.draft.scale import MAX_EPOCHS, Budget, first_budget
from regmix_hf.errors import DataError, RecipeError
from regmix_hf.files import atomic_path, parse_yaml
from regmix_hf.jobs.devices import cuda_devices
from regmix_hf.plan import make_plan
from regmix_hf.preflight import check_study
from regmix_hf.readable import count_of
from regmix_hf.recipe import load_recipe
from regmix_hf.runs.spending import PAGE
from regmix_hf.study import Study

_TEMPLATE = "recipe.yaml.jinja"


@dataclass(frozen=True)
class Draft:
    """A recipe that was written.

    Attributes:
        file: Where.
        findings: Its domains, and what is in none of them.
        checked: What `validate` says of it.
        seconds: What proxies and final models take on this machine, about; `None`: not known.
    """

    file: Path
    findings: Findings
    checked: tuple[str, ...]
    seconds: float | None


def write_draft(folder: Path, file: Path) -> Draft:
    """Write a recipe for the text in a folder, with the largest models and runs that fit text and machine.

    Args:
        folder: Where the text lies.
        file: The recipe; nothing may be there.

    Raises:
        RecipeError: There is a recipe already.
        DataError: There is no folder, or too little text in it.
    """
    if file.exists():
        raise RecipeError(
            f"{file} is there already and stays as it is.", "write another with --output FILE, or move it"
        )
    findings = find_domains(folder, file.parent)
    if len(findings.domains) < 2:
        there = "; ".join(findings.left_out) or "nothing else"
        raise DataError(
            f"{folder} holds {count_of(len(findings.domains), 'domain')}, and one alone cannot be mixed. "
            f"Left out: {there}",
            "make a folder for each kind of text: every folder in it becomes a domain",
        )
    num_bytes = sum(domain.num_bytes for domain in findings.domains)
    budget = first_budget(num_bytes, len(findings.domains), num_gpus=len(cuda_devices()))
    with atomic_path(file) as temporary:
        study = _study(temporary, _text(findings, budget, folder, file))
        if seconds := make_plan(study).total("seconds"):
            budget = budget.within(seconds)
            seconds *= budget.proxy_tokens / study.recipe.proxy.num_train_tokens
            study = _study(temporary, _text(findings, budget, folder, file))
        checked = check_study(study)
    return Draft(file, findings, tuple(checked), seconds)


def _study(file: Path, text: str) -> Study:
    file.write_text(text, encoding="utf-8")
    return Study(load_recipe(file))


def _text(findings: Findings, budget: Budget, folder: Path, file: Path) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"tokens": "{:_}".format, "count": count_of, "size": size_of, "yaml": _scalar}
    sizes = [domain.num_bytes for domain in findings.domains]
    smallest = min(findings.domains, key=lambda domain: domain.num_bytes)
    most = MAX_EPOCHS * budget.scale.num_tokens(smallest.num_bytes) / budget.final_tokens
    return environment.get_template(_TEMPLATE).render(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-_.")[:80] or "text",
        folder=folder,
        file=file,
        domains=findings.domains,
        left_out=findings.left_out,
        num_bytes=sum(sizes),
        scale=budget.scale,
        budget=budget,
        max_epochs=MAX_EPOCHS,
        smallest=smallest.name,
        most=min(most, 1.0),
        page=PAGE,
        mixtures=["chosen", "prior", *(["uniform"] if most * len(sizes) >= 1 else [])],
    )


def _scalar(text: str) -> str:
    """Write a text in YAML, in quotes where it would be read as something else."""
    try:
        is_plain = re.fullmatch(r"[\w./*-]+", text) and parse_yaml(text) == text
    except Exception:  # an alias, say
        is_plain = False
    return text if is_plain else json.dumps(text, ensure_ascii=False)
