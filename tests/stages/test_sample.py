"""Stage `sample`: the table of mixtures from a prepared corpus, and what is said about rare domains."""

import numpy as np
import pandas as pd
import pytest

from regmix_hf.errors import MixtureError, StudyError
from regmix_hf.mixtures.table import append
from regmix_hf.plan import make_plan
from regmix_hf.progress import Silent
from regmix_hf.recipe import Choice, Recipe
from regmix_hf.stages import proxies, sample
from regmix_hf.study import State, Study
from regmix_hf.study.corpus_facts import CorpusFacts, DomainFacts, SplitFacts
from regmix_hf.tables import by_domain

from ..conftest import Recorder

TOKENS = {"web": 6_000_000, "code": 3_000_000, "rare": 1_000}


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
            "proxy": {"model": {"preset": "tiny"}, "num_train_tokens": 100_000},
            "train": {"model": {"preset": "tiny"}, "num_train_tokens": 1_000_000},
            "executor": {"gpu": "h200"},  # then plans measure no speed
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
                if name in study.recipe.domains
            },
            "mine": DomainFacts(train=None, validation=split(640)),
        },
    ).save(study.corpus)


def prepared(folder, **sampling) -> Study:
    """A study with a corpus."""
    study = make_study(folder, **sampling)
    prepare(study)
    return study


def test_the_table_covers_the_training_domains_and_the_stage_is_done(tmp_path):
    study = prepared(tmp_path)
    sample.run(study, Silent())
    table = pd.read_parquet(study.mixtures)
    assert list(table.columns) == [
        *("mixture_id", "split", "round", "origin", "rung"),
        *("weight/web", "weight/code", "weight/rare"),
    ]
    assert set(table["round"]) == {0}
    assert set(table["origin"]) == {"sampled"}
    assert table["split"].value_counts().to_dict() == {"fit": 12, "holdout": 4}
    assert study.state(sample.STAGE) == State.DONE


def test_the_same_recipe_gives_the_same_table_and_another_seed_makes_it_stale(tmp_path):
    study = prepared(tmp_path)
    sample.run(study, Silent())
    before = study.mixtures.read_bytes()
    sample.run(study, Silent())
    assert study.mixtures.read_bytes() == before
    reseeded = Study(study.recipe.model_copy(update={"seed": 8}))
    assert reseeded.state(sample.STAGE) == State.STALE
    assert reseeded.changes(sample.STAGE) == ["seed"]


def test_a_domain_lost_to_the_floor_or_cut_off_by_its_cap_is_named(tmp_path):
    study = make_study(tmp_path, min_weight=0.05)  # 15 times the share of `rare` is 0.0017
    prepare(study)
    notes = Recorder()
    sample.run(study, notes)
    assert (by_domain(pd.read_parquet(study.mixtures), "weight")["rare"] == 0).all()
    [warning, note] = [line for line in notes.notes if "rare" in line]
    assert warning.startswith("warning: no mixture to fit on gives domain 'rare' a weight")
    assert "sampling.min_weight 0.05" in warning
    assert "sampling.min.rare" in warning
    # 15 x 1,000 / 9,001,000, the root of 1,000 among the three roots, and 4 x 1,000 / 1,000,000
    for words in ("sampling.max_epochs 15", "at most 0.167 %", "0.751 %", "0.4 %", "write 37"):
        assert words in note
    assert not [*sample._cut_off(make_study(tmp_path, max_epochs=37).recipe, TOKENS)]
    for bound in ({"fixed": {"rare": 0.001}}, {"groups": {"few": {"domains": ["rare"], "max": 0.001}}}):
        recipe = study.recipe.model_copy(update={"choice": Choice.model_validate(bound)})
        assert not [*sample._cut_off(recipe, TOKENS)]


def test_a_domain_with_a_least_weight_is_not_lost(tmp_path):
    study = prepared(tmp_path, min={"rare": 0.001})
    notes = Recorder()
    sample.run(study, notes)
    assert by_domain(pd.read_parquet(study.mixtures), "weight")["rare"].min() >= 0.001
    assert not [line for line in notes.notes if "'rare' a weight" in line]


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
    study = prepared(tmp_path, max={"web": 0.2, "code": 0.2})
    with pytest.raises(MixtureError, match=r"sampling: .*'web' is given max 0\.2"):
        sample.run(study, Silent())
    assert study.state(sample.STAGE) == State.MISSING


def test_without_a_corpus_the_first_stage_is_named(tmp_path):
    with pytest.raises(StudyError, match="corpus"):
        sample.run(make_study(tmp_path), Silent())


def sampled(study) -> tuple[pd.DataFrame, list[str]]:
    """Sample, and return the table and what was said."""
    notes = Recorder()
    sample.run(study, notes)
    return pd.read_parquet(study.mixtures), notes.notes


