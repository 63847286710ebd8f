"""Outlines lie inside their regions in the classes' colours, the rest of the picture stays, and a legend says what is
there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt

from diffmatch.model.look import Look
from diffmatch.model.overlay import GAP, WIDTH, legend, outlined, overlay

LOOK = Look(
    ("background", "boat", "quay", "buoy"), ((0, 0, 0), (255, 240, 10), (40, 0, 120), (0, 200, 0)), (0, 1, 2, 3), True
)
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)


def regions() -> np.ndarray:
    """Two regions that touch, one of them at the border, and a single pixel."""
    labels = np.zeros((90, 120), np.uint8)
    labels[20:60, 30:60] = 1
    labels[30:90, 60:100] = 2
    labels[5, 5] = 3
    return labels


def test_outlines_have_the_classes_colours() -> None:
    labels = regions()
    drawn = outlined(PIXELS, labels, LOOK)
    assert all((drawn[20 + d, 30:60] == LOOK.colors[1]).all() for d in range(WIDTH)), "an upper edge"
    assert (drawn[40, 60 - WIDTH : 60 + WIDTH] == [LOOK.colors[1]] * WIDTH + [LOOK.colors[2]] * WIDTH).all(), "a seam"
    assert (drawn[5, 5] == LOOK.colors[3]).all(), "a single pixel"


def test_a_halo_of_one_pixel_and_nothing_else_changes() -> None:
    labels = regions()
    drawn = outlined(PIXELS, labels, LOOK)
    changed = (drawn != PIXELS).any(-1)
    outside = distance_transform_edt(labels == 0)
    assert not changed[outside > 1].any(), "the background stays"
    inside = distance_transform_edt(np.pad(labels == 2, ((0, 9), (0, 0)), mode="edge"))[:90]
    assert not changed[(labels == 2) & (inside > WIDTH + 1)].any(), "the region stays clear, and so does the border"
    assert (drawn[19, 40] == 0).all() and (drawn[20 + WIDTH, 40] == 0).all(), "dark around a bright colour"
    assert (drawn[29, 80] == 255).all() and (drawn[30 + WIDTH, 80] == 255).all(), "bright around a dark colour"


def test_every_colour_differs_from_its_halo() -> None:
    """By a third of the range of luminance at least, so that it is seen on a ground of the same colour."""
    weights = np.array([0.299, 0.587, 0.114])
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    for color in [(128, 128, 128), (0, 0, 0), (255, 255, 255), (220, 20, 60), (86, 180, 233)]:
        ground = np.full((40, 40, 3), color, np.uint8)
        drawn = outlined(ground, labels, replace(LOOK, colors=((0, 0, 0), color, (0, 0, 0), (0, 0, 0))))
        assert abs(drawn[9, 20] @ weights - color @ weights) > 85
        assert (drawn[10, 20] == color).all()


def test_without_background_every_class_has_an_outline() -> None:
    look = replace(LOOK, background=False, colors=((200, 0, 0), *LOOK.colors[1:]))
    drawn = outlined(PIXELS, regions(), look)
    assert (drawn[19, 40] == (200, 0, 0)).all()


def test_one_class_alone_leaves_the_picture() -> None:
    assert np.array_equal(outlined(PIXELS, np.full((90, 120), 2, np.uint8), LOOK), PIXELS)


def test_the_legend_lists_the_classes_that_occur() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:25] = 2
    labels[50, 50] = 3
    assert legend(labels, LOOK) == [
        (None, "background (not drawn)  75.0 %"),
        (LOOK.colors[2], "quay  25.0 %"),
        (LOOK.colors[3], "buoy  < 0.1 %"),
    ]
    assert legend(np.stack([labels, labels]), replace(LOOK, background=False))[0] == ((0, 0, 0), "background  75.0 %")


def test_the_sheet_holds_picture_and_swatches() -> None:
    """A legend of long names widens the sheet; every swatch is below the picture."""
    look = replace(LOOK, names=("background", "a boat" * 20, "quay", "buoy"))
    image = np.zeros((1, 3, 600, 100), np.float32)
    labels = np.zeros((600, 100), np.uint8)
    labels[100:200, 20:80], labels[300:400, 20:80] = 1, 2
    sheet = np.asarray(overlay(image, labels, look))
    assert sheet.shape[1] > 800
    assert np.array_equal(
        sheet[GAP : GAP + 600, GAP : GAP + 100], outlined(np.zeros((600, 100, 3), np.uint8), labels, look)
    )
    under = sheet[GAP + 600 :].reshape(-1, 3)
    found = [(under == color).all(1).sum() for color in look.colors[1:]]
    assert found[0] == found[1] > 100 and found[2] == 0


def test_dates_lie_side_by_side() -> None:
    image = np.zeros((2, 1, 90, 512), np.float32)
    image[1] = 1
    sheet = np.asarray(overlay(image, np.zeros((90, 512), np.uint8), LOOK))[GAP:]
    assert (sheet[:90, GAP : GAP + 512] == 0).all() and (sheet[:90, 2 * GAP + 512 : 2 * GAP + 1024] == 255).all()
    assert sheet.shape[1] == 1024 + 3 * GAP


def test_slices_lie_in_rows_of_four() -> None:
    """Each is found at its place by its own grey value."""
    image = np.ones((1, 1, 12, 512, 90), np.float32) * (np.arange(12) * 20 / 255).reshape(12, 1, 1).astype(np.float32)
    sheet = np.asarray(overlay(image, np.zeros((12, 512, 90), np.uint8), LOOK))
    places = [
        (GAP + 40 + row * (512 + GAP + 30), GAP + 40 + column * (90 + GAP)) for row in range(3) for column in range(4)
    ]
    assert [int(sheet[place][0]) for place in places] == [*range(0, 240, 20)]
