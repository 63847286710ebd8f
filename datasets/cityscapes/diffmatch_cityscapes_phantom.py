"""Invented streets in Cityscapes' layout, for runs without the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffmatch.domain import Domain
from diffmatch.invented.streets import PARTS, street
from diffmatch.readers.lists import installed
from diffmatch_cityscapes_labels import CLASSES

SHAPE = (96, 192)
LABELLED, VAL = 186, 32
THINGS = {
    "wall": 0.9,
    "fence": 0.85,
    "pole": 1.1,
    "traffic sign": 3.2,
    "traffic light": 0.6,
    "terrain": 0.35,
    "person": 1.1,
    "rider": 0.25,
    "car": 1.8,
    "truck": 0.0,
    "bus": 0.0,
    "train": 0.0,
    "motorcycle": 0.7,
    "bicycle": 0.85,
    "own car": 1.0,
    "clutter": 0.5,
    "plate": 1.0,
}
RARE = ("truck", "bus", "train", "rider", "truck", "bus", "train", "traffic light")

# labelIds: parts that are no class are the ego vehicle, static things and licence plates, whose -1 is 255 in eight
# bits.
LABEL_IDS = np.array([*(value for value, _ in CLASSES.values()), 1, 4, 255], np.uint8)
BORDER, OUTSIDE = 2, 3
assert tuple(CLASSES) == PARTS[: len(CLASSES)]

CITIES = {
    "train": (
        "aachen",
        "bremen",
        "darmstadt",
        "erfurt",
        "hanover",
        "jena",
        "krefeld",
        "strasbourg",
        "tubingen",
        "weimar",
        "zurich",
    ),
    "val": ("frankfurt", "lindau", "munster"),
    "test": ("berlin",),
}


def write_set(domain: type[Domain], root: Path, seed: int, size: int) -> None:
    """Write leftImg8bit/ and gtFine/: train and val with labelIds, some of 16 bits; test, whose masks are all void."""
    for number, (split, names) in enumerate(_names(domain, seed, size).items()):
        for n, name in enumerate(names):
            photo, parts = street(np.random.default_rng([seed, number, n]), SHAPE, THINGS, sure=RARE[n % len(RARE)])
            ids = LABEL_IDS[parts]
            ids[:, :1], ids[-2:] = BORDER, OUTSIDE
            if split == "test":
                ids = np.where(ids < 4, ids, 0).astype(np.uint8)
            _save(photo, root, "leftImg8bit", split, name, "leftImg8bit")
            if n % 16 == 5:
                wide = ids.astype(np.uint16)
                wide[ids == 255] = 65535
                _save(wide, root, "gtFine", split, name, "gtFine_labelIds")
            else:
                _save(ids, root, "gtFine", split, name, "gtFine_labelIds")
            if n == 0:  # other renderings lie beside the labels and are not read
                _save(np.repeat(ids[..., None], 3, -1), root, "gtFine", split, name, "gtFine_color")


def _save(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], root: Path, kind: str, split: str, name: str, ending: str
) -> None:
    folder = root / kind / split / name.split("_")[0]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}_{ending}.png", compress_level=1)


def _names(domain: type[Domain], seed: int, size: int) -> dict[str, list[str]]:
    """Frames by folder: the labelled members of installed budgets of this size and some others, else drawn."""
    rng = np.random.default_rng([seed, 0xC17])
    counts = {"train": 2 * LABELLED * size, "val": VAL * size, "test": 2}
    names = {split: [_frame(rng, CITIES[split], n) for n in range(count)] for split, count in counts.items()}
    families = [f for f in installed(domain) if f.labelled and f.unlabelled and len(f.labelled) <= LABELLED * size]
    if families:
        labelled = dict.fromkeys(name for f in families for name in f.labelled or ())
        others = [name for name in families[-1].unlabelled or () if name not in labelled]
        names["train"] = [*labelled, *others[: max(LABELLED, counts["train"] - len(labelled))]]
        names["val"] = list(families[-1].test or names["val"])[: counts["val"]]
    return names


def _frame(rng: np.random.Generator, cities: tuple[str, ...], n: int) -> str:
    return f"{rng.choice(cities)}_{n:06d}_000019"
