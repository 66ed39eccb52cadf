"""On Ray nodes that share nothing, workers and a node die, and the tables are those of one machine."""

import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pandas.testing import assert_frame_equal

from regmix_hf.errors import TrainingError
from regmix_hf.jobs import ray_cluster
from regmix_hf.progress import Silent
from regmix_hf.stages import proxies
from regmix_hf.study import State

ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
pytestmark = [pytest.mark.cold_processes, pytest.mark.filterwarnings("ignore")]

SMALL = ("proxy.num_seeds=6", "proxy.num_train_tokens=1600", "executor.place=ray")


@pytest.fixture
def cluster():
    """Two nodes of one core each."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100_000_000}
    head = {"num_cpus": 1, "include_dashboard": False, **memory}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)  # this process is on the first
    cluster.second = cluster.add_node(num_cpus=1, **memory)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    for folder in Path(tempfile.gettempdir()).glob("regmix-corpus-*"):
        shutil.rmtree(folder, ignore_errors=True)


def workers():
    """Processes of Ray that have a task in hand."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::_do"):
            found.append(process)
    return found


def test_workers_and_a_node_die_and_the_tables_are_those_of_an_undisturbed_machine(
    new_study, tables, cluster, within, monkeypatch
):
    alone = new_study(*SMALL[:2])
    proxies.run(alone, Silent())
    study, of = new_study(*SMALL, f"executor.ray.address={cluster.address}"), ray_cluster._Parcel.of
    nowhere = staticmethod(lambda folder: replace(of(folder), folder=Path("/on/no/node")))
    monkeypatch.setattr(ray_cluster._Parcel, "of", nowhere)
    ended = lambda: len(list(study.proxies.glob("*/result.json")))  # noqa: E731
    run = threading.Thread(target=proxies.run, args=(study, Silent()), daemon=True)
    run.start()
    for count in range(5, 31, 5):
        within(lambda count=count: ended() >= count or not run.is_alive(), seconds=100)
        if count == 15:
            cluster.remove_node(cluster.second)
        for process in workers()[:1]:
            process.kill()
    run.join(timeout=100)
    assert study.state(proxies.STAGE) is State.DONE
    for mine, its in zip(tables(study.proxies), tables(alone.proxies), strict=True):
        assert_frame_equal(mine, its)


def test_what_no_node_has_is_said_before_anything_waits_for_it(new_study, cluster):
    study = new_study(*SMALL, f"executor.ray.address={cluster.address}", "executor.ray.num_gpus=0.5")
    with pytest.raises(TrainingError, match=r"a run asks for 0.5 GPU, and the Ray cluster has 0\."):
        proxies.run(study, Silent())
