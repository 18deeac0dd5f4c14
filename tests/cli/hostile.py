"""The table of malformed and hostile inputs: how each is made, and the one line that answers it.

Every function takes a `Bench` and returns the command line; its answer is given by `answered`. Status 2 means refused,
0 that the input is taken, with or without a note.
"""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import nibabel as nib
import numpy as np
import tifffile
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

Command: TypeAlias = "list[str]"
SCAN = (24, 22, 20)
"""Axes i, j, k of the good scan."""


@dataclass(frozen=True)
class Bench:
    """A folder to write into, the good scan, a trained run (copied on demand) and the pieces that commands take."""

    folder: Path
    scan: Any
    trained: Path
    made: list[Path] = field(default_factory=list)

    @property
    def out(self) -> str:
        """The output."""
        return str(self.folder / "out.nii.gz")

    @property
    def raw(self) -> bytearray:
        """The good image, unpacked: a NIfTI-1 header of 352 bytes, then float32."""
        return bytearray(gzip.decompress(Path(self.scan.image).read_bytes()))

    @property
    def voxels(self) -> Any:
        """The good image's voxels."""
        return np.asanyarray(nib.load(self.scan.image).dataobj).copy()

    def file(self, name: str, content: bytes | bytearray | str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else bytes(content))
        return path

    def image(self, path: Path | str) -> Command:
        """Use a file as an image."""
        return ["propagate", str(path), self.scan.labels, "-o", self.out]

    def labels(self, path: Path | str) -> Command:
        """Use a file as labels."""
        return ["propagate", self.scan.image, str(path), "-o", self.out]

    def header(self, where: int, kind: str, *values: Any, name: str = "bad.nii") -> Command:
        """Use the good image with a part of its header replaced."""
        content = self.raw
        struct.pack_into("<" + kind, content, where, *values)
        return self.image(self.file(name, gzip.compress(content) if name.endswith("gz") else content))

    def nifti(self, data: Any, name: str = "bad.nii.gz", affine: Any = None) -> Path:
        """Write a NIfTI file on the good scan's grid, or another."""
        affine = nib.load(self.scan.image).affine if affine is None else affine
        nib.save(nib.Nifti1Image(data, affine), self.folder / name)
        return self.folder / name

    def tiff(self, *arrays: Any, **options: Any) -> Path:
        """Write a TIFF file."""
        with tifffile.TiffWriter(self.folder / "bad.tif") as writer:
            for array in arrays:
                writer.write(array, **options)
        return self.folder / "bad.tif"

    def config(self, content: bytes | str) -> Command:
        """Use a file of settings."""
        path = self.file("bad.yaml", content)
        case = f"{self.scan.image},{self.scan.labels}"
        return ["train", case, "-o", str(self.folder / "run"), "--config", str(path)]

    def sidecar(self, content: bytes | str) -> Command:
        """Use the good labels with a sidecar."""
        shutil.copy(self.scan.labels, self.folder / "painted.nii.gz")
        self.file("painted.slices.json", content)
        return self.labels(self.folder / "painted.nii.gz")

    def table(self, content: bytes | str) -> Command:
        """Use a table of cases."""
        self.file("cases.csv", content)
        return ["train", str(self.folder), "-o", str(self.folder / "run")]

    def run(self, change: Callable[[Path], Any], command: str = "predict") -> Command:
        """Use a changed copy of the trained run."""
        run = self.folder / "run"
        shutil.copytree(self.trained, run)
        change(run)
        if command == "resume":
            return ["train", "-o", str(run), "--resume"]
        return ["predict", str(run), self.scan.image, "-o", self.out]

    def checkpoint(self, content: Any) -> Command:
        """Use a run whose checkpoints hold something else, as torch writes it."""
        return self.run(lambda run: [torch.save(content, path) for path in (run / "checkpoints").iterdir()])

    def cases(self, **changes: Any) -> Command:
        """Use a run whose only case has other entries."""
        return self.run(lambda run: edit_case(run, changes), "resume")


def edit_case(run: Path, changes: dict[str, Any]) -> None:
    content = json.loads((run / "cases.json").read_text())
    content["cases"][0].update(changes)
    (run / "cases.json").write_text(json.dumps(content))


@dataclass(frozen=True)
class Row:
    """One input, its exit status and a part of the line that answers it."""

    make: Callable[[Bench], Command]
    answer: str
    status: int = 2


