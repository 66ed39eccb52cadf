"""On Ray nodes that share no folder, workers and a node die, and the tables are those of one machine."""

import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
from pandas.testing import assert_frame_equal
from transformers import AutoConfig, AutoModelForCausalLM

from regmix_hf.errors import TrainingError
from regmix_hf.files import read_json, write_json, write_parquet
from regmix_hf.jobs import ray_cluster
from regmix_hf.jobs.base import base_task
from regmix_hf.progress import Silent
from regmix_hf.stages import evaluate, proxies, train
from regmix_hf.study import State
from regmix_hf.training.pretrained import hash_weights

from .conftest import SMALL

ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
pytestmark = [pytest.mark.cold_processes, pytest.mark.filterwarnings("ignore")]

#: Only against a test that would never end: a new worker imports torch, which takes a busy machine long.
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folder for temporary files of workers, and so for what they hold of the corpus."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(home):
    """Two nodes of one core each; this process belongs to the first."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100_000_000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # Ray's sockets need short paths
        patch.setenv("TMPDIR", str(home))
        head = {"num_cpus": 1, "include_dashboard": False, **memory}
        cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)
        try:
            cluster.second = cluster.add_node(num_cpus=1, **memory)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture
def on_ray(new_study, cluster):
    """Make a study whose proxies are trained on the cluster."""
    return lambda *overrides: new_study(
        *SMALL, "executor.place=ray", f"executor.ray.address={cluster.address}", *overrides
    )


@pytest.fixture
def unseen(monkeypatch):
    """Have nodes see no folder of a study."""
    of = ray_cluster._Parcel.of
    nowhere = staticmethod(lambda folder: replace(of(folder), folder=Path("/on/no/node")))
    monkeypatch.setattr(ray_cluster._Parcel, "of", nowhere)


def kill_a_worker():
    """Kill one that has a task in hand; return whether there was one."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_do"]:
                process.kill()
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def test_what_no_node_has_is_said_before_anything_waits_for_it(on_ray):
    with pytest.raises(TrainingError, match=r"a run asks for 0.5 GPU, and the Ray cluster has 0\."):
        proxies.run(on_ray("executor.ray.num_gpus=0.5"), Silent())


@pytest.mark.usefixtures("unseen")
def test_workers_and_a_node_die_and_the_tables_are_those_of_an_undisturbed_machine(
    alone, on_ray, cluster, home, tables, within
):
    study = on_ray()
    ended = lambda: len(list(study.proxies.glob("*/result.json")))  # noqa: E731
    run = threading.Thread(target=proxies.run, args=(study, Silent()), daemon=True)
    run.start()
    for count in (2, 5, 8):  # of eighteen: what is left outlasts the deaths
        within(lambda count=count: ended() >= count or not run.is_alive(), seconds=PATIENCE_S)
        if count == 5:
            cluster.remove_node(cluster.second)
        within(lambda: kill_a_worker() or not run.is_alive(), seconds=PATIENCE_S)
        assert run.is_alive(), "it ended before all deaths had come to pass"
    run.join(timeout=PATIENCE_S)
    assert study.state(proxies.STAGE) is State.DONE
    (corpus,) = home.glob("regmix-*")
    assert not corpus.samefile(study.corpus)
    for mine, its in zip(tables(study.proxies), tables(alone.proxies), strict=True):
        assert_frame_equal(mine, its)


@pytest.mark.usefixtures("unseen")
def test_what_proxies_start_from_is_trained_on_a_node_and_reaches_those_that_do_not_see_it(on_ray):
    base = "proxy.model.pretrained={mixture: prior, num_train_tokens: 1600}"
    study = on_ray("proxy.num_seeds=1", "proxy.keep_models=all", base)
    proxies.run(study, Silent())
    assert study.state(proxies.STAGE) is State.DONE
    assert read_json(study.proxies / ".proxies.json")["num_ok"] == 6
    assert base_task(study).folder.joinpath("model.safetensors").exists()
    for task in proxies.tasks_of(study):
        kept = read_json(task.folder / "result.json")["kept_model"]
        assert hash_weights(task.folder / "kept-model") == kept, "kept models come home"


@pytest.mark.usefixtures("unseen")
def test_a_model_is_evaluated_on_a_node_that_sees_neither_it_nor_the_corpus(on_ray, home, tmp_path):
    study = on_ray("evaluation.tasks=[]", "train.mixtures=[prior]")
    (task,) = train.tasks_of(study)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**task.spec.model))
    model.save_pretrained(task.folder)
    row = {**task.head, "status": "ok"}
    write_json(task.folder / "result.json", row)
    write_parquet(study.models / "results.parquet", pd.DataFrame([row]))
    evaluate.run(study, Silent())
    assert study.state(evaluate.STAGE) is State.DONE
    (asked,) = evaluate.tasks_of(study, Silent())
    evaluate._work_of(study).open()(asked.spec, tmp_path, lambda num_tokens: None)
    mine, its = (read_json(folder / "result.json") for folder in (asked.folder, tmp_path))
    assert mine == its
    assert mine["scores"]
    left = [path for path in home.rglob("model.safetensors") if ".checkpoints" not in path.parts]
    assert not left, "a model is on a node while it is evaluated"
