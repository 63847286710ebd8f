"""The COCO plugin: two layouts with one set of ids, the painting recipe on hand-made objects, refusals by name."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from pycocotools import mask as rasters  # type: ignore[import-untyped]

import diffmatch_coco_instances as instances
import diffmatch_coco_phantom
from diffmatch.domain import Cache, InputError
from diffmatch.readers import lists, masks
from diffmatch_coco import COCO, LABELS, NAMES
from diffmatch_coco_phantom import RARE, image_ids
from diffmatch_coco_things import THINGS

SPLITS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "coco"
needs_lists = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the community's split lists are not at {SPLITS}")
Json = dict[str, Any]
BUS, BOOK = 6, 84  # category ids; the class indices are 6 and 74
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]
LARGE = [[0, 0, 8, 0, 8, 6, 0, 6]]


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    COCO.fabricate(root, seed=0)
    return root


def photograph(path: Path, size: tuple[int, int] = (6, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).convert(mode).save(path)


def content(number: int, annotations: list[Json]) -> Json:
    made = [
        {"id": i, "image_id": number, "iscrowd": 0, "category_id": BUS, "segmentation": SQUARE, **a}
        for i, a in enumerate(annotations)
    ]
    return {
        "images": [{"id": number, "height": 6, "width": 8, "file_name": f"{number:012d}.jpg"}],
        "annotations": made,
        "categories": [{"id": i, "name": name} for i, name, _ in THINGS],
    }


def tiny(root: Path, annotations: list[Json]) -> Path:
    """One image to train on, with these annotations, and one to test on without any. 6 x 8 pixels."""
    (root / "annotations").mkdir(parents=True)
    for folder, number, given in (("train2017", 9, annotations), ("val2017", 139, [])):
        photograph(root / folder / f"{number:012d}.jpg")
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content(number, given)))
    return root


def edit(root: Path, change: Callable[[Json], object], folder: str = "train2017") -> None:
    path = root / "annotations" / f"instances_{folder}.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


def masked(root: Path, values: dict[str, NDArray[Any]]) -> Path:
    """The layout with ready masks: the first image is to train on, the second to test on."""
    for (name, mask), folder in zip(values.items(), ("train2017", "val2017"), strict=True):
        photograph(root / folder / f"{name}.jpg")
        (root / "masks").mkdir(exist_ok=True)
        Pillow.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def mask_of(domain: COCO, split: Any = "train") -> NDArray[np.uint8]:
    found = domain.read(domain.index(split)[0]).mask
    assert found is not None
    return found


def test_painting_recipe(tmp_path: Path) -> None:
    """Gaps in the ids; the smaller object on top in any order; crowd regions void only where nothing else lies."""
    crowd = np.zeros((6, 8), np.uint8, order="F")
    crowd[:, 4:] = 1
    plain = {"counts": [24, 24], "size": [6, 8]}
    packed = {"counts": rasters.encode(crowd)["counts"].decode(), "size": [6, 8]}
    expected = np.zeros((6, 8), np.uint8)
    expected[:, 4:] = 255
    expected[1:5, 1:5] = 74
    for k, region in enumerate((plain, packed)):
        given = [{"category_id": BOOK}, {"iscrowd": 1, "category_id": 1, "segmentation": region}]
        np.testing.assert_array_equal(mask_of(COCO(tiny(tmp_path / f"{k}", given))), expected)
    both = [{"category_id": BOOK}, {"category_id": BUS, "segmentation": LARGE}]
    covered = np.full((6, 8), 6, np.uint8)
    covered[1:5, 1:5] = 74
    for k, given in enumerate((both, both[::-1])):
        np.testing.assert_array_equal(mask_of(COCO(tiny(tmp_path / f"order{k}", given))), covered)
    parts = [{"segmentation": [[0, 0, 2, 0, 2, 6, 0, 6], [6, 0, 8, 0, 8, 6, 6, 6], [1, 1, 2, 2]]}, {"segmentation": []}]
    domain = COCO(tiny(tmp_path / "parts", parts))
    np.testing.assert_array_equal(mask_of(domain)[0], [6, 6, 0, 0, 0, 0, 6, 6])
    assert not mask_of(domain, "test").any() and domain.index("val") == []


def test_ids_names_and_both_layouts_agree(fabricated: Path, tmp_path: Path) -> None:
    assert len(NAMES) == len(set(NAMES)) == 80 and [i for i, _, _ in THINGS][-1] == 90 and COCO.card.names[1:] == NAMES
    raw = COCO(fabricated)
    for folder in ("train2017", "val2017"):
        (tmp_path / folder).symlink_to(fabricated / folder)
    (tmp_path / "masks").mkdir()
    train, test = raw.index("train"), raw.index("test")
    for item in [*train[::40], *test]:
        found = Pillow.fromarray(raw.read(item).mask)
        found.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        found.save(tmp_path / "masks" / f"{item.id}.png")
    ready = COCO(tmp_path)
    assert [i.id for i in ready.index("train")] == [i.id for i in train] and [i.id for i in ready.index("test")] == [
        i.id for i in test
    ]
    assert sum(i.masked for i in ready.index("train")) == len(train[::40])
    for ours, theirs in zip(raw.index("test")[:5], ready.index("test"), strict=False):
        np.testing.assert_array_equal(raw.read(ours).mask, ready.read(theirs).mask)
    assert "painted by the recipe area-1" in raw.layout and "masks/" in ready.layout
    assert any("have no mask" in line for line in ready.remarks())
    (tmp_path / "annotations").symlink_to(fabricated / "annotations")
    assert any("annotations/ is left alone" in line for line in COCO(tmp_path).remarks())


def test_json_is_parsed_once_and_no_mask_is_read_unasked(
    fabricated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = COCO(fabricated)
    domain.prepare(Cache(tmp_path))
    train = domain.index("train")
    before = domain.read(train[3]).mask
    monkeypatch.setattr(instances, "parse", lambda *_: pytest.fail("parsed again"))
    worker = pickle.loads(pickle.dumps(domain))
    np.testing.assert_array_equal(worker.read(train[3]).mask, before)
    assert len(pickle.dumps(domain)) < 200_000
    monkeypatch.setattr(COCO, "_instances", lambda *_: pytest.fail("objects were read"))
    monkeypatch.setattr(masks, "read", lambda *_: pytest.fail("a mask was read"))
    assert domain.read(train[3], mask=False).mask is None


def test_gray_photographs_become_rgb(tmp_path: Path) -> None:
    root = tiny(tmp_path / "gray", [])
    photograph(root / "train2017" / "000000000009.jpg", mode="L")
    pixels = COCO(root).read(COCO(root).index("train")[0]).image
    assert pixels.shape == (1, 3, 6, 8) and pixels.dtype == np.float32 and 0 <= pixels.min() < pixels.max() <= 1
    assert (pixels[0, 0] == pixels[0, 1]).all()


def test_ready_masks_pass_the_exact_map(tmp_path: Path) -> None:
    values = np.array([[0, 1, 80, 255, 0, 0, 0, 0]] * 6, np.uint8)
    domain = COCO(masked(tmp_path, {"000000000009": values, "000000000139": values}))
    np.testing.assert_array_equal(mask_of(domain, "test"), values)
    assert LABELS[80] == 80 and LABELS[255] == 255 and len(LABELS) == 82


REFUSALS: dict[str, tuple[Callable[[Json], object], str]] = {
    "names": (lambda c: c["categories"][4].update(name="plane"), r"number 5 is 'plane' where 'airplane' should be"),
    "order": (lambda c: c["categories"][0].update(id=95), r"number 1 is 'bicycle' where 'person' should be"),
    "fewer": (lambda c: c["categories"].pop(), r"79 categories, number 80 is missing"),
    "category": (lambda c: c["annotations"][0].update(category_id=12), r"annotation 0 has category_id 12"),
    "owner": (lambda c: c["annotations"][0].update(image_id=7), r"belongs to image 7"),
    "no images": (lambda c: c.pop("images"), r"not a readable instances json \(KeyError"),
    "other image": (lambda c: c["images"][0].update(id=10), r"belongs to image 9|has no such image"),
    "odd": (
        lambda c: c["annotations"][0].update(segmentation=[[1, 1, 2, 2, 3, 3, 4]]),
        r"image 9, annotation 0: an outline",
    ),
    "far": (
        lambda c: c["annotations"][0].update(segmentation=[[0, 0, 1e9, 0, 1e9, 5]]),
        r"image 9, annotation 0: an outline",
    ),
    "runs": (
        lambda c: c["annotations"][0].update(segmentation={"counts": [3, 3], "size": [6, 8]}),
        r"annotation 0: run lengths of 6",
    ),
    "size": (
        lambda c: c["annotations"][0].update(segmentation={"counts": [48], "size": [8, 6]}),
        r"annotation 0: run lengths",
    ),
    "packed": (
        lambda c: c["annotations"][0].update(segmentation={"counts": "zz", "size": [6, 8]}),
        r"compressed run lengths",
    ),
    "shape": (lambda c: c["images"][0].update(height=7), r"8 x 7 pixels, but 000000000009\.jpg has 8 x 6"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_bad_json_is_refused_by_name(tmp_path: Path, what: str) -> None:
    root, (change, message) = tiny(tmp_path / "bad", [{}]), REFUSALS[what]
    edit(root, change)
    with pytest.raises(InputError, match=rf"train2017.*{message}") as caught:
        mask_of(COCO(root))
    assert "\n" not in str(caught.value)


def test_missing_and_cut_off_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train2017: no such folder; take train2017\.zip"):
        COCO(tmp_path)
    root = tiny(tmp_path / "set", [{}])
    path = root / "annotations" / "instances_train2017.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"instances_train2017\.json: not a readable instances json"):
        COCO(root).index("train")
    path.unlink()
    with pytest.raises(InputError, match=r"instances_train2017\.json: no such file, and no .*masks either"):
        COCO(root)
    path.write_bytes(whole)
    photograph(root / "train2017" / "000000000010.jpg")
    with pytest.raises(InputError, match=r"000000000010\.jpg: instances_train2017\.json has no such image"):
        COCO(root).index("train")
    (root / "train2017" / "000000000010.jpg").unlink()
    jpeg = root / "train2017" / "000000000009.jpg"
    item = COCO(root).index("train")[0]
    jpeg.write_bytes(jpeg.read_bytes()[:300])
    with pytest.raises(InputError, match=r"000000000009\.jpg: cannot be read as an image"):
        COCO(root).read(item)
    jpeg.unlink()
    with pytest.raises(InputError, match=r"000000000009\.jpg: missing, though instances_train2017\.json lists it"):
        COCO(root).index("train")


def test_bad_masks_are_refused_by_name(tmp_path: Path) -> None:
    good = np.zeros((6, 8), np.uint8)
    stuff, rgb, small = good + 181, np.zeros((6, 8, 3), np.uint8), good[:5]
    for name, bad, message in (
        ("stuff", stuff, "COCO-Stuff"),
        ("rgb", rgb, "holds colours"),
        ("small", small, "8 x 5 pixels"),
    ):
        root = masked(tmp_path / name, {"000000000009": good, "000000000139": bad})
        domain = COCO(root)
        with pytest.raises(InputError, match=rf"masks/000000000139\.png: .*{message}"):
            mask_of(domain, "test")
    path = root / "masks" / "000000000139.png"
    path.write_bytes(b"cut")
    with pytest.raises(InputError, match=r"000000000139\.png: cannot be read"):
        mask_of(COCO(root), "test")
    path.unlink()
    with pytest.raises(InputError, match=r"000000000139\.png: missing, though val2017 is scored"):
        COCO(root).index("test")
    (root / "masks" / "000000000009.png").unlink()
    with pytest.raises(InputError, match=r"masks: no file named by twelve digits"):
        COCO(root).index("test")


@needs_lists
@pytest.mark.parametrize("budget", COCO.card.budgets)
def test_lists_have_their_published_sizes_and_names(budget: str) -> None:
    family = next(f for f in lists.read(SPLITS, COCO) if f.budget == budget)
    assert family.name == "unimatch" and family.labelled is not None and family.test is not None
    assert (len(family.labelled), len(family.test)) == (COCO.sizes[budget], 5000)
    assert family.unlabelled is None and family.val == () and not {*family.labelled} & {*family.test}


@needs_lists
def test_fabricated_names_are_those_of_an_installed_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path))
    lists.install(COCO, SPLITS)
    family = lists.installed(COCO, "1/512")[0]
    labelled, unlabelled, test = ([f"{number:012d}" for number in part] for part in image_ids(0, 1, COCO))
    assert {*labelled} == {*(family.labelled or ())} and {*test} < {*(family.test or ())}
    assert len({*labelled, *unlabelled, *test}) == 232 + 232 + len(test)


def test_fabrication_follows_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COCO.sizes, "1/512", 8)
    monkeypatch.setattr(diffmatch_coco_phantom, "TEST", 4)

    def digest(name: str, seed: int) -> str:
        COCO.fabricate(tmp_path / name, seed=seed)
        return hashlib.sha256(
            b"".join(path.read_bytes() for path in sorted((tmp_path / name).rglob("*.*")))
        ).hexdigest()

    assert digest("one", 0) == digest("same", 0) != digest("other", 1)


def test_fabricated_set_has_the_formats_quirks_and_skew(fabricated: Path) -> None:
    domain = COCO(fabricated)
    about = json.loads((fabricated / "annotations" / "instances_train2017.json").read_text())
    kinds = [a["segmentation"] for a in about["annotations"]]
    assert {a["category_id"] for a in about["annotations"]} == {number for number, _, _ in THINGS}
    assert all(a["iscrowd"] == isinstance(a["segmentation"], dict) for a in about["annotations"])
    assert {type(k["counts"]) for k in kinds if isinstance(k, dict)} == {list, str}
    assert any(len(k) > 1 for k in kinds if isinstance(k, list))
    modes = [Pillow.open(path).mode for path in sorted((fabricated / "train2017").iterdir())]
    assert 5 < modes.count("L") < 30
    pixels, images = np.zeros(256, int), np.zeros((2, 256), int)
    for k, split in enumerate(("train", "test")):
        for item in domain.index(split):  # type: ignore[arg-type]
            counts = np.bincount(domain.read(item).mask.ravel(), minlength=256)  # type: ignore[union-attr]
            pixels, images[k] = pixels + counts, images[k] + (counts > 0)
    assert images[0, :81].min() >= 12 and images[1, :81].min() >= 2 and images[0, 255] > 20
    rarest = np.argsort(pixels[:81])[:5]
    assert {COCO.card.names[c] for c in rarest} == {*RARE} and pixels[:81].max() > 50 * pixels[rarest].max()
