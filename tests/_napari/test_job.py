"""A running job: every state, every way to end, no window needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from napari_rada._napari.job import Job, RunState, Task
from napari_rada.errors import InputError, RadaError, Stopped
from napari_rada.events import (
    CheckpointSaved,
    FinishReason,
    Paused,
    Resumed,
    RunFinished,
    Stage,
    StageProgress,
    StepLogged,
    TrainingStarted,
)

if TYPE_CHECKING:
    from napari_rada.control import RunControl
    from napari_rada.events import Listener


class Threads:
    """Starts tasks in plain threads and remembers what they raised."""

    def __init__(self) -> None:
        self.raised: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, task: Task) -> None:
        def run() -> None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001
                self.raised.append(error)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(timeout=10)
            assert not thread.is_alive()


class Seen:
    """Everything a job has told, in order."""

    def __init__(self, job: Job) -> None:
        self.states: list[RunState] = []
        self.events: list[object] = []
        self.ends: list[object] = []
        job.state_changed.connect(self.states.append)
        job.event.connect(self.events.append)
        job.succeeded.connect(self._on_succeeded)
        job.interrupted.connect(self._on_interrupted)
        job.failed.connect(self._on_failed)

    def _on_succeeded(self, result: object) -> None:
        self.ends.append(("succeeded", result))

    def _on_interrupted(self) -> None:
        self.ends.append("interrupted")

    def _on_failed(self, message: str) -> None:
        self.ends.append(("failed", message))


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def job(threads: Threads) -> Job:
    return Job("training", threads)


@pytest.fixture
def seen(job: Job) -> Seen:
    return Seen(job)


def step(iteration: int) -> StepLogged:
    return StepLogged(iteration, 10, (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), 0.1, 0.01, 1.0, 9.0)


def test_states_follow_the_events_and_the_result_comes_last(job, seen, threads):
    def work(control: RunControl, listener: Listener) -> str:
        listener(StageProgress(Stage.PREPARE, 1, 1))
        listener(StageProgress(Stage.PROPAGATE, 1, 1))
        listener(TrainingStarted(1, 10, "cpu"))
        listener(step(1))
        listener(RunFinished(FinishReason.COMPLETED, 1))
        return "done"

    job.start(work)
    assert job.state is RunState.PREPARING
    threads.join()
    assert not seen.events, "nothing is told before the main thread asks"
    job.drain()
    assert seen.states == [RunState.PREPARING, RunState.PROPAGATING, RunState.TRAINING, RunState.IDLE]
    assert seen.ends == [("succeeded", "done")]
    assert [type(event).__name__ for event in seen.events][-1] == "RunFinished"


@pytest.mark.parametrize(("stage", "state"), [(Stage.PREDICT, RunState.PREDICTING), (Stage.LABEL, RunState.LABELLING)])
def test_what_is_done_beside_training_has_a_state_of_its_own(job, seen, threads, stage, state):
    job.start(lambda control, listener: listener(StageProgress(stage, 0, 4)))
    threads.join()
    job.drain()
    assert state in seen.states


def test_an_error_of_the_users_is_one_sentence(job, seen, threads):
    def work(control: RunControl, listener: Listener) -> None:
        raise InputError("The image is constant; choose another one.")

    job.start(work)
    threads.join()
    job.drain()
    assert seen.ends == [("failed", "The image is constant; choose another one.")]
    assert job.state is RunState.IDLE
    assert not threads.raised


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("x"), MemoryError()])
def test_a_crash_is_told_and_raised(job, seen, threads, error):
    def work(control: RunControl, listener: Listener) -> None:
        raise error

    job.start(work)
    threads.join()
    job.drain()
    ((kind, message),) = seen.ends
    assert kind == "failed"
    assert type(error).__name__ in message
    assert threads.raised == [error]
    assert not job.is_running


def test_stop_ends_without_a_result(job, seen, threads):
    def work(control: RunControl, listener: Listener) -> None:
        while True:
            control.check()

    job.start(work)
    job.stop()
    job.stop()
    threads.join()
    assert job.state is RunState.STOPPING, "the state changes when the work has ended, not when asked"
    job.drain()
    assert seen.states == [RunState.PREPARING, RunState.STOPPING, RunState.IDLE]
    assert seen.ends == ["interrupted"]


def test_events_under_way_do_not_end_stopping(job, seen, threads):
    def work(control: RunControl, listener: Listener) -> None:
        control.wait_while_paused()
        listener(TrainingStarted(1, 10, "cpu"))
        listener(StageProgress(Stage.TRAIN, 1, 10))
        raise Stopped

    job.start(work)
    job.stop()
    threads.join()
    job.drain()
    assert seen.states == [RunState.PREPARING, RunState.STOPPING, RunState.IDLE]


def test_pause_and_resume(job, seen, threads):
    reached = threading.Event()

    def work(control: RunControl, listener: Listener) -> str:
        listener(TrainingStarted(1, 10, "cpu"))
        reached.set()
        while not control.pause_requested:
            pass
        listener(CheckpointSaved(3, None))  # type: ignore[arg-type]
        listener(Paused(3))
        control.wait_while_paused()
        listener(Resumed(3))
        return "done"

    job.start(work)
    job.pause()
    assert job.state is RunState.PREPARING, "only training can be paused"
    assert reached.wait(10)
    job.drain()
    job.pause()
    assert job.state is RunState.PAUSING
    wait_for(job, RunState.PAUSED)
    job.resume()
    job.resume()
    threads.join()
    job.drain()
    assert seen.states == [
        RunState.PREPARING,
        RunState.TRAINING,
        RunState.PAUSING,
        RunState.PAUSED,
        RunState.TRAINING,
        RunState.IDLE,
    ]
    assert seen.ends == [("succeeded", "done")]


def test_stop_wakes_a_paused_job(job, seen, threads):
    def work(control: RunControl, listener: Listener) -> None:
        listener(TrainingStarted(1, 10, "cpu"))
        while not control.pause_requested:
            pass
        listener(Paused(1))
        control.wait_while_paused()
        control.check()

    job.start(work)
    wait_for(job, RunState.TRAINING)
    job.pause()
    wait_for(job, RunState.PAUSED)
    job.stop()
    threads.join()
    job.drain()
    assert seen.ends == ["interrupted"]


def test_commands_to_an_idle_job_do_nothing(job, seen):
    job.stop()
    job.pause()
    job.resume()
    job.drain()
    assert seen.states == []
    assert job.state is RunState.IDLE


def test_a_second_start_is_refused_while_running_and_allowed_after(job, seen, threads):
    job.start(lambda control, listener: control.wait_while_paused())
    with pytest.raises(RadaError, match="The training is still preparing; stop it first"):
        job.start(lambda control, listener: None)
    threads.join()
    job.drain()
    job.start(lambda control, listener: "second")
    threads.join()
    job.drain()
    assert seen.ends == [("succeeded", None), ("succeeded", "second")]


def test_a_job_whose_thread_cannot_start_stays_idle():
    def refuse(task: Task) -> None:
        raise RuntimeError("can't start new thread")

    job = Job("training", refuse)
    with pytest.raises(RuntimeError):
        job.start(lambda control, listener: None)
    assert not job.is_running


def test_a_finished_task_holds_on_to_nothing(threads):
    class Big:
        pass

    import gc
    import weakref

    big = Big()
    gone = weakref.ref(big)
    tasks: list[Task] = []

    def spawn(task: Task) -> None:
        tasks.append(task)
        threads(task)

    job = Job("training", spawn)
    job.start(lambda control, listener, big=big: None)
    del big
    threads.join()
    job.drain()
    gc.collect()
    assert gone() is None
    assert repr(tasks[0]) == "napari-rada: training"


def wait_for(job: Job, state: RunState) -> None:
    import time

    end = time.monotonic() + 10
    while job.state is not state:
        assert time.monotonic() < end
        job.drain()
        time.sleep(0.005)
