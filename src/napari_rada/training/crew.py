"""A team of several processes, on one machine or many, started by torchrun or by hand.

Whoever starts the processes sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, as torchrun does. The
processes talk through gloo, about tensors on graphics cards through NCCL where PyTorch has it.

Before they exchange anything the processes exchange how they are. A process that fails says so in the place of
whatever it would have exchanged next, and all end, stop or save memory at the same point; nobody waits for
somebody who is not coming. Contact with a process that is killed is lost at once, with one that hangs after
`PATIENCE`.
"""

from __future__ import annotations

import os
import re
import socket
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # it must not be imported later: its defaults keep the group of then for ever
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # exported where checkers do not look
from torch.distributed.rendezvous import rendezvous

from napari_rada.control import RunControl
from napari_rada.errors import ConfigError, ElsewhereError, LostContactError, Stopped
from napari_rada.memory import is_out_of_memory
from napari_rada.models.device import resolve_device
from napari_rada.training.team import ALONE, Team

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another, which may be at a long piece of work."""
MEETING = timedelta(minutes=10)
"""How long the processes wait for the last of them to start."""
LOOK_S = 0.2
"""Time after which a process that waits for others to start looks again, also whether it is to stop."""
ANSWER_S = 2.0
"""Time in which the machine of the first process answers when it is called."""
REASON, HERE = "reason", "here"
FINE, SHORT_OF_MEMORY, STOPPED, FAILED = range(4)


@contextmanager
def joined(control: RunControl | None = None) -> Iterator[Team]:
    """Meet the other processes of the job that the environment names, for as long as the block lasts.

    Without such a job this is the team of one.

    Raises
    ------
    ConfigError
        If the environment is incomplete, or the others do not come.
    Stopped
        If a stop was requested while they were waited for.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    crew = _meet(control or RunControl())
    try:
        with crew.together():
            yield crew
    finally:
        crew.leave()


