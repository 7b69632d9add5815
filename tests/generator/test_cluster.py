"""A run on a local Ray cluster of two nodes, one of which is killed on the way."""

import functools
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import small_run as small

from generator import sweep
from study import gallery

ray = pytest.importorskip("ray", reason="the extra [cluster] is not installed")
HERE = Path(__file__).parent
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose workers sit on two nodes of a CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))
        patch.setenv("RAY_worker_niceness", "0")  # the workers of a busy machine would starve
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=made.address, log_to_driver=False)
        yield made, nodes
        ray.shutdown()
        made.shutdown()


def test_a_cluster_that_is_not_there_is_told(tmp_path, monkeypatch):
    def init(address, **_):
        raise ConnectionError(f"nobody is {address}")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(sweep.SweepError, match="--ray auto: no cluster to be had: nobody is auto"):
        small.run(tmp_path / "g", cluster="auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(sweep.SweepError, match="nobody is ray://127"):
            small.run(tmp_path / "g", cluster=f"ray://{free}")
    with pytest.raises(sweep.SweepError, match=f"--ray {free}: no cluster to be had: .*refused"):
        small.run(tmp_path / "g", cluster=free)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "generator.sweep.cluster")
    with pytest.raises(sweep.SweepError, match=r"pip install 'pairstudy\[cluster\]'"):
        small.run(tmp_path / "g", cluster="auto")


def test_what_goes_wrong_on_a_node_is_told_as_if_it_were_here(cluster, tmp_path):
    with pytest.raises(sweep.SweepError, match="plain: out of memory with one picture at a time"):
        small.run(
            tmp_path / "g",
            methods=small.METHODS[:1],
            prompts=small.PROMPTS[:1],
            base=small.model(load=small.TooLargePipeline),
            cluster="auto",
        )


def test_texts_are_encoded_once_for_all_nodes_and_methods(cluster, tmp_path):
    base = small.model(load=functools.partial(small.ReadingPipeline, tmp_path / "encoded"))
    assert small.run(tmp_path / "g", base=base, batch_size=2, cluster="auto").new == 14
    encoded = (tmp_path / "encoded").read_text().splitlines()
    assert sorted(encoded) == [prompt.text for prompt in small.PROMPTS]
    small.run(tmp_path / "alone", batch_size=2)
    assert small.files(tmp_path / "g") == small.files(tmp_path / "alone")
    assert not (tmp_path / "g" / ".run" / "text").exists()


def test_a_node_that_dies_costs_nothing_but_time(cluster, tmp_path, capsys):
    made, nodes = cluster
    assert small.run(tmp_path / "alone", batch_size=1).new == 14
    killed = tmp_path / "killed"

    def kill_when_both_are_at_their_third():
        rows = tmp_path / "g" / "images.jsonl"
        while not rows.exists() or len(rows.read_text().splitlines()) < 4:
            time.sleep(0.05)
        try:
            made.remove_node(nodes[0], allow_graceful=False)
        finally:
            killed.touch()

    killer = threading.Thread(target=kill_when_both_are_at_their_third, daemon=True)
    killer.start()
    base = small.model(load=functools.partial(small.HeldPipeline, killed))
    outcome = small.run(tmp_path / "g", base=base, batch_size=1, cluster="auto")
    killer.join()
    assert outcome.new == 14
    assert small.files(tmp_path / "g") == small.files(tmp_path / "alone")
    assert len(gallery.read_gallery(tmp_path / "g").images) == 14
    assert "a node is lost" in capsys.readouterr().err
