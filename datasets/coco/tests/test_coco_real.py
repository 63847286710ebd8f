"""54 real photographs of COCO with their annotations: crowds, gaps in the ids, both layouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from pycocotools import coco  # type: ignore[import-untyped]

from diffmatch.domain import VOID, SplitName
from diffmatch_coco import COCO

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "coco_mini"
PARTS: dict[SplitName, str] = {"train": "train2017", "test": "val2017"}
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real photographs are not at {DATA}")


@pytest.mark.parametrize("part", PARTS)
def test_masks_are_the_annotations_painted_pixel_by_pixel(part: SplitName) -> None:
    """A pixel is of the smallest object on it; void where only a crowd lies; background elsewhere. Category 90 is class
    80: ten of the ids up to it are not in use."""
    domain, api = COCO(DATA), coco.COCO(str(DATA / "annotations" / f"instances_{PARTS[part]}.json"))
    classes = {number: c for c, number in enumerate(sorted(api.getCatIds()), 1)}
    assert len(classes) == 80 and max(classes) == 90
    crowds, seen = 0, set()
    for item in domain.index(part):
        sample = domain.read(item)
        assert sample.mask is not None and sample.image.shape == (1, 3, *sample.mask.shape)
        annotations = api.loadAnns(api.getAnnIds(imgIds=int(item.id)))
        nothing = np.zeros(sample.mask.shape, bool)
        crowd = np.any([nothing, *(api.annToMask(a) for a in annotations if a["iscrowd"])], 0)
        drawn = [(api.annToMask(a).astype(bool), classes[a["category_id"]]) for a in annotations if not a["iscrowd"]]
        smallest = np.min([np.where(object_, object_.sum(), np.inf) for object_, _ in drawn], 0)
        right = np.where(crowd, sample.mask == VOID, sample.mask == 0) & np.isinf(smallest)
        for object_, c in drawn:  # of two objects of one size either may lie on top
            right |= object_ & (object_.sum() == smallest) & (sample.mask == c)
        assert right.all(), item.id
        crowds += bool((sample.mask == VOID).any())
        seen |= set(np.unique(sample.mask)) - {VOID}
    assert crowds >= 5 and len(seen) > 40 and max(seen) <= 80


def test_ready_masks_of_the_same_photographs_are_the_same(tmp_path: Path) -> None:
    painted = COCO(DATA)
    for folder in PARTS.values():
        (tmp_path / folder).symlink_to(DATA / folder)
    (tmp_path / "masks").mkdir()
    for part in PARTS:
        for item in painted.index(part):
            drawn = painted.read(item).mask
            assert drawn is not None
            Pillow.fromarray(drawn).save(tmp_path / "masks" / f"{item.id}.png")
    ready = COCO(tmp_path)
    for part in PARTS:
        assert [item.id for item in ready.index(part)] == [item.id for item in painted.index(part)]
        for one, two in zip(ready.index(part), painted.index(part), strict=True):
            np.testing.assert_array_equal(np.asarray(ready.read(one).mask), np.asarray(painted.read(two).mask))


def test_a_part_of_the_set_is_reported() -> None:
    images = len(json.loads((DATA / "annotations" / "instances_train2017.json").read_text())["images"])
    assert f"train2017: {images} photographs, 118,287 in the full set" in COCO(DATA).remarks()
