"""The study folder: what counts as done, what goes stale, whose folder it is."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf.errors import StudyError
from regmix_hf.files import atomic_path, hash_value, write_json, write_text
from regmix_hf.recipe import Recipe
from regmix_hf.study import Stage, State, Study
from regmix_hf.tables import by_domain, prefixed

STAGE = Stage(
    "sample", "2-mixtures", keys=("seed", "sampling"), inputs=("1-corpus/in.json",), outputs=("out",)
)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    recipe = Recipe.model_validate(
        {
            "name": "s",
            "output_dir": tmp_path / "study",
            "context_length": 16,
            "tokenizer": "x",
            "domains": {"a": {"path": "json"}},
            "proxy": {"model": {"preset": "p"}, "num_train_tokens": 64},
            "train": {"model": {"preset": "p"}, "num_train_tokens": 64},
        }
    )
    return Study(recipe)


def changed(study: Study, **update) -> Study:
    return Study(study.recipe.model_copy(update=update))


def finish(study: Study) -> None:
    write_text(study.root / "1-corpus/in.json", "1")
    write_text(study.root / "2-mixtures/out", "x")
    study.finish(STAGE)


def test_a_stage_is_missing_then_partial_then_done(study):
    assert study.state(STAGE) is State.MISSING
    write_text(study.root / "2-mixtures/half", "x")
    assert study.state(STAGE) is State.PARTIAL
    finish(study)
    assert study.state(STAGE) is State.DONE


def test_a_marker_without_its_output_is_partial(study):
    finish(study)
    (study.root / "2-mixtures/out").unlink()
    assert study.state(STAGE) is State.PARTIAL


def test_a_changed_key_or_file_makes_stale_and_is_named(study):
    finish(study)
    other = changed(study, seed=5)
    assert other.state(STAGE) is State.STALE
    write_text(study.root / "1-corpus/in.json", "2")
    assert other.changes(STAGE) == ["1-corpus/in.json", "seed"]


def test_a_file_that_an_older_version_did_not_read_makes_nothing_stale(study):
    finish(study)
    write_text(study.root / "1-corpus/more.json", "1")
    newer = dataclasses.replace(STAGE, inputs=(*STAGE.inputs, "1-corpus/more.json"))
    assert study.state(newer) is State.DONE
    study.finish(newer)
    write_text(study.root / "1-corpus/more.json", "2")
    assert study.changes(newer) == ["1-corpus/more.json"]


def test_a_key_the_stage_does_not_read_changes_nothing(study):
    finish(study)
    assert changed(study, context_length=32).state(STAGE) is State.DONE


def test_worker_counts_never_make_stale(study):
    stage = dataclasses.replace(STAGE, keys=("proxy",))
    write_text(study.root / "2-mixtures/out", "x")
    study.finish(stage)
    proxy = study.recipe.proxy.model_copy(update={"num_workers": 7})
    assert changed(study, proxy=proxy).state(stage) is State.DONE


def with_keys(study: Study, **sections) -> Study:
    """The study with other keys, read as from a file."""
    tree = study.recipe.model_dump(mode="json")
    return Study(Recipe.model_validate({**tree, **{k: {**tree[k], **v} for k, v in sections.items()}}))


def state_with(study: Study, key: str, **sections) -> State:
    """How far a stage that reads `key` is after a change of the recipe."""
    stage = dataclasses.replace(STAGE, keys=(key,))
    write_text(study.root / "2-mixtures/out", "x")
    study.finish(stage)
    return with_keys(study, **sections).state(stage)


@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("proxy", {"proxy": {"training_args": {"logging_steps": 5}}}),
        ("proxy", {"proxy": {"model": {"preset": "p", "attn_implementation": "sdpa"}}}),
        ("train", {"train": {"num_workers": 3, "allow_repetition": True}}),
        ("corpus", {"corpus": {"num_proc": 3}}),
        ("corpus", {"corpus": {"validation_fraction": 0.05}}),  # its default, spelt out
    ],
)
def test_what_changes_no_number_makes_nothing_stale(study, key, sections):
    assert state_with(study, key, **sections) is State.DONE


@pytest.mark.parametrize(
    ("key", "sections"),
    [
        ("proxy", {"proxy": {"training_args": {"learning_rate": 0.1}}}),
        (
            "proxy",
            {"proxy": {"training_args": {"per_device_train_batch_size": 2}}},
        ),  # of which a step is made
        ("domains", {"domains": {"num_workers": {"path": "json"}}}),
        ("domains", {"domains": {"output_dir": {"path": "json"}}}),
        ("baselines", {"baselines": {"mine": {"a": 1.0}}}),
    ],
)
def test_what_changes_a_number_makes_stale_whatever_a_domain_is_called(study, key, sections):
    assert state_with(study, key, **sections) is State.STALE


def test_the_folder_of_another_recipe_is_refused(study):
    study.open()
    study.open()
    with pytest.raises(StudyError, match="made by the recipe 's', not by 't'"):
        changed(study, name="t", seed=5).open()


def test_a_study_may_be_renamed_when_nothing_else_changes(study):
    study.open()
    changed(study, seed=5).open()
    renamed = changed(study, seed=5, name="t")
    renamed.open()
    with pytest.raises(StudyError, match="made by the recipe 't', not by 's'"):
        study.open()
    with pytest.raises(StudyError, match="made by the recipe 't', not by 'u'"):
        changed(renamed, name="u", context_length=32).open()
    changed(study, seed=5).open()  # and back


def test_the_folder_of_version_0_1_is_known_by_its_name(study):
    write_json(study.root / "study.json", {"name": "s"})
    with pytest.raises(StudyError, match="made by the recipe 's', not by 't'"):
        changed(study, name="t").open()
    study.open()
    changed(study, name="t").open()


def test_a_folder_with_other_things_is_refused(study):
    write_text(study.root / "thesis.tex", "x")
    with pytest.raises(StudyError, match="holds no study"):
        study.open()


def test_require_names_the_verb(study):
    with pytest.raises(StudyError, match="regmix sample"):
        study.require(study.mixtures, "sample")


def test_atomic_path_leaves_the_old_file_when_the_block_fails(tmp_path):
    file = tmp_path / "f"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic_path(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_hash_value_ignores_the_order_of_keys():
    assert hash_value({"a": 1, "b": [1, 2]}) == hash_value({"b": [1, 2], "a": 1})
    assert hash_value([1, 2]) != hash_value([2, 1])


@pytest.mark.parametrize("value", [{"a": Path()}, [object()], {1.5, 2.5}])
def test_what_has_no_identity_has_no_hash(value):
    with pytest.raises(TypeError):
        hash_value(value)


def test_tables_come_apart_by_prefix():
    row = {"run_id": "r", **prefixed("weight", {"a": 0.5, "b": 0.5}), **prefixed("loss", {"a": 3.0})}
    frame = pd.DataFrame([row])
    assert by_domain(frame, "weight").to_dict("records") == [{"a": 0.5, "b": 0.5}]
    assert list(by_domain(frame, "loss")) == ["a"]
