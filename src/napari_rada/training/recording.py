"""Iterations as a CUDA graph: recorded once, then started as a whole.

Networks this small are thousands of short operations. To start them one by one takes a processor longer than the card
needs to compute them. A graph of them starts at once, and the three networks, which do not wait for each other, are
computed side by side (docs/speed.md says what that brings).
"""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import torch

from napari_rada.training.objective import Knobs
from napari_rada.training.patches import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from torch import Tensor, nn

    from napari_rada.models.networks import NetworkInput
    from napari_rada.models.triple_view import TripleViewModel
    from napari_rada.settings import TrainingConfig

WARM_UP = 3
"""Iterations of a kind that are computed as usual before one is recorded: they load what no recording can wait for."""


Record: TypeAlias = "Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], None]]]"
"""Notes what a computation does, without doing it; returns the tensor that it returned, and what does it."""


class Recording(NamedTuple):
    """A recorded iteration: where it reads batch and knobs (`slots`), and where it leaves numbers and gradients."""

    repeat: Callable[[], None]
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
    record
        How to record; `CudaGraphs` for a card.
    failed
        Called with the reason if an iteration cannot be recorded; this and all later ones are computed as usual.
    """

    def __init__(
        self,
        compute: Callable[[Batch, Knobs], Tensor],
        model: nn.Module,
        record: Record,
        failed: Callable[[str], None],
    ) -> None:
        self._compute = compute
        self._model = model
        self._record = record
        self._failed = failed
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
        try:
            self._recordings[kind] = self._recording(batch, knobs)
        except RuntimeError as error:
            self._given_up = True
            self._recordings.clear()
            self._model.zero_grad(set_to_none=True)
            self._failed(str(error).strip().partition("\n")[0])
        return not self._given_up

    def _recording(self, batch: Batch, knobs: Knobs) -> Recording:
        own = Batch(*(part.clone() for part in batch))
        slots = [torch.zeros((), device=own.image_BDHW.device) for _ in knobs[:-1]]
        alpha, beta, threshold, pseudo_weight = slots
        read = Knobs(alpha, beta, threshold, pseudo_weight, knobs.crossing)
        summary, repeat = self._record(lambda: self._compute(own, read))
        gradients = [None if weights.grad is None else weights.grad.detach() for weights in self._model.parameters()]
        return Recording(repeat, own, slots, summary, gradients)

    def _repeated(self, recording: Recording, batch: Batch, knobs: Knobs) -> Tensor:
        for own, given in zip(recording.batch, batch, strict=True):
            own.copy_(given, non_blocking=True)
        for slot, value in zip(recording.slots, knobs[:-1], strict=True):
            slot.fill_(value)
        recording.repeat()
        for weights, gradient in zip(self._model.parameters(), recording.gradients, strict=True):
            # Its own tensor: moving the weights moves what they hold.
            weights.grad = None if gradient is None else gradient.detach()
        return recording.summary


class CudaGraphs:
    """Records on a CUDA device; every recording has memory of its own."""

    def __init__(self, device: torch.device, networks: int) -> None:
        self._stream, *self._side = (stream_on(device) for _ in range(1 + networks))

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record a computation that waits for nothing.

        Raises
        ------
        RuntimeError
            If it cannot be recorded; the device can be used as before.
        """
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        with torch.cuda.device(self._stream.device_index):
            before = torch.cuda.current_stream()
            try:
                # Other threads copy the next batches meanwhile.
                with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
                    try:
                        found = compute()
                    finally:
                        self._join()
            except RuntimeError:
                torch.cuda.set_stream(before)
                self._tidy(pool)
                raise
        return found, graph.replay

    def side_by_side(self, model: TripleViewModel) -> Callable[[NetworkInput], Tensor]:
        """Return what computes the logits (N, B, C, D, H, W), in a recording each network in a stream of its own."""

        def run(inputs: NetworkInput) -> Tensor:
            if not torch.cuda.is_current_stream_capturing():
                return cast("Tensor", model(inputs))
            # A stream that goes on with the memory of its logits has waited for whoever read them.
            logits = []
            for network, stream in zip(model.networks, self._side, strict=True):
                stream.wait_stream(self._stream)
                with torch.cuda.stream(stream):
                    logits.append(network(inputs))
            self._join()
            return model.corrected(torch.stack(logits), inputs)

        return run

    def _join(self) -> None:
        """Let what comes next wait for all networks, without which a recording cannot end."""
        for stream in self._side:
            with torch.cuda.stream(stream):
                recorded = torch.cuda.is_current_stream_capturing()
            if recorded:
                self._stream.wait_stream(stream)

    def _tidy(self, pool: tuple[int, int]) -> None:
        """Put back what waits for the end of a recording, which PyTorch before 2.12 forgets if it failed."""
        index = self._stream.device_index
        with suppress(RuntimeError):  # it has ended
            torch._C._cuda_endAllocateToPool(index, pool)  # noqa: SLF001
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())


def recordable(settings: TrainingConfig, processes: int = 1) -> bool:
    """Tell whether the iterations of such a run are recorded on a card."""
    return settings.cuda_graph and settings.compile == "none" and processes == 1


def stream_on(device: torch.device) -> torch.cuda.Stream:
    """Return a new stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
