"""Invented photographs with COCO's annotation format, for runs without the data.

Nothing here looks like the real thing. What is like it: ids with gaps, polygons in one part or two, crowd regions as
run lengths (plain and compressed), objects that overlap, photographs in gray, a few classes everywhere and many that
are rare and small.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pycocotools import mask as rasters  # type: ignore[import-untyped]

from diffmatch.domain import Domain
from diffmatch.invented import painting
from diffmatch.readers.lists import installed
from diffmatch_coco_instances import region_of
from diffmatch_coco_things import THINGS

COMMON = (
    "person",
    "dining table",
    "couch",
    "bed",
    "car",
    "train",
    "bus",
    "cat",
    "dog",
    "pizza",
    "chair",
    "truck",
    "horse",
    "elephant",
    "motorcycle",
    "toilet",
    "airplane",
    "giraffe",
    "tv",
    "cake",
)
RARE = ("mouse", "sports ball", "toothbrush", "toaster", "hair drier")
"""Most and least frequent classes; the others lie between, in the order of their ids."""
NAMES = [name for _, name, _ in THINGS]
BETWEEN = tuple(name for name in NAMES if name not in COMMON + RARE)
ORDER = [NAMES.index(name) + 1 for name in (*COMMON, *BETWEEN, *RARE)]
SHARE = np.concatenate([np.full(len(COMMON), 1.0), np.full(len(BETWEEN), 0.45), np.full(len(RARE), 0.33)])
RADIUS = np.concatenate([np.full(len(COMMON), 24.0), np.full(len(BETWEEN), 18.0), np.full(len(RARE), 16.0)])
"""Class indices, their shares of the objects (relative) and their radii in pixels, by place."""
PERSON = 1
HUES = len(ORDER) // 2
"""Colours; half of the classes are plain, the other half striped."""
PLACE = {index: place for place, index in enumerate([*ORDER[-len(RARE) :], *ORDER[: -len(RARE)]])}
"""Colour and pattern of a class index: the rare ones come first, with the colours furthest apart."""

TEST, OBJECTS = 60, 15
LAST_ID = 581_929
"""Image ids of the release end here."""


def palette() -> NDArray[np.float64]:
    """(40, 3) r, g, b in [0, 1]: as far apart as that many can be, none of them dull like the surroundings."""
    levels = np.linspace(0.05, 0.95, 7)
    points = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    points = points[np.ptp(points, 1) > 0.2]
    chosen = [int(points.sum(1).argmin())]
    while len(chosen) < HUES:
        gaps = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(1)
        chosen.append(int(gaps.argmax()))
    return np.asarray(points[chosen])


PALETTE = palette()


def write(root: Path, seed: int, size: int, domain: type[Domain]) -> None:
    """The 1/512 budget's images, as many unlabelled ones x size, 60 x size of val2017; two json files."""
    labelled, unlabelled, test = image_ids(seed, size, domain)
    for folder, parts in (("train2017", (labelled, unlabelled)), ("val2017", (test,))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "annotations").mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for part, ids in enumerate(parts):
            rng = np.random.default_rng([seed, len(folder), part])
            hands = deal(rng, len(ids))
            for n, (number, hand) in enumerate(zip(ids, hands, strict=True)):
                pixels, objects = scene(np.random.default_rng([seed, number]), hand, crowd=n % 6 == 0)
                name = f"{number:012d}.jpg"
                picture = Pillow.fromarray(pixels)
                (picture.convert("L") if n % 40 == 7 else picture).save(root / folder / name, quality=92, subsampling=0)
                images.append(
                    {"id": number, "file_name": name, "height": pixels.shape[0], "width": pixels.shape[1], "license": 1}
                )
                for about in objects:
                    annotations.append({"id": 100_000 + 7 * len(annotations), "image_id": number, **about})
        content = {
            "info": {"description": "invented by diffmatch-coco", "year": 2017},
            "licenses": [{"id": 1, "name": "invented", "url": ""}],
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name, "supercategory": "thing"} for i, name, _ in THINGS],
        }
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content))


def image_ids(seed: int, size: int, domain: type[Domain]) -> tuple[list[int], list[int], list[int]]:
    """Labelled, unlabelled and test images.

    Of an installed list of the smallest budget where there is one, the others by the seed.
    """
    family = next(iter(installed(domain, domain.card.budgets[0])), None)
    count = domain.sizes[domain.card.budgets[0]]
    listed = [int(i) for i in (family.labelled or () if family else ())]
    scored = [int(i) for i in (family.test or () if family else ())]
    spare = np.random.default_rng([seed, 1]).permutation(LAST_ID) + 1
    free = iter(int(i) for i in spare if i not in {*listed, *scored})
    labelled = sorted(listed or [next(free) for _ in range(count)])
    test = sorted((scored or [next(free) for _ in range(TEST * size)])[: TEST * size])
    return labelled, sorted(next(free) for _ in range(count * size)), test


