"""The PASCAL plugin: raw indices in every mode, SBD masks in either folder, community lists, refusals by name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from diffmatch.domain import Domain, InputError, Item
from diffmatch.readers import lists
from diffmatch.readers import masks as reader
from diffmatch.readers.lists import identity, ids_of
from diffmatch_pascal import OFFICIAL, Pascal, color

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "pascal"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"the community's split lists are not at {LISTS}")
PALETTE = bytes(part for index in range(256) for part in color(index))


def save(mask: NDArray[np.uint8], path: Path, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(mask)
    if mode == "P":
        picture.putpalette(PALETTE)
    if mode == "RGB":
        picture = Image.fromarray(np.array([color(index) for index in range(256)], np.uint8)[mask])
    picture.save(path)
    with Image.open(path) as written:
        assert written.mode == mode


def pattern(height: int = 9, width: int = 12) -> NDArray[np.uint8]:
    """Every class and void."""
    values = np.array([*range(21), 255], np.uint8)
    return np.resize(values, (height, width))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC2012 in small: two official training images, one for test.

    These two and three more in SegmentationClassAug.
    """
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    official, test, sbd = ["2007_000032", "2007_000039"], ["2007_000033"], ["2008_000002", "2008_000007", "2011_003276"]
    for name in ("JPEGImages", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for name in [*official, *test, *sbd, "2012_004331"]:
        Image.new("RGB", (12, 9), (255, 0, 51)).save(folder / "JPEGImages" / f"{name}.jpg")
    for name in [*official, *test]:
        save(pattern(), folder / "SegmentationClass" / f"{name}.png", "P")
    for name in [*official, *sbd]:
        save(pattern(), folder / "SegmentationClassAug" / f"{name}.png", "L")
    (folder / "ImageSets/Segmentation/train.txt").write_text("\n".join(official))
    (folder / "ImageSets/Segmentation/val.txt").write_text("\n".join(test))
    return folder


def ids(domain: Domain, split: str = "train") -> list[str]:
    return [item.id for item in domain.index(split)]  # type: ignore[arg-type]


def find(domain: Domain, name: str) -> Item:
    return next(item for split in ("train", "test") for item in domain.index(split) if item.id == name)  # type: ignore[arg-type]


def test_classes_have_vocs_colours() -> None:
    told = {
        "background": (0, 0, 0),
        "aeroplane": (128, 0, 0),
        "bicycle": (0, 128, 0),
        "boat": (0, 0, 128),
        "chair": (192, 0, 0),
    }
    told |= {"person": (192, 128, 128), "pottedplant": (0, 64, 0), "tvmonitor": (0, 64, 128)}
    card = Pascal.card
    assert len(card.names) == 21 and {info.name: info.color for info in card.classes if info.name in told} == told
    assert color(255) == (224, 224, 192), "the void border is cream"


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_are_read_as_raw_indices(voc: Path, mode: str) -> None:
    save(pattern(), voc / "SegmentationClass" / "2007_000033.png", mode)
    domain = Pascal(voc)
    sample = domain.read(domain.index("test")[0])
    assert sample.mask is not None and sample.mask.dtype == np.uint8
    np.testing.assert_array_equal(sample.mask, pattern())
    assert sample.image.shape == (1, 3, 9, 12) and sample.image.dtype == np.float32
    assert sample.image[0, :, 4, 5] == pytest.approx([1, 0, 0.2], abs=0.03), "red, green, blue"


@pytest.mark.parametrize("above", [0, 1, 2])
def test_root_may_be_any_of_three_folders(voc: Path, above: int) -> None:
    domain = Pascal([voc, *voc.parents][above])
    assert ids(domain) == ["2007_000032", "2007_000039", "2008_000002", "2008_000007", "2011_003276"]
    assert ids(domain, "test") == ["2007_000033"] and ids(domain, "val") == []
    assert all(item.case == item.id and item.masked for item in domain.index("train"))
    assert not any("2012_004331" in path.name for path in domain.files()), (
        "a photograph without a mask is no part of the set"
    )


def test_sbd_masks_lie_in_either_folder(voc: Path) -> None:
    domain = Pascal(voc)
    assert find(domain, "2007_000032").ref.mask.parent.name == "SegmentationClass", "the official mask goes first"
    assert find(domain, "2008_000002").ref.mask.parent.name == "SegmentationClassAug"
    assert domain.layout == "VOC2012 with SBD masks in SegmentationClassAug"
    apart = ids(domain)
    for path in (voc / "SegmentationClassAug").iterdir():
        path.rename(voc / "SegmentationClass" / path.name)
    (voc / "SegmentationClassAug").rmdir()
    mixed = Pascal(voc)
    assert ids(mixed) == apart and mixed.layout == "VOC2012 with SBD masks in SegmentationClass"
    (voc / "SegmentationClass").rename(voc / "SegmentationClassAug")
    assert ids(Pascal(voc)) == apart, "U2PL has all masks in SegmentationClassAug"


def test_missing_sbd_masks_are_told_with_how_to_get_them(voc: Path) -> None:
    shutil.rmtree(voc / "SegmentationClassAug")
    domain = Pascal(voc)
    assert ids(domain) == ["2007_000032", "2007_000039"] and domain.layout == "VOC2012 with official masks only"
    told = domain.remarks()[0]
    assert "SBD masks are missing: 2 images" in told and "10,582" in told and str(voc / "SegmentationClassAug") in told
    assert all("\n" not in remark for remark in domain.remarks())


def test_hidden_files_of_an_archive_are_left_alone(voc: Path) -> None:
    before = ids(Pascal(voc))
    for place in ("JPEGImages/._2008_000002.jpg", "SegmentationClass/._2008_000002.png", "SegmentationClass/.DS_Store"):
        (voc / place).write_bytes(b"\x00\x05\x16\x07")
    assert ids(Pascal(voc)) == before


def test_no_mask_is_opened_unless_asked_for(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was opened")

    domain = Pascal(voc)
    monkeypatch.setattr(reader, "read", refuse)
    assert all(domain.read(item, mask=False).mask is None for item in domain.index("train"))
    with pytest.raises(AssertionError, match=r"2007_000032\.png"):
        domain.read(domain.index("train")[0])


def remove(*names: str) -> list[tuple[str, bytes | None]]:
    return [(name, None) for name in names]


TRAIN, VAL = "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"
BAD_SETS = {
    "photograph": (
        remove("JPEGImages/2008_000002.jpg"),
        r"2008_000002\.jpg: missing, though SegmentationClassAug/ has its mask",
    ),
    "test mask": (
        remove("SegmentationClass/2007_000033.png"),
        r"SegmentationClass/2007_000033\.png: missing, though the list",
    ),
    "absent file": (
        [(TRAIN, b"2007_000032\n2010_000001")],
        r"2010_000001\.png: missing, though the list .* \(and 1 in all\)",
    ),
    "val list": (remove(VAL), r"val\.txt: missing, .*official archive.*diffmatch splits pascal"),
    "empty list": ([(VAL, b"\n")], r"val\.txt: the list is empty"),
    "nothing": (
        [(VAL, b"2007_000032\n2007_000039\n2008_000002\n2008_000007\n2011_003276")],
        r"nothing is left to train on",
    ),
}


@pytest.mark.parametrize("what", BAD_SETS)
def test_incomplete_sets_are_refused_by_name(voc: Path, what: str) -> None:
    changes, message = BAD_SETS[what]
    if what == "nothing":
        (voc / "SegmentationClass/2007_000033.png").unlink()
    for name, content in changes:
        if content is None:
            (voc / name).unlink()
        else:
            (voc / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        Pascal(voc).index("train")
    assert "\n" not in str(caught.value)


def test_folders_without_photographs_or_masks_are_refused(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"nothing: neither VOCdevkit/VOC2012/JPEGImages/ nor JPEGImages/ .*VOCtrainval_11-May-2012\.tar",
    ):
        Pascal(tmp_path / "nothing")
    for name in ("SegmentationClass", "SegmentationClassAug"):
        shutil.rmtree(voc / name)
    with pytest.raises(InputError, match=r"VOC2012: no masks"):
        Pascal(voc)


def test_bad_masks_are_refused_by_name(voc: Path) -> None:
    domain = Pascal(voc)
    for mask, mode, message in (
        (pattern(), "RGB", r"mode RGB holds colours, not class numbers; .*numpy\.select"),
        (np.full((9, 12), 38, np.uint8), "L", r"label value 38 on 108 pixels"),
        (pattern(12, 9), "L", r"9 x 12 pixels, but 2008_000002\.jpg has 12 x 9"),
    ):
        save(mask, voc / "SegmentationClassAug" / "2008_000002.png", mode)
        with pytest.raises(InputError, match=rf"2008_000002\.png: .*{message}") as caught:
            domain.read(find(domain, "2008_000002"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["JPEGImages/2008_000002.jpg", "SegmentationClassAug/2008_000002.png"])
@pytest.mark.parametrize("keep", [4, 0.7])
def test_files_cut_off_are_named(voc: Path, name: str, keep: float) -> None:
    domain, content = Pascal(voc), (voc / name).read_bytes()
    (voc / name).write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(InputError, match=re.escape(name)):
        domain.read(find(domain, "2008_000002"))


@needs_lists
def test_lists_are_known_by_hash() -> None:
    named = {"92": "classic", "183": "classic", "366": "classic", "732": "classic", "1464": "classic"}
    named |= {f"1/{n}": "cps" for n in (16, 8, 4)}
    assert list(dict.fromkeys(Pascal.families.values())) == ["classic", "cps", "u2pl"], "the order of preference"
    found = lists.read(LISTS, Pascal)
    assert {family.budget: family.name for family in found if family.name != "u2pl"} == named
    assert sorted(str(family.budget) for family in found if family.name == "u2pl") == ["1/16", "1/4", "1/8"]
    for family in found:
        labelled, unlabelled, test = family.labelled or (), family.unlabelled or (), family.test or ()
        assert (len(labelled), len(labelled) + len(unlabelled), len(test)) == (
            Pascal.sizes[str(family.budget)],
            10_582,
            1_449,
        )
        assert Pascal.families[identity(labelled)] == family.name and not {*labelled, *unlabelled} & {*test}


@needs_lists
@pytest.mark.usefixtures("classic")
def test_the_whole_sets_division(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real set's file names in place of the folders' content."""
    train, val, official = (
        set(ids_of(LISTS / name, Pascal)) for name in ("train_aug.txt", "val.txt", "1464/labeled.txt")
    )
    masks = train | val
    monkeypatch.setattr(
        "diffmatch_pascal._stems", lambda folder, ending: set() if folder.name == "SegmentationClassAug" else masks
    )
    for name in (TRAIN, VAL):
        (voc / name).unlink()
    domain = Pascal(voc)
    assert ids(domain) == sorted(train) and ids(domain, "test") == sorted(val)
    assert domain.layout.endswith("SBD masks in SegmentationClass") and len(list(domain.files())) == 2 * 12_031
    assert [remark.split(" is missing: ")[0] for remark in domain.remarks()] == [str(voc / VAL)]
    masks = official | val
    domain = Pascal(voc)
    assert len(domain.index("train")) == OFFICIAL and "SBD masks are missing: 1,464 images" in domain.remarks()[0]


def test_conversion_of_sbds_own_files_as_the_readme_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "benchmark_RELEASE" / "dataset" / "cls"
    source.mkdir(parents=True)
    savemat(source / "2008_000002.mat", {"GTcls": {"Segmentation": pattern(), "CategoriesPresent": np.arange(1, 21)}})
    text = re.search(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    assert text is not None
    monkeypatch.chdir(tmp_path)
    exec(text[1], {})
    with Image.open(tmp_path / "VOCdevkit/VOC2012/SegmentationClassAug/2008_000002.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.asarray(written), pattern())
