"""The repository of a mixture holds it in other trainers' words, as far as they say nothing private."""

from __future__ import annotations

import re

from ruamel.yaml import YAML

from regmix_hf.exports import TRAINERS, render_every
from regmix_hf.recipe import Domain
from regmix_hf.sharing import pull_study, push_study
from regmix_hf.sharing.exporting import mixture_to_publish
from regmix_hf.study import Study
from regmix_hf.study.corpus_facts import CorpusFacts

BY_NAME = {"yaml", "json", "csv", "megatron-lm", "megatron-bridge", "olmo-core", "nanotron", "litgpt"}
ON_THE_HUB = {
    name: Domain(path=f"my-org/{name}", data_files=f"{name}.jsonl")
    for name in ("prose", "code", "maths", "letters")
}


def test_every_trainer_that_needs_no_private_text_has_its_files(hub, standin, new_study, stages, tmp_path):
    study = new_study()
    push_study(study, stages)
    mixture = standin.repo("me/small-mixture")
    files = [path for path in mixture.head.files if path.startswith("exports/")]
    assert {path.split("/")[1] for path in files} == BY_NAME
    told = YAML(typ="safe").load(mixture.file("main", "exports/yaml/mixture.yaml").decode())["weights"]
    chosen = YAML(typ="safe").load(study.mixture.read_text())["weights"]
    assert told == {name: share for name, share in chosen.items() if share > 0}
    card = mixture.file("main", "README.md").decode()
    assert sorted(re.findall(r"\]\((exports/[^)]+)\)", card)) == sorted(files)
    assert "| Megatron-LM | [data_args.sh](exports/megatron-lm/data_args.sh) | tokens |" in card
    assert not push_study(study, stages).changed
    pulled = pull_study("me/small", stages, tmp_path / "pulled").study
    assert not list(pulled.root.rglob("exports"))


def test_text_of_the_hub_is_named_and_other_text_is_not(new_study):
    study = new_study()
    facts = CorpusFacts.load(study.corpus)
    public = Study(study.recipe.model_copy(update={"domains": ON_THE_HUB, "tokenizer": "some/tokenizer"}))
    sources = {domain.path for domain in ON_THE_HUB.values()}
    written, left_out = render_every(mixture_to_publish(public, facts, sources))
    assert set(left_out) == {"streaming"}
    assert "path: my-org/maths" in written["trl"]["dataset_mixture.yaml"]
    assert "some/tokenizer" in written["datasets"]["mixture.py"]
    assert not any(str(study.root) in text for files in written.values() for text in files.values())
    written, left_out = render_every(mixture_to_publish(public, facts, sources - {"my-org/maths"}))
    assert set(left_out) == set(TRAINERS) - BY_NAME
    assert not any("my-org/maths" in text for files in written.values() for text in files.values())


def test_a_tokenizer_in_a_folder_is_nobody_elses(new_study, tmp_path):
    study = new_study()
    recipe = study.recipe.model_copy(update={"domains": ON_THE_HUB, "tokenizer": str(tmp_path)})
    mixture = mixture_to_publish(
        Study(recipe), CorpusFacts.load(study.corpus), {domain.path for domain in ON_THE_HUB.values()}
    )
    assert mixture.tokenizer is None
    assert "datasets" in render_every(mixture)[1]