ROWS: dict[str, Row] = {}


def answered(answer: str, status: int = 2) -> Callable[[Callable[[Bench], Command]], Callable[[Bench], Command]]:
    def enter(make: Callable[[Bench], Command]) -> Callable[[Bench], Command]:
        ROWS[make.__name__] = Row(make, answer, status)
        return make

    return enter


def header(name: str, answer: str, where: int, kind: str, *values: Any, file: str = "bad.nii", status: int = 2) -> None:
    """Enter a row that differs from the good image in one part of its header."""
    ROWS[name] = Row(lambda bench: bench.header(where, kind, *values, name=file), answer, status)


DAMAGED = "cannot be read as NIfTI, it is damaged or truncated"

# --- NIfTI headers: dim at byte 40, datatype at 70, vox_offset at 108, scaling at 112, forms from 252, magic at 344
header("dimensions_huge", "which a file of", 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
header("dimensions_huge_gz", "announces 131060.0 GiB", 40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1, file="bad.nii.gz")
header("dimension_negative", "and so no voxels", 40, "8h", 3, -24, 22, 20, 1, 1, 1, 1)
header("dimension_zero", "and so no voxels", 40, "8h", 3, 0, 22, 20, 1, 1, 1, 1)
header("no_dimensions", "bad.nii", 40, "8h", 0, 24, 22, 20, 1, 1, 1, 1)
header("nine_dimensions", "bad.nii", 40, "8h", 9, 24, 22, 20, 1, 1, 1, 1)
header("dimensions_swapped_bytes", "bad.nii", 40, "8h", 768, 6144, 5632, 5120, 256, 256, 256, 256)
header("two_dimensions", "has 2 dimensions (24, 22); a single 3D volume is needed", 40, "8h", 2, 24, 22, 1, 1, 1, 1, 1)
header("datatype_unknown", DAMAGED, 70, "h", 9999)
header("datatype_none", DAMAGED, 70, "h", 0)
header("datatype_bits", DAMAGED, 70, "h", 1)
header("datatype_wider_than_the_file", "which a file of", 70, "h", 64)
header("datatype_complex", "holds complex numbers; save the magnitude", 70, "h", 32)
header("datatype_colour", "is a colour (RGB) image", 70, "h", 128)
header("offset_huge", "its voxels are said to begin at byte 1e+30", 108, "f", 1e30)
header("offset_negative", "its voxels are said to begin at byte -4", 108, "f", -4.0)
header("offset_nan", "its voxels are said to begin at byte nan", 108, "f", float("nan"))
header("offset_beyond_the_end", DAMAGED, 108, "f", 1e6)
header("magic_wrong", "bad.nii", 344, "4s", b"abcd")
header("magic_of_a_pair", "out.nii.gz: label 1", 344, "4s", b"ni1\0", status=0)
header("header_size_wrong", "it does not begin like a NIfTI file", 0, "i", 12345)
header("scaling_infinite", "out.nii.gz: label 1", 112, "2f", float("inf"), 0.0, status=0)
header("scaling_overflows", "NaN or infinite", 112, "2f", 3e38, 3e38)
header("scaling_zero", "out.nii.gz: label 1", 112, "2f", 0.0, 5.0, status=0)
header("sform_flat", "is singular or not finite", 280, "12f", *[0.0] * 12)
header("sform_nan", "is singular or not finite", 280, "4f", *[float("nan")] * 4)
header("sform_infinite", "is singular or not finite", 280, "4f", *[float("inf")] * 4)
header("quaternion_impossible", "bad.nii", 252, "2h3f", 1, 0, 5.0, 5.0, 5.0)
header("forms_absent", "does not lie where", 252, "2h", 0, 0)


@answered("holds two geometries (qform and sform) that differ; the sform was taken", 0)
def forms_in_conflict(b: Bench) -> Command:
    content = b.raw
    struct.pack_into("<2h", content, 252, 1, 2)
    struct.pack_into("<f", content, 268, 40.0)
    return b.image(b.file("bad.nii", content))


@answered("bad.nii")
def pixel_size_zero(b: Bench) -> Command:
    content = b.raw
    struct.pack_into("<8f", content, 76, 1, *[0.0] * 7)
    struct.pack_into("<2h", content, 252, 0, 0)
    return b.image(b.file("bad.nii", content))


@answered("a header extension is said to have -64 bytes")
def extension_negative(b: Bench) -> Command:
    content = b.raw
    struct.pack_into("<f", content, 108, 384.0)
    return b.image(
        b.file("bad.nii", content[:348] + struct.pack("<4B2i", 1, 0, 0, 0, -64, 6) + bytes(24) + content[352:])
    )


@answered("a header extension is said to have 2000000000 bytes")
def extension_huge(b: Bench) -> Command:
    content = b.raw
    struct.pack_into("<f", content, 108, 384.0)
    extended = content[:348] + struct.pack("<4B2i", 1, 0, 0, 0, 2_000_000_000, 6) + bytes(24) + content[352:]
    return b.image(b.file("bad.nii.gz", gzip.compress(extended)))


@answered(DAMAGED)
def header_cut_off(b: Bench) -> Command:
    return b.image(b.file("bad.nii", b.raw[:100]))


@answered("which a file of")
def voxels_cut_off(b: Bench) -> Command:
    return b.image(b.file("bad.nii", b.raw[:-4000]))


@answered(DAMAGED)
def empty_file(b: Bench) -> Command:
    return b.image(b.file("bad.nii", b""))


# --- gzip
@answered(DAMAGED)
def gzip_cut_off(b: Bench) -> Command:
    return b.image(b.file("bad.nii.gz", gzip.compress(b.raw)[:-5000]))


@answered(DAMAGED)
def gzip_without_its_checksum(b: Bench) -> Command:
    return b.image(b.file("bad.nii.gz", gzip.compress(b.raw)[:-8]))


@answered("CRC check failed")
def gzip_checksum_wrong(b: Bench) -> Command:
    content = bytearray(gzip.compress(b.raw))
    content[-6] ^= 255
    return b.image(b.file("bad.nii.gz", content))


@answered("CRC check failed")
def gzip_with_one_voxel_changed(b: Bench) -> Command:
    content, stored = b.raw, zlib.compressobj(0, zlib.DEFLATED, 31)
    packed = bytearray(stored.compress(bytes(content)) + stored.flush())
    packed[20_000] ^= 1  # stored without compression, so that only the checksum tells
    return b.image(b.file("bad.nii.gz", packed))


@answered("goes on for more than 1.0 MiB behind the voxels")
def gzip_bomb_behind_the_voxels(b: Bench) -> Command:
    return b.image(b.file("bad.nii.gz", gzip.compress(bytes(b.raw) + bytes(64 * 2**20))))


@answered("Not a gzipped file")
def gzip_that_is_none(b: Bench) -> Command:
    return b.image(b.file("bad.nii.gz", b.raw))


@answered(DAMAGED)
def gzip_under_a_plain_name(b: Bench) -> Command:
    return b.image(b.file("bad.nii", gzip.compress(b.raw)))


# --- voxels
def voxel_rows() -> None:
    def changed(value: float) -> Callable[[Bench], Command]:
        def make(b: Bench) -> Command:
            voxels = b.voxels.astype(np.float64)
            voxels[3, 3, 3] = value
            return b.image(b.nifti(voxels))

        return make

    ROWS["voxel_nan"] = Row(changed(np.nan), "is NaN or infinite in 1 of")
    ROWS["voxel_infinite"] = Row(changed(np.inf), "is NaN or infinite in 1 of")
    ROWS["voxel_too_large_for_float32"] = Row(changed(1e300), "is NaN or infinite in 1 of")
    for name, data, answer in (
        ("all_nan", np.full(SCAN, np.nan, np.float32), "every voxel of the image is NaN or infinite"),
        ("constant", np.full(SCAN, 7, np.int16), "a constant image cannot be segmented"),
        ("one_voxel", np.ones((1, 1, 1), np.int16), "has shape (24, 22, 20) but"),
        ("four_dimensions", np.ones((*SCAN, 2), np.int16), "has 4 dimensions (24, 22, 20, 2)"),
        ("five_dimensions", np.ones((*SCAN, 1, 3), np.int16), "has 5 dimensions"),
    ):
        ROWS[name] = Row(lambda b, data=data: b.image(b.nifti(data)), answer)  # type: ignore[misc]


voxel_rows()


@answered("at least 2 voxels along every axis are needed")
def one_slice(b: Bench) -> Command:
    image, labels = b.nifti(b.voxels[:, :, :1], "i.nii"), b.nifti(b.scan.truth_ijk[:, :, :1], "l.nii")
    return ["propagate", str(image), str(labels), "-o", b.out]


@answered("at least 2 voxels along every axis are needed")
def one_voxel_twice(b: Bench) -> Command:
    one = b.nifti(np.ones((1, 1, 1), np.uint8))
    return ["propagate", str(one), str(one), "-o", b.out]


# --- TIFF
STACK = np.arange(20 * 22 * 24, dtype=np.uint16).reshape(20, 22, 24)


@answered("holds 2 images of different kinds")
def tiff_pages_of_two_sizes(b: Bench) -> Command:
    return b.image(b.tiff(STACK, STACK[0, :9], metadata=None))


@answered("holds 2 images of different kinds")
def tiff_pages_of_two_types(b: Bench) -> Command:
    return b.image(b.tiff(STACK, STACK.astype(np.float32), metadata=None))


@answered("holds colours (RGB)")
def tiff_in_colour(b: Bench) -> Command:
    return b.image(b.tiff(np.zeros((5, 8, 8, 3), np.uint8), photometric="rgb"))


@answered("holds channels")
def tiff_with_channels(b: Bench) -> Command:
    path = b.folder / "bad.tif"
    tifffile.imwrite(path, np.zeros((5, 2, 8, 8), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    return b.image(path)


@answered("has 2 dimensions (22, 24)")
def tiff_of_one_page(b: Bench) -> Command:
    return b.image(b.tiff(STACK[0]))


@answered("cannot be read as TIFF, it is damaged")
def tiff_cut_off(b: Bench) -> Command:
    content = b.tiff(STACK).read_bytes()
    return b.image(b.file("bad.tif", content[: len(content) // 2]))


@answered("not a TIFF file")
def tiff_of_text(b: Bench) -> Command:
    return b.image(b.file("bad.tif", "hello"))


@answered("cannot be read as TIFF, it is damaged")
def tiff_empty(b: Bench) -> Command:
    return b.image(b.file("bad.tif", b""))


def tiff_tag(b: Bench, code: int, value: int, compression: str | None = None) -> Command:
    """Use a stack in which one tag of the first page, of four bytes, has another value."""
    path = b.tiff(STACK, compression=compression, metadata=None)
    with tifffile.TiffFile(path) as tif:
        where = tif.pages[0].tags[code].valueoffset  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, where, value)
    return b.image(b.file("bad.tif", content))


@answered("bad.tif")
def tiff_width_huge(b: Bench) -> Command:
    return tiff_tag(b, 256, 2**31 - 1)


@answered("bad.tif")
def tiff_width_huge_and_packed(b: Bench) -> Command:
    return tiff_tag(b, 256, 2**31 - 1, "zlib")


@answered("cannot be read as TIFF, it is damaged")
def tiff_pixels_beyond_the_end(b: Bench) -> Command:
    return tiff_tag(b, 273, 2**31 - 1)


@answered("the lists of two pages lie over each other")
def tiff_page_list_in_a_circle(b: Bench) -> Command:
    content = bytearray(b.tiff(STACK[0], STACK[1], metadata=None).read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    return b.image(b.file("bad.tif", content))


@answered("bad.tif")
def tiff_with_an_xml_bomb(b: Bench) -> Command:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    xml = f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY e0 "ha">{entities}]><OME>&e9;</OME>'
    return b.image(b.tiff(STACK, description=xml, metadata=None))


@answered("bad.tif has shape (20, 22, 24) but")
def tiff_beside_nifti_labels_of_another_grid(b: Bench) -> Command:
    return ["evaluate", str(b.tiff(STACK, photometric="minisblack")), str(b.nifti(np.ones((9, 9, 9), np.uint8)))]


# --- labels
def label_rows() -> None:
    for name, change, answer in (
        ("labels_of_another_shape", lambda a: a[:, :-1], "has shape (24, 21, 20) but"),
        ("labels_with_fractions", lambda a: a * 0.5, "the labels hold fractions or NaN"),
        ("labels_negative", lambda a: a.astype(np.int16) * -1, "the labels hold values from -1 to 0"),
        ("labels_too_large", lambda a: a.astype(np.int32) * 65536, "they must lie in 0..65535"),
        ("labels_far_too_large", lambda a: a.astype(np.float64) * 1e30, "they must lie in 0..65535"),
        ("labels_nan", lambda a: np.where(a > 0, np.nan, 0.0), "the labels hold fractions or NaN"),
        ("labels_empty", np.zeros_like, "the labels are empty; paint three slices"),
        ("labels_of_one_class", np.ones_like, "hold only label 1"),
        ("labels_in_colour", lambda a: a.astype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "is a colour (RGB) image"),
        (
            "labels_one_voxel_thin",
            lambda a: np.eye(24, 22, dtype=np.uint8)[:, :, None] * np.ones(20, np.uint8) * (np.arange(20) == 3),
            "one voxel thin",
        ),
    ):
        ROWS[name] = Row(lambda b, change=change: b.labels(b.nifti(change(b.scan.truth_ijk))), answer)  # type: ignore[misc]


label_rows()


@answered("does not lie where")
def labels_of_another_grid(b: Bench) -> Command:
    return b.labels(b.nifti(b.scan.truth_ijk, affine=np.diag([1.0, 1.0, 9.0, 1.0])))


# --- sidecars and slices
def sidecar(name: str, content: str, answer: str, status: int = 2) -> None:
    ROWS[name] = Row(lambda b: b.sidecar(content), answer, status)


sidecar("sidecar_of_text", "hello", "is not readable JSON")
sidecar("sidecar_without_slices", "{}", "no list 'annotated_slices'")
sidecar("sidecar_of_a_list", "[1, 2]", "no list 'annotated_slices'")
sidecar("sidecar_with_words", '{"annotated_slices": [{"axis": "z", "index": 1}]}', "where a slice should be")
sidecar("sidecar_with_fractions", '{"annotated_slices": [{"axis": 0, "index": 1.5}]}', "where a slice should be")
sidecar("sidecar_with_truth", '{"annotated_slices": [{"axis": true, "index": 1}]}', "where a slice should be")
sidecar("sidecar_outside", '{"annotated_slices": [{"axis": 0, "index": 99}]}', "Slice 0:99 lies outside")
sidecar("sidecar_negative", '{"annotated_slices": [{"axis": 0, "index": -1}]}', "Slice 0:-1 lies outside")
sidecar("sidecar_of_no_axis", '{"annotated_slices": [{"axis": 7, "index": 1}]}', "names axis 7")
sidecar("sidecar_empty_list", '{"annotated_slices": []}', "the list of annotated slices is empty")
sidecar("sidecar_nested", "[" * 100_000, "is not readable JSON (it is nested too deeply)")
sidecar(
    "sidecar_number_huge",
    '{"annotated_slices": [{"axis": 0, "index": ' + "9" * 2000 + "}]}",
    "is not readable JSON (it holds a whole number of 2000 digits)",
)
sidecar("sidecar_with_a_mark", '\ufeff{"annotated_slices": [{"axis": 0, "index": 12}]}', "label 1", 0)


@answered("'axial' is not a slice; write axis:index")
def slices_in_words(b: Bench) -> Command:
    return [*b.labels(b.scan.labels), "--slices", "axial"]


@answered("lies outside")
def slices_beyond_any_number(b: Bench) -> Command:
    return [*b.labels(b.scan.labels), "--slices", "0:" + "9" * 400]


# --- names
@answered("does not exist")
def missing_file(b: Bench) -> Command:
    return b.image(b.folder / "no.nii.gz")


@answered("is a folder; name an image file")
def folder_with_the_name_of_a_file(b: Bench) -> Command:
    (b.folder / "scan.nii.gz").mkdir()
    return b.image(b.folder / "scan.nii.gz")


@answered("is neither NIfTI")
def format_unknown(b: Bench) -> Command:
    return b.image(b.file("scan.dcm", b"DICM"))


@answered("out.nii.gz: label 1", 0)
def unicode_and_spaces(b: Bench) -> Command:
    shutil.copy(b.scan.image, b.folder / "Größe 心臟 (1) 'ü' & 100%.nii.gz")
    return b.image(b.folder / "Größe 心臟 (1) 'ü' & 100%.nii.gz")


@answered("out.nii.gz: label 1", 0)
def symbolic_link(b: Bench) -> Command:
    (b.folder / "link.nii.gz").symlink_to(b.scan.image)
    return b.image(b.folder / "link.nii.gz")


@answered("does not exist")
def symbolic_link_to_nothing(b: Bench) -> Command:
    (b.folder / "link.nii.gz").symlink_to(b.folder / "gone.nii.gz")
    return b.image(b.folder / "link.nii.gz")


@answered("link.nii.gz")
def symbolic_link_to_itself(b: Bench) -> Command:
    (b.folder / "link.nii.gz").symlink_to(b.folder / "link.nii.gz")
    return b.image(b.folder / "link.nii.gz")


@answered("is one of the inputs and would be overwritten")
def output_that_links_to_the_input(b: Bench) -> Command:
    shutil.copy(b.scan.image, b.folder / "scan.nii.gz")
    (b.folder / "out.nii.gz").symlink_to(b.folder / "scan.nii.gz")
    return b.image(b.folder / "scan.nii.gz")


@answered("File name too long")
def name_too_long(b: Bench) -> Command:
    return b.image(b.folder / ("n" * 300 + ".nii.gz"))


@answered("does not exist")
def name_with_a_zero_byte(b: Bench) -> Command:
    return b.image(f"{b.folder}/scan\0.nii.gz")


# --- settings
def settings(name: str, content: bytes | str, answer: str) -> None:
    ROWS[name] = Row(lambda b: b.config(content), answer)


settings("config_unknown_key", "preset: quick\nspeed: 3\n", "There is no setting speed")
settings("config_unknown_inner_key", "training: {speed: 3}\n", "There is no setting training.speed")
settings("config_wrong_type", "training: {iterations: many}\n", "Setting training.iterations")
settings("config_out_of_range", "training: {iterations: 0}\n", "Setting training.iterations")
settings("config_nan", "training: {learning_rate: .nan}\n", "Setting training.learning_rate")
settings("config_infinite", "training: {learning_rate: .inf}\n", "Setting training.learning_rate")
settings("config_of_a_list", "- 1\n- 2\n", "a YAML file of settings is needed, found list")
settings("config_unknown_preset", "preset: fast\n", "There is no preset 'fast'")
settings("config_of_bytes", b"\xff\xfe\x00\x01", "not a readable YAML file")
settings("config_with_an_object", "preset: !!python/object/apply:os.system ['exit 1']\n", "not a readable YAML file")
settings("config_with_a_module", "preset: !!python/module:os\n", "not a readable YAML file")
settings("config_nested", "a: " + "[" * 5000, "bad.yaml: not a readable YAML file")
settings("config_number_huge", "seed: " + "9" * 2000, "bad.yaml: not a readable YAML file")
settings("config_date_impossible", "seed: 2001-99-99\n", "bad.yaml: not a readable YAML file")
settings(
    "config_of_references",
    "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
    "it repeats a part by reference",
)


# --- tables of cases
def table(name: str, content: bytes | str, answer: str) -> None:
    ROWS[name] = Row(lambda b: b.table(content), answer)


table("table_without_images", "name,labels\na,b\n", "needed are name, image, labels, slices")
table("table_empty", "", "needed are name, image, labels, slices")
table("table_without_cases", "image\n", "names no case")
table("table_too_many_cells", "image\na.nii,b,c\n", "there are more cells than columns")
table("table_of_bytes", b"image\n\xff\xfe.nii\n", "cannot be read")
table("table_with_zero_bytes", b"image\n\0\0\0.nii\n", "cases.csv")
table("table_name_that_leaves", "name,image\n../../evil,a.nii\n", "the name '../../evil' holds a path")
table("table_missing_file", "image\nno.nii.gz\n", "cases.csv, line 2")


# --- run folders and checkpoints
class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def checkpoint(name: str, content: Any, answer: str) -> None:
    ROWS[name] = Row(lambda b: b.checkpoint(content), answer)


def folder(name: str, change: Callable[[Path], Any], answer: str, command: str = "predict") -> None:
    ROWS[name] = Row(lambda b: b.run(change, command), answer)


def edit(run: Path, name: str, old: str, new: str) -> None:
    path = run / name
    path.write_text(path.read_text().replace(old, new))


def cut(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-100])


def flip(run: Path) -> None:
    """Change one bit of the largest array: torch itself does not notice."""
    for path in (run / "checkpoints").iterdir():
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda info: info.file_size)
            where = path.read_bytes().index(archive.read(largest))
        content = bytearray(path.read_bytes())
        content[where + 3] ^= 1
        path.write_bytes(content)


def escape(run: Path) -> None:
    shutil.copy(next((run / "annotations").glob("*labels.nii.gz")), run.parent / "outside.nii.gz")
    edit_case(run, {"labels": "../outside.nii.gz"})


def link_out(run: Path) -> None:
    labels = next((run / "annotations").glob("*labels.nii.gz"))
    labels.rename(run.parent / "outside.nii.gz")
    labels.symlink_to(run.parent / "outside.nii.gz")


checkpoint("checkpoint_of_another_version", {"format": 99}, "has format 99; this version reads format 1")
checkpoint("checkpoint_of_a_list", [1, 2], "has format None")
checkpoint("checkpoint_without_weights", {"format": 1, "state": {}}, "is incomplete")
checkpoint(
    "checkpoint_of_other_networks",
    {"format": 1, "state": {"iteration": 1, "total_iterations": 1}, "model": {"a": torch.zeros(1)}},
    "does not fit the settings",
)
checkpoint(
    "checkpoint_whose_weights_are_none",
    {"format": 1, "state": {"iteration": 1, "total_iterations": 1}, "model": "weights"},
    "is incomplete",
)
folder("checkpoint_cut_off", cut, "is damaged or not ours")
folder("checkpoint_with_one_bit_changed", flip, "is damaged or not ours")
folder("checkpoints_gone", lambda run: shutil.rmtree(run / "checkpoints"), "There is no checkpoint")
folder("run_without_config", lambda run: (run / "config.yaml").unlink(), "is not a run folder (no config.yaml in it)")
folder("run_without_cases", lambda run: (run / "cases.json").unlink(), "is missing or damaged")
folder("run_without_annotations", lambda run: shutil.rmtree(run / "annotations"), "does not exist", "resume")
folder("run_of_other_networks", lambda run: edit(run, "config.yaml", "filters: 2", "filters: 4"), "does not fit")
folder(
    "resumed_run_of_other_networks", lambda run: edit(run, "config.yaml", "filters: 2", "filters: 4"), "fit", "resume"
)
folder("run_of_completers", lambda run: edit(run, "config.yaml", "vnet", "completer"), "does not fit")
folder("run_with_unknown_settings", lambda run: edit(run, "config.yaml", "filters:", "speed:"), "There is no setting")
folder("run_whose_cases_are_cut_off", lambda run: edit(run, "cases.json", "]", ""), "is missing or damaged")
folder("run_without_classes", lambda run: edit(run, "cases.json", '"classes"', '"other"'), "its class table cannot be")
folder("run_with_wrong_classes", lambda run: edit(run, "cases.json", '"value": 1', '"value": "1"'), "class table")
folder("run_whose_labels_lie_outside", escape, "lies outside the run folder")
folder("run_whose_labels_are_linked_outside", link_out, "lies outside the run folder")
for title, changes, gist in (
    (
        "run_whose_image_is_gone",
        {"image": "/nowhere/scan.nii.gz", "image_from_here": "../gone.nii.gz"},
        "/nowhere/scan.nii.gz when the run began and is not there; put it back, or write its place into",
    ),
    ("run_whose_image_leaves", {"image": "../../../../etc/passwd"}, "lies outside the run folder"),
    ("run_with_an_affine_of_words", {"affine": [["a"] * 4] * 4}, "its cases cannot be read"),
    ("run_with_half_an_affine", {"affine": [[1.0, 0.0]]}, "its cases cannot be read"),
    ("run_whose_image_has_changed", {"image_sha256": "0"}, "has changed since the run was started"),
    ("run_whose_image_is_a_number", {"image": 7}, "its cases cannot be read"),
    ("run_whose_slices_are_words", {"slices": [["z", 1]]}, "its cases cannot be read"),
    ("run_whose_slices_lie_outside", {"slices": [[0, 999]]}, "Slice 999 on axis 0 lies outside the volume"),
):
    ROWS[title] = Row(lambda b, changes=changes: b.cases(**changes), gist)  # type: ignore[misc]


@answered("is damaged or not ours")
def checkpoint_that_runs_code(b: Bench) -> Command:
    b.made.append(b.folder / "code-ran")
    return b.checkpoint({"format": 1, "state": Malicious(b.folder / "code-ran")})


@answered("is not a run folder")
def run_that_is_a_file(b: Bench) -> Command:
    return ["predict", str(b.file("run", b"")), b.scan.image, "-o", b.out]
