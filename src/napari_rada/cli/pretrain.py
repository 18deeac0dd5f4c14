"""pretrain: the network that completes annotated slices, from synthetic scans. Returns False if it was stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.cli.console import duration
from napari_rada.events import Notice
from napari_rada.pretraining.run import STATE_SUFFIX, pretrain
from napari_rada.pretraining.trainer import TIMED_STEPS, PretrainConfig

if TYPE_CHECKING:
    import argparse

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl
    from napari_rada.pretraining.trainer import Progress


def run(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Train on synthetic scans and write the weights."""
    out = Path(args.out)
    if args.resume and (idle := _idle(args)):
        console(Notice(f"A resumed pre-training keeps its seed and length; {', '.join(idle)} made no difference."))
    reached: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        reached.append(progress)
        console.close()
        left = progress.elapsed_s / progress.step * (progress.steps - progress.step)
        sys.stderr.write(
            f"step {progress.step}/{progress.steps}: loss {progress.loss:.4f}, Dice {progress.dice:.4f} on synthetic "
            f"scans (propagation {progress.propagation_dice:.4f}), {duration(left)} left\n"
        )

    given = {name: getattr(args, name) for name in ("seed", "steps") if getattr(args, name) is not None}
    config = PretrainConfig(**given)
    length = {"hours": args.hours, "resume": args.resume}
    if not pretrain(out, config, **length, control=control, on_progress=on_progress, listener=console):
        console.close()
        sys.stderr.write(f"stopped; go on with --resume, from {out}{STATE_SUFFIX}\n")
        return False
    data = {"file": out, "history": [progress._asdict() for progress in reached]}
    console.result(data, f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return True


def _idle(args: argparse.Namespace) -> list[str]:
    """Name the given flags that a resumed pre-training does not look at."""
    flags = {
        "--seed": args.seed,
        "--steps": args.steps,
        f"--hours after the first {TIMED_STEPS} steps": args.hours,
    }
    return [name for name, value in flags.items() if value is not None]
