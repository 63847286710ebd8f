"""Small trained runs that the tests of models share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.records.folder import RunFolder
from diffmatch.running.plan import Job


@pytest.fixture(scope="package")
def volumes(
    job: Callable[..., Job], quietly: Callable[[Job], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run on volumes whose predictions hang on no noise. Read only."""
    return quietly(job(tmp_path_factory.mktemp("volumes"), "supervised", train__steps=3))


@pytest.fixture(scope="package")
def set_of_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of grey pictures whose masks hold 7, 300 and 41. Read only."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "classes.csv").write_text("7,ground\n41,tree\n300,roof\n")
    rng = np.random.default_rng(0)
    for number in range(12):
        classes = rng.integers(0, 3, (5, 6)).repeat(8, 0).repeat(8, 1)
        shade = (classes * 100 + rng.integers(0, 50, classes.shape)).astype(np.uint8)
        for folder, pixels in (("images", shade), ("masks", np.array([7, 41, 300], np.uint16)[classes])):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


@pytest.fixture(scope="package")
def pictures(
    job: Callable[..., Job],
    quietly: Callable[[Job], RunFolder],
    set_of_pictures: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> RunFolder:
    """A run on it that has learnt its classes. Read only."""
    settings = {
        "network__decoder": "unet",
        "data__resize": None,
        "train__loss": "ce",
        "train__steps": 60,
        "train__optimizer": "adamw",
    }
    out = tmp_path_factory.mktemp("runs")
    return quietly(job(out, "supervised", dataset="folder", labels="1/2", data=set_of_pictures, **settings))


@pytest.fixture(scope="package")
def changes(
    job: Callable[..., Job], quietly: Callable[[Job], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run on two dates. Read only."""
    root = tmp_path_factory.mktemp("two-dates")
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for number in range(6):
            dates = rng.integers(0, 200, (2, 40, 48, 3), np.uint8)
            changed = rng.integers(0, 2, (5, 6), np.uint8).repeat(8, 0).repeat(8, 1)
            dates[1][changed == 1] += 50
            for folder, pixels in (("A", dates[0]), ("B", dates[1]), ("label", changed * 255)):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / split / folder / f"{split}_{number}.png")
    settings = {"network__decoder": "pspnet", "network__stride": 4, "train__steps": 2, "data__resize": None}
    out = tmp_path_factory.mktemp("runs")
    return quietly(job(out, "unimatch", dataset="whu_cd", labels="2", data=root, **settings))
