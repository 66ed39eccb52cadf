"""Tasks are found, or refused before any model is touched; few-shot runs give one row each."""

import json
from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager

from regmix_hf.errors import DataError, RecipeError
from regmix_hf.evaluation.model import LanguageModel
from regmix_hf.evaluation.scores import score_tasks
from regmix_hf.evaluation.tasks import LoadedTasks, TaskSet, load_tasks

pytestmark = pytest.mark.long

QUESTIONS = [
    {"question": "The cat sat on the", "choices": [" mat", " sky"], "answer": 0},
    {"question": "And then it", "choices": [" x", " slept"], "answer": 1},
    {"question": "one", "choices": [" two", " cat"], "answer": 0},
]


#: Folders of lm-eval that hold the tasks of the paper.
FOLDERS = ("arc", "glue", "hellaswag", "lambada", "logiqa", "openbookqa", "piqa", "race", "sciq", "siqa")
FOLDERS += ("super_glue", "winogrande")


@pytest.fixture(scope="module")
def default_manager() -> TaskManager:
    """An index of some of lm-eval's own folders: all 14,000 files take seven seconds."""
    own = Path(lm_eval.tasks.__file__).parent
    return TaskManager(include_path=[str(own / folder) for folder in FOLDERS], include_defaults=False)


@pytest.fixture
def quick_index(default_manager: TaskManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda **options: default_manager)


@pytest.fixture
def choice_tasks(tmp_path: Path) -> TaskManager:
    """A group of two multiple-choice tasks, of which one fixes 0 examples."""
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    task = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "fewshot_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    free, fixed = {**task, "task": "free"}, {**task, "task": "fixed", "num_fewshot": 0}
    group = {
        "group": "both",
        "task": ["free", "fixed"],
        "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}],
    }
    for name, config in {"free": free, "fixed": fixed, "both": group}.items():
        (tmp_path / f"{name}.yaml").write_text(json.dumps(config))
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


@pytest.mark.usefixtures("quick_index")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("helaswag", "did you mean 'hellaswag'?"),
        ("held_out_txt", "did you mean 'held_out_text'?"),
        ("zzzzzzzzzzzzzzzzzzzz", "`lm_eval ls tasks` lists what there is"),
    ],
)
def test_an_unknown_task_is_named_with_its_nearest(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_tasks(["hellaswag", name], tmp_path)
    assert caught.value.message == f"evaluation.tasks: lm-eval has no task {name!r}."
    assert caught.value.hint == hint


@pytest.mark.usefixtures("quick_index")
def test_the_tasks_of_the_paper_exist(default_manager: TaskManager) -> None:
    names = "social_iqa hellaswag piqa openbookqa lambada_standard sciq arc_easy copa race logiqa qqp"
    assert {*names.split(), "winogrande", "multirc"} <= set(default_manager.all_tasks)


@pytest.mark.usefixtures("quick_index")
def test_a_task_that_needs_the_network_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the documents of piqa cannot be loaded") as caught:
        load_tasks(["piqa"], tmp_path)
    assert caught.value.hint is not None
    assert "held_out_text" in caught.value.hint


def test_local_tasks_do_not_open_the_index(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regmix_hf.evaluation.held_out_text import write_tasks

    def refuse(**options: object) -> TaskManager:
        if options.get("include_defaults", True):
            raise AssertionError("the default index was opened")
        return TaskManager(**options)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", refuse)
    write_tasks(corpus, ["prose"], tmp_path)
    tasks = load_tasks(["held_out_text"], tmp_path)
    assert tasks.public is None
    assert tasks.local is not None
    assert list(tasks.local.loaded["tasks"]) == ["held_out_text_prose"]


def test_every_number_of_examples_gives_a_row(choice_tasks: TaskManager, model: LanguageModel) -> None:
    tasks = LoadedTasks(local=None, public=TaskSet(choice_tasks.load(["free"])))
    scores = score_tasks(model, tasks, limit=None, num_fewshot=[0, 2], seed=0)
    assert [(score.task, score.metric, score.num_fewshot) for score in scores] == [
        ("free", "acc", 0),
        ("free", "acc", 2),
    ]
    assert all(score.num_samples == 3 and score.domain is None for score in scores)
    assert all(score.value in {0, 1 / 3, 2 / 3, 1} for score in scores)
    assert all(score.higher_is_better for score in scores)


def test_a_task_that_fixes_its_examples_gives_one_row(
    choice_tasks: TaskManager, model: LanguageModel
) -> None:
    tasks = LoadedTasks(local=None, public=TaskSet(choice_tasks.load(["fixed"])))
    scores = score_tasks(model, tasks, limit=None, num_fewshot=[0, 1, 2], seed=0)
    assert [(score.task, score.num_fewshot) for score in scores] == [("fixed", 0)]


def test_a_group_is_scored_beside_its_tasks(choice_tasks: TaskManager, model: LanguageModel) -> None:
    tasks = LoadedTasks(local=None, public=TaskSet(choice_tasks.load(["both"])))
    scores = score_tasks(model, tasks, limit=None, num_fewshot=[None], seed=0)
    values = {score.task: score.value for score in scores if score.metric == "acc"}
    assert values["both"] == pytest.approx((values["free"] + values["fixed"]) / 2)
