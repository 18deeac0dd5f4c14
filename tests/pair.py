"""Two real processes that compute together, for as long as the tests of a module need them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

PATIENCE_S = 90


class Pair:
    """Runs a function of the team and of more arguments in both processes at once.

    Functions and arguments travel by pickle, so functions are those of a module.
    """

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what the function returned in each process, or the error that left it."""
        port = free_port()
        for connection in self._connections:
            connection.send((function, arguments, port))
        found = []
        for connection in self._connections:
            assert connection.poll(PATIENCE_S), "a process hangs"
            found.append(connection.recv())
        return found


@contextmanager
def two_processes() -> Iterator[Pair]:
    """Start the processes and end them."""
    context = multiprocessing.get_context("spawn")
    children, ends = [], []
    for rank in range(2):
        ours, theirs = context.Pipe()
        child = context.Process(target=serve, args=(rank, theirs), daemon=True)
        child.start()
        children.append(child)
        ends.append(ours)
    try:
        yield Pair(ends)
    finally:
        for end in ends:
            end.close()
        for child in children:
            child.kill()
            child.join()


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
