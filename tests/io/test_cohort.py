from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_rada import io
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io.ngff import is_zarr

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def folder(tmp_path: Path, save_nifti: Callable[..., Path], image_ijk: Any, labels_ijk: Any) -> Path:
    for n in (1, 2, 3):
        save_nifti(f"la{n}.nii.gz", image_ijk + n)
        save_nifti(f"la{n}_labels.nii.gz", labels_ijk)
    return tmp_path


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "cases.csv").write_bytes(text.encode(encoding))
    return folder


def test_the_grammar_of_a_case(folder: Path) -> None:
    image, labels = folder / "la1.nii.gz", folder / "la1_labels.nii.gz"
    assert io.find_cases([str(image)]) == [io.CaseFiles("la1", image)]
    assert io.find_cases([f"{image},{labels}"]) == [io.CaseFiles("la1", image, (labels,))]
    expected = io.CaseFiles("la1", image, (labels,), ((0, 4), (1, 3), (2, 3)))
    assert io.find_cases([f"{image}, {labels}, 0:4; 1:3;2:3"]) == [expected]
    other = folder / "la2_labels.nii.gz"
    assert io.find_cases([f"{image},{labels};{other},0:4;1:3"])[0].labels == (labels, other)
    assert io.find_cases([f"{image},"])[0].labels == ()


def test_a_case_may_be_longer_than_a_name_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    spec = "la1.nii.gz,la1_labels.nii.gz," + ";".join(["0:4"] * 70)
    assert io.find_cases([spec])[0].image == Path("la1.nii.gz")
    assert not is_zarr(spec)


def test_label_files_with_semicolons_in_their_names(
    folder: Path, save_nifti: Callable[..., Path], labels_ijk: Any
) -> None:
    odd = save_nifti("la1;final.nii.gz", labels_ijk)
    assert io.split_labels(str(odd)) == (odd,)
    assert io.split_labels(f"{odd};") == (folder / "la1", Path("final.nii.gz"))
    assert io.split_labels("") == ()
    assert io.find_cases([f"{folder / 'la1.nii.gz'},{odd}"])[0].labels == (odd,)
    table(folder, "image,labels\nla1.nii.gz,la1;final.nii.gz\n")
    assert io.find_cases([str(folder)])[0].labels == (odd,)


def test_a_table_may_be_named_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(folder, "image\nla1.nii.gz\nla2.nii.gz\n")
    assert [case.name for case in io.find_cases([str(folder / "cases.csv")])] == ["la1", "la2"]
    monkeypatch.chdir(folder)
    assert [case.image for case in io.find_cases(["cases.csv"])] == [Path("la1.nii.gz"), Path("la2.nii.gz")]


def test_cases_are_loaded(folder: Path) -> None:
    image, labels = folder / "la1.nii.gz", folder / "la1_labels.nii.gz"
    cases = io.load_cases([f"{image},{labels},0:4;2:3", str(folder / "la2.nii.gz")])
    assert [case.name for case in cases] == ["la1", "la2"]
    assert cases[0].annotated == (AnnotatedSlice(0, 3), AnnotatedSlice(2, 4))
    assert not cases[1].is_labelled


def test_one_case_needs_no_list(folder: Path) -> None:
    table(folder, "image\nla1.nii.gz\nla2.nii.gz\n")
    assert len(io.load_cases(folder)) == len(io.load_cases(str(folder))) == 2
    assert [case.name for case in io.load_cases([folder / "la1.nii.gz"])] == ["la1"]


@pytest.mark.parametrize("specs", [5, None])
def test_what_names_no_case_is_told(specs: Any) -> None:
    with pytest.raises(InputError, match=rf"^{specs} names no case; give the path of one, or a list of several\.$"):
        io.load_cases(specs)


