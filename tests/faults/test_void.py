"""What is not labelled is void under any of its customary names and values: it is no class, and carries no loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffmatch import plugins
from diffmatch.card import is_void
from diffmatch.data.doctor import examine
from diffmatch.data.opening import open_domain
from diffmatch.domain import VOID, Domain, InputError, Item
from diffmatch.readers import text_of

SHAPE = (12, 14, 6)
NAMES = ("void", "Ignore", "ignored", "IGNORE_INDEX", "ignore-index", "ignore label", "unlabeled", "Unlabelled")
NAMES += ("unknown", "don't care", "don\N{RIGHT SINGLE QUOTATION MARK}t care", "DontCare", "not labeled", "no data")


def items(domain: Domain) -> list[Item]:
    return [item for part in ("train", "val", "test") for item in domain.index(part)]


def pictures(root: Path, table: str | bytes, values: tuple[int, ...] = (0, 1, 2, 255)) -> Path:
    """Ten pictures whose masks hold these values in equal shares."""
    for n in range(10):
        draw = np.random.default_rng(n)
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(root / f"images/{n}.png")
        mask = draw.permutation(np.resize(np.array(values, np.uint8), 320)).reshape(16, 20)
        Image.fromarray(mask).save(root / f"masks/{n}.png")
    (root / "classes.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def mask_of(n: int) -> NDArray[np.uint8]:
    """Background and a tumour; the last slice is not annotated and has the value 2."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:7, 2 + n % 4 : 9, 1:4] = 1
    mask[:, :, 5] = 2
    return mask


def task(root: Path, told: dict[str, Any], image: str = "case_{n}.nii.gz", count: int = 6, ending: str = "") -> Path:
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for n in range(count):
        voxels = (100 + 200 * (mask_of(n) == 1) + np.random.default_rng(n).normal(0, 10, SHAPE)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), root / "imagesTr" / image.format(n=n))
        nib.save(nib.Nifti1Image(mask_of(n), np.eye(4)), root / "labelsTr" / f"case_{n}.nii.gz")
    (root / "dataset.json").write_text(json.dumps(told))
    return root


def decathlon(labels: dict[str, Any], count: int = 6) -> dict[str, Any]:
    pairs = [{"image": f"imagesTr/case_{n}.nii.gz", "label": f"labelsTr/case_{n}.nii.gz"} for n in range(count)]
    return {"name": "Task", "labels": labels, "modality": {"0": "MRI"}, "training": pairs}


