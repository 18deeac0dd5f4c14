"""Two real processes that compute together, for as long as the tests of a module need them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerContext, SpawnContext
    from multiprocessing.process import BaseProcess

PATIENCE_S = 90


class Pair:
    """Runs a function of the team and of more arguments in both processes at once.

    Functions and arguments travel by pickle, so functions are those of a module.
    """

    def __init__(self) -> None:
        self._context = starting()
        self._children: dict[int, tuple[BaseProcess, Connection]] = {}

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what the function returned in each process, or the error that left it."""
        self.begin(function, *arguments)
        return [self.end(rank) for rank in range(2)]

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Let both processes begin; those that are not there are started."""
        port = free_port()
        for rank in range(2):
            if rank not in self._children:
                ours, theirs = self._context.Pipe()
                child = self._context.Process(target=serve, args=(rank, theirs), daemon=True)
                child.start()
                self._children[rank] = child, ours
            self._children[rank][1].send((function, arguments, port))

    def end(self, rank: int) -> Any:
        """Wait for what the function returns in a process, or for the error that leaves it."""
        connection = self._children[rank][1]
        assert connection.poll(PATIENCE_S), "a process hangs"
        return connection.recv()

    def kill(self, rank: int) -> None:
        """Kill a process with SIGKILL, or what there is of that kind."""
        child, connection = self._children.pop(rank)
        child.kill()
        child.join()
        connection.close()


@contextmanager
def two_processes() -> Iterator[Pair]:
    """Give two processes, which end with the block."""
    pair = Pair()
    try:
        yield pair
    finally:
        for rank in list(pair._children):
            pair.kill(rank)


def starting() -> ForkServerContext | SpawnContext:
    """Say how processes are started: on Linux, from one that imported torch, which takes longer than most tests."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "napari_rada.pipeline"])
    return context


def serve(rank: int, connection: Connection) -> None:
    """Work in one of the two processes until nobody asks any more."""
    import torch

    from napari_rada.training.crew import joined

    torch.set_num_threads(1)
    while True:
        try:
            function, arguments, port = connection.recv()
        except EOFError:
            return
        os.environ.update(environment(rank, port))
        try:
            with joined() as team:
                result = function(team, *arguments)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            traceback.print_exc()
            result = error
        connection.send(result)


def environment(rank: int, port: int) -> dict[str, str]:
    """Return the variables by which two processes on this machine find each other."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
