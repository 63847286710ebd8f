"""Sample images and label maps as PNG data URIs (palette PNGs for labels: a few kB each)."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffmatch.domain import VOID, Card
from diffmatch_reports.load import Sample
from diffmatch_reports.wording import share

MAX_SIDE, SMALL_SIDE = 384, 128
VOID_COLOR = (150, 150, 150)
WRONG_COLOR = (213, 94, 0)


@dataclass(frozen=True)
class Tile:
    """One picture: caption, what it shows in words, and the map over the photograph (a photograph itself has none)."""

    caption: str
    alt: str
    overlay: str = ""


@dataclass(frozen=True)
class Strip:
    """A sample: a photograph per date, the truth, and for each sampling step the prediction and where it is wrong.

    Attributes:
        images: the photographs as data URIs; the maps lie over the last one.
        ratio: width / height, as CSS writes it.
    """

    title: str
    images: list[str]
    photos: list[Tile]
    truth: Tile
    steps: list[Tile]
    errors: list[Tile]
    ratio: str

    @property
    def last(self) -> int:
        return len(self.images) - 1


def strip(sample: Sample, card: Card) -> Strip:
    """Everything that the gallery shows of a sample."""
    valid = sample.truth != VOID
    dates, count = len(sample.image), len(sample.steps)
    photos = [Tile(f"date {d + 1}" if dates > 1 else "image", f"{sample.title}, the input image") for d in range(dates)]
    truth = Tile("truth", f"Truth. {_shares(sample.truth, valid, card)}", _labels(sample.truth, card))
    steps, errors = [], []
    for number, labels in enumerate(sample.steps, 1):
        name = f"step {number} of {count}" if count > 1 else "prediction"
        error = wrong_share(labels, sample.truth)
        words = f"Predicted, {name}. {_shares(labels, valid, card)}"
        steps.append(Tile(f"{name}: {error}", words, _labels(labels, card)))
        differs = ((labels != sample.truth) & valid).astype(np.uint8)
        marked = _palette_png(differs, [(0, 0, 0), WRONG_COLOR], clear=0)
        errors.append(Tile("errors", f"Where {name} differs from the truth: {error}", marked))
    height, width = sample.truth.shape
    images = [_photo(image) for image in sample.image]
    return Strip(sample.title, images, photos, truth, steps, errors, f"{width} / {height}")


def wrong_share(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> str:
    """How many of the scored pixels are wrong, in words."""
    valid = truth != VOID
    return f"{share(float((labels != truth)[valid].mean()))} % wrong" if valid.any() else "no truth"


def fit(picture: Image.Image, how: Image.Resampling) -> Image.Image:
    """The picture, made smaller where a side is longer than `MAX_SIDE`."""
    scale = min(1.0, MAX_SIDE / max(picture.size))
    return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), how)


def _shares(labels: NDArray[np.uint8], valid: NDArray[np.bool_], card: Card) -> str:
    counts = np.bincount(labels[valid], minlength=len(card.classes))[: len(card.classes)]
    shares = {name: count / counts.sum() for name, count in zip(card.names, counts, strict=True) if count}
    return ", ".join(f"{name} {share(value)} %" for name, value in shares.items()) + "."


def _labels(labels: NDArray[np.uint8], card: Card) -> str:
    classes = [c.color for c in card.classes]
    return _palette_png(np.where(labels < len(classes), labels, len(classes)).astype(np.uint8), [*classes, VOID_COLOR])


def _palette_png(indices: NDArray[np.uint8], colors: list[tuple[int, int, int]], clear: int | None = None) -> str:
    picture = Image.fromarray(indices)
    picture.putpalette([channel for color in colors for channel in color])
    return _uri(fit(picture, Image.Resampling.NEAREST), transparency=clear)


def _photo(image: NDArray[np.uint8]) -> str:
    return _uri(fit(Image.fromarray(image), Image.Resampling.LANCZOS))


def _uri(picture: Image.Image, transparency: int | None = None) -> str:
    """PNG; large photographs in colour, where a PNG would be ten times the size, as JPEG."""
    buffer = io.BytesIO()
    if picture.mode == "RGB" and max(picture.size) > SMALL_SIDE:
        picture.save(buffer, "JPEG", quality=88)
        kind = "jpeg"
    else:
        clear = {} if transparency is None else {"transparency": transparency}
        picture.save(buffer, "PNG", compress_level=3, **clear)
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
