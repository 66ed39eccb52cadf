"""What a pulled recipe names is asked about wherever it leads to files of the machine that reads it."""

import pytest

from regmix_hf.errors import StudyError
from regmix_hf.recipe import Recipe
from regmix_hf.study import Study
from regmix_hf.study.origin import Origin, named_places, outside_places, require_accepted

MODEL = {"model_type": "llama", "hidden_size": 64}


@pytest.fixture
def pulled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    domains = {
        "web": {"path": "my-org/web"},
        "notes": {"path": "private"},
        "code": {"path": "text", "data_files": "mine/*.py"},
    }
    recipe = {
        "name": "small",
        "output_dir": str(tmp_path / "study"),
        "context_length": 128,
        "tokenizer": "my-org/tokenizer",
        "domains": domains,
        "proxy": {"model": MODEL, "num_train_tokens": 200_000},
        "train": {"model": MODEL, "num_train_tokens": 800_000},
    }
    study = Study(Recipe.model_validate(recipe))
    study.root.mkdir()
    Origin("me/small", "v1", {}, tuple(named_places(study.recipe))).write(study.root)
    return study


def test_a_folder_that_is_there_only_later_is_asked_about_then(pulled, tmp_path):
    assert outside_places(pulled.recipe) == ["mine/*.py"]
    for name in ("private", "my-org/web", "my-org/tokenizer"):
        (tmp_path / name).mkdir(parents=True)
        with pytest.raises(StudyError, match=f"'{name}'"):
            require_accepted(pulled)


def test_a_folder_called_as_a_kind_of_files_hides_no_file(pulled, tmp_path):
    (tmp_path / "text").mkdir()
    assert outside_places(pulled.recipe) == ["mine/*.py"]
    with pytest.raises(StudyError, match=r"reads 'mine/\*\.py'\."):
        require_accepted(pulled)
    Origin("me/small", "v1", {}).write(pulled.root)  # accepted
    require_accepted(pulled)