NNUNET = {
    "channel_names": {"0": "T2"},
    "labels": {"background": 0, "tumour": 1, "ignore": 2},
    "numTraining": 6,
    "file_ending": ".nii.gz",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_customary_name_is_void(name: str) -> None:
    assert is_void(name)


@pytest.mark.parametrize("name", ["background", "other", "boat", "ignorance", "", "known", "255"])
def test_other_names_are_classes(name: str) -> None:
    assert not is_void(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_such_a_name_is_no_class_of_a_folder(tmp_path: Path, name: str) -> None:
    root = pictures(tmp_path, f"0,background\n1,pond\n2,hut\n255,{name}\n")
    domain = plugins.domain("folder")(root)
    assert domain.card.names == ["background", "pond", "hut"] and domain.reading.values == (0, 1, 2)
    for item in items(domain):
        assert np.bincount(domain.read(item).mask.ravel(), minlength=256)[[0, 1, 2, VOID]].tolist() == [80] * 4


def test_a_void_of_any_value_in_a_folder(tmp_path: Path) -> None:
    domain = plugins.domain("folder")(pictures(tmp_path, "0,unlabeled\n1,pond\n2,hut\n7,ignore\n", (0, 1, 2, 7)))
    assert domain.card.names == ["pond", "hut"] and domain.reading.values == (1, 2)
    mask = domain.read(items(domain)[0]).mask
    assert np.bincount(mask.ravel(), minlength=256)[[0, 1, VOID]].tolist() == [80, 80, 160]


@pytest.mark.parametrize(
    ("told", "image"),
    [
        (decathlon({"0": "background", "1": "tumour", "2": "ignore"}), "case_{n}.nii.gz"),
        (decathlon({"0": "background", "1": "tumour", "2": "Don't care"}), "case_{n}.nii.gz"),
        (decathlon({"background": 0, "tumour": 1, "ignore": 2}), "case_{n}.nii.gz"),
        (NNUNET, "case_{n}_0000.nii.gz"),
    ],
)
def test_the_ignore_label_of_a_task_is_no_class(tmp_path: Path, told: dict[str, Any], image: str) -> None:
    domain = plugins.domain("msd")(task(tmp_path, told, image))
    assert domain.card.names == ["background", "tumour"] and domain.reading.values == (0, 1)
    assert {item.case for item in items(domain)} == {f"case_{n}" for n in range(6)}
    for item in domain.index("test"):
        expected = np.where(mask_of(int(item.case[-1])) == 2, VOID, mask_of(int(item.case[-1]))).transpose(2, 1, 0)
        assert np.array_equal(domain.read(item).mask, expected)


def test_the_doctor_counts_void_as_void_and_asks_about_doubts(tmp_path: Path) -> None:
    folder = plugins.domain("folder")
    found = examine(folder, pictures(tmp_path / "a", "0,background\n1,pond\n2,hut\n255,ignore\n"), False)
    assert [c.pixels for c in found.classes] == [800] * 3 and found.void_pixels == 800
    assert not any("255" in remark for remark in found.remarks)
    found = examine(folder, pictures(tmp_path / "b", "0,background\n1,pond\n2,hut\n255,rest\n"), False)
    assert any("255 is the class 'rest'" in remark for remark in found.remarks)
    found = examine(folder, pictures(tmp_path / "c", "0,a\n1,pond\n2,Un-classified\n255,\n"), False)
    assert any("'Un-classified'" in remark and "void" in remark for remark in found.remarks)


def test_a_run_hash_is_another_where_a_class_became_void(tmp_path: Path) -> None:
    """An old run of these data had a class more: it does not count as done."""
    roots = [pictures(tmp_path / name, f"0,a\n1,pond\n2,hut\n255,{name}\n") for name in ("void", "ignore", "boat")]
    assert [open_domain(plugins.domain("folder"), root)[0].card.version for root in roots] == [1, 2, 1]
    mri = task(tmp_path / "t", decathlon({"0": "background", "1": "tumour", "2": "edge"}))
    void = task(tmp_path / "u", decathlon({"0": "background", "1": "tumour", "2": "ignore"}))
    assert [plugins.domain("msd")(root).card.version for root in (mri, void)] == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "'whole' is a region of several values"),
        ({"labels": {"unlabeled": 0, "tumour": 1, "ignore": 2}}, "0 is called 'unlabeled', a name of void"),
        ({"labels": {"background": 0, "tumour": 1, "edge": 1}}, "the value 1 is both 'tumour' and 'edge'"),
        ({"labels": {"background": 0, "ignore": 2}}, "must name 0 .background. and another value"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, "2 channels .T1, T2. in a file each"),
        ({"file_ending": ".png"}, "files of ending '.png'; convert"),
    ],
)
def test_what_only_nnunet_reads_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = task(tmp_path, NNUNET | change, "case_{n}_0000.nii.gz")
    with pytest.raises(InputError, match=message) as caught:
        plugins.domain("msd")(root)
    assert "dataset.json" in str(caught.value) and "\n" not in str(caught.value)


def test_nnunets_files_that_do_not_match_are_named(tmp_path: Path) -> None:
    root = task(tmp_path, NNUNET, "case_{n}_0000.nii.gz")
    (root / "labelsTr" / "case_3.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 images have no mask in labelsTr/ \(case_3_0000\.nii\.gz\)"):
        plugins.domain("msd")(root)
    (root / "imagesTr" / "case_3_0000.nii.gz").unlink()
    (root / "imagesTr" / "case_4_0000.nii.gz").unlink()
    with pytest.raises(InputError, match=r"1 images are missing \(case_4_0000\.nii\.gz\)"):
        plugins.domain("msd")(root)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_text_of_any_editor_is_read(tmp_path: Path, encoding: str, newline: str) -> None:
    table = newline.join(["value,name", "0,background", "1,H\N{LATIN SMALL LETTER U WITH DIAERESIS}tte", "2,hut", ""])
    domain = plugins.domain("folder")(pictures(tmp_path / "a", table.encode(encoding), (0, 1, 2)))
    assert domain.card.names[1] == "H\N{LATIN SMALL LETTER U WITH DIAERESIS}tte"
    for part, names in {"train": "0 1 2 3 4 5 6", "val": "7", "test": "8 9"}.items():
        (domain.root / f"{part}.txt").write_bytes(newline.join(names.split()).encode(encoding))
    assert [len(plugins.domain("folder")(domain.root).index(part)) for part in ("train", "val", "test")] == [7, 1, 2]
    root = task(tmp_path / "b", NNUNET, "case_{n}_0000.nii.gz")
    (root / "dataset.json").write_bytes(newline.join(json.dumps(NNUNET, indent=1).split("\n")).encode(encoding))
    assert plugins.domain("msd")(root).card.names == ["background", "tumour"]


@pytest.mark.parametrize("content", [b"1,H\xfctte", b"\xff\xfe0\x00,"])
def test_text_that_cannot_be_decoded_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"classes\.csv: not UTF-(8|16) text") as caught:
        text_of(path)
    assert "save it as UTF-8" in str(caught.value) and "\n" not in str(caught.value)
