"""Every file that a study holds, damaged in every way: one message that names it, or it is mended."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from regmix_hf import pipeline
from regmix_hf.cards.facts import StudyFacts
from regmix_hf.cards.report import render
from regmix_hf.choice import read_chosen
from regmix_hf.errors import RegmixError
from regmix_hf.jobs.results import check_whole, collect
from regmix_hf.recipe import load_recipe
from regmix_hf.runs.pooled import pooled_runs
from regmix_hf.sharing.runs_part import OwnRuns
from regmix_hf.stages import fit, proxies
from regmix_hf.study import State, Study
from regmix_hf.study.address import Address
from regmix_hf.study.corpus_facts import CorpusFacts

from .hub.finished import make_finished

pytestmark = pytest.mark.long

#: What reads a file, by the folder it lies in; the state of its stage is asked, too.
READERS: dict[str, Callable[[Study], object]] = {
    "study.json": lambda study: study.check_owner(),
    "1-corpus": lambda study: CorpusFacts.load(study.corpus),
    "2-mixtures": proxies.tasks_of,
    "3-proxies": lambda study: (
        collect(proxies.tasks_of(study), study.root / "collected"),
        pooled_runs(study),
    ),
    "4-regression": lambda study: render(StudyFacts.read(study), {}),
    "5-mixture": lambda study: (
        read_chosen(study.mixture, study.recipe.training_domains),
        render(StudyFacts.read(study), {}),
    ),
    "6-models": lambda study: render(StudyFacts.read(study), {}),
    "7-evaluation": lambda study: render(StudyFacts.read(study), {}),
}
FILES = (
    "study.json",
    "1-corpus/corpus.json",
    "2-mixtures/mixtures.parquet",
    "2-mixtures/.sample.json",
    "3-proxies/results.parquet",
    "3-proxies/trajectories.parquet",
    "3-proxies/.proxies.json",
    "3-proxies/RUN/result.json",
    "3-proxies/RUN/trajectory.parquet",
    "4-regression/summary.json",
    "4-regression/quality.parquet",
    "4-regression/predictions.parquet",
    "4-regression/learning_curve.parquet",
    "4-regression/runs.parquet",
    "4-regression/.fit.json",
    "5-mixture/mixture.yaml",
    "5-mixture/mixture.parquet",
    "5-mixture/.choose.json",
    "6-models/results.parquet",
    "6-models/trajectories.parquet",
    "6-models/.train.json",
    "7-evaluation/results.parquet",
    "7-evaluation/.evaluate.json",
)


@pytest.fixture(scope="module")
def study(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study, whose files are put back after every damage."""
    finished, folder = made_once("finished", make_finished), tmp_path_factory.mktemp("damaged") / "study"
    shutil.copytree(finished / "study", folder)
    return Study(load_recipe(finished / "recipe.json", [f"output_dir={folder}"]))


def damages(name: str, content: bytes) -> Iterator[bytes]:
    """Other contents of a file: cut off, overwritten, of another kind, with parts missing or other types."""
    chance = random.Random(name)
    yield b""
    for _ in range(2):
        yield content[: chance.randrange(1, len(content))]
    yield chance.randbytes(200)
    yield bytes(byte ^ 0xFF for byte in content[:50]) + content[50:]
    yield content[: len(content) // 2] + b"\0" * 40 + content[len(content) // 2 + 40 :]
    if name.endswith(".parquet"):
        table = pd.read_parquet(io.BytesIO(content))
        for column in chance.sample(list(table.columns), min(2, len(table.columns))):
            yield as_parquet(table.drop(columns=column))
            yield as_parquet(table.assign(**{column: "words" if table[column].dtype == float else 3.5}))
        yield as_parquet(pd.DataFrame({"other": [1]}))
        yield as_parquet(table.head(0))
    else:
        deep = b"[" * (900 if name.endswith(".yaml") else 20_000)  # either is deeper than its parser can go
        yield from (b"null", b"[]", b'"words"', b"3", b"{}", deep, content.decode().encode("utf-16"))
        lines = content.decode().splitlines()
        for number in chance.sample(range(len(lines)), min(2, len(lines))):
            yield "\n".join(line for k, line in enumerate(lines) if k != number).encode()


def as_parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def outcome(read: Callable[[Study], object], study: Study) -> RegmixError | None:
    """The one message that reading gives, if any; everything else that is raised fails the test."""
    try:
        read(study)
    except RegmixError as error:
        return error
    return None


def test_every_damaged_file_gives_one_message_that_names_it(study, capsys):
    run = proxies.tasks_of(study)[5].folder.name
    stage_of = {stage.folder: stage for stage in map(pipeline.stage_of, pipeline.VERBS)}
    num_inputs = num_messages = 0
    wrong: list[tuple[str, int, str]] = []
    for name in (name.replace("RUN", run) for name in FILES):
        file, folder = study.root / name, name.split("/")[0]
        whole, stage = file.read_bytes(), stage_of.get(folder)
        for number, content in enumerate(damages(name, whole)):
            if content == whole:
                continue
            num_inputs += 1
            file.write_bytes(content)
            try:
                error = outcome(READERS[folder], study)
                state = study.state(stage) if stage else None
            except Exception as unforeseen:  # what nobody foresaw is what is looked for
                wrong.append((name, number, repr(unforeseen)[:200]))
                continue
            finally:
                file.write_bytes(whole)
            if error is not None:
                num_messages += 1
                if Path(name).name not in str(error):
                    wrong.append((name, number, str(error)[:200]))
            if stage and Path(name).name in stage.outputs and state is State.DONE:
                wrong.append((name, number, "said to be done"))
    with capsys.disabled():
        print(f"\n{num_inputs} damaged inputs, {num_messages} messages, {len(wrong)} wrong")
    assert wrong == []
    assert num_inputs >= 300


def test_a_damaged_result_of_a_finished_run_is_named_by_a_deep_check(study):
    file = proxies.tasks_of(study)[5].folder / "result.json"
    whole = file.read_bytes()
    assert check_whole(study.proxies).startswith("3-proxies: ")
    file.write_bytes(whole[:40])
    assert file.parent.name in str(outcome(lambda one: check_whole(one.proxies), study))
    file.write_bytes(whole)


def test_a_stage_whose_output_is_damaged_is_done_again_and_mends_it(study, recorder):
    table = study.regression / "quality.parquet"
    whole = table.read_bytes()
    before = pd.read_parquet(table)
    table.write_bytes(whole[:100])
    assert study.state(fit.STAGE) is State.PARTIAL
    pipeline.run_stage(study, "fit", recorder)
    assert "fit: quality.parquet is not what was written; doing again what that touches" in recorder.notes
    assert not any("done already" in note for note in recorder.notes)
    pd.testing.assert_frame_equal(pd.read_parquet(table), before)
    assert study.state(fit.STAGE) is State.DONE


def test_markers_of_version_0_1_do_not_say_what_was_written_and_are_believed(study):
    marker = study.marker(fit.STAGE)
    whole = marker.read_bytes()
    tree = json.loads(whole)
    del tree["outputs"]
    marker.write_text(json.dumps(tree))
    try:
        assert study.state(fit.STAGE) is State.DONE
    finally:
        marker.write_bytes(whole)


def test_published_runs_are_of_a_study_that_is_whole(study):
    assert OwnRuns.read(study, Address.of(study.recipe), {}, ()) is not None
