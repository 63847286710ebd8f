"""A picture with the outlines of the predicted classes, and a legend of those that occur."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from scipy.ndimage import generate_binary_structure, iterate_structure, maximum_filter, minimum_filter

from diffmatch.domain import Image, Mask, Scene
from diffmatch.model.blocks import rows
from diffmatch.model.display import Panel, panels
from diffmatch.model.look import Color, Look

PAPER, INK, FAINT = (255, 255, 255), (17, 17, 17), (150, 150, 150)
COLUMNS = 4
"""Panels that stand side by side at most."""
GAP = 8
"""Pixels between panels and around the sheet."""
WIDTH = 3
"""Pixels across an outline."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue."""
BRIGHT = 128
"""Luminance from which a colour has a dark halo; below it has a light one."""


def overlay(image: Image | Scene, labels: Mask, look: Look) -> Pillow.Image:
    """Outlines in the classes' colours on what was predicted, with a legend under it.

    Args:
        image: a picture, a volume or a scene, as `display.panels` takes it.
        labels: class indices on the image's grid, (H, W) or (Z, H, W).
    """
    shown = panels(image, labels, look.background)
    return _with_legend(_sheet(shown, look), labels, look)


def outlined(pixels: NDArray[np.uint8], labels: Mask, look: Look) -> NDArray[np.uint8]:
    """A picture with an outline inside each region, and a halo of one pixel on both sides of the outline.

    The background has no outline, nor have regions where they end with the picture. The halo is dark around bright
    colours and light around dark ones, so that an outline is seen on any ground.

    Args:
        pixels: uint8, (H, W, 3).
        labels: class indices, (H, W).
    """
    cross = generate_binary_structure(2, 1)
    disk = iterate_structure(cross, WIDTH)
    lowest, highest = (search(labels, footprint=disk, mode="nearest") for search in (minimum_filter, maximum_filter))
    line = (lowest != labels) | (highest != labels)
    if look.background:
        line &= labels > 0
    colors = np.array(look.colors, np.uint8)
    halos = np.where(colors @ LUMINANCE >= BRIGHT, 0, 255).astype(np.uint8)
    nearby = maximum_filter(np.where(line, labels + 1, 0), footprint=cross)
    halo = (nearby > 0) & ~line
    drawn = pixels.copy()
    drawn[halo] = halos[nearby[halo] - 1, None]
    drawn[line] = colors[labels[line]]
    return drawn


def _sheet(shown: list[Panel], look: Look) -> Pillow.Image:
    """The panels in rows that are about equally long, each with its caption below it."""
    height, width = shown[0].labels.shape
    lines = math.ceil(len(shown) / COLUMNS)
    columns = math.ceil(len(shown) / lines)
    text = _font(columns * width)
    below = math.ceil(1.5 * text.size) if shown[0].caption else 0
    sheet = Pillow.new("RGB", (columns * (width + GAP) - GAP, lines * (height + below + GAP) - GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, panel in enumerate(shown):
        left, top = place % columns * (width + GAP), place // columns * (height + below + GAP)
        sheet.paste(Pillow.fromarray(outlined(panel.pixels, panel.labels, look)), (left, top))
        pen.text((left, top + height + below // 2), panel.caption, INK, text, anchor="lm")
    return sheet


def _with_legend(sheet: Pillow.Image, labels: Mask, look: Look) -> Pillow.Image:
    """The sheet with a margin, and under it the swatch, the name and the share of each class that occurs."""
    text = _font(sheet.width)
    entries = legend(labels, look)
    swatch, line = round(text.size), round(1.6 * text.size)
    wide = math.ceil(max(text.getlength(words) for _, words in entries)) + 3 * swatch
    columns = max(1, min(len(entries), (sheet.width + swatch) // wide))
    under = math.ceil(len(entries) / columns) * line
    whole = Pillow.new("RGB", (max(sheet.width, columns * wide) + 2 * GAP, sheet.height + under + 3 * GAP), PAPER)
    whole.paste(sheet, (GAP, GAP))
    pen = ImageDraw.Draw(whole)
    for place, (color, words) in enumerate(entries):
        left, middle = GAP + place % columns * wide, sheet.height + 2 * GAP + place // columns * line + line // 2
        box = (left, middle - swatch // 2, left + swatch, middle - swatch // 2 + swatch)
        pen.rectangle(box, fill=color, outline=INK if color else FAINT)
        if color is None:
            pen.line((box[0], box[3], box[2], box[1]), FAINT)
        pen.text((left + 1.5 * swatch, middle), words, INK, text, anchor="lm")
    return whole


def legend(labels: Mask, look: Look) -> list[tuple[Color | None, str]]:
    """Colour and text for each class that occurs, in the classes' order; no colour for the background."""
    counts = np.zeros(len(look.names), np.int64)
    for part in rows(len(labels), math.prod(labels.shape[1:]), 1):
        counts += np.bincount(labels[part].ravel(), minlength=len(counts))
    entries: list[tuple[Color | None, str]] = []
    for index in np.flatnonzero(counts):
        clear = look.background and index == 0
        share = 100 * counts[index] / labels.size
        words = (
            f"{look.names[index]}{' (not drawn)' if clear else ''}  {f'{share:.1f}' if share >= 0.05 else '< 0.1'} %"
        )
        entries.append((None if clear else look.colors[index], words))
    return entries


@cache
def _font(width: int) -> ImageFont.FreeTypeFont:
    """The font of texts on a picture of some width in pixels: DejaVu Sans, which comes with matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), max(14, width // 64))
