"""WHU-CD: three layouts with the same ids, one encoding per set, windows of the raw scenes, refusals by name."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

import diffmatch_whu_cd
from diffmatch.data.splits import make_split
from diffmatch.domain import SPLITS, InputError, Item, Scene
from diffmatch.invented.aerial import pair, write_patches
from diffmatch.readers import pairs, pictures
from diffmatch.readers.lists import ids_of, install, read
from diffmatch.readers.outside import of_pair
from diffmatch_whu_cd import WHUCD
from diffmatch_whu_cd_phantom import write_scene

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "whu"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"the community's split lists are not at {LISTS}")
NAMES = [f"whucd_{n:05d}" for n in range(1, 21)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whu")
    write_patches(root, NAMES, seed=0, side=64)
    return root


@pytest.fixture
def flat(drawn: Path, tmp_path: Path) -> Path:
    """A copy of twenty patches that a test may damage."""
    return Path(shutil.copytree(drawn, tmp_path / "flat"))


def recode(root: Path, names: list[str], to: int | None) -> None:
    """Rewrite masks: changed as 1 or 255, or as one bit (None)."""
    for name in names:
        path = root / "label" / f"{name}.png"
        mask = np.asarray(Pillow.open(path)) > 0
        Pillow.fromarray(mask if to is None else mask * np.uint8(to)).save(path)


def everything(domain: WHUCD) -> dict[str, Item]:
    return {item.id: item for split in SPLITS for item in domain.index(split)}


def mask_of(domain: WHUCD, name: str) -> NDArray[np.uint8]:
    mask = domain.read(everything(domain)[name]).mask
    assert mask is not None
    return mask


def with_change(root: Path) -> list[str]:
    return [name for name in NAMES if np.asarray(Pillow.open(root / "label" / f"{name}.png")).any()]


def test_every_encoding_reads_the_same(flat: Path, drawn: Path) -> None:
    truth = {name: mask_of(WHUCD(drawn), name) for name in NAMES}
    assert {0, 1} == {int(v) for mask in truth.values() for v in np.unique(mask)}
    for to in (1, 255, None):
        recode(flat, NAMES, to)
        domain = WHUCD(flat)
        for name in NAMES:
            np.testing.assert_array_equal(mask_of(domain, name), truth[name])


def test_a_boolean_tiff_is_a_mask(flat: Path, drawn: Path) -> None:
    name = with_change(flat)[0]
    path = flat / "label" / f"{name}.png"
    Pillow.fromarray(np.asarray(Pillow.open(path)) > 0).save(path.with_suffix(".tif"), compression="group4")
    path.unlink()
    recode(flat, [other for other in NAMES if other != name], 1)
    np.testing.assert_array_equal(mask_of(WHUCD(flat), name), mask_of(WHUCD(drawn), name))


def test_one_encoding_per_set(flat: Path) -> None:
    changed = with_change(flat)
    recode(flat, changed[:1], 1)
    domain = WHUCD(flat)
    for name in set(NAMES) - set(changed):
        assert not mask_of(domain, name).any()  # without a change a mask fits both
    mask_of(domain, changed[0])
    with pytest.raises(
        InputError, match=rf"{changed[0]}\.png: changed is stored as 1, but .*{changed[1]}\.png has it as 255"
    ):
        mask_of(domain, changed[1])
    path = flat / "label" / f"{changed[2]}.png"
    mask = np.asarray(Pillow.open(path)).copy()
    mask[0, 0] = 1
    Pillow.fromarray(mask).save(path)
    with pytest.raises(InputError, match=rf"{changed[2]}\.png: .*{changed[2]}\.png has it as 255"):
        mask_of(WHUCD(flat), changed[2])


def test_dates_keep_their_order_and_unlabelled_masks_stay_closed(flat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = WHUCD(flat)
    item = domain.index("train")[0]
    shutil.rmtree(flat / "label")
    monkeypatch.setattr(pairs, "read_mask", lambda path: pytest.fail(f"opened {path}"))
    sample = domain.read(item, mask=False)
    assert sample.mask is None and sample.image.dtype == np.float32
    for date, folder in enumerate("AB"):
        pixels = np.asarray(Pillow.open(flat / folder / f"{item.id}.png"))
        np.testing.assert_array_equal(np.rint(sample.image[date] * 255), pixels.transpose(2, 0, 1))


def test_divided_patches_keep_their_division(flat: Path, tmp_path: Path) -> None:
    root = tmp_path / "divided"
    parts = {"train": NAMES[:12], "val": NAMES[12:15], "test": NAMES[15:]}
    for split, names in parts.items():
        for folder in pairs.FOLDERS:
            (root / split / folder).mkdir(parents=True)
            for name in names:
                shutil.copy(flat / folder / f"{name}.png", root / split / folder)
    domain = WHUCD(root)
    assert {split: [i.id for i in domain.index(split)] for split in SPLITS} == parts
    assert "below train, val, test" in domain.layout
    for folder in pairs.FOLDERS:  # a shared archive has its test patches in train, too
        for name in parts["test"]:
            shutil.copy(flat / folder / f"{name}.png", root / "train" / folder)
    domain = WHUCD(root)
    assert any("5 patches of train/ are in val/ or test/ too" in remark for remark in domain.remarks())
    assert [i.id for i in domain.index("train")] == parts["train"]
    shutil.copy(flat / "A" / f"{NAMES[0]}.png", root / "train" / "A" / f"{NAMES[-1]}.png")
    with pytest.raises(InputError, match=rf"train/A/{NAMES[-1]}\.png: differs from .*test/A/"):
        WHUCD(root).index("train")


def counted(monkeypatch: pytest.MonkeyPatch, root: Path, counts: dict[str, int]) -> str:
    """The remarks on a set of so many patches."""
    domain, some = WHUCD(root), next(iter(pairs.listing(root).values()))
    items = {split: [Item(f"{split}{n}", f"{split}{n}", some) for n in range(count)] for split, count in counts.items()}
    monkeypatch.setitem(vars(domain), "items", items)
    return " ".join(domain.remarks())


def test_remarks_name_the_variant(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = counted(monkeypatch, drawn, {"train": 5947, "val": 743, "test": 744})
    assert (
        "whole-patch grid of SemiCD and UniMatch" in told
        and "64 x 64 pixels" in told
        and "no community lists installed" in told
    )
    assert "not comparable" in counted(monkeypatch, drawn, {"train": 6096, "val": 762, "test": 762})
    assert "6,691" in counted(monkeypatch, drawn, {"train": 6691, "val": 743, "test": 744})
    assert "neither 7,434" in " ".join(WHUCD(drawn).remarks())


def test_the_whole_scene_is_a_grid_of_7434(tmp_path: Path) -> None:
    top, left = write_scene(tmp_path, 15354, 32507, side=512)
    began = time.perf_counter()
    domain = WHUCD(tmp_path)
    items = everything(domain)
    assert {split: len(domain.index(split)) for split in SPLITS} == {"train": 5947, "val": 743, "test": 744}
    assert sorted(items) == [f"whucd_{n:05d}" for n in range(1, 7435)]
    assert items["whucd_00127"].ref == (256, 0) and items["whucd_07434"].ref == (58 * 256, 125 * 256)
    for n in (1, 127, 4000, 7434):
        sample = domain.read(items[f"whucd_{n:05d}"])
        assert sample.image.shape == (2, 3, 256, 256) and sample.mask is not None and sample.mask.shape == (256, 256)
    assert time.perf_counter() - began < 5
    for y, x in ((top, left), (top + 256, left + 256)):
        before, after, changed = pair(np.random.default_rng([0, y, x]), (256, 256))
        name = f"whucd_{y // 256 * 126 + x // 256 + 1:05d}"
        np.testing.assert_array_equal(mask_of(domain, name), changed)
        image = domain.read(items[name], mask=False).image
        np.testing.assert_array_equal(np.rint(image * 255), np.stack([before, after]).transpose(0, 3, 1, 2))
    dates = (tmp_path / "before" / "before.tif", tmp_path / "after" / "after.tif")
    scene = of_pair(*dates, domain.card, domain.reading)
    assert isinstance(scene, Scene) and scene.shape == (2, 3, 15354, 32507)
    np.testing.assert_array_equal(scene.read(top, left, 512, 512)[..., 256:, 256:], image)
    assert any("whole-patch grid" in remark for remark in domain.remarks())
    assert sum(path.stat().st_size for path in domain.files()) < 5e6


def test_a_flat_set_and_a_scene_divide_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scene(tmp_path / "scene", 1100, 1300, side=256)
    scene = WHUCD(tmp_path / "scene")
    assert "4 rows of 5 patches" in scene.layout
    write_patches(tmp_path / "flat", NAMES, seed=0, side=16)
    flat = WHUCD(tmp_path / "flat")
    assert [[i.id for i in scene.index(s)] for s in SPLITS] == [[i.id for i in flat.index(s)] for s in SPLITS]
    third = scene.read(everything(scene)["whucd_00003"]).image
    (
        tmp_path / "scene" / "change label" / "change_label.tif"
    ).unlink()  # what a model of patches is set to work on has no label
    dates = [tmp_path / "scene" / date / f"{date}.tif" for date in ("before", "after")]
    monkeypatch.setattr(pictures, "LARGE", 0)
    there = of_pair(*dates, flat.card, flat.reading)
    assert isinstance(there, Scene) and there.shape == (2, 3, 1100, 1300)
    np.testing.assert_array_equal(there.read(0, 512, 256, 256), third)


def test_bad_patches_are_named(flat: Path) -> None:
    items = everything(WHUCD(flat))
    Pillow.new("RGB", (64, 64)).save(flat / "label" / f"{NAMES[0]}.png")
    Pillow.fromarray(np.full((64, 64), 128, np.uint8)).save(flat / "label" / f"{NAMES[1]}.png")
    Pillow.new("L", (64, 60)).save(flat / "label" / f"{NAMES[2]}.png")
    Pillow.new("RGB", (60, 64)).save(flat / "B" / f"{NAMES[3]}.png")
    cut = flat / "A" / f"{NAMES[4]}.png"
    cut.write_bytes(cut.read_bytes()[:3000])
    domain = WHUCD(flat)
    for name, message in zip(
        NAMES,
        (
            r"label/.*mode RGB holds colours",
            r"label/.*label value 128 on 4096 pixels",
            r"label/.*64 x 60 pixels, but .*A/.*64 x 64",
            r"B/.*60 x 64 pixels, but .*A/",
            r"A/.*cannot be read as an image",
        ),
        strict=False,
    ):
        with pytest.raises(InputError, match=message) as caught:
            domain.read(items[name])
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_things_are_named(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither A/, train/A/ nor before/before\.tif"):
        WHUCD(tmp_path / "nothing")
    shutil.copytree(flat, tmp_path / "scored" / "test")
    with pytest.raises(InputError, match=r"neither A/, train/A/"):
        WHUCD(tmp_path / "scored")
    (flat / "B" / f"{NAMES[3]}.png").unlink()
    with pytest.raises(InputError, match=rf"A/{NAMES[3]}\.png: has no counterpart in B/ \(1 missing"):
        WHUCD(flat).index("train")
    for ending in ("tif", "png"):
        shutil.copy(flat / "A" / f"{NAMES[3]}.png", flat / "B" / f"{NAMES[3]}.{ending}")
    with pytest.raises(InputError, match=rf"B/{NAMES[3]}\.\w+: .* is there too"):
        WHUCD(flat).index("train")
    (flat / "B" / f"{NAMES[3]}.tif").unlink()
    shutil.rmtree(flat / "label")
    with pytest.raises(InputError, match=r"label: holds no images"):
        WHUCD(flat).index("train")
    (flat / "label").mkdir()
    with pytest.raises(InputError, match=r"label: holds no images"):
        WHUCD(flat).index("train")


@needs_lists
def test_budgets_are_the_communitys() -> None:
    grid = {f"whucd_{n:05d}" for n in range(1, 7435)}
    families = read(LISTS, WHUCD)
    assert {f.budget: len(f.labelled or ()) for f in families} == WHUCD.sizes
    for family in families:
        assert family.name == "unimatch"
        parts = [set(part or ()) for part in (family.labelled, family.unlabelled, family.val, family.test)]
        assert set().union(*parts) == grid and sum(map(len, parts)) == len(grid)


@needs_lists
def test_installed_lists_divide_a_fabricated_set_and_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(root: Path, names: list[str], seed: int, one_bit: bool) -> None:
        for folder in pairs.FOLDERS:
            (root / folder).mkdir(parents=True)
            for name in names:
                (root / folder / f"{name}.png").touch()

    install(WHUCD, LISTS)
    monkeypatch.setattr(diffmatch_whu_cd, "write_patches", touch)
    WHUCD.fabricate(tmp_path / "patches")
    split = make_split(WHUCD(tmp_path / "patches"), "5%", seed=0, partial=True)
    assert (split.family, len(split.labelled), len(split.unlabelled), len(split.val), len(split.test)) == (
        "unimatch",
        297,
        297,
        74,
        74,
    )
    write_scene(tmp_path / "scene", 15354, 32507, side=256)
    domain = WHUCD(tmp_path / "scene")
    split = make_split(domain, "10%", seed=0)
    assert {item.id for item in split.labelled} == set(ids_of(LISTS / "10%" / "labeled.txt", WHUCD))
    assert (len(split.unlabelled), len(split.val), len(split.test)) == (5353, 743, 744)
    assert not any("lists" in remark for remark in domain.remarks())


def test_fabrication_follows_its_seed_and_is_skewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digests(root: Path) -> dict[str, str]:
        return {
            str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*.png"))
        }

    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write_patches(tmp_path / name, NAMES[:3], seed, 48)
    assert digests(tmp_path / "one") == digests(tmp_path / "same")
    assert not digests(tmp_path / "one").items() & digests(tmp_path / "other").items()
    shares = [pair(np.random.default_rng([5, n]), (80, 80))[2].mean() for n in range(120)]
    assert 0.03 < np.mean(shares) < 0.06  # the paper's Table 11: 4.45 %
    assert 0.3 < np.mean(np.array(shares) > 0) < 0.7

    names: list[list[str]] = []
    monkeypatch.setattr(diffmatch_whu_cd, "write_patches", lambda root, drawn, seed, one_bit: names.append(drawn))
    WHUCD.fabricate(tmp_path, 0)
    WHUCD.fabricate(tmp_path, 0)
    assert names[0] == names[1] and len(set(names[0])) == 744 and all(1 <= int(name[6:]) <= 7434 for name in names[0])


def test_a_pixels_difference_alone_does_not_say_change() -> None:
    """The best threshold on the difference of two pixels stays far below what a small network reaches."""
    drawn = [pair(np.random.default_rng([6, n]), (80, 80)) for n in range(60)]
    difference = np.concatenate([np.abs(a.astype(float) - b).mean(2).ravel() for a, b, _ in drawn])
    truth = np.concatenate([changed.ravel() for _, _, changed in drawn])
    scores = [(truth & (difference > t)).sum() / (truth | (difference > t)).sum() for t in range(10, 160, 5)]
    assert max(scores) < 0.25
