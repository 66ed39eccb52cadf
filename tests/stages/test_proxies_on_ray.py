"""What a Ray cluster cannot do is said before anything waits for it."""

import shutil
import tempfile
from pathlib import Path

import pytest

from regmix_hf.errors import TrainingError
from regmix_hf.progress import Silent
from regmix_hf.stages import proxies

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


def test_what_no_node_has_is_said_before_anything_waits_for_it(new_study, cluster):
    study = new_study(*SMALL, f"executor.ray.address={cluster.address}", "executor.ray.num_gpus=0.5")
    with pytest.raises(TrainingError, match=r"a run asks for 0.5 GPU, and the Ray cluster has 0\."):
        proxies.run(study, Silent())
