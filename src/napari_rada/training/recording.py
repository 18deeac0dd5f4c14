"""Iterations as a CUDA graph: recorded once, then started as a whole.

Networks this small are thousands of short operations. To start them one by one takes a processor longer than the card
needs to compute them. A graph of them starts at once, and the three networks, which do not wait for each other, are
computed side by side (docs/speed.md says what that brings).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_rada.training.objective import Knobs
from napari_rada.training.patches import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import Tensor, nn

    from napari_rada.models.networks import NetworkInput
    from napari_rada.models.triple_view import TripleViewModel

WARM_UP = 3
"""Iterations of a kind that are computed as usual before one is recorded: they load what no recording can wait for."""


class Recording(NamedTuple):
    """A recorded iteration: where it reads batch and knobs (`slots`), and where it leaves numbers and gradients."""

    replay: Callable[[], None]
    batch: Batch
    slots: list[Tensor]
    summary: Tensor
    gradients: list[Tensor | None]


class Recorder:
    """Computes iterations as `compute` does: the first ones by calling it, later ones by repeating what it did.

    Parameters
    ----------
    compute
        Leaves the gradients of a batch in the model's parameters, which have none before, and returns its numbers; it
        must wait for nothing.
    failed
        Called with the reason if an iteration cannot be recorded; this and all later ones are computed as usual.
    """

    def __init__(
        self,
        compute: Callable[[Batch, Knobs], Tensor],
        model: nn.Module,
        device: torch.device,
        failed: Callable[[str], None],
    ) -> None:
        self._compute = compute
        self._model = model
        self._device = device
        self._failed = failed
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._usual: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, Recording] = {}
        self._places: list[int] = []
        self._given_up = False

    def __call__(self, batch: Batch, knobs: Knobs) -> Tensor:
        """Leave the gradients in the parameters; returns the numbers of the iteration."""
        if self._given_up:
            return self._compute(batch, knobs)
        self._forget_if_moved()
        kind = (knobs.crossing, *(part.shape for part in batch))
        if kind not in self._recordings:
            self._usual[kind] = self._usual.get(kind, 0) + 1
            if self._usual[kind] <= WARM_UP or not self._recorded(kind, batch, knobs):
                return self._compute(batch, knobs)
        return self._repeated(self._recordings[kind], batch, knobs)

    def _forget_if_moved(self) -> None:
        """Drop what was recorded if the weights lie elsewhere now, as where a prediction ran out of memory."""
        places = [values.data_ptr() for values in chain(self._model.parameters(), self._model.buffers())]
        if places != self._places:
            self._recordings.clear()
            self._places = places

    def _recorded(self, kind: Hashable, batch: Batch, knobs: Knobs) -> bool:
        """Record an iteration, which computes nothing yet; tells whether that worked."""
        before = torch.cuda.current_stream(self._device)
        try:
            self._recordings[kind] = self._record(batch, knobs)
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # which a recording that fails leaves as it is
            self._given_up = True
            self._recordings.clear()
            self._failed(str(error).strip().partition("\n")[0])
        return not self._given_up

    def _record(self, batch: Batch, knobs: Knobs) -> Recording:
        own = Batch(*(part.clone() for part in batch))
        slots = [torch.zeros((), device=self._device) for _ in knobs[:-1]]
        alpha, beta, threshold, pseudo_weight = slots
        graph = torch.cuda.CUDAGraph()
        # Other threads copy the next batches meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            summary = self._compute(own, Knobs(alpha, beta, threshold, pseudo_weight, knobs.crossing))
        return Recording(graph.replay, own, slots, summary, [weights.grad for weights in self._model.parameters()])

    def _repeated(self, recording: Recording, batch: Batch, knobs: Knobs) -> Tensor:
        for own, given in zip(recording.batch, batch, strict=True):
            own.copy_(given, non_blocking=True)
        for slot, value in zip(recording.slots, knobs[:-1], strict=True):
            slot.fill_(value)
        recording.replay()
        for weights, gradient in zip(self._model.parameters(), recording.gradients, strict=True):
            weights.grad = gradient
        return recording.summary


def side_by_side(model: TripleViewModel, device: torch.device) -> Callable[[NetworkInput], Tensor]:
    """Return what computes the logits (N, B, C, D, H, W), each network in a stream of its own."""
    streams = [torch.cuda.Stream(device) for _ in model.networks]  # type: ignore[no-untyped-call]

    def run(inputs: NetworkInput) -> Tensor:
        here = torch.cuda.current_stream(device)
        logits = []
        for network, stream in zip(model.networks, streams, strict=True):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                logits.append(network(inputs))
        for stream, values in zip(streams, logits, strict=True):
            here.wait_stream(stream)
            values.record_stream(here)
        return model.corrected(torch.stack(logits), inputs)

    return run