def _meet(control: RunControl) -> Crew:
    try:
        if int(os.environ.get("RANK", "0")) > 0:
            _await(_first_listens, control)
        # Of a size of one, or else torch would let the first process wait for all, deaf to a stop.
        store, rank, _ = next(rendezvous("env://?world_size=1", timeout=MEETING))
        store, size = PrefixStore("napari-rada", store), int(os.environ["WORLD_SIZE"])
        store.set(f"{HERE}{rank}", "")
        _await(lambda: store.check([f"{HERE}{each}" for each in range(size)]), control)
        dist.init_process_group(backend(), store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        _check_stop(control)  # who keeps the store may have been stopped, too, and gone first
        raise ConfigError(
            f"The {os.environ['WORLD_SIZE']} processes of this job did not find each other "
            f"({' '.join(str(error).split())[:200]}); start them with torchrun, see docs/cluster.md."
        ) from None
    return Crew(store, rank, size)


def _await(there: Callable[[], bool], control: RunControl) -> None:
    """Wait for others to be there; where torch does so it is deaf to a stop."""
    until = time.monotonic() + MEETING.total_seconds()
    while not there():
        _check_stop(control)
        if time.monotonic() > until:
            raise RuntimeError(f"not all were there after {MEETING.total_seconds():.0f} s")
        time.sleep(LOOK_S)


def _check_stop(control: RunControl) -> None:
    if control.stop_requested:
        who = f"process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}"
        raise Stopped(f"while {who} waited for the others to start; start the job again")


def _first_listens() -> bool:
    """Tell whether the first process, or the launcher for it, can be called; where it is not named torch says so."""
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not host or not port:
        return True
    try:
        socket.create_connection((host, int(port)), ANSWER_S).close()
    except (OSError, OverflowError):
        return False
    return True


def backend() -> str:
    """Name what carries tensors: NCCL those on graphics cards, where PyTorch has it, which is not so on Windows."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"


class Crew(Team):
    """One of several processes.

    Parameters
    ----------
    store
        Where a process that fails leaves the reason for the others.
    rank, size
        Number of this process, from 0; number of all.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self._store = store
        self._known: BaseException | None = None
        self._failures = 0

    def device(self, name: str) -> torch.device:
        """Return the processor, or the graphics card that is this process's on its machine.

        Raises
        ------
        ConfigError
            If there is no such card, or not all processes have one.
        """
        if name.startswith("cuda:") or name == "mps":
            raise ConfigError(f"Device {name!r} is one device for {self.size} processes; use auto, cuda or cpu.")
        device = resolve_device("cpu" if name == "auto" and not torch.cuda.is_available() else name)
        if device.type == "cuda":
            device = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
            torch.cuda.set_device(device)
        if self.any(device.type == "cuda") and self.any(device.type == "cpu"):
            raise ConfigError("Only some of the processes have a graphics card; set device to cpu, or leave them out.")
        return device

    @contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block on every process or on none."""
        try:
            yield
            self._exchange(FINE)
        except Exception as error:
            if error is not self._known:
                self._share(error)
            raise

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set on any process."""
        return self._exchange(FINE, flag)

    def leaders(self, number: float) -> float:
        """Return the number that the leading process has."""
        value = torch.tensor(number if self.leads else 0.0, dtype=torch.float64)
        return self._added(value).item()

    def total(self, sums: Tensor) -> Tensor:
        """Add up over the team; every process computes the same from the result."""
        result: Tensor = _Total.apply(sums, self._added, False)
        return result

    def mixed(self, sums: Tensor) -> Tensor:
        """Add up over the team; the gradient adds up as well."""
        result: Tensor = _Total.apply(sums, self._added, True)
        return result

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients over the team, in place, in one message."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sums = self._added(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        start = 0
        for gradient in gradients:
            gradient.copy_(sums[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()

    def leave(self) -> None:
        """Close the connections; where somebody is lost, not those of NCCL, which would wait."""
        if not self.lost or not torch.cuda.is_available():
            dist.destroy_process_group()

    def _added(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, in a new tensor."""
        self._exchange(FINE)
        sums = values.detach().clone(memory_format=torch.contiguous_format)
        self._talk(lambda: dist.all_reduce(sums))
        return sums

    def _exchange(self, state: int, flag: bool = False) -> bool:
        """Tell the others how this process is; returns whether the flag is set on any.

        Raises
        ------
        ElsewhereError, MemoryError, Stopped
            If another process has failed, is short of memory, or was stopped.
        """
        states = torch.tensor([state, int(flag)])
        self._talk(lambda: dist.all_reduce(states, dist.ReduceOp.MAX))
        worst, flagged = states.tolist()
        if worst not in (FINE, state):
            self._known = self._heard(worst)
            raise self._known
        return bool(flagged)

    def _share(self, error: Exception) -> None:
        """Tell the others of an error; raises theirs in its place where that is worse or was told already."""
        state, first = _state_of(error), True
        if state == FAILED:
            mine = f"Process {self.rank} of {self.size} on {socket.gethostname()}: {error or type(error).__name__}"
            first = self._claim(mine)
        self._known = error
        self._exchange(state)
        if state == FAILED:
            heard = self._heard(FAILED)
            if not first:
                self._known = heard
                raise heard from error

    def _heard(self, state: int) -> Exception:
        if state == STOPPED:
            return Stopped()
        if state == SHORT_OF_MEMORY:
            return MemoryError("out of memory in another process")
        reason = self._store.get(f"{REASON}{self._failures}").decode(errors="replace")
        self._failures += 1
        return ElsewhereError(reason)

    def _claim(self, reason: str) -> bool:
        """Leave the reason of the next failure for the others; False if somebody did so before."""
        kept = self._store.compare_set(f"{REASON}{self._failures}", "", reason)
        return bool(kept.decode(errors="replace") == reason)

    def _talk(self, message: Callable[[], Any]) -> None:
        """Send and receive; what torch raises then means that somebody is gone."""
        try:
            message()
        except RuntimeError as error:
            self.lost = True
            reason = re.sub(r"\[\S+:\d+\] ", "", " ".join(str(error).split())).partition(". ")[0][:160]
            lost = LostContactError(
                f"Process {self.rank} of {self.size} lost contact with another one ({reason}), which was killed or "
                "whose machine failed; start the job again with --resume, training goes on from the last checkpoint."
            )
            self._known = lost
            with suppress(RuntimeError):  # where the place for reasons is gone too, everybody speaks
                if not self._claim(str(lost)):
                    self._known = self._heard(FAILED)
            raise self._known from None


def _state_of(error: Exception) -> int:
    if isinstance(error, Stopped):
        return STOPPED
    return SHORT_OF_MEMORY if is_out_of_memory(error) else FAILED


class _Total(torch.autograd.Function):
    """A sum over the processes."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, added: Callable[[Tensor], Tensor], mixed: bool) -> Tensor:
        """Add up."""
        ctx.added = added if mixed else None
        return added(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Pass the gradient on, added up where every process has only a part of it."""
        (gradient,) = gradients
        return gradient if ctx.added is None else ctx.added(gradient), None, None
