"""The invented PASCAL set: its formats, its names, and what its pixels tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from diffmatch.readers.lists import ids_of
from diffmatch_pascal import NAMES, Pascal, _names, color
from diffmatch_pascal_phantom import ORDER, present, scene, write_scene

LISTS = Path(__file__).parents[3].parent / "shared" / "splits" / "unimatch" / "pascal"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"the community's split lists are not at {LISTS}")
PALETTE = bytes(part for index in range(256) for part in color(index))


@pytest.fixture(scope="module")
def fabricated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pascal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFMATCH_SPLITS", str(root / "store"))
        Pascal.fabricate(root, seed=0)
    return root


def test_invented_set_has_the_formats_quirks_and_skewed_classes(fabricated: Path) -> None:
    domain = Pascal(fabricated)
    assert (len(domain.index("train")), len(domain.index("test"))) == (184, 32)
    folder = fabricated / "VOCdevkit" / "VOC2012"
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.png"):
        with Image.open(path) as picture:
            found.setdefault(f"{path.parent.name} {picture.mode}", set()).add(path.stem)
    assert found.keys() == {"SegmentationClass P", "SegmentationClassAug L"}
    official = {*ids_of(folder / "ImageSets/Segmentation/trainval.txt", Pascal)}
    assert official == found["SegmentationClass P"] and not official & found["SegmentationClassAug L"]
    pixels, images = np.zeros(256, int), {"train": np.zeros(256, int), "test": np.zeros(256, int)}
    for split, count in images.items():
        for item in domain.index(split):  # type: ignore[arg-type]
            mask = domain.read(item).mask
            assert mask is not None and 255 in mask
            own = np.bincount(mask.ravel(), minlength=256)
            pixels += own
            count += own > 0
    assert images["train"][:21].min() >= 12 and images["test"][:21].min() >= 2
    assert pixels[[*ORDER[:5]]].mean() > 1.4 * pixels[[*ORDER[-5:]]].mean() and pixels[0] > 20 * pixels[:21].min()


@needs_lists
@pytest.mark.usefixtures("classic")
def test_invented_set_takes_the_names_of_installed_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touch(seed: int, number: int, photograph: Path, mask: Path, palette: bytes | None) -> None:
        photograph.touch()
        mask.touch()

    monkeypatch.setattr("diffmatch_pascal.write_scene", touch)
    Pascal.fabricate(tmp_path / "set", seed=3)
    domain = Pascal(tmp_path / "set")
    labelled, val, official = (
        set(ids_of(LISTS / name, Pascal)) for name in ("92/labeled.txt", "val.txt", "1464/labeled.txt")
    )
    train, test = ({item.id for item in domain.index(split)} for split in ("train", "test"))
    assert labelled < train and len(train) == 184 and test < val
    assert all(
        (item.ref.mask.parent.name == "SegmentationClass") == (item.id in official) for item in domain.index("train")
    )


def test_fabrication_follows_its_seed(fabricated: Path, tmp_path: Path) -> None:
    rng = [np.random.default_rng(seed) for seed in (0, 1)]
    (labelled, *_), (other, *_) = (_names(Pascal, generator, 1) for generator in rng)
    assert not set(labelled) & set(other)
    for seed, equal in ((0, True), (1, False)):
        write_scene(seed, 5, tmp_path / "5.jpg", tmp_path / "5.png", PALETTE)
        for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            first = fabricated / "VOCdevkit/VOC2012" / folder / f"{labelled[5]}.{ending}"
            assert (first.read_bytes() == (tmp_path / f"5.{ending}").read_bytes()) == equal


def test_a_pixels_colour_alone_does_not_tell_its_class() -> None:
    """Nearest neighbours in colour, from 92 scenes to 32 others, stay about half wrong."""
    rng = np.random.default_rng(0)
    colours, classes = [], []
    for numbers, count in ((range(92), 10_000), (range(184, 216), 4_000)):
        scenes = [scene(0, number) for number in numbers]
        pixels = np.concatenate([image[mask != 255] for image, mask in scenes])
        some = rng.choice(len(pixels), count, replace=False)
        colours.append(pixels[some].astype(float))
        classes.append(np.concatenate([mask[mask != 255] for _, mask in scenes])[some])
    guess, truth = KNeighborsClassifier(25).fit(colours[0], classes[0]).predict(colours[1]), classes[1]
    assert np.mean([((guess == c) & (truth == c)).sum() / ((guess == c) | (truth == c)).sum() for c in range(21)]) < 0.5


def test_every_stretch_of_scenes_has_every_class() -> None:
    assert set(ORDER) == {*range(1, len(NAMES))}
    for first in (0, 100, 5000):
        assert {place for number in range(first, first + 30) for place in present(0, number)} == {*range(len(ORDER))}
