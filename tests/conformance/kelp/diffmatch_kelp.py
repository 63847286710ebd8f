"""Kelp forests from the air: the whole of a stranger's domain."""

from __future__ import annotations

from dataclasses import replace

from diffmatch.domain import VOID, Card, Item, SplitName, TopBottom
from diffmatch.readers.photographs import Photographs, paired

SURVEYS: dict[str, SplitName] = {"2021": "train", "2022": "train", "2023": "test"}
LABELS = {0: 0, 100: 1, 200: 2, 255: VOID}


class Kelp(Photographs):
    """Aerial photographs of a coast in three years; the last year is the test.

    Dataset features:

    * photographs from a drone at 80 m, of which about half have a mask

    Dataset format:

    * `tiles/YEAR_NUMBER.jpg`: photographs, RGB
    * `labels/YEAR_NUMBER.png`: one number per pixel, 0 water, 100 kelp, 200 rock, 255 unknown

    Dataset classes:

    0. water
    1. kelp
    2. rock

    If you use this dataset in your research, please cite the following paper:

    * A. Stranger, Kelp from the air, 2026

    Dataset licence:

    * CC BY 4.0
    """

    card = Card(
        name="kelp",
        title="Kelp forests",
        modality="aerial photographs",
        classes=("water", "kelp", "rock"),
        background=False,
        head_tail=TopBottom(k=1),
        licence="CC BY 4.0",
        citation="A. Stranger, Kelp from the air, 2026",
        source="take the archive from kelp.example and unpack it, so that DIR/tiles/ and DIR/labels/ exist",
    )
    needs = ("tiles", "labels")
    labels = LABELS

    def index(self, split: SplitName) -> list[Item]:
        items = [
            replace(item, case=item.id.split("_")[0]) for item in paired(self.root / "tiles", self.root / "labels")
        ]
        return [item for item in items if SURVEYS.get(item.case) == split]
