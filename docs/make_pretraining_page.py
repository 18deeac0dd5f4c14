"""Make what docs/pretraining.md shows: a gallery of synthetic scans, and the curve of the shipped completer.

python docs/make_pretraining_page.py --out docs/images     writes pretraining_scans.png and prints the curve as a table
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_rada.models.completer import WEIGHTS, read_provenance
from napari_rada.pretraining.scenes import Scene, make_scene

TILE = 120
SCANS, COLUMNS = 9, 3
OUTLINE = (255, 90, 60)


def gallery(seed: int) -> Image.Image:
    """Draw scans, each by its three slices of largest area, with the structure's outline."""
    scenes = [make_scene(np.random.default_rng([seed, number])) for number in range(SCANS)]
    rows = []
    for first in range(0, SCANS, COLUMNS):
        tiles = [tile(scene, axis) for scene in scenes[first : first + COLUMNS] for axis in range(3)]
        rows.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(rows, axis=0))


def tile(scene: Scene, axis: int) -> np.ndarray:
    """Draw one slice (TILE, TILE, 3)."""
    area = scene.mask.sum(axis=tuple(other for other in range(3) if other != axis))
    image, mask = scene.image.take(area.argmax(), axis), scene.mask.take(area.argmax(), axis)
    low, high = np.percentile(scene.image, (1, 99))
    grey = (255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    picture = np.repeat(resized(grey, Image.Resampling.BICUBIC)[..., None], 3, axis=2)
    inside = resized(mask.astype(np.uint8), Image.Resampling.NEAREST) > 0
    picture[inside & ~ndimage.binary_erosion(inside)] = OUTLINE
    return picture


def resized(plane: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    """Stretch a slice to a tile."""
    return np.asarray(Image.fromarray(plane).resize((TILE, TILE), resampling))


def curve() -> str:
    """Write the history of the shipped weights as a Markdown table."""
    history = read_provenance(WEIGHTS)["history"]
    lines = ["| step | loss | Dice on synthetic scans | propagation there |", "|---|---|---|---|"]
    for entry in history:
        lines.append(
            f"| {entry['step']} | {entry['loss']:.4f} | {entry['dice']:.4f} | {entry['propagation_dice']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    gallery(args.seed).save(args.out / "pretraining_scans.png", optimize=True)
    sys.stdout.write(curve())


if __name__ == "__main__":
    main()
