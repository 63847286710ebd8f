"""What is on disk, before anything is trained on it: counts, shares, ranges, splits, doubles.

Every item is read once.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from torch.utils.data import Dataset

from diffmatch.card import may_be_void
from diffmatch.data.fetching import fetched
from diffmatch.data.loading import default_workers
from diffmatch.data.oddities import Oddities, measured
from diffmatch.data.opening import open_domain
from diffmatch.data.splits import ALL, make_split
from diffmatch.domain import Domain, InputError, Item, Sample, SplitName
from diffmatch.progress import Bar

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
TOLD = 5
"""Doubles that are named; the rest is counted."""


class ClassShare(BaseModel):
    """Pixels of a class in all masks, its share of all pixels that are not void, and in how many items it occurs."""

    name: str
    pixels: int
    share: float
    items: int
    by_split: dict[str, int]


class SplitCount(BaseModel):
    items: int
    cases: int
    masked: int


class BudgetFound(BaseModel):
    """The members that a label budget has on these data, or why it has none."""

    budget: str
    family: str | None = None
    sha256: str | None = None
    labelled: int | None = None
    unlabelled: int | None = None
    problem: str | None = None


class Channel(BaseModel):
    min: float
    max: float
    mean: float
    std: float


class Findings(BaseModel):
    """The doctor's report."""

    dataset: str
    title: str
    root: str
    fabricated: bool
    layout: str
    fingerprint: str
    splits: dict[str, SplitCount]
    classes: list[ClassShare]
    void_pixels: int
    sizes: dict[str, list[int]]
    values: list[Channel]
    spacing_mm: dict[str, list[float]]
    budgets: list[BudgetFound]
    duplicates: int
    duplicate_examples: list[list[str]]
    remarks: list[str]

    def shown(self) -> Iterator[RenderableType]:
        """What the terminal shows."""
        origin = "[yellow]fabricated data[/] in " if self.fabricated else ""
        yield f"[bold]{escape(self.title)}[/]: {origin}{escape(self.root)}"
        yield f"layout: {escape(self.layout)}; fingerprint {self.fingerprint[:12]}"
        table = Table("split", "items", "cases", "with masks", box=None)
        for name, split in self.splits.items():
            table.add_row(name, f"{split.items:,}", f"{split.cases:,}", f"{split.masked:,}")
        yield table
        table = Table("class", "pixels", "share %", "in items", box=None)
        for row in self.classes:
            table.add_row(escape(row.name), f"{row.pixels:,}", f"{100 * row.share:.2f}", f"{row.items:,}")
        table.add_row("[dim]void[/]", f"{self.void_pixels:,}", "", "")
        yield table
        sides = ", ".join(f"{name} {' x '.join(map(str, size))}" for name, size in self.sizes.items())
        values = "; ".join(f"[{c.min:.3g}, {c.max:.3g}] mean {c.mean:.3f} std {c.std:.3f}" for c in self.values)
        yield f"sizes: {sides}\nvalues per channel: {values}"
        if self.spacing_mm:
            yield "spacing, mm: " + ", ".join(
                f"{name} {' x '.join(f'{v:.3g}' for v in s)}" for name, s in self.spacing_mm.items()
            )
        table = Table("labels", "family", "labelled", "unlabelled", "sha256", box=None)
        for b in self.budgets:
            if b.problem:
                table.add_row(b.budget, f"[yellow]{escape(b.problem)}[/]")
            else:
                table.add_row(b.budget, b.family, f"{b.labelled:,}", f"{b.unlabelled:,}", (b.sha256 or "")[:8])
        yield table
        if self.duplicates:
            examples = "; ".join(" = ".join(names) for names in self.duplicate_examples)
            yield f"[red]the same picture in two splits[/], {self.duplicates} times: {escape(examples)}"
        for remark in self.remarks:
            yield f"[yellow]note:[/] {escape(remark)}"


Look = tuple[SplitName, dict[str, Any]]


class _Looks(Dataset[Look]):
    """What one item shows, worked out in the loading process so that no pixels travel."""

    def __init__(self, domain: Domain, items: list[tuple[SplitName, Item]]) -> None:
        self.domain, self.items = domain, items

    def __getitem__(self, n: int) -> Look:
        split, item = self.items[n]
        sample = self.domain.read(item, mask=item.masked)
        image = sample.image.astype(np.float64)
        axes = (0, *range(2, image.ndim))
        return split, {
            "id": item.id,
            "histogram": None if sample.mask is None else np.bincount(sample.mask.ravel(), minlength=256),
            "size": image.shape[-2:],
            "values": (image.min(axes), image.max(axes), image.sum(axes), np.square(image).sum(axes), image[:, 0].size),
            "spacing": sample.spacing,
            "prints": _prints(sample),
            "measured": measured(sample.image, sample.mask, self.domain.card),
        }


def _prints(sample: Sample) -> list[bytes]:
    """A hash per slice; a slice of one value has none, since empty slices are alike everywhere."""
    image = sample.image
    slices = [image] if image.ndim == 4 else list(np.moveaxis(image, 2, 0))
    return [hashlib.sha256(np.ascontiguousarray(s).tobytes()).digest()[:16] for s in slices if s.min() < s.max()]