def deal(rng: np.random.Generator, count: int) -> list[list[int]]:
    """The classes of each of `count` images' objects.

    A deck with every class's share, none less than thrice (and one in twenty images).
    """
    copies = np.maximum(np.rint(SHARE / SHARE.sum() * count * OBJECTS), max(3, count // 20)).astype(int)
    deck = rng.permutation(np.repeat(ORDER, copies))
    return [[int(c) for c in deck[k::count]] for k in range(count)]


def scene(rng: np.random.Generator, hand: Sequence[int], crowd: bool) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """A photograph (H, W, 3) and its annotations without ids.

    Objects lie as the masks are painted: the smaller on top.
    """
    shape = (96, 128) if rng.random() < 0.7 else (128, 96)
    image = painting.surroundings(rng, shape)
    annotations: list[dict[str, Any]] = []
    drawn = []
    if crowd:
        people = [outline(rng, shape, 6.0, PERSON) for _ in range(4)]
        region = region_of(people, shape)
        drawn.append((shape[0] * shape[1], PERSON, region))
        runs = run_lengths(region)
        if rng.random() < 0.5:
            runs["counts"] = rasters.frPyObjects(runs, *shape)["counts"].decode()
        annotations.append(about(PERSON, region, runs, crowd=1))
    for index in hand:
        radius = RADIUS[ORDER.index(index)] * rng.uniform(0.8, 1.2)
        outlines = [outline(rng, shape, radius, index)]
        if rng.random() < 0.1:
            outlines.append(outline(rng, shape, radius / 2, index))
        region = region_of(outlines, shape)
        drawn.append((int(region.sum()), index, region))
        annotations.append(about(index, region, outlines, crowd=0))
    for _, index, region in sorted(drawn, key=lambda one: -one[0]):
        rows, columns = (
            slice(where.min(), where.max() + 1) if where.size else slice(0) for where in np.nonzero(region)
        )
        inside = region[rows, columns]
        image[rows, columns][inside] = texture(rng, inside.shape, index)[inside]
    return photograph(rng, image), annotations


def texture(rng: np.random.Generator, shape: tuple[int, int], index: int) -> NDArray[np.float64]:
    """(H, W, 3): the surface of an object: plain, or striped with something much darker."""
    rows = np.arange(shape[0], dtype=np.float64)[:, None]
    period = rng.uniform(5.5, 7.5)
    striped, hue = divmod(PLACE[index], HUES)
    wave = np.sin(2 * np.pi * rows / period + rng.uniform(0, 2 * np.pi)) if striped else np.ones((shape[0], 1))
    color = PALETTE[hue] + rng.normal(0, 0.02, 3)
    return np.broadcast_to(color * np.where(wave > 0, 1.0, 0.2)[..., None], (*shape, 3))


def photograph(rng: np.random.Generator, image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: a little more or less light, a tint, noise."""
    lit = image * rng.uniform(0.9, 1.05) * rng.normal(1, 0.02, 3) + rng.normal(0, 0.025, image.shape)
    return np.asarray(np.rint(np.clip(lit, 0, 1) * 255), np.uint8)


def outline(rng: np.random.Generator, shape: tuple[int, int], radius: float, index: int) -> list[float]:
    """x, y, x, y, ... of a closed outline in the image, with the class's number of lobes."""
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    edge = radius * (1 + 0.22 * np.cos(painting.look(index).lobes * angle))
    u, v = edge * np.cos(angle), edge * np.sin(angle) * stretch
    x = rng.uniform(0, shape[1]) + u * np.cos(turn) - v * np.sin(turn)
    y = rng.uniform(0, shape[0]) + u * np.sin(turn) + v * np.cos(turn)
    points = np.column_stack([x.clip(0, shape[1]), y.clip(0, shape[0])]).round(2)
    return [float(value) for value in points.ravel()]


def run_lengths(region: NDArray[np.bool_]) -> dict[str, Any]:
    """Plain run lengths, column by column, beginning with those outside."""
    flat = np.concatenate([[False], region.T.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [region.size]]))
    return {"counts": [int(n) for n in counts], "size": list(region.shape)}


def about(index: int, region: NDArray[np.bool_], segmentation: Any, crowd: int) -> dict[str, Any]:
    """One annotation without its ids."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = (
        [float(n) for n in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)] if region.any() else [0.0] * 4
    )
    area = float(region.sum())
    return {
        "category_id": THINGS[index - 1][0],
        "iscrowd": crowd,
        "area": area,
        "bbox": box,
        "segmentation": segmentation,
    }
