"""Weak and strong views: geometry of image, mask and padding together; photometry apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmatch.data.augment import cutmix_box, normalised, resized, strong, weak
from diffmatch.domain import VOID
from diffmatch.settings import Data

PLAIN = {"scale": (1.0, 1.0), "flip": "none", "mean": (0.0,), "std": (1.0,)}


def data(**changes) -> Data:
    return Data(**(PLAIN | {"crop": 16} | changes))


def picture(height, width, seed=0, classes=200):
    """A mask of many values, and the same numbers as an image."""
    mask = torch.from_numpy(np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8))
    return mask.float()[None, None], mask


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(16, 16), (18, 17), (40, 23)])
def test_without_scale_rotation_and_flip_a_weak_view_is_a_plain_crop(height, width):
    image, mask = picture(height, width)
    corners = set()
    for seed in range(60):
        view = weak(image, mask, data(), np.random.default_rng(seed))
        where = [
            (i, j)
            for i in range(height - 15)
            for j in range(width - 15)
            if torch.equal(mask[i : i + 16, j : j + 16], view.mask)
        ]
        assert len(where) == 1
        i, j = where[0]
        torch.testing.assert_close(view.image, image[..., i : i + 16, j : j + 16], atol=1e-2, rtol=0)
        assert view.inside.all()
        corners.add((i, j))
    places = {(i, j) for i in range(height - 15) for j in range(width - 15)}
    assert corners == places or (len(places) > 60 and len(corners) > 40)


@pytest.mark.parametrize(("height", "width"), [(9, 12), (10, 11), (16, 5)])
def test_a_small_image_stands_whole_and_anywhere_in_the_crop(height, width):
    image, mask = picture(height, width)
    corners = set()
    for seed in range(40):
        view = weak(image, mask, data(), np.random.default_rng(seed))
        top, left = (int(i.min()) for i in torch.nonzero(view.inside, as_tuple=True))
        torch.testing.assert_close(view.image[..., top : top + height, left : left + width], image, atol=1e-2, rtol=0)
        assert int(view.inside.sum()) == height * width
        assert torch.equal(view.mask == VOID, ~view.inside)
        assert not view.image[..., ~view.inside].any()
        corners.add((top, left))
    assert len(corners) > 8


@settings(max_examples=40, deadline=None)
@given(
    st.integers(5, 40),
    st.integers(5, 40),
    st.integers(8, 24),
    st.sampled_from(["horizontal", "rot90"]),
    st.integers(0, 10**6),
)
def test_image_and_mask_stay_aligned_under_flips_and_quarter_turns(height, width, crop, flip, seed):
    image, mask = picture(height, width, seed)
    view = weak(image, mask, data(crop=crop, flip=flip), np.random.default_rng(seed))
    torch.testing.assert_close(view.image[0, 0][view.inside], view.mask[view.inside].float(), atol=2e-2, rtol=0)
    assert torch.equal(view.mask == VOID, ~view.inside)


def test_quarter_turns_and_mirrors_are_the_eight_symmetries_of_the_square():
    image, mask = picture(16, 16)
    symmetries = {turned.numpy().tobytes() for k in range(4) for turned in (mask.rot90(k), mask.rot90(k).flip(1))}
    rng = np.random.default_rng(0)
    found = {weak(image, mask, data(flip="rot90"), rng).mask.numpy().tobytes() for _ in range(80)}
    assert found == symmetries
    mirrored = {weak(image, mask, data(flip="horizontal"), rng).mask.numpy().tobytes() for _ in range(20)}
    assert mirrored == {mask.numpy().tobytes(), mask.flip(1).numpy().tobytes()}


@pytest.mark.parametrize(
    "changes", [{"scale": (0.5, 2.0)}, {"rotate": 30.0}, {"scale": (0.5, 2.0), "rotate": 180.0, "flip": "rot90"}]
)
def test_a_mask_follows_its_image_under_scaling_and_rotation(changes):
    """The picture is two halves; away from their border image and mask agree."""
    mask = torch.zeros(40, 30, dtype=torch.uint8)
    mask[:20] = 1
    image, agreed, seen = mask.float()[None, None], 0, set()
    for seed in range(20):
        view = weak(image, mask, data(crop=24, **changes), np.random.default_rng(seed))
        value = view.image[0, 0]
        certain = view.inside & ((value < 0.01) | (value > 0.99))
        agreed += int(certain.sum())
        seen |= set(view.mask[certain].tolist())
        assert torch.equal(view.mask[certain].float(), value[certain].round())
    assert agreed > 20 * 24 * 24 * 0.2
    assert seen == {0, 1}


@pytest.mark.parametrize(("scale", "share"), [(2.0, 0.25), (1.0, 1.0)])
def test_scaling_up_shows_less_of_the_image(scale, share):
    image = torch.arange(1.0, 65).view(1, 1, 8, 8)
    view = weak(image, None, data(crop=8, scale=(scale, scale)), np.random.default_rng(0))
    spread = (view.image.max() - view.image.min()) / (image.max() - image.min())
    assert view.mask is None
    assert float(spread) == pytest.approx(share**0.5, abs=0.2)


@pytest.mark.parametrize("changes", [{"scale": (0.3, 3.0)}, {"rotate": 180.0}])
def test_off_the_image_is_void_zero_and_not_inside_and_the_rest_is_untouched(changes):
    image, mask = torch.full((1, 2, 12, 20), 7.0), torch.ones(12, 20, dtype=torch.uint8)
    some = False
    for seed in range(20):
        view = weak(image, mask, data(crop=16, **changes), np.random.default_rng(seed))
        assert torch.equal(view.mask, torch.where(view.inside, 1, VOID).to(torch.uint8))
        torch.testing.assert_close(view.image, 7.0 * view.inside.expand_as(view.image))
        some |= not view.inside.all()
    assert some


def test_void_of_the_mask_stays_void():
    image, mask = picture(20, 20, classes=2)
    mask[5:12] = VOID
    view = weak(image, mask, data(scale=(0.5, 2.0), rotate=30.0), np.random.default_rng(3))
    assert set(view.mask.unique().tolist()) <= {0, 1, VOID}
    assert (view.mask[view.inside] == VOID).any()


def test_dates_and_channels_go_through_the_same_geometry():
    image, mask = picture(30, 30)
    both = torch.cat([image, image * 2]).expand(2, 1, 30, 30).repeat(1, 3, 1, 1)
    view = weak(both, mask, data(scale=(0.5, 2.0), rotate=20.0), np.random.default_rng(0))
    assert view.image.shape == (2, 3, 16, 16)
    torch.testing.assert_close(view.image[1], 2 * view.image[0])
    torch.testing.assert_close(view.image[:, 2], view.image[:, 0])


def test_resizing_comes_before_the_crop():
    image, mask = torch.ones(1, 1, 10, 30), torch.zeros(10, 30, dtype=torch.uint8)
    mask[:, 15:] = 1
    view = weak(image, mask, data(resize=16), np.random.default_rng(0))
    assert view.inside.all()
    assert (view.mask[:, :8] == 0).all()
    assert (view.mask[:, 8:] == 1).all()
    assert resized(image, (10, 30)) is image


# -- randomness --------------------------------------------------------------------------------------------------------


def test_a_view_depends_on_its_generator_alone():
    image, mask = picture(40, 40)
    how = data(scale=(0.5, 2.0), flip="rot90", rotate=20.0, cutmix=0.5)

    def all_of_it(seed):
        rng = np.random.default_rng(seed)
        view = weak(image / 255, mask, how, rng)
        return [
            view.image,
            view.mask,
            view.inside,
            strong(view.image.expand(1, 3, 16, 16), how, rng),
            cutmix_box(16, 0.5, rng),
        ]

    first = all_of_it(7)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global generator must not matter
    state = torch.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(first, all_of_it(7), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first[0], all_of_it(8)[0])


# -- strong views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_strong_changes_pixels_and_keeps_shape(channels):
    view = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = strong(view, data(jitter_p=1.0, blur_p=1.0), np.random.default_rng(0))
    assert changed.shape == view.shape
    assert changed.isfinite().all()
    assert (changed - view).abs().max() > 0.05
    assert not torch.allclose(changed[0] - view[0], changed[1] - view[1]), "each date on its own"


def test_strong_does_not_move_anything():
    """A bright dot stays the brightest place."""
    for seed in range(15):
        view = torch.full((1, 3, 15, 15), 0.3)
        view[..., 4, 10] = 0.8
        changed = strong(view, data(jitter=0.3), np.random.default_rng(seed)).mean((0, 1))
        assert divmod(int(changed.argmax()), 15) == (4, 10)


def test_strong_with_nothing_switched_on_is_the_weak_view():
    view = torch.rand(1, 3, 8, 8)
    assert torch.equal(strong(view, data(jitter_p=0, grayscale_p=0, blur_p=0), np.random.default_rng(0)), view)


def test_grayscale_makes_three_equal_channels():
    view = torch.rand(1, 3, 8, 8)
    gray = strong(view, data(jitter_p=0, grayscale_p=1.0, blur_p=0), np.random.default_rng(0))
    torch.testing.assert_close(gray[:, 0], gray[:, 1])
    torch.testing.assert_close(
        gray[:, 0], (0.2989 * view[:, 0] + 0.587 * view[:, 1] + 0.114 * view[:, 2]), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_blur_fits_into_small_crops(side):
    assert strong(torch.rand(1, 3, side, side), data(blur_p=1.0), np.random.default_rng(1)).shape == (1, 3, side, side)


# -- CutMix ------------------------------------------------------------------------------------------------------------


def test_a_cutmix_box_is_one_rectangle_of_the_named_area():
    for seed in range(40):
        box = cutmix_box(64, 1.0, np.random.default_rng(seed))
        rows, columns = box.any(1).nonzero().flatten(), box.any(0).nonzero().flatten()
        assert box.sum() == len(rows) * len(columns)
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert columns[-1] - columns[0] + 1 == len(columns)
        # A box longer than the crop is cut; rounding moves the area a little.
        assert 0.008 < float(box.float().mean()) < 0.42


def test_cutmix_happens_as_often_as_asked():
    rng = np.random.default_rng(0)
    assert not any(cutmix_box(16, 0.0, rng).any() for _ in range(20))
    assert sum(bool(cutmix_box(16, 0.5, rng).any()) for _ in range(400)) == pytest.approx(200, abs=40)


# -- normalisation -----------------------------------------------------------------------------------------------------


def test_normalisation_is_per_channel():
    how = data(mean=(0.5, 0.25), std=(0.5, 0.25))
    image = torch.tensor([1.0, 0.5]).view(1, 1, 2, 1, 1).expand(3, 1, 2, 4, 4)
    torch.testing.assert_close(normalised(image, how), torch.ones(3, 1, 2, 4, 4))


def test_normalisation_happens_where_the_image_is():
    """A tensor on another device than its image would be refused; `meta` is a device that every machine has."""
    assert (
        normalised(torch.empty(1, 1, 3, 4, 4, device="meta"), data(mean=(0.5,) * 3, std=(1.0,) * 3)).device.type
        == "meta"
    )
