"""The CamVid plugin: SegNet's folders, void 11, val as the test where there is none, refusals by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.domain import InputError, Mask
from diffmatch.readers import masks as reader
from diffmatch_camvid import CLASSES, CamVid

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "camvid"
needs_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"CamVid is not at {REAL}")

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("camvid")
    CamVid.fabricate(root, seed=0)
    return root


def write(root: Path, split: str, name: str, mask: Image.Image | None, ending: str = ".png") -> None:
    for folder in (root / split, root / f"{split}annot"):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (10, 20, 30)).save(root / split / f"{name}{ending}")
    if mask is not None:
        mask.save(root / f"{split}annot" / f"{name}.png")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """One frame of 4 x 3 pixels a split; the mask holds every value once."""
    for split, name in (("train", "0001TP_006690"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00000")):
        write(tmp_path, split, name, Image.fromarray(MASK))
    return tmp_path


def mask_of(root: Path) -> Mask:
    domain = CamVid(root)
    mask = domain.read(domain.index("train")[0]).mask
    assert mask is not None
    return mask


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_index_masks_of_each_mode_read_the_same(tiny: Path, mode: str) -> None:
    image = Image.fromarray(MASK.astype(np.uint16)) if mode == "I;16" else Image.fromarray(MASK)
    if mode == "P":
        image.putpalette([channel for color in CLASSES.values() for channel in color])
        assert image.mode == "P"
    image.save(tiny / "trainannot" / "0001TP_006690.png")
    np.testing.assert_array_equal(mask_of(tiny), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 255]])


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_with_a_test_folder_the_three_splits_are_the_folders(tiny: Path, ending: str) -> None:
    write(tiny, "train", "0006R0_f00930", None, ending)
    (tiny / "train" / "._0006R0_f00930.png").write_bytes(b"a macOS companion")
    domain = CamVid(tiny)
    assert [(i.id, i.case, i.masked) for i in domain.index("train")] == [
        ("0001TP_006690", "0001TP", True),
        ("0006R0_f00930", "0006R0", False),
    ]
    assert [i.id for split in ("val", "test") for i in domain.index(split)] == ["0016E5_07959", "Seq05VD_f00000"]
    assert any("0006R0_f00930" in text for text in domain.remarks())
    bare = domain.read(domain.index("train")[1])
    assert bare.mask is None and bare.image.shape == (1, 3, 3, 4)
    assert not any("no test/" in text for text in domain.remarks())


def test_without_a_test_folder_val_is_the_test_and_that_is_said(tiny: Path) -> None:
    for folder in ("test", "testannot"):
        shutil.rmtree(tiny / folder)
    domain = CamVid(tiny)
    assert domain.index("val") == [] and [i.id for i in domain.index("test")] == ["0016E5_07959"]
    assert "no test/" in domain.remarks()[0] and "0016E5" in domain.remarks()[0]
    assert "val 1" not in domain.layout and "val/ 1" in domain.layout


def test_root_may_hold_the_folder_and_the_crop_fits_the_frames(tiny: Path) -> None:
    shutil.move(tiny / "train", tiny / "CamVid" / "train")
    for folder in ("trainannot", "val", "valannot"):
        shutil.move(tiny / folder, tiny / "CamVid" / folder)
    Image.new("RGB", (480, 360)).save(tiny / "CamVid" / "train" / "0001TP_000001.png")
    domain = CamVid(tiny)
    assert domain.recipe.paper["data.crop"] == 353 and len(domain.index("train")) == 2


Damage = Callable[[Path, Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


REFUSALS: dict[str, tuple[Damage, str]] = {
    "unknown value": (
        lambda image, mask: Image.fromarray(MASK + 8).save(mask),
        r"trainannot/0001TP_006690\.png: label value 12 on 1 pixels",
    ),
    "colours": (
        lambda image, mask: Image.new("RGB", (4, 3)).save(mask),
        r"trainannot/0001TP_006690\.png: .* mode RGB .* index =",
    ),
    "size": (lambda image, mask: Image.new("L", (3, 4)).save(mask), r"trainannot/0001TP_006690\.png: 3 x 4 pixels"),
    "cut image": (lambda image, mask: cut(image), r"train/0001TP_006690\.png: .* copy it again"),
    "cut mask": (lambda image, mask: cut(mask), r"trainannot/0001TP_006690\.png: .* copy it again"),
    "no image": (
        lambda image, mask: image.rename(image.with_name("0001TP_006720.png")),
        r"trainannot/0001TP_006690\.png: no image",
    ),
    "twice": (lambda image, mask: shutil.copy(image, image.with_suffix(".jpg")), r"0001TP_006690\.jpg is there too"),
    "empty": (lambda image, mask: image.unlink(), r"train: no jpg or png images; take"),
    "no masks": (lambda image, mask: shutil.rmtree(mask.parent), r"trainannot/ are not both there; take"),
    "val mask": (
        lambda image, mask: (mask.parents[1] / "valannot" / "0016E5_07959.png").unlink(),
        r"val/0016E5_07959\.png: no mask",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_input_is_refused_by_name(tiny: Path, what: str) -> None:
    damage, message = REFUSALS[what]
    damage(tiny / "train" / "0001TP_006690.png", tiny / "trainannot" / "0001TP_006690.png")
    with pytest.raises(InputError, match=message) as caught:
        mask_of(tiny)
    assert "\n" not in str(caught.value)


def test_masks_stay_closed_unless_asked_for(fabricated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "read", lambda path: pytest.fail(f"{path} was opened"))
    domain = CamVid(fabricated)
    assert domain.read(domain.index("train")[0], mask=False).mask is None


def test_fabrication_follows_its_seed_and_is_skewed(fabricated: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        CamVid.fabricate(tmp_path / str(seed), seed)
    name = Path("trainannot", "0001TP_006690.png")
    assert (
        (fabricated / name).read_bytes() == (tmp_path / "0" / name).read_bytes() != (tmp_path / "1" / name).read_bytes()
    )
    domain, pixels, frames = CamVid(fabricated), np.zeros(256), np.zeros(256)
    for item in domain.index("train"):
        mask = domain.read(item).mask
        assert mask is not None
        count = np.bincount(mask.ravel(), minlength=256)
        pixels, frames = pixels + count, frames + (count > 0)
    assert pixels[3] > 30 * pixels[:11].min() > 0 and frames[:11].min() >= 12 and pixels[255] > 0
    assert len(domain.index("train")) >= 2 * domain.sizes["1/16"] and len(domain.index("test")) == 32


@needs_data
def test_real_frames_counted_by_hand() -> None:
    """Shares of the training pixels, void included (design, section 5.

    Road 31.7 %, bicyclist 0.3 % of the labelled ones).
    """
    domain = CamVid(REAL)
    assert [len(domain.index(split)) for split in ("train", "val", "test")] == [367, 0, 101]
    assert domain.recipe.paper["data.crop"] == 177 and domain.recipe.quick["data.crop"] == 112
    assert {item.case for item in domain.index("test")} == {"0016E5"}
    cases = [item.case for item in domain.index("train")]
    assert {case: cases.count(case) for case in cases} == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    for item in domain.index("train")[::60]:
        mask = domain.read(item).mask
        raw = np.asarray(Image.open(REAL / "trainannot" / f"{item.id}.png"))
        assert (
            mask is not None
            and np.array_equal(mask == 255, raw == 11)
            and np.array_equal(mask[raw < 11], raw[raw < 11])
        )
