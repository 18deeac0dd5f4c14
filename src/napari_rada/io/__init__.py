"""Files to cases and predictions to files: the only code that knows file formats."""

from napari_rada.io.annotations import (
    FileSlice,
    named_briefly,
    parse_slices,
    read_sidecar,
    sidecar_path,
    to_file,
    write_slices,
)
from napari_rada.io.cases import check_same_grid, load_case
from napari_rada.io.cohort import CaseFiles, find_cases, load_cases, split_labels
from napari_rada.io.files import check_folder, check_new, check_output, file_name, format_of, stem_of, suffix_of
from napari_rada.io.formats import lost_in, read_volume, write_volume
from napari_rada.io.results import check_result, save_disagreement, save_heat, save_labels, save_mask, save_probability
from napari_rada.io.volume import Volume, file_axis

__all__ = [
    "CaseFiles",
    "FileSlice",
    "Volume",
    "check_folder",
    "check_new",
    "check_output",
    "check_result",
    "check_same_grid",
    "file_axis",
    "file_name",
    "find_cases",
    "format_of",
    "load_case",
    "load_cases",
    "lost_in",
    "named_briefly",
    "parse_slices",
    "read_sidecar",
    "read_volume",
    "save_disagreement",
    "save_heat",
    "save_labels",
    "save_mask",
    "save_probability",
    "sidecar_path",
    "split_labels",
    "stem_of",
    "suffix_of",
    "to_file",
    "write_slices",
    "write_volume",
]
