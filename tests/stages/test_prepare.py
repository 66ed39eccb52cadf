"""`prepare` leaves a corpus, says what it holds, and is done until something it reads changes."""

from pathlib import Path

import pytest

from regmix_hf.corpus.corpus import Corpus
from regmix_hf.corpus.local_files import stamp_local_files
from regmix_hf.errors import DataError
from regmix_hf.progress import Silent
from regmix_hf.recipe import Domain, Recipe
from regmix_hf.stages import prepare
from regmix_hf.study import State, Study

from ..conftest import Recorder


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe of one domain of 40 lines of text."""
    (tmp_path / "a.txt").write_text("\n".join(f"line {i} of a short text" for i in range(40)))
    run = {"model": {"preset": "tiny"}, "num_train_tokens": 1000}
    return Recipe.model_validate(
        {
            "name": "test",
            "output_dir": str(tmp_path / "study"),
            "context_length": 16,
            "tokenizer": {"train": {"vocab_size": 257}},
            "domains": {"a": {"path": "text", "data_files": str(tmp_path / "a.txt"), "sample_by": "line"}},
            "corpus": {"num_proc": 1, "validation_fraction": 0.2},
            "proxy": run,
            "train": run,
        }
    )


def test_stage_is_done_and_says_what_there_is(recipe: Recipe) -> None:
    study, progress = Study(recipe), Recorder()
    assert study.state(prepare.STAGE) is State.MISSING
    prepare.run(study, progress)
    assert study.state(prepare.STAGE) is State.DONE
    facts = Corpus(study.corpus).facts.domains["a"]
    assert facts.train is not None
    assert progress.notes == [
        "a: 1 file, 949 bytes",
        "warning: documents are short: on average a 23 characters; up to 4.2% of the tokens only end one. "
        "Where they are parts of documents, as lines of a file are, give whole ones",
        f"{facts.train.num_tokens} training tokens in 1 domain, 0.0 MB of text, 257 token ids",
    ]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"seed": 1}, State.STALE),
        ({"context_length": 8}, State.STALE),
        ({"baselines": {"half": {"a": 1.0}}}, State.DONE),
    ],
    ids=str,
)
def test_stage_is_stale_when_what_it_reads_changes(
    recipe: Recipe, change: dict[str, object], state: State
) -> None:
    prepare.run(Study(recipe), Silent())
    assert Study(recipe.model_copy(update=change)).state(prepare.STAGE) is state


def test_a_source_with_less_than_the_recipe_says_is_called_a_sample(recipe: Recipe) -> None:
    domains = {"a": recipe.domains["a"].model_copy(update={"num_tokens": 1_000_000})}
    notes = Recorder()
    study = Study(recipe.model_copy(update={"domains": domains}))
    study.open()
    prepare.run(study, notes)
    count = Corpus(study.corpus).facts.domains["a"].train.num_tokens
    (warning,) = [note for note in notes.notes if "num_tokens" in note]
    assert f"1 of 1 sources ended before their num_tokens, 'a' after {count} of 1M" in warning


def test_a_source_with_much_more_than_the_recipe_says_is_warned_of(recipe: Recipe) -> None:
    domains = {"a": recipe.domains["a"].model_copy(update={"num_tokens": 300})}
    study, notes = Study(recipe.model_copy(update={"domains": domains})), Recorder()
    study.open()
    prepare.run(study, notes)
    (warning,) = [note for note in notes.notes if "num_tokens" in note]
    count = Corpus(study.corpus).facts.domains["a"].train.num_tokens
    assert f"1 of 1 sources have more than their num_tokens, 'a' {count} where the recipe says 300" in warning


def test_a_domain_shorter_than_a_step_of_a_proxy_is_named(recipe: Recipe) -> None:
    proxy = recipe.proxy.model_copy(update={"num_batch_tokens": 16 * 100})
    study, notes = Study(recipe.model_copy(update={"proxy": proxy})), Recorder()
    study.open()
    prepare.run(study, notes)
    assert any("a has less text than one step of a proxy trains on" in note for note in notes.notes)


@pytest.mark.parametrize("num_tokens", [None, 1.05])
def test_a_source_with_about_what_the_recipe_says_is_not(recipe: Recipe, num_tokens: float | None) -> None:
    study, notes = Study(recipe), Recorder()
    study.open()
    prepare.run(study, notes)
    facts = Corpus(study.corpus).facts
    declared = num_tokens and round(num_tokens * facts.domains["a"].train.num_tokens)
    domains = {"a": recipe.domains["a"].model_copy(update={"num_tokens": declared})}
    assert facts.samples(recipe.model_copy(update={"domains": domains})) == {}


@pytest.mark.parametrize("context_length", [1, 30])
def test_tokens_that_fill_no_block_are_said_where_they_are_many(recipe: Recipe, context_length: int) -> None:
    study, notes = Study(recipe.model_copy(update={"context_length": context_length})), Recorder()
    study.open()
    prepare.run(study, notes)
    train = Corpus(study.corpus).facts.domains["a"].train
    left = train.num_tokens - train.num_blocks * context_length
    assert (left > 0.01 * train.num_tokens) == (context_length == 30)
    said = [note for note in notes.notes if "left over" in note]
    many = f"a: {left} of {train.num_tokens} tokens ({left / train.num_tokens:.1%}) are left over: "
    assert [note.startswith(many) for note in said] == ([True] if context_length == 30 else [])


def test_number_of_processes_makes_nothing_stale(recipe: Recipe) -> None:
    prepare.run(Study(recipe), Silent())
    corpus = recipe.corpus.model_copy(update={"num_proc": 2})
    assert Study(recipe.model_copy(update={"corpus": corpus})).state(prepare.STAGE) is State.DONE


def test_stage_that_fails_is_not_done(recipe: Recipe) -> None:
    domain = recipe.domains["a"].model_copy(update={"text_column": "body"})
    study = Study(recipe.model_copy(update={"domains": {"a": domain}}))
    with pytest.raises(DataError, match="no column 'body'"):
        prepare.run(study, Silent())
    assert study.state(prepare.STAGE) is State.PARTIAL


def test_stage_is_stale_when_its_text_changes_and_done_again_it_holds_the_new_text(
    recipe: Recipe, tmp_path: Path
) -> None:
    study = Study(recipe)
    prepare.run(study, Silent())
    before = Corpus(study.corpus).facts
    with (tmp_path / "a.txt").open("a") as file:
        file.write("\n" + "\n".join(f"another line, number {i}" for i in range(40)))
    assert study.state(prepare.STAGE) is State.STALE
    assert study.changes(prepare.STAGE) == ["text of a"]
    prepare.run(study, Silent())
    assert study.state(prepare.STAGE) is State.DONE
    assert (
        Corpus(study.corpus).facts.domains["a"].train.num_documents > before.domains["a"].train.num_documents
    )


def test_files_of_a_folder_a_pattern_and_a_tokenizer_are_told_apart_from_what_they_were(
    recipe: Recipe, tmp_path: Path
) -> None:
    for place in ("saved/one.arrow", "many/1.txt", "many/2.txt", "bpe/tokenizer.json"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(place)
    domains = {
        "saved": Domain(path=str(tmp_path / "saved")),
        "many": Domain(path="text", data_files={"train": str(tmp_path / "many/*.txt")}),
        "hub": Domain(path="someone/text", data_files="*.txt"),
    }
    recipe = recipe.model_copy(update={"domains": domains, "tokenizer": str(tmp_path / "bpe")})
    before = stamp_local_files(recipe)
    assert set(before) == {"text of saved", "text of many", "files of the tokenizer"}
    (tmp_path / "many/2.txt").write_text("longer than it was")
    after = stamp_local_files(recipe)
    assert {name for name in before if after[name] != before[name]} == {"text of many"}
