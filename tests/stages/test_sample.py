"""Stage `sample`: the table of mixtures from a prepared corpus, and what is said about rare domains."""

import pandas as pd
import pytest

from regmix_hf.errors import MixtureError, StudyError
from regmix_hf.progress import Silent
from regmix_hf.recipe import Recipe
from regmix_hf.stages import sample
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts
from regmix_hf.tables import by_domain

TOKENS = {"web": 6_000_000, "code": 3_000_000, "rare": 1_000}


class Notes(Silent):
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


def split(tokens: int) -> SplitFacts:
    return SplitFacts(
        num_documents=10, num_bytes=4 * tokens, num_tokens=tokens, num_blocks=tokens // 64, sha256="0" * 64
    )


def make_study(folder, **sampling) -> Study:
    recipe = Recipe.model_validate(
        {
            "name": "small",
            "seed": 7,
            "output_dir": folder,
            "context_length": 64,
            "tokenizer": {"train": {"vocab_size": 512}},
            "domains": {
                **{name: {"path": "text"} for name in TOKENS},
                "mine": {"path": "text", "validation_only": True},
            },
            "sampling": {"num_mixtures": 12, "num_holdout": 4, **sampling},
            "proxy": {"model": {"preset": "x"}, "num_train_tokens": 100_000},
            "train": {"model": {"preset": "x"}, "num_train_tokens": 1_000_000},
        }
    )
    return Study(recipe)


def prepare(study: Study) -> None:
    CorpusFacts(
        context_length=64,
        vocab_size=512,
        eos_token_id=0,
        tokenizer_sha256="0" * 64,
        domains={
            **{
                name: DomainFacts(train=split(tokens), validation=split(640))
                for name, tokens in TOKENS.items()
            },
            "mine": DomainFacts(train=None, validation=split(640)),
        },
    ).save(study.corpus)


def test_the_table_covers_the_training_domains_and_the_stage_is_done(tmp_path):
    study = make_study(tmp_path)
    prepare(study)
    sample.run(study, Silent())
    table = pd.read_parquet(study.mixtures)
    assert list(table.columns) == ["mixture_id", "split", "weight/web", "weight/code", "weight/rare"]
    assert table["split"].value_counts().to_dict() == {"fit": 12, "holdout": 4}
    assert study.state(sample.STAGE) == State.DONE


def test_the_same_recipe_gives_the_same_table_and_another_seed_makes_it_stale(tmp_path):
    study = make_study(tmp_path)
    prepare(study)
    sample.run(study, Silent())
    before = study.mixtures.read_bytes()
    sample.run(study, Silent())
    assert study.mixtures.read_bytes() == before
    reseeded = Study(study.recipe.model_copy(update={"seed": 8}))
    assert reseeded.state(sample.STAGE) == State.STALE
    assert reseeded.changes(sample.STAGE) == ["seed"]


def test_a_domain_lost_to_the_floor_is_named(tmp_path):
    study = make_study(tmp_path, min_weight=0.05)  # 15 times the share of `rare` is 0.0017
    prepare(study)
    notes = Notes()
    sample.run(study, notes)
    assert (by_domain(pd.read_parquet(study.mixtures), "weight")["rare"] == 0).all()
    [warning] = [line for line in notes.lines if "rare" in line]
    assert warning.startswith("warning: no mixture to fit on gives domain 'rare' a weight")
    assert "sampling.min_weight 0.05" in warning
    assert "sampling.min.rare" in warning


def test_a_domain_with_a_least_weight_is_not_lost(tmp_path):
    study = make_study(tmp_path, min={"rare": 0.001})
    prepare(study)
    notes = Notes()
    sample.run(study, notes)
    assert by_domain(pd.read_parquet(study.mixtures), "weight")["rare"].min() >= 0.001
    assert not [line for line in notes.lines if "rare" in line]


def test_given_counts_of_tokens_come_before_counted_ones(tmp_path):
    study = make_study(tmp_path, max_epochs=1.5)
    domains = {**study.recipe.domains}
    domains["rare"] = domains["rare"].model_copy(update={"num_tokens": 9_000_000})
    study = Study(study.recipe.model_copy(update={"domains": domains}))
    prepare(study)
    sample.run(study, Silent())
    weights = by_domain(pd.read_parquet(study.mixtures), "weight")
    assert weights["code"].max() <= 1.5 * 3 / 18 + 1e-9
    assert weights["rare"].max() > 0.2


def test_bounds_nobody_can_meet_are_refused_and_nothing_is_written(tmp_path):
    study = make_study(tmp_path, max={"web": 0.2, "code": 0.2})
    prepare(study)
    with pytest.raises(MixtureError, match=r"sampling: .*'web' is given max 0\.2"):
        sample.run(study, Silent())
    assert study.state(sample.STAGE) == State.MISSING


def test_without_a_corpus_the_first_stage_is_named(tmp_path):
    with pytest.raises(StudyError, match="corpus"):
        sample.run(make_study(tmp_path), Silent())
