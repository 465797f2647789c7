from pathlib import Path

import pytest

from dtpf.core.errors import UserError
from dtpf.data.layouts import find_layout, list_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def shape_of(layout):
    """(split, visible paths, infrared paths) of every pair of folders."""
    return [
        (
            visible.split,
            sorted(file.path for file in visible.files.values()),
            sorted(file.path for file in infrared.files.values()),
        )
        for visible, infrared in layout.sides
    ]


@pytest.mark.parametrize(
    ("visible", "infrared", "split"),
    [
        ("train/vi/1.png", "train/ir/1.png", "train"),
        ("test/vi/1.png", "test/ir/1.png", "test"),
        ("Vis/1.png", "Ir/1.png", None),
        ("crop_LR_visible/1.jpg", "cropinfrared/1.jpg", None),
        ("visible/train/1.jpg", "infrared/train/1.jpg", "train"),
        ("LLVIP/visible/test/1.jpg", "LLVIP/infrared/test/1.jpg", "test"),
        ("train/pet/1.png", "train/mri/1.png", "train"),
        ("test/ct/1.png", "test/mri/1.png", "test"),
        ("spect/1.png", "mri/1.png", None),
        ("validation/vi/1.png", "validation/ir/1.png", "val"),
    ],
)
def test_published_layouts_are_known(tmp_path, visible, infrared, split):
    touch(tmp_path, visible, infrared)
    assert shape_of(find_layout(str(tmp_path))) == [(split, [visible], [infrared])]


def test_all_splits_are_found_and_other_folders_passed_over(tmp_path):
    touch(tmp_path, *(f"{s}/{m}/1.png" for s in ("train", "test") for m in ("vi", "ir")))
    touch(tmp_path, "train/Segmentation_labels/1.png", "preview.png", "README.md")
    assert [split for split, _, _ in shape_of(find_layout(str(tmp_path)))] == ["test", "train"]


@pytest.mark.parametrize(
    ("told", "folders"),
    [
        (("RGB", "Thermal"), ("rgb/a.png", "thermal/a.png")),
        (("cam/left", "heat"), ("train/cam/left/a.png", "train/heat/a.png")),
    ],
)
def test_told_folders_are_used(tmp_path, told, folders):
    touch(tmp_path, *folders)
    assert shape_of(find_layout(str(tmp_path), *told))[0][1:] == ([folders[0]], [folders[1]])


def test_told_folders_come_before_known_ones(tmp_path):
    touch(tmp_path, "vi/a.png", "ir/a.png", "left/b.png", "right/b.png")
    assert shape_of(find_layout(str(tmp_path), "left", "right"))[0][1] == ["left/b.png"]


def test_stems_match_in_any_case_and_with_any_suffix(tmp_path):
    touch(tmp_path, "vi/IMG_1.JPG", "ir/img_1.tiff")
    ((visible, infrared),) = find_layout(str(tmp_path)).sides
    assert set(visible.files) == set(infrared.files) == {"img_1"}


def test_hidden_files_and_folders_are_no_images(tmp_path):
    touch(tmp_path, "vi/1.png", "vi/._1.png", "vi/.ipynb_checkpoints/1.png", "vi/notes.txt")
    assert [image.path for image in list_images(str(tmp_path))] == ["vi/1.png"]


def test_a_folder_without_its_partner_is_an_empty_side(tmp_path):
    touch(tmp_path, "train/vi/1.png", "train/ir/1.png", "test/vi/2.png", "val/ir/3.png")
    sides = {
        side.folder: len(side.files) for pair in find_layout(str(tmp_path)).sides for side in pair
    }
    expected = {"train/vi": 1, "train/ir": 1, "test/vi": 1, "test/ir": 0, "val/vi": 0, "val/ir": 1}
    assert sides == expected


def bad(root, *names, told=(None, None)):
    touch(root, *names)
    with pytest.raises(UserError) as caught:
        find_layout(str(root), *told)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_empty_folder_names_the_expected_kinds(tmp_path):
    assert "no images below it; expected files ending in .png" in bad(tmp_path, "vi/readme.txt")


def test_missing_source_is_named(tmp_path):
    assert f"{tmp_path}/gone: no such file" in bad(tmp_path / "gone")


def test_unknown_folders_are_listed_with_the_setting_that_helps(tmp_path):
    message = bad(tmp_path, "left/1.png", "right/1.png")
    assert "among left, right;" in message
    assert "--set data.visible_folder=NAME" in message


def test_one_folder_alone_is_no_layout(tmp_path):
    assert "no known pair of folders with images among vi;" in bad(tmp_path, "vi/1.png")


def test_told_folders_that_are_missing_are_named(tmp_path):
    message = bad(tmp_path, "vi/1.png", "ir/1.png", told=("rgb", "heat"))
    assert "no images in folders 'rgb' and 'heat' beside each other among ir, vi" in message


def test_several_data_sets_under_one_source_are_not_mixed(tmp_path):
    names = [f"{a}-mri/train/{side}/1.png" for a in ("pet", "ct") for side in (a, "mri")]
    assert "several kinds of pairs" in bad(tmp_path, *names)


def test_one_told_folder_needs_the_other(tmp_path):
    assert "give both or neither" in bad(tmp_path, "vi/1.png", told=("vi", None))


def test_two_files_of_one_name_are_both_named(tmp_path):
    message = bad(tmp_path, "vi/1.png", "vi/1.jpg", "ir/1.png")
    assert "vi/1.png" in message
    assert "vi/1.jpg" in message
    assert "names must differ" in message