def test_more_mixtures_leave_those_that_are_there_as_they_are(tmp_path):
    study = prepared(tmp_path)
    small, _ = sampled(study)
    larger, said = sampled(make_study(tmp_path, num_mixtures=30, num_holdout=6))
    pd.testing.assert_frame_equal(larger[: len(small)], small)
    assert larger["split"].value_counts().to_dict() == {"fit": 30, "holdout": 6}
    assert larger["mixture_id"].tolist() == [f"m{i:04d}" for i in range(36)]
    assert larger["round"].tolist() == [0] * 16 + [1] * 20
    assert "20 mixtures more than the 16 that were there" in said
    at_once = prepared(tmp_path / "at-once", num_mixtures=30, num_holdout=6)
    pd.testing.assert_frame_equal(by_domain(sampled(at_once)[0], "weight"), by_domain(larger, "weight"))


def test_fewer_mixtures_than_there_are_leave_the_table_alone_and_say_so(tmp_path):
    study = prepared(tmp_path)
    sampled(study)
    before = study.mixtures.read_bytes()
    fewer = make_study(tmp_path, num_mixtures=5)
    _, said = sampled(fewer)
    assert study.mixtures.read_bytes() == before
    assert "12 mixtures of the split 'fit' were sampled before and stay; 5 are asked for" in said
    assert fewer.state(sample.STAGE) == State.DONE


def test_rows_that_others_added_stay_and_do_not_count_as_sampled(tmp_path):
    study = prepared(tmp_path)
    table, _ = sampled(study)
    pure = append(table, np.eye(3), ["fit"] * 3, ["given"] * 3)
    pure.to_parquet(study.mixtures, index=False)
    larger, _ = sampled(make_study(tmp_path, num_mixtures=14))
    pd.testing.assert_frame_equal(larger[:19], pure)
    assert larger["origin"].tolist() == ["sampled"] * 16 + ["given"] * 3 + ["sampled"] * 2
    assert larger["round"].tolist() == [0] * 16 + [1] * 3 + [2] * 2
    assert larger["mixture_id"].is_unique


def test_other_bounds_are_for_new_rows_only_and_this_is_said(tmp_path):
    study = prepared(tmp_path)
    small, _ = sampled(study)
    assert small["weight/web"].max() > 0.5
    larger, said = sampled(make_study(tmp_path, num_mixtures=20, max={"web": 0.5}))
    pd.testing.assert_frame_equal(larger[: len(small)], small)
    assert larger["weight/web"][len(small) :].max() <= 0.5
    [note] = [line for line in said if line.startswith("the 16 mixtures that were there stay, though")]
    assert "8 new ones are drawn as the recipe says now" in note


def with_domains(study: Study, domains) -> Study:
    return Study(study.recipe.model_copy(update={"domains": domains}))


def test_a_new_domain_has_no_weight_in_the_mixtures_that_are_there(tmp_path):
    study = make_study(tmp_path)
    without = with_domains(study, {n: d for n, d in study.recipe.domains.items() if n != "rare"})
    prepare(study)
    small, _ = sampled(without)
    larger, _ = sampled(study)
    assert list(larger.columns[-3:]) == ["weight/web", "weight/code", "weight/rare"]
    assert (larger["weight/rare"] == 0).all()
    pd.testing.assert_frame_equal(larger[small.columns], small)


def test_a_new_domain_leaves_the_runs_their_names_and_new_mixtures_give_it_weight(tmp_path):
    study = make_study(tmp_path)
    without = with_domains(study, {n: d for n, d in study.recipe.domains.items() if n != "rare"})
    prepare(without)
    sampled(without)
    before = [task.name for task in proxies.tasks_of(without)]
    larger = prepared(tmp_path, num_mixtures=16, min={"rare": 1e-3})
    table, _ = sampled(larger)
    assert [task.name for task in proxies.tasks_of(larger)][: len(before)] == before
    assert (table["weight/rare"] > 0).tolist() == [False] * 16 + [True] * 4


def test_a_domain_that_mixtures_give_weight_to_cannot_go(tmp_path):
    study = prepared(tmp_path)
    sampled(study)
    without = with_domains(study, {n: d for n, d in study.recipe.domains.items() if n != "code"})
    with pytest.raises(MixtureError, match=r"\d+ of 16 mixtures of the study give weight to 'code'") as error:
        sampled(without)
    assert "remove its folder of mixtures" in error.value.hint


def test_repeats_are_mixtures_to_fit_on_once_more_and_are_counted_among_them(tmp_path):
    study = prepared(tmp_path, num_repeats=3)
    table, said = sampled(study)
    assert table["split"].value_counts().to_dict() == {"fit": 12, "holdout": 4}
    assert table["origin"].value_counts().to_dict() == {"sampled": 13, "repeat": 3}
    assert table["mixture_id"].is_unique
    weights = by_domain(table, "weight")
    once = weights[(table["origin"] == "sampled") & (table["split"] == "fit")]
    again = weights[table["origin"] == "repeat"]
    assert len(pd.concat([once, again]).drop_duplicates()) == len(once)
    assert not again.duplicated().any()
    assert any("of those to fit on 3 are others run again with another seed" in line for line in said)
    plain = prepared(tmp_path / "plain", num_mixtures=9)
    pd.testing.assert_frame_equal(by_domain(sampled(plain)[0], "weight"), weights[:13])


