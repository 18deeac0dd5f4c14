"""Units on a cluster. One that loses a worker is in tests/evaluation/reliability/test_scale.py."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import dask.array
import distributed
import numpy as np
import pytest
from distributed import KilledWorker, LocalCluster
from distributed.comm.core import CommClosedError

import napari_rada as rada
from napari_rada.control import RunControl
from napari_rada.errors import InputError, RadaError, Stopped
from napari_rada.io.chunked import ChunkedArray
from napari_rada.io.lazy import from_array, open_lazy
from napari_rada.outofcore import runner
from napari_rada.outofcore.intensities import Counting
from napari_rada.outofcore.runner import Cluster, Here
from napari_rada.outofcore.steps import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_rada.data.box import Box

BOXES: list[Box] = [((n, 0, 0), (n + 1, 1, 1)) for n in range(5)]


def first(box: Box, control: RunControl) -> int:
    control.check()
    return box[0][0]


def refuse(box: Box, control: RunControl) -> int:
    raise InputError(f"The unit {box[0][0]} cannot be read.")


def time_out(box: Box, control: RunControl) -> int:
    raise TimeoutError("The disk does not answer.")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster inside this process, which takes no time to start."""
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_every_unit_is_computed_once(address: str) -> None:
    assert list(Here().map(first, BOXES, RunControl())) == [0, 1, 2, 3, 4]
    with Cluster(address) as cluster:
        assert sorted(cluster.map(first, BOXES, RunControl())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_stop_and_errors_come_through(address: str, where: str) -> None:
    with Cluster(address) as cluster:
        runner = Here() if where == "here" else cluster
        with pytest.raises(InputError, match=r"The unit \d cannot be read"):
            list(runner.map(refuse, BOXES, RunControl()))
        control = RunControl()
        control.stop()
        with pytest.raises(Stopped):
            list(runner.map(first, BOXES, control))


def test_a_worker_that_does_not_see_the_files_is_named(
    run: Path, scan: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = pickle.loads(pickle.dumps(Counting(open_lazy(scan))))  # noqa: S301 - as it is sent to another process
    scan.rename(tmp_path / "elsewhere.zarr")
    order = Order(str(run), "best", "cpu", counting.volume, str(tmp_path / "out.zarr"), "call")
    with Cluster(address) as cluster:
        for work, answer in (
            (counting, "scan.ome.zarr does not exist"),
            (runner.Doing(order, 0), "out.zarr holds nothing that was begun; whoever computes must see run"),
        ):
            with pytest.raises(InputError, match=rf"On the worker inproc://.*: .*{answer}"):
                list(cluster.map(work, BOXES, RunControl()))


def test_workers_that_are_all_gone_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE_S", 1.0)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as own,
        Cluster(own.scheduler_address) as cluster,
    ):
        own.scale(0)
        with pytest.raises(RadaError, match="has lost all of its workers"):
            list(cluster.map(first, BOXES, RunControl()))


def test_workers_that_are_lost_with_results_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a worker has computed lies with it until it is fetched; waiting for that would never end."""
    monkeypatch.setattr(runner, "PATIENCE_S", 1.0)
    monkeypatch.setattr(runner, "GATHER_S", 0.2)
    wait = distributed.wait
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as own,
        Cluster(own.scheduler_address) as cluster,
    ):

        def waited(pending: set[distributed.Future], **settings: object) -> object:
            if not own.workers:
                return wait(pending, **settings)
            found = wait(pending)
            own.sync(own.workers.pop(0).close)
            return found

        monkeypatch.setattr("distributed.wait", waited)
        with pytest.raises(RadaError, match="has lost all of its workers"):
            list(cluster.map(first, BOXES, RunControl()))
    assert not [record for record in caplog.records if record.name in ("asyncio", "distributed.client")]


def test_a_unit_whose_disk_does_not_answer_in_time_is_told(address: str) -> None:
    with Cluster(address) as cluster, pytest.raises(TimeoutError, match="does not answer"):
        list(cluster.map(time_out, BOXES, RunControl()))


def test_lost_connections_are_not_told_by_the_library_with_their_tracebacks(address: str) -> None:
    log = logging.getLogger("distributed.batched")
    before = log.isEnabledFor(logging.INFO)
    with Cluster(address):
        assert not log.isEnabledFor(logging.INFO)
    assert log.isEnabledFor(logging.INFO) == before


def test_workers_that_are_lost_again_and_again_are_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object, **settings: object) -> None:
        raise KilledWorker("unit", None, 3)

    with Cluster(address) as cluster:
        monkeypatch.setattr("distributed.wait", lost)
        with pytest.raises(RadaError, match="Several workers were lost"):
            list(cluster.map(first, BOXES, RunControl()))


@pytest.mark.parametrize("error", [CommClosedError, CancelledError])
def test_a_scheduler_that_is_lost_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*arguments: object, **settings: object) -> None:
        raise error("scheduler-connection-lost")

    with Cluster(address) as cluster:
        monkeypatch.setattr("distributed.wait", lost)
        with pytest.raises(RadaError, match=r"connection to the scheduler was lost; .* what was finished is kept"):
            list(cluster.map(first, BOXES, RunControl()))
    assert not [record for record in caplog.records if record.name == "distributed.client"]
    assert not logging.getLogger("distributed.client").disabled


def test_a_dask_array_is_predicted_on_a_cluster_as_here(
    run: Path, values: np.ndarray, address: str, tmp_path: Path
) -> None:
    volume = from_array(dask.array.from_array(values, chunks=20), spacing=(2.0, 1.0, 1.0))
    found = []
    for name, scheduler in (("here", None), ("cluster", address)):
        result = rada.predict_volume(
            run, volume, tmp_path / f"{name}.ome.zarr", chunk=16, memory=0.001, scheduler=scheduler, device="cpu"
        )
        array = ChunkedArray.open(result.out / "0")
        found.append(array.read((0, 0, 0), array.shape))
    np.testing.assert_array_equal(found[0], found[1])


def test_a_worker_that_stays_opens_networks_and_volume_anew_for_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "Site", lambda order: order.call)
    runner.forget_sites()
    volume = from_array(np.zeros((16, 16, 16), dtype=np.float32))
    orders = [Order("run", "best", "cpu", volume, str(tmp_path), call) for call in ("first", "first", "second")]
    assert [runner._opened(order) for order in orders] == ["first", "first", "second"]
    runner.forget_sites()