def test_a_home_is_found_behind_a_comma(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    (case,) = io.find_cases(["~/la1.nii.gz,~/la1_labels.nii.gz;~/la2_labels.nii.gz"])
    assert case.files == tuple(folder / name for name in ("la1.nii.gz", "la1_labels.nii.gz", "la2_labels.nii.gz"))


def test_a_path_with_a_comma_is_an_image(tmp_path: Path, save_nifti: Callable[..., Path], image_ijk: Any) -> None:
    assert io.find_cases([str(save_nifti("a,b.nii.gz", image_ijk))])[0].name == "a,b"


@pytest.mark.parametrize(
    ("spec", "gist"),
    [
        ("", "is not a case; write IMAGE"),
        (",labels.nii.gz", "is not a case; write IMAGE"),
        ("{0}/la1.nii.gz,b,c,d", "is not a case.*For paths with commas"),
        ("{0}/la1.nii.gz,{0}/la1_labels.nii.gz,0-4", "'0-4' is not a slice; write axis:index"),
        ("{0}/la1.nii.gz,{0}/la1_labels.nii.gz,0:4;", "'' is not a slice"),
        ("{0}/la1.nii.gz,{0}/la1_labels.nii.gz,-1:4", "'-1:4' is not a slice"),
        ("{0}/la9.nii.gz", "la9.nii.gz does not exist"),
        ("{0}/la1.nii.gz,{0}/la9_labels.nii.gz", "la9_labels.nii.gz does not exist"),
    ],
)
def test_cases_named_wrongly(folder: Path, spec: str, gist: str) -> None:
    with pytest.raises(InputError, match=gist) as error:
        io.find_cases([spec.format(folder)])
    assert "\n" not in str(error.value)


def test_two_cases_of_one_name(folder: Path) -> None:
    with pytest.raises(InputError, match="Two cases are called 'la1'"):
        io.find_cases([str(folder / "la1.nii.gz")] * 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_cohort_from_a_table(folder: Path, encoding: str) -> None:
    table(
        folder,
        "name,image,labels,slices,comment\r\n"
        "first, la1.nii.gz, la1_labels.nii.gz, 0:4;1:3;2:3, good\r\n"
        ",la2.nii.gz,la2_labels.nii.gz;la3_labels.nii.gz,0:4;1:3,\r\n"
        "\r\n"
        f"third,{folder / 'la3.nii.gz'},,,\r\n",
        encoding,
    )
    files = io.find_cases([str(folder)])
    assert [case.name for case in files] == ["first", "la2", "third"]
    assert [len(case.labels) for case in files] == [1, 2, 0]
    cases = io.load_cases([str(folder)])
    assert [len(case.annotated) for case in cases] == [3, 2, 0]


def test_only_the_image_column_is_needed(folder: Path) -> None:
    assert len(io.load_cases([str(table(folder, "image\nla1.nii.gz\nla2.nii.gz\n"))])) == 2


def test_columns_of_other_names_are_left_alone(folder: Path) -> None:
    table(folder, "image,image_id,labels,labeller,,\nla1.nii.gz,7,,me,,\n")
    assert [case.name for case in io.find_cases([str(folder)])] == ["la1"]


@pytest.mark.parametrize(
    ("text", "gist"),
    [
        ("name,image\na,la1.nii.gz\nb,\n", "cases.csv, line 3: the image is missing"),
        ("image,labels\nla1.nii.gz,\nla9.nii.gz,\n", r"cases.csv, line 3: .*la9.nii.gz does not exist"),
        ("image,slices\nla1.nii.gz,here\n", "cases.csv, line 2: 'here' is not a slice"),
        ("image,labels\nla1.nii.gz,a.nii.gz,b.nii.gz\n", "cases.csv, line 2: there are more cells than columns"),
        ("image;labels\nla1.nii.gz;\n", "needed are name, image, labels, slices, separated by commas"),
        ("image,labels\n", "names no case"),
        ("", "needed are name, image, labels, slices"),
        ("image,label\nla1.nii.gz,\n", "has an unknown column 'label'; call it 'labels' if that is meant"),
        ("image,labels,Slice\nla1.nii.gz,,\n", "has an unknown column 'Slice'; call it 'slices'"),
        ("image,labels,labels\nla1.nii.gz,,\n", "has more than one column 'labels'"),
        ("name,image\nla1,la1.nii.gz\nla1,la2.nii.gz\n", "Two cases are called 'la1'"),
    ],
)
def test_bad_tables(folder: Path, text: str, gist: str) -> None:
    with pytest.raises(InputError, match=gist) as error:
        io.find_cases([str(table(folder, text))])
    assert "\n" not in str(error.value)


def test_errors_of_loading_name_the_line(folder: Path) -> None:
    table(folder, "image,labels,slices\nla1.nii.gz,la1_labels.nii.gz,0:4\nla2.nii.gz,la2_labels.nii.gz,0:9\n")
    with pytest.raises(InputError, match=r"cases.csv, line 3: Slice 0:9 lies outside"):
        io.load_cases([str(folder)])


def test_folder_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no cases\.csv; name image files, or write one with the columns"):
        io.find_cases([str(tmp_path)])


def test_table_in_another_encoding(folder: Path) -> None:
    table(folder, "name,image\nJörg,la1.nii.gz\n", "latin-1")
    with pytest.raises(InputError, match="in UTF-8"):
        io.find_cases([str(folder)])


def test_slices_as_text() -> None:
    assert io.parse_slices("0:91,1:70;2:44") == ((0, 91), (1, 70), (2, 44))
    with pytest.raises(InputError, match="'axial' is not a slice"):
        io.parse_slices("axial")


def test_relative_paths_of_a_table_are_relative_to_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(folder, "image\nla1.nii.gz\n")
    monkeypatch.chdir(folder.parent)
    assert io.find_cases([folder.name])[0].image == Path(folder.name) / "la1.nii.gz"
