"""The repositories of regressors, of the chosen mixture and of final models: their files, and their cards."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.constants import REPOCARD_NAME

from regmix_hf.cards.choice_facts import ChoiceFacts
from regmix_hf.cards.explorer_page import explorer_page
from regmix_hf.cards.facts import RegressionFacts, StudyFacts
from regmix_hf.cards.mixture_card import EXPORTS, MixtureCard
from regmix_hf.cards.model_card import ModelCard
from regmix_hf.cards.pictures import draw_pictures
from regmix_hf.cards.regressor_card import RegressorCard
from regmix_hf.exports import MixtureToTrain, render_every
from regmix_hf.files import read_json, read_parquet
from regmix_hf.hub import Publication, Repository, matching
from regmix_hf.hub.privacy import require_public_table
from regmix_hf.hub.publish import Content, Files, Versioned
from regmix_hf.regression.pretrained import FILES
from regmix_hf.sharing.runs_part import written
from regmix_hf.sharing.tables import json_file, published_name, table_json
from regmix_hf.study import Study, names
from regmix_hf.study.address import Address
from regmix_hf.study.table_fit import TableFit

#: Tables of the final models, and where they are in a study.
FINAL_TABLES = {
    names.FINAL_RESULTS: f"{names.MODELS}/{names.RESULTS}",
    names.FINAL_TRAJECTORIES: f"{names.MODELS}/{names.TRAJECTORIES}",
    names.SCORES: f"{names.EVALUATION}/{names.RESULTS}",
}
#: What a model's folder may hold that is published. Never a pickle: no `.bin`, no `.pt`.
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def regressor_publication(
    study: Study | TableFit,
    address: Address,
    facts: StudyFacts,
    regression: RegressionFacts,
    stages: Mapping[str, Any],
) -> Publication:
    """The regressor that chose the mixture at the top, every other in a folder of its own."""
    estimators = tuple(regression.summary["estimators"])
    files: dict[str, Content | Versioned] = {
        names.FIT_SUMMARY: study.regression / names.FIT_SUMMARY,
        names.STAGES: json_file(stages),
    }
    patterns = [file.pattern for file in FILES]
    for name in estimators:
        folder = study.regression / name
        prefix = "" if name == regression.summary["estimator"] else f"{name}/"
        there = sorted(path.name for path in folder.iterdir())
        files |= {f"{prefix}{file}": folder / file for file in matching(there, patterns)}
    for table in names.FIT_TABLES:
        files[published_name(table)] = table_json(read_parquet(study.regression / table))
    pictures = draw_pictures(facts, ("predictions", "learning_curve"))
    card = RegressorCard(address, facts, regression, estimators, {name: f"{name}.png" for name in pictures})
    files |= {f"{name}.png": content for name, content in pictures.items()}
    files[REPOCARD_NAME] = written(card.render)
    owned = ("*.json", "*.safetensors", "*.txt", "*.png", "*/*.json", "*/*.safetensors", "*/*.txt")
    return _publication(address.regressor, files, "Publish the regressors", facts, owned)


def mixture_publication(
    study: Study | TableFit,
    address: Address,
    facts: StudyFacts,
    choice: ChoiceFacts,
    stages: Mapping[str, Any],
    mixture: MixtureToTrain,
) -> Publication:
    """The chosen mixture, also in other trainers' words, and what is known of models trained on it.

    Args:
        study: Whose tables are published, those of final models as far as `stages` names them.
        address: Of the study.
        facts: All that is known of it.
        choice: The part about the mixture.
        stages: Markers of the stages that are done.
        mixture: What other trainers are told of it.
    """
    tables = {"mixture": names.CHOSEN_TABLE}
    files: dict[str, Content | Versioned] = {
        names.CHOSEN_MIXTURE: study.mixture,
        names.CHOSEN_TABLE: study.mixture.with_suffix(".parquet"),
        names.STAGES: json_file(stages),
    }
    for name, place in FINAL_TABLES.items():
        if (study.root / place).exists() and ("evaluate" if name == names.SCORES else "train") in stages:
            tables[Path(name).stem] = name
            files[name] = study.root / place
            require_public_table(read_parquet(study.root / place), name)
    if facts.promises is not None:
        # Without what earlier versions kept of the machine.
        files[names.PROMISES] = facts.promises.model_dump_json(indent=2).encode()
    pictures = draw_pictures(facts, ("weights", "trade_off", "loss_curves"))
    page = explorer_page(study, facts, mixture).page
    files |= {names.EXPLORER: page.encode()} if page else {}
    exports, _ = render_every(mixture)
    files |= {
        f"{EXPORTS}/{trainer}/{name}": text.encode()
        for trainer, written_for in exports.items()
        for name, text in written_for.items()
    }
    drawn = {name: f"{name}.png" for name in pictures}
    card = MixtureCard(address, facts, choice, tables, drawn, names.EXPLORER if page else None, exports)
    files |= {f"{name}.png": content for name, content in pictures.items()}
    files[REPOCARD_NAME] = written(card.render)
    return _publication(
        address.mixture,
        files,
        "Publish the chosen mixture",
        facts,
        ("*.parquet", "*.png", "*.yaml", names.PROMISES, names.EXPLORER, f"{EXPORTS}/*/*"),
    )


def model_publications(
    study: Study, address: Address, facts: StudyFacts, sources: Collection[str]
) -> Iterable[Publication]:
    """The first model trained on each mixture, with its tokenizer."""
    assert facts.final is not None
    pictures = draw_pictures(facts, ("loss_curves",))
    for mixture in study.final_mixtures:
        folder = study.models / mixture
        there = matching(sorted(path.name for path in folder.iterdir() if path.is_file()), MODEL_FILES)
        files: dict[str, Content | Versioned] = {
            name: folder / name for name in there if not name.startswith(".")
        }
        card = ModelCard(
            address=address,
            facts=facts,
            mixture=mixture,
            run=read_json(folder / names.RESULT),
            num_parameters=_num_parameters(folder),
            picture="loss_curves.png" if pictures else None,
            sources=sources,
        )
        files |= {f"{name}.png": content for name, content in pictures.items()}
        files[REPOCARD_NAME] = written(card.render)
        message = f"Publish the model trained on {mixture}"
        yield _publication(address.model(mixture), files, message, facts, MODEL_FILES)


def _publication(
    repository: Repository, files: Files, message: str, facts: StudyFacts, owned: tuple[str, ...]
) -> Publication:
    return Publication(repository, files, message, facts.asked.private, owned)


def _num_parameters(folder: Path) -> int | None:
    from safetensors import safe_open

    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count or None
