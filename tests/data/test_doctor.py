"""The doctor's counts against counts by hand, doubles across splits, and real streets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.data.doctor import examine
from diffmatch.data.opening import find_data
from diffmatch.domain import InputError

CAMVID = Path(__file__).parents[2].parent / "shared" / "data" / "camvid"


@pytest.fixture(scope="module")
def found(acdc_root):
    return examine(plugins.domain("acdc"), acdc_root, True)


def test_pixels_are_those_of_the_masks(found, acdc_root):
    domain = plugins.domain("acdc")(acdc_root)
    by_hand = np.zeros(256, np.int64)
    for split in ("train", "val", "test"):
        for item in domain.index(split):
            by_hand += np.bincount(domain.read(item).mask.ravel(), minlength=256)
    assert [c.pixels for c in found.classes] == by_hand[:4].tolist()
    assert [c.name for c in found.classes] == domain.card.names
    assert found.void_pixels == by_hand[255]
    assert sum(c.share for c in found.classes) == pytest.approx(1)
    assert all(sum(c.by_split.values()) == c.pixels for c in found.classes)


def test_counts_ranges_and_budgets(found, acdc_root):
    domain = plugins.domain("acdc")(acdc_root)
    assert {split: count.items for split, count in found.splits.items()} == {
        s: len(domain.index(s)) for s in ("train", "val", "test")
    }
    (channel,) = found.values
    assert (channel.min, channel.max) == (0, 1)
    assert 0 < channel.mean < 1
    families = [("1", "ssl4mis"), ("3", "ssl4mis"), ("7", "ssl4mis"), ("all", "all")]
    assert [(b.budget, b.family) for b in found.budgets] == families
    assert found.duplicates == 0


def test_json_holds_the_classes(acdc_root, capsys):
    assert invoke(["doctor", "acdc", "--data", str(acdc_root), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"name", "pixels", "share"} <= told["classes"][0].keys()
    assert told["classes"][0]["name"] == "background"


def test_the_terminal_shows_it(acdc_root, capsys):
    assert invoke(["doctor", "acdc", "--data", str(acdc_root)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("myocardium", "ssl4mis", "share %", "spacing"))


def test_no_data_is_one_line(tmp_path, capsys):
    (tmp_path / "x.txt").write_text("x")
    assert invoke(["doctor", "acdc", "--data", str(tmp_path)]) == 2
    assert "creatis" in capsys.readouterr().err, "how to get the data"


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"CamVid is not at {CAMVID}")
def test_camvid_shares_equal_a_count_by_hand():
    by_hand = np.zeros(256, np.int64)
    for path in CAMVID.glob("*annot/*.png"):
        by_hand += np.bincount(np.asarray(Image.open(path)).ravel(), minlength=256)
    found = examine(plugins.domain("camvid"), CAMVID, False)
    assert [c.pixels for c in found.classes] == by_hand[:11].tolist()
    assert found.void_pixels == by_hand[11]
    road = next(c for c in found.classes if c.name == "road")
    assert road.share == pytest.approx(by_hand[3] / by_hand[:11].sum())


def test_the_same_picture_in_two_splits_is_found(tmp_path):
    domain = plugins.domain("pascal")
    root, _ = find_data(domain, None)
    opened = domain(root)
    pair = [opened.index("train")[0], opened.index("test")[0]]

    class Copied(domain):
        def index(self, split):
            return [item for item in super().index(split) if item.id in {p.id for p in pair}]

        def read(self, item, mask=True):
            return super().read(next(i for i in super().index("train") if i.id == pair[0].id), mask)

    found = examine(Copied, root, True)
    assert found.duplicates == 1
    assert found.duplicate_examples == [[f"train {pair[0].id}", f"test {pair[1].id}"]]


def test_an_empty_index_is_refused(acdc_root):
    class Empty(plugins.domain("acdc")):
        def index(self, split):
            return []

    with pytest.raises(InputError, match="no usable items"):
        examine(Empty, acdc_root, True)
