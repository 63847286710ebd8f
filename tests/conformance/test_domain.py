"""The conformance suite passes a sound plugin and catches each way of breaking it; all installed plugins pass it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch import plugins
from diffmatch.conformance.domain import CHECKS
from diffmatch.data.opening import find_data
from diffmatch.domain import (
    Card,
    ClassInfo,
    Domain,
    InputError,
    Item,
    Protocol,
    Reading,
    Recipe,
    Sample,
    TopBottom,
)
from diffmatch.readers import masks
from diffmatch.readers.image import photograph

SOUND = list(plugins.domains.usable())


class Sound(Domain):
    """Photographs of 32 x 32 with index masks, split by the first letter of the name."""

    card = Card(
        version=1,
        name="sound",
        title="Sound",
        modality="photographs",
        label_unit="images",
        budgets=("8",),
        metric="mean_iou",
        classes=(ClassInfo(name="ground", color=(0, 0, 0)), ClassInfo(name="thing", color=(255, 0, 0))),
        head_tail=TopBottom(k=1),
        protocols=(Protocol(name="whole", title="whole image", mode="image"),),
        licence="none",
        citation="nobody",
        source="nowhere",
    )
    recipe = Recipe(paper={}, quick={})

    def __init__(self, root):
        super().__init__(root)
        if not (root / "images").is_dir():
            raise InputError(f"{root}: no images/; put photographs there")

    def index(self, split):
        names = [p.stem for p in sorted((self.root / "images").glob(f"{split}*.png"))]
        return [Item(name, name) for name in names]

    def read(self, item, mask=True):
        image = photograph(self.root / "images" / f"{item.id}.png")[None]
        return Sample(image, self.labels(item) if mask else None)

    def labels(self, item):
        path = self.root / "masks" / f"{item.id}.png"
        return masks.read(path).classes({0: 0, 1: 1, 255: 255})

    def files(self):
        return sorted(self.root.rglob("*.png"))

    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        rng = np.random.default_rng(seed)
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True)
        for name in [f"train{n:02d}" for n in range(16)] + ["val0", "test0", "test1"]:
            mask, left = np.zeros((32, 32), np.uint8), rng.integers(5, 20)
            mask[4:9, left : left + 6] = 1
            mask[9, 6:12] = 255
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")


def changed(**update):
    return Sound.card.model_copy(update=update)


class NoLicence(Sound):
    card = changed(licence=" ")


class TwoOfAName(Sound):
    card = changed(classes=(ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="a", color=(1, 0, 0))))


class Overlapping(Sound):
    card = changed(head_tail=TopBottom(k=2))


class WrongMean(Sound):
    recipe = Recipe(paper={"data.mean": (0.0,), "data.std": (1.0,)}, quick={})


class Misspelt(Sound):
    recipe = Recipe(paper={"method.treshold": 0.0}, quick={})


class AcceptsAnything(Sound):
    def __init__(self, root):
        Domain.__init__(self, root)

    def index(self, split):
        return super().index(split) or [Item("ghost", "ghost")]

    def read(self, item, mask=True):
        return super().read(item, mask) if item.id != "ghost" else Sample(np.zeros((1, 3, 4, 4), np.float32))


class TwiceTheSameId(Sound):
    def index(self, split):
        return [Item(i.id[-1], i.case) for i in super().index(split)]


class Restless(Sound):
    def index(self, split):
        items = super().index(split)
        return [items[i] for i in np.random.default_rng().permutation(len(items))]


class NoTest(Sound):
    def index(self, split):
        return super().index(split) if split != "test" else []


class ForeignFiles(Sound):
    def files(self):
        return [Path(__file__)]


class ForgottenFiles(Sound):
    def index(self, split):
        return [replace(item, ref=self.root / "masks" / f"{item.id}.png") for item in super().index(split)]

    def files(self):
        return sorted((self.root / "images").iterdir())


class Bytes(Sound):
    def read(self, item, mask=True):
        sample = super().read(item, mask)
        return Sample((sample.image * 255).astype(np.float32), sample.mask)


class Doubles(Sound):
    def read(self, item, mask=True):
        sample = super().read(item, mask)
        return Sample(sample.image.astype(np.float64), sample.mask)


class GivesMasksAway(Sound):
    def read(self, item, mask=True):
        return super().read(item, True)


class OtherSize(Sound):
    def labels(self, item):
        return super().labels(item)[1:]


class UnknownClass(Sound):
    def labels(self, item):
        return super().labels(item) + np.uint8(1)


class LooksAtMasks(Sound):
    def read(self, item, mask=True):
        mask_seen = self.labels(item)
        return Sample(super().read(item, False).image, mask_seen if mask else None)


class LeaksTrainIntoTest(Sound):
    def index(self, split):
        return super().index("train")[:4] if split == "test" else super().index(split)


class CannotTravel(Sound):
    def __init__(self, root):
        super().__init__(root)
        self.handle = lambda: None


class Tolerant(Sound):
    def read(self, item, mask=True):
        try:
            return super().read(item, mask)
        except InputError:
            return Sample(np.zeros((1, 3, 32, 32), np.float32), np.zeros((32, 32), np.uint8) if mask else None)


class Talkative(Sound):
    def read(self, item, mask=True):
        try:
            return super().read(item, mask)
        except InputError as error:
            raise ValueError("broken") from error


class Random(Sound):
    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        super().fabricate(root, np.random.default_rng().integers(1 << 30))


class Balanced(Sound):
    def labels(self, item):
        mask = super().labels(item).copy()
        mask[:16], mask[16:] = 0, 1
        return mask


class OneClass(Sound):
    def labels(self, item):
        return np.zeros_like(super().labels(item))


class Infinite(Sound):
    def read(self, item, mask=True):
        sample = super().read(item, mask)
        return Sample(sample.image + np.float32(np.inf), sample.mask)


class MasklessTest(Sound):
    def read(self, item, mask=True):
        return super().read(item, mask and not item.id.startswith("test"))


class Mirrored(Sound):
    def read(self, item, mask=True):
        sample = super().read(item, mask)
        return Sample(sample.image[..., ::-1], sample.mask)


class OfAnotherFormat(Sound):
    endings = (".png",)

    @classmethod
    def outside(cls, path):
        return photograph(path)[None, ..., ::-1]


class Mistaken(Sound):
    reading = Reading(kind="picture", values=(1, 0))


class Alike(Sound):
    reading = Reading(kind="picture", values=(1, 1))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sound") / "data"
    Sound.fabricate(root)
    return root


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", CHECKS)
def test_a_sound_plugin_passes(name, root):
    CHECKS[name](Sound, root)


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("card", NoLicence, "licence is empty"),
        ("card", TwoOfAName, "class name occurs twice"),
        ("card", Overlapping, "overlap"),
        ("card", WrongMean, "need 3 values"),
        ("card", Misspelt, "no installed method has the option 'method.treshold'"),
        ("layout", AcceptsAnything, "nothing was said"),
        ("index", TwiceTheSameId, "an id occurs twice"),
        ("index", Restless, "not the same twice"),
        ("index", NoTest, r"index\('test'\) is empty"),
        ("index", ForeignFiles, "not a file below the root"),
        ("index", ForgottenFiles, r"does not name .*\.png, which an item refers to"),
        ("read", Bytes, "scale images"),
        ("read", Doubles, "float64"),
        ("read", GivesMasksAway, "returns a mask"),
        ("read", OtherSize, "differ in size"),
        ("read", UnknownClass, "which is no class"),
        ("read", Infinite, "not finite"),
        ("hidden masks", LooksAtMasks, "opens train.*png, where the mask is"),
        ("splits", LeaksTrainIntoTest, "is both in"),
        ("pickles", CannotTravel, "."),
        ("damaged files", Tolerant, "nothing was said"),
        ("damaged files", Talkative, "ValueError instead of InputError"),
        ("fabricate", Random, "the same files twice"),
        ("fabricate", Balanced, "not skewed"),
        ("fabricate", OneClass, "no labelled pixel of thing"),
        ("scored case", MasklessTest, "has no mask"),
        ("outside", Mirrored, r"read by `reading`, it differs from read\(\)"),
        ("outside", OfAnotherFormat, r"read by `outside`, it differs from read\(\)"),
        ("outside", Mistaken, "finds other classes"),
        ("outside", Alike, "a number of its own"),
    ],
)
def test_what_is_broken_is_caught(name, broken, message, root):
    with pytest.raises(Exception, match=message):
        CHECKS[name](broken, root)


class CannotInvent(Sound):
    fabricate = vars(Domain)["fabricate"]


@pytest.mark.parametrize("name", CHECKS)
def test_a_domain_that_cannot_invent_data_passes_on_given_data(name, root):
    reason = CHECKS[name](CannotInvent, root)
    assert (reason == "this domain cannot invent data") == (name == "fabricate")


@pytest.mark.parametrize("dataset", SOUND)
@pytest.mark.parametrize("name", CHECKS)
def test_installed_plugins_conform(name, dataset, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_CACHE", str(tmp_path_factory.getbasetemp() / "conformance"))
    domain = plugins.domain(dataset)
    if not domain.can_fabricate():
        pytest.skip(f"{dataset} cannot invent data")
    CHECKS[name](domain, find_data(domain, None)[0])
