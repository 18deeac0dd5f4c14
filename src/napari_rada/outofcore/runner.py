"""Where units are computed: in this process, or on the workers of a dask.distributed cluster."""

from __future__ import annotations

import logging
import threading
import time
from asyncio import TimeoutError as AsyncTimeoutError  # another one before Python 3.11
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from napari_rada.control import RunControl
from napari_rada.errors import InputError, MissingDependencyError, RadaError
from napari_rada.io.lazy import SCALE_EXTRA
from napari_rada.models.device import computing
from napari_rada.outofcore.steps import Order, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from distributed import Client, Future

    from napari_rada.data.box import Box

R = TypeVar("R")
Unit: TypeAlias = "Box"
WAIT_S = 0.25
"""How often a cluster is left for a look at the stop request."""
GATHER_S = 5.0
"""How long to wait for the result of a unit that is computed: the worker that holds it may be lost meanwhile."""
PATIENCE_S = 10.0
"""How long to wait for a scheduler, for its first worker, and for another one when all are gone."""


class Runner(Protocol):
    """Computes units of work and returns their results in any order."""

    def map(self, work: Callable[[Unit, RunControl], R], units: Sequence[Unit], control: RunControl) -> Iterator[R]:
        """Compute all units; raises `Stopped` between two of them if a stop was requested."""
        ...


class Here:
    """Computes one unit after the other in this process."""

    def map(self, work: Callable[[Unit, RunControl], R], units: Sequence[Unit], control: RunControl) -> Iterator[R]:
        """Compute all units."""
        for unit in units:
            control.check()
            yield work(unit, control)


class Cluster:
    """Sends units to the workers of a cluster; those of a worker that is lost go to another.

    Parameters
    ----------
    address
        Of the scheduler, as ``tcp://host:8786``.

    Raises
    ------
    MissingDependencyError
        If dask.distributed is not installed.
    InputError
        If no scheduler answers, or it has no worker.
    """

    def __init__(self, address: str) -> None:
        self._lost = False
        try:
            from distributed import Client
        except ImportError:
            raise MissingDependencyError(
                f"Computing on a cluster needs the package distributed; {SCALE_EXTRA}."
            ) from None
        self._log = logging.getLogger("distributed")
        self._level = self._log.level
        try:
            self._client: Client = Client(address, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, AsyncTimeoutError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split()) or "no answer"
            raise InputError(
                f"No scheduler answers at {address} ({reason}); start one with: dask scheduler, and name its address."
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE_S)
        except (TimeoutError, AsyncTimeoutError):
            self.close()
            raise InputError(
                f"The scheduler {address} has no workers; start some with: dask worker {address}."
            ) from None
        self._log.setLevel(logging.WARNING)  # below that it tells of lost connections, with their tracebacks

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; it goes on running."""
        log = logging.getLogger("distributed.client")
        muted, log.disabled = log.disabled, log.disabled or self._lost  # it would tell of its reconnection, at length
        try:
            self._client.close()
        finally:
            log.disabled = muted
            self._log.setLevel(self._level)

    def map(self, work: Callable[[Unit, RunControl], R], units: Sequence[Unit], control: RunControl) -> Iterator[R]:
        """Compute all units; what was sent is taken back if it ends early."""
        from distributed import KilledWorker, wait
        from distributed.comm.core import CommClosedError

        seen = time.monotonic()
        pending = {self._client.submit(_alone, work, unit, pure=False) for unit in units}
        try:
            while pending:
                control.check()
                try:
                    with self._client.as_current():
                        done, pending = wait(pending, timeout=WAIT_S, return_when="FIRST_COMPLETED")
                except (TimeoutError, AsyncTimeoutError):
                    seen = self._checked_workers(seen)
                    continue
                while done:
                    future = done.pop()
                    found = self._gathered(future)
                    if found is None:  # it is computed again
                        pending |= {future, *done}
                        break
                    seen = time.monotonic()
                    yield found[0]
        except KilledWorker:
            raise RadaError(
                "Several workers were lost one after the other while they computed the same chunk, probably for want "
                "of memory; give them more, or fewer threads each, and run the same command again."
            ) from None
        except (CancelledError, CommClosedError):
            self._lost = True
            raise RadaError(
                "The connection to the scheduler was lost; if it has ended start it again, with its workers, then run "
                "the same command again: what was finished is kept."
            ) from None
        finally:
            self._client.cancel(list(pending))

    def _gathered(self, future: Future[R]) -> tuple[R] | None:
        """Return the result of a unit that was computed, or None if it is lost, as with the worker that held it."""
        if future.status == "finished":
            gather = partial(self._client.gather, [future], errors="skip", asynchronous=True)
            with suppress(TimeoutError, AsyncTimeoutError):
                for result in self._client.sync(gather, callback_timeout=GATHER_S):
                    return (result,)
        return (future.result(),) if future.status in ("error", "cancelled") else None

    def _checked_workers(self, seen: float) -> float:
        """Return when the scheduler last had workers; raises `RadaError` if that was too long ago."""
        if self._client.nthreads():
            return time.monotonic()
        if time.monotonic() - seen > PATIENCE_S:
            raise RadaError(
                "The scheduler has lost all of its workers; look at what they printed last, start them again, and run "
                "the same command again."
            )
        return seen


class Doing:
    """One step of an order, as work. What an order needs is opened once per process."""

    def __init__(self, order: Order, step: int) -> None:
        self.order = order
        self.step = step

    def __call__(self, box: Unit, control: RunControl) -> None:
        """Compute a unit, unless it is there already."""
        site = _opened(self.order)
        step = site.steps()[self.step]
        if not step.is_done(box):
            with computing(site.run.config.threads):
                step.do(box, control)


_one_at_a_time = threading.Lock()
"""A worker with several threads still computes one unit at a time, so that memory is bounded."""
_sites: dict[str, Site] = {}


def forget_sites() -> None:
    """Close what was opened in this process."""
    _sites.clear()


def _opened(order: Order) -> Site:
    """Open an order, or return it from before; only the latest is kept."""
    if order.call not in _sites:
        _sites.clear()
        _sites[order.call] = Site(order)
    return _sites[order.call]


def _alone(work: Callable[[Unit, RunControl], R], unit: Unit) -> R:
    """Compute a unit on a worker; an error names it."""
    from distributed import get_worker

    with _one_at_a_time:
        try:
            return work(unit, RunControl())
        except RadaError as error:
            raise type(error)(f"On the worker {get_worker().address}: {error}") from None
