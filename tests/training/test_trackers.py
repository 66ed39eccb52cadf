"""Trackers: missed before anything runs, one run each, with the losses of every domain."""

import struct
import sys
from types import SimpleNamespace

import pytest

from regmix_hf.errors import TrainingError
from regmix_hf.training.arguments import check_arguments
from regmix_hf.training.run import train_final, train_run
from regmix_hf.training.trackers import close_trackers


@pytest.mark.parametrize("report_to", [None, "none", "all", ["none"], []])
def test_no_tracker_and_every_tracker_are_always_there(report_to):
    check_arguments({"report_to": report_to}, section="proxy")


def test_a_tracker_nobody_knows():
    with pytest.raises(TrainingError, match=r"report_to: 'wandbb' is no tracker; did you mean 'wandb'"):
        check_arguments({"report_to": ["wandbb"]}, section="train")


@pytest.mark.parametrize(
    ("name", "package"),
    [("trackio", r"'regmix_hf\[trackio\]'"), ("wandb", r"'regmix_hf\[wandb\]'"), ("neptune", "neptune")],
)
def test_a_tracker_that_is_not_installed_is_missed_before_anything_runs(name, package, monkeypatch):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: [])
    with pytest.raises(TrainingError, match=rf"'{name}' is not installed(.|\n)*pip install {package}"):
        check_arguments({"report_to": name}, section="train")


def test_wandb_is_closed_after_every_run(monkeypatch):
    closed = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(finish=lambda: closed.append(1)))
    for report_to in (["wandb"], ["tensorboard"]):
        trainer = SimpleNamespace(
            args=SimpleNamespace(report_to=report_to), is_world_process_zero=lambda: True
        )
        close_trackers(trainer)
    assert closed == [1]


def scalars(folder):
    """Read the scalars of TensorBoard's event files: name -> [(step, value)]."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = {}
    for file in folder.iterdir():
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboardX")
@pytest.mark.parametrize("train", [train_run, train_final])
def test_losses_of_every_domain_arrive_in_tensorboard(spec, corpus, with_arguments, tmp_path, train):
    pytest.importorskip("tensorboardX")
    tracked = with_arguments(spec, report_to=["tensorboard"], logging_steps=2)
    assert tracked.run_id == spec.run_id
    for k, run in enumerate((tracked, with_arguments(tracked, learning_rate=2e-2))):
        row = train(run, corpus, tmp_path / str(k))
        (folder,) = (tmp_path / str(k) / "tensorboard").iterdir()
        assert folder.name == f"m0-{run.run_id}"
        found = scalars(folder)
        assert [step for step, _ in found["train/loss"]] == [2, 4, 6, 8, 10]
        for domain in corpus.facts.domains:
            measured = found[f"eval/loss/{domain}"]
            assert [step for step, _ in measured] == [4, 7, 11]
            assert measured[-1][1] == pytest.approx(row[f"loss/{domain}"])
