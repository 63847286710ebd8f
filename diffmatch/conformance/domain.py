"""The conformance suite for dataset plugins: `diffmatch check NAME`, and in a plugin's own tests

    @pytest.mark.parametrize("name", CHECKS)
    def test_conformance(name, root):
        CHECKS[name](MyDomain, root)

Each check takes the plugin's class and a data root that it can open. It raises AssertionError or InputError with what
is wrong, and returns why it had nothing to check, None if it passed.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffmatch.conformance.elsewhere import check_model, check_outside
from diffmatch.conformance.tampering import (
    content,
    copied,
    kind,
    one_of_each_kind,
    opened_files,
    read_everything,
    refused,
    replace,
)
from diffmatch.conformance.tiny import smallest, spread, tiny
from diffmatch.data.loading import Draws, Stream, collate, labelled_pixels
from diffmatch.data.opening import open_domain
from diffmatch.data.splits import Budget
from diffmatch.domain import SPLITS, VOID, Card, Domain, InputError, Item, Named, Sample, TopBottom, paths_in
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.readers.lists import canonical
from diffmatch.records.counts import Counts
from diffmatch.records.folder import budget_folder
from diffmatch.running.plan import settings_of
from diffmatch.scoring.counting import count
from diffmatch.scoring.inference import predict_item
from diffmatch.scoring.metrics import summary


def check_card(domain: type[Domain], root: Path) -> None:
    """The card is complete and fits itself.

    Budgets can be typed, and its presets resolve for every method that is installed.
    """
    opened = domain(root)
    card = opened.card
    for field in ("title", "modality", "licence", "citation", "source"):
        assert getattr(card, field).strip(), f"card.{field} is empty"
    names: dict[str, list[Any]] = {
        "class name": card.names,
        "colour": [c.color for c in card.classes],
        "budget": list(card.budgets),
        "protocol": [p.name for p in card.protocols],
    }
    for what, values in names.items():
        assert len(set(values)) == len(values), f"card: a {what} occurs twice"
    assert card.budgets, "card.budgets is empty"
    for budget in card.budgets:
        Budget(budget).count(10**6)
        budget_folder(budget)
    assert all(canonical(domain, name) in domain.sizes for name in domain.sizes), (
        "sizes: a budget's size is another budget"
    )
    _head_and_tail_are_apart(card)
    methods = list(registry.methods.usable())
    options = {f"method.{option}" for name in methods for option in registry.method(name).Options.model_fields}
    for key in {key for preset in opened.recipe.presets for key in opened.recipe.settings(preset)}:
        assert key in options or not key.startswith("method."), f"recipe: no installed method has the option '{key}'"
    for name in methods:
        for preset in opened.recipe.presets:
            data = settings_of(opened, registry.method(name), preset, {}).data
            assert len(data.mean) == len(data.std) == card.channels, (
                f"recipe: data.mean and data.std need {card.channels} values"
            )


def _head_and_tail_are_apart(card: Card) -> None:
    rule, classes = card.head_tail, len(card.classes)
    if isinstance(rule, TopBottom):
        assert 2 * rule.k <= classes, f"card.head_tail: top and bottom {rule.k} of {classes} classes overlap"
    if isinstance(rule, Named):
        assert not set(rule.head) & set(rule.tail), "card.head_tail: a class is head and tail"
        assert all(0 <= c < classes for c in (*rule.head, *rule.tail)), "card.head_tail: no such class"


def check_layout(domain: type[Domain], root: Path) -> None:
    """The layout has a name; a folder that holds something else is refused.

    The message names the folder and says what to do.
    """
    assert domain(root).layout.strip(), "layout is empty"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "notes.txt").write_text("not a dataset\n")
        refused(lambda: read_everything(domain, Path(folder)), folder)


def check_index(domain: type[Domain], root: Path) -> None:
    """Ids are unique and stable between two openings, train and test are not empty, the files exist below the root."""
    first, second = domain(root), domain(root)
    splits = {split: first.index(split) for split in SPLITS}
    for split, items in splits.items():
        assert [i.id for i in items] == [i.id for i in second.index(split)], f"index('{split}') is not the same twice"
        assert items or split == "val", f"index('{split}') is empty"
    ids = [item.id for items in splits.values() for item in items]
    assert len(set(ids)) == len(ids), "an id occurs twice"
    files = list(first.files())
    assert files, "files() is empty"
    assert all(path.is_file() and path.is_relative_to(root) for path in files), (
        "files() names what is not a file below the root"
    )
    unnamed = {path for items in splits.values() for item in items for path in paths_in(item.ref)} - set(files)
    assert not unnamed, f"files() does not name {sorted(unnamed)[0]}, which an item refers to"


def check_read(domain: type[Domain], root: Path) -> None:
    """What is read has the right shapes, types and values, and is the same from the cache.

    A mask is read only where it is asked for, and holds known classes only.
    """
    plain, (cached, _) = domain(root), open_domain(domain, root)
    card = plain.card
    for split in SPLITS:
        for item in spread(plain.index(split)):
            sample = plain.read(item, mask=item.masked)
            _sound(card, item, sample)
            without = plain.read(item, mask=False)
            assert without.mask is None, f"{item.id}: read(mask=False) returns a mask"
            assert np.array_equal(without.image, sample.image), f"{item.id}: the image depends on `mask`"
            for _ in range(2):  # the first fills the cache
                again = cached.read(item, mask=item.masked)
                assert np.array_equal(again.image, sample.image), f"{item.id}: the image from the cache differs"
                same = again.mask is sample.mask is None or np.array_equal(again.mask, sample.mask)  # type: ignore[arg-type]
                assert same, f"{item.id}: the mask from the cache differs"


def _sound(card: Card, item: Item, sample: Sample) -> None:
    image, mask = sample.image, sample.mask
    assert image.dtype == np.float32, f"{item.id}: the image is {image.dtype}, not float32"
    assert image.ndim in (4, 5), f"{item.id}: the image has shape {image.shape}, not (dates, channels, [Z,] H, W)"
    assert image.shape[:2] == (card.dates, card.channels), (
        f"{item.id}: {image.shape[:2]} dates and channels, the card says otherwise"
    )
    assert np.isfinite(image).all(), f"{item.id}: the image is not finite"
    assert np.abs(image).max() <= 8, f"{item.id}: values up to {np.abs(image).max():g}; scale images to [0, 1]"
    if mask is not None:
        assert mask.dtype == np.uint8, f"{item.id}: the mask is {mask.dtype}, not uint8"
        assert mask.shape == image.shape[2:], f"{item.id}: mask {mask.shape} and image {image.shape} differ in size"
        known = (mask < len(card.classes)) | (mask == VOID)
        assert known.all(), f"{item.id}: the mask holds {mask[~known][0]}, which is no class"


def check_splits(domain: type[Domain], root: Path) -> None:
    """The smallest budget can be drawn, and the parts of the split are disjoint.

    They are disjoint by case where cases are the unit. Another seed changes seeded members only.
    """
    opened = domain(root)
    splits = [smallest(opened, seed) for seed in (0, 0, 1)]
    assert splits[0].sha256 == splits[1].sha256, "the same seed gives two splits"
    if splits[0].family.startswith("seeded"):
        assert splits[0].sha256 != splits[2].sha256, "the split does not depend on the seed"
    assert all(item.masked for item in splits[0].labelled), "an item without a mask is labelled"


def check_hidden_masks(domain: type[Domain], root: Path) -> None:
    """Reading an unlabelled item opens no file that its mask comes from.

    Every file that is opened without the mask being asked for is exchanged for another item's: if the image stays and
    the mask changes, it was the mask's.
    """
    split = smallest(domain(root))
    pool = spread([item for item in split.unlabelled if item.masked], 6)
    assert pool, "no unlabelled item has a mask to be hidden"
    for item, other in zip(pool, [*pool[1:], pool[0]], strict=True):
        own, theirs = (opened_files(domain(root), i, False) for i in (item, other))
        before = domain(root).read(item)
        for path in own - theirs:
            for twin in (t for t in theirs - own if (t.parent, t.suffix) == (path.parent, path.suffix)):
                with copied(root) as copy:
                    replace(copy / path.relative_to(root), twin.read_bytes())
                    try:
                        after = domain(copy).read(item)
                    except InputError:  # sizes differ: it was the image
                        continue
                same = np.array_equal(before.image, after.image) and not np.array_equal(before.mask, after.mask)  # type: ignore[arg-type]
                assert not same, f"{item.id}: read(mask=False) opens {path.name}, where the mask is"


def check_pickles(domain: type[Domain], root: Path) -> None:
    """The opened domain and its items go to loading processes and read the same there."""
    opened, _ = open_domain(domain, root)
    for item in spread(opened.index("train"), 3):
        twin, same = pickle.loads(pickle.dumps((opened, item)))
        assert np.array_equal(twin.read(same, mask=False).image, opened.read(item, mask=False).image), (
            f"{item.id} differs after pickling"
        )


def check_damaged_files(domain: type[Domain], root: Path) -> None:
    """A file that is cut off gives one line with its name, whatever its format; text that is cut may pass."""
    opened = domain(root)
    some = [item for split in SPLITS for item in spread(opened.index(split), 2)]
    readers = {kind(path): (path, item) for item in some for path in opened_files(opened, item, item.masked)}
    for key, example in one_of_each_kind(opened.files()).items():
        path, item = readers.get(key, (example, None))
        whole = path.read_bytes()
        for end in (len(whole) // 2, 0):
            with copied(root) as copy:
                victim = copy / path.relative_to(root)
                replace(victim, whole[:end])
                refused(lambda: read_everything(domain, copy, item), victim.name)  # noqa: B023 - called at once


def check_fabricate(domain: type[Domain], root: Path) -> str | None:
    """Invented data are the same bytes for the same seed, and enough for the smallest budget.

    Every class is labelled and in test, and the classes' shares are skewed.
    """
    if not domain.can_fabricate():
        return "this domain cannot invent data"
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        for folder in (a, b):
            domain.fabricate(Path(folder), seed=3)
        assert content(Path(a)) == content(Path(b)), "fabricate does not write the same files twice"
        opened = domain(Path(a))
        split = smallest(opened)
        pixels = labelled_pixels(opened, split.labelled).sum(0)
        missing = [name for name, n in zip(opened.card.names, pixels, strict=True) if n == 0]
        assert not missing, f"fabricate: no labelled pixel of {', '.join(missing)}"
        scored = labelled_pixels(opened, split.test).sum(0)
        absent = [name for name, n in zip(opened.card.names, scored, strict=True) if n == 0]
        assert not absent, f"fabricate: no test pixel of {', '.join(absent)}"
        assert pixels.max() >= 5 * pixels.min(), "fabricate: the classes' shares are not skewed"
        assert len(split.unlabelled) >= min(len(split.labelled), 8), "fabricate: too few unlabelled items"
    return None


def check_training_step(domain: type[Domain], root: Path) -> None:
    """One step of diffmatch with a tiny network: finite losses, a gradient."""
    opened, split, method, settings = tiny(domain, root)
    draws = Draws(opened, Stream(split.labelled, 0, 0), Stream(split.unlabelled, 0, 1), settings.data, method.views)
    method.train()
    losses = method.losses(collate([draws[n] for n in range(settings.train.batch)]), Progress(0, 1))
    assert torch.isfinite(losses.total), "the loss is not finite"
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters()), (
        "no gradient reaches the network"
    )


def check_scored_case(domain: type[Domain], root: Path) -> None:
    """One test case can be scored under every protocol.

    Its probabilities lie on the mask's own grid and sum to one.
    """
    opened, split, method, settings = tiny(domain, root)
    item = split.test[0]
    sample = opened.read(item)
    assert sample.mask is not None, f"{item.id}: a test item has no mask"
    for protocol in opened.card.protocols:
        with torch.no_grad():
            method.eval()
            prediction = predict_item(method, item, sample.image, settings.data, protocol, 4, torch.device("cpu"))
        assert prediction.probabilities.shape[1:] == sample.mask.shape, (
            f"{protocol.name}: the prediction's size is not the mask's"
        )
        assert np.allclose(prediction.probabilities.sum(0), 1, atol=1e-4), (
            f"{protocol.name}: probabilities do not sum to 1"
        )
        counts = Counts(len(opened.card.classes))
        count(counts, item.id, torch.from_numpy(prediction.probabilities), torch.from_numpy(np.array(sample.mask)))
        assert "name" in summary(counts, opened.card, [1] * counts.classes)["primary"]


CHECKS: dict[str, Callable[[type[Domain], Path], str | None]] = {
    "card": check_card,
    "layout": check_layout,
    "index": check_index,
    "read": check_read,
    "splits": check_splits,
    "hidden masks": check_hidden_masks,
    "pickles": check_pickles,
    "damaged files": check_damaged_files,
    "fabricate": check_fabricate,
    "training step": check_training_step,
    "scored case": check_scored_case,
    "outside": check_outside,
    "model": check_model,
}
"""All checks by name, in the order in which they make sense."""