def test_a_swarm_that_was_drawn_without_repeats_gets_them_where_it_grows(tmp_path):
    study = prepared(tmp_path)
    small, _ = sampled(study)
    same, said = sampled(make_study(tmp_path, num_repeats=3))
    pd.testing.assert_frame_equal(same, small)
    [note] = [line for line in said if "num_repeats" in line]
    assert note.startswith("sampling.num_repeats 3: 0 mixtures are run again")
    assert note.endswith("raise sampling.num_mixtures by 3")
    larger, _ = sampled(make_study(tmp_path, num_mixtures=15, num_repeats=3))
    pd.testing.assert_frame_equal(larger[:16], small)
    assert larger["origin"][16:].tolist() == ["repeat"] * 3
    again, _ = sampled(make_study(tmp_path, num_mixtures=18, num_repeats=4))
    pd.testing.assert_frame_equal(again[:19], larger)
    assert again["origin"][19:].tolist() == ["sampled"] * 2 + ["repeat"]
    fitted = by_domain(again[again["split"] == "fit"], "weight")
    assert fitted.value_counts().max() == 2


def test_where_proxies_repeat_as_final_runs_do_their_length_counts_and_the_plan_says_the_epochs(tmp_path):
    study = make_study(tmp_path)

    def with_(*, matches: bool, final: int) -> Study:
        proxy = study.recipe.proxy.model_copy(update={"match_repetition": matches})
        train = study.recipe.train.model_copy(update={"num_train_tokens": final})
        return Study(study.recipe.model_copy(update={"proxy": proxy, "train": train}))

    prepare(study)
    sampled(study)
    assert with_(matches=False, final=2_000_000).state(sample.STAGE) == State.DONE
    matched = with_(matches=True, final=1_000_000)
    assert matched.changes(sample.STAGE) == ["how often final runs repeat"]
    sampled(matched)
    assert matched.state(sample.STAGE) == State.DONE
    assert with_(matches=True, final=2_000_000).state(sample.STAGE) == State.STALE
    sampling = matched.recipe.sampling.model_copy(update={"experts": True})
    plan = make_plan(Study(matched.recipe.model_copy(update={"sampling": sampling})))
    assert next(stage.runs for stage in plan.stages if stage.verb == "proxies") == 16 + 3 + 2 * 4
    [note] = [note for note in plan.notes if "sampling.experts" in note]
    assert note.startswith("sampling.experts: 3 of the 27 proxies are experts of one domain each, 11% of")
    [note] = [note for note in plan.notes if "match_repetition" in note]
    every = sum(TOKENS.values())
    assert "a proxy reads 0.1 of each domain" in note
    assert f"at the prior {1_000_000 / every:.3g} times" in note
    assert f"weight on 'rare', which has the least, {1_000_000 / TOKENS['rare']:.3g} times" in note


def test_experts_are_rows_of_one_domain_as_far_as_there_is_text(tmp_path):
    study, notes = make_study(tmp_path, experts=True, num_mixtures=1, num_holdout=0, max_epochs=4), Recorder()
    prepare(study)
    sample.run(study, notes)
    table = pd.read_parquet(study.mixtures)
    table = table[table["origin"] == "expert"]
    assert set(table["split"]) == {"expert"}
    filled = [0.96 * 6 / 9, 0.96 * 3 / 9, 0.04]
    np.testing.assert_allclose(by_domain(table, "weight"), [[1, 0, 0], [0, 1, 0], filled], rtol=1e-9)
    assert any(line.endswith("0 held out; beside them 3 experts of a single domain") for line in notes.notes)
    assert "the expert of domain 'rare' has 4 % of it" in notes.notes[-1]


def test_experts_that_hardly_differ_for_want_of_text_are_named(tmp_path):
    alone = {"num_mixtures": 0, "num_holdout": 0, "experts": True}
    study, notes = make_study(tmp_path, **alone, max_epochs=2), Recorder()
    prepare(study)
    sample.run(study, notes)
    assert "warning: experts tell rare apart by differences so small" in notes.notes[-1]
    assert "multiplied by up to 50;" in notes.notes[-1]


def test_experts_come_beside_a_swarm_without_changing_it_and_only_once(tmp_path):
    few = {"num_mixtures": 5, "num_holdout": 1}
    without, beside = (make_study(tmp_path / name, **few) for name in ("without", "beside"))
    for study in (without, beside):
        prepare(study)
        sample.run(study, Silent())
    before = pd.read_parquet(without.mixtures)
    grown, notes = make_study(tmp_path / "beside", experts=True, **few), Recorder()
    for _ in range(2):
        sample.run(grown, notes)
        after = pd.read_parquet(grown.mixtures)
        pd.testing.assert_frame_equal(after.head(len(before)), before)
        assert after["origin"].value_counts().to_dict() == {"sampled": 6, "expert": 3}
    assert not any("have changed since" in line for line in notes.notes)
    anew = prepared(tmp_path / "anew", experts=True, **few)
    sample.run(anew, Silent())
    pd.testing.assert_frame_equal(pd.read_parquet(anew.mixtures).head(len(before)), before)