def examine(domain: type[Domain], root: Path, fabricated: bool) -> Findings:
    """Read everything below a data root once and report.

    Raises:
        InputError: the plugin cannot open the root or read a file, in its own words.
    """
    opened, fingerprint = open_domain(domain, root)
    index = {split: opened.index(split) for split in SPLITS}
    opened = opened.fitted([item for item in index["train"] if item.masked])
    card = opened.card
    items = [(split, item) for split in SPLITS for item in index[split]]
    if not items:
        raise InputError(f"{root}: no usable items. {card.source}")
    pixels = {split: np.zeros(256, np.int64) for split in SPLITS}
    occurs = np.zeros(256, np.int64)
    sizes: list[tuple[int, ...]] = []
    spacings: list[tuple[float, ...]] = []
    low, high = np.full(card.channels, np.inf), np.full(card.channels, -np.inf)
    total, squares, count = np.zeros(card.channels), np.zeros(card.channels), 0
    seen: dict[bytes, dict[str, str]] = defaultdict(dict)
    odd = Oddities(opened)
    looks = fetched(_Looks(opened, items), range(len(items)), default_workers())
    with Bar("read", len(items)) as bar:
        for (split, look), (_, item) in zip(bar.track(looks), items, strict=True):
            odd.add(item, look["measured"])
            if look["histogram"] is not None:
                pixels[split] += look["histogram"]
                occurs += look["histogram"] > 0
            sizes.append(look["size"])
            spacings += [look["spacing"]] if look["spacing"] else []
            least, most, added, squared, n = look["values"]
            low, high, total, squares, count = (
                np.minimum(low, least),
                np.maximum(high, most),
                total + added,
                squares + squared,
                count + n,
            )
            for key in look["prints"]:
                seen[key].setdefault(split, look["id"])
    doubles = [[f"{split} {name}" for split, name in places.items()] for places in seen.values() if len(places) > 1]
    counted = np.sum([pixels[split] for split in SPLITS], axis=0)
    valid = int(counted[: len(card.classes)].sum())
    mean = total / count
    return Findings(
        dataset=card.name,
        title=card.title,
        root=str(root),
        fabricated=fabricated,
        layout=opened.layout,
        fingerprint=fingerprint.sha256,
        splits={
            split: SplitCount(
                items=len(of_split), cases=len({i.case for i in of_split}), masked=sum(i.masked for i in of_split)
            )
            for split, of_split in index.items()
        },
        classes=[
            ClassShare(
                name=name,
                pixels=int(counted[c]),
                share=int(counted[c]) / max(valid, 1),
                items=int(occurs[c]),
                by_split={split: int(pixels[split][c]) for split in SPLITS},
            )
            for c, name in enumerate(card.names)
        ],
        void_pixels=int(counted[255]),
        sizes={name: _at(sizes, q) for name, q in (("smallest", 0.0), ("median", 0.5), ("largest", 1.0))},
        values=[
            Channel(
                min=low[c], max=high[c], mean=mean[c], std=float(np.sqrt(max(squares[c] / count - mean[c] ** 2, 0)))
            )
            for c in range(card.channels)
        ],
        spacing_mm={name: _at(spacings, q) for name, q in (("finest", 0.0), ("median", 0.5), ("coarsest", 1.0))}
        if spacings
        else {},
        budgets=[_budget(opened, budget, fabricated) for budget in (*card.budgets, ALL)],
        duplicates=len(doubles),
        duplicate_examples=doubles[:TOLD],
        remarks=[*opened.remarks(), *_own_remarks(opened, counted, low, high), *odd.told()],
    )


def _at(rows: list[tuple[Any, ...]], quantile: float) -> list[Any]:
    """The row whose product of entries lies at a quantile, so that the reported size or spacing occurs in the data."""
    ranked = sorted(rows, key=lambda row: float(np.prod(row)))
    return list(ranked[round(quantile * (len(ranked) - 1))])


def _budget(opened: Domain, budget: str, fabricated: bool) -> BudgetFound:
    try:
        split = make_split(opened, budget, 0, partial=fabricated, pool=budget != ALL)
    except InputError as error:
        return BudgetFound(budget=budget, problem="more than these invented data hold" if fabricated else str(error))
    return BudgetFound(
        budget=budget,
        family=split.family,
        sha256=split.sha256,
        labelled=len(split.labelled),
        unlabelled=len(split.unlabelled),
    )


def _own_remarks(
    opened: Domain, counted: np.ndarray[Any, Any], low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]
) -> Iterator[str]:
    absent = [name for c, name in enumerate(opened.card.names) if not counted[c]]
    if absent:
        yield f"no pixel of {', '.join(absent)} in any mask: check the class map, or expect a mean over fewer classes"
    for name in filter(may_be_void, opened.card.names):
        yield f"'{name}' is learnt and scored as a class; if it marks what is not labelled, declare it void"
    if low.min() < -0.5 or high.max() > 1.5:
        yield f"image values reach from {low.min():.3g} to {high.max():.3g}, nominal is [0, 1]: "
        "photometric views assume that range"
