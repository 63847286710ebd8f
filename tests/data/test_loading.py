"""The streams: the same draws whatever workers, ranks or resuming; an unlabelled mask is never opened."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from diffmatch.data.loading import Draws, RankSteps, Stream, collate, labelled_pixels, loader
from diffmatch.data.opening import find_data, open_domain
from diffmatch.domain import Card, ClassInfo, Domain, ForegroundThirds, InputError, Item, Protocol, Recipe, Sample
from diffmatch.learning.batch import Batch
from diffmatch.learning.method import Views
from diffmatch.settings import Data

DATA = Data(crop=16, scale=(0.5, 2.0), flip="rot90", rotate=20.0, mean=(0.5,), std=(0.5,), cutmix=0.5)


class Tiny(Domain):
    """Slices of invented volumes, made when they are read."""

    card = Card(
        version=1,
        name="tiny",
        title="tiny",
        modality="none",
        label_unit="cases",
        budgets=("1",),
        channels=1,
        metric="mean_dice",
        classes=tuple(ClassInfo(name=n, color=(0, 0, 0)) for n in ("background", "a", "b")),
        head_tail=ForegroundThirds(),
        protocols=(Protocol(name="volume", title="volume", mode="volume"),),
        licence="",
        citation="",
        source="take it from tiny.example",
    )
    recipe = Recipe(paper={}, quick={})

    def index(self, split):
        return [Item(f"{split}{c}/{z}", f"{split}{c}", ref=(c, z)) for c in range(3) for z in range(4)]

    def read(self, item, mask=True):
        if mask and item.case != "train0":
            raise AssertionError(f"the mask of {item.id} was opened")
        rng = np.random.default_rng([*item.ref, 7])
        image = rng.random((1, 1, 24, 20), dtype=np.float32)
        image.flags.writeable = False
        return Sample(image, (image[0, 0] * 2.999).astype(np.uint8) if mask else None)

    def files(self):
        return sorted(self.root.glob("*.txt"))

    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        (root / "made.txt").write_text("made")


def draws(seed=0, views=Views(), data=DATA):  # noqa: B008 - a named tuple
    domain = Tiny(Path("/nowhere"))
    train = domain.index("train")
    return Draws(domain, Stream(train[:4], seed, 0), Stream(train[4:], seed, 1), data, views)


def equal(a: Batch, b: Batch) -> bool:
    def same(x, y):
        if is_dataclass(x):
            return type(x) is type(y) and all(same(getattr(x, f.name), getattr(y, f.name)) for f in fields(x))
        if isinstance(x, tuple):
            return len(x) == len(y) and all(map(torch.equal, x, y))
        return torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y

    return same(a, b)


def all_equal(some, others):
    return len(some) == len(others) and all(map(equal, some, others))


def run(start=0, steps=3, batch=4, rank=0, world=1, workers=0, **how):
    return list(loader(draws(**how), RankSteps(start, steps, batch, rank, world), workers, False))


# -- draws -------------------------------------------------------------------------------------------------------------


def test_a_draw_depends_on_seed_and_number_alone():
    one, other = draws(), draws()
    for n in (5, 0, 11):  # in any order
        assert equal(collate([one[n]]), collate([other[n]]))
    first = draws(seed=1)[5]
    assert not torch.equal(first.labelled.tensors["images"], one[5].labelled.tensors["images"])


def test_the_same_item_is_seen_differently_each_time():
    found = draws()
    seen = {}
    for n in range(16):
        draw = found[n].labelled
        seen.setdefault(draw.key.split("#")[0], []).append(draw.tensors["images"])
    assert len(seen) == 4
    for views in seen.values():
        assert len(views) == 4
        assert not any(torch.equal(views[0], v) for v in views[1:])


def test_a_step_has_what_the_method_asked_for():
    batch = run(steps=1, views=Views(strong=2))[0]
    assert batch.labelled.images.shape == (4, 1, 1, 16, 16)
    assert batch.labelled.masks.shape == (4, 16, 16)
    assert batch.labelled.masks.dtype == torch.uint8
    assert batch.pool.weak.shape == batch.labelled.images.shape
    assert len(batch.pool.strong) == 2
    assert not torch.equal(batch.pool.strong[0], batch.pool.strong[1])
    assert batch.pool.inside.dtype == batch.pool.boxes.dtype == torch.bool
    assert len(set(batch.labelled.keys)) == len(set(batch.pool.keys)) == 4
    assert {k.split("/")[0] for k in batch.labelled.keys} == {"train0"}
    assert not {k.split("/")[0] for k in batch.pool.keys} & {"train0"}


def test_a_method_without_a_pool_reads_none():
    batch = run(steps=1, views=Views(unlabelled=False, strong=0))[0]
    assert batch.pool is None
    assert batch.all_keys == batch.labelled.keys
    with pytest.raises(RuntimeError, match=r"Views\.unlabelled"):
        batch.unlabelled  # noqa: B018


def test_labelled_draws_do_not_depend_on_whether_there_is_a_pool():
    """So that all methods of a comparison see the same labelled views."""
    with_pool, without = run(steps=2)[1], run(steps=2, views=Views(unlabelled=False, strong=0))[1]
    assert torch.equal(with_pool.labelled.images, without.labelled.images)
    assert torch.equal(with_pool.labelled.masks, without.labelled.masks)


def test_strong_views_are_the_weak_views_pixels_changed():
    still = DATA.model_copy(update={"jitter_p": 0.0, "blur_p": 0.0})
    batch = run(steps=1, data=still)[0]
    assert torch.equal(batch.pool.strong[0], batch.pool.weak)
    moved = run(steps=1)[0].pool
    assert torch.equal(moved.weak, batch.pool.weak)
    assert not torch.equal(moved.strong[0], moved.weak)


def test_the_mask_of_an_unlabelled_item_is_never_opened():
    domain = Tiny(Path("/nowhere"))
    with pytest.raises(AssertionError, match="was opened"):
        domain.read(domain.index("train")[5], mask=True)
    run(steps=6)  # 24 draws of the pool: three passes


# -- workers, ranks, resuming ------------------------------------------------------------------------------------------


def test_workers_do_not_change_the_draws():
    assert all_equal(run(workers=0), run(workers=2))


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_ranks_are_the_batch_of_one(world):
    whole = run()
    parts = [run(rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        for part, name in (("labelled", "images"), ("labelled", "masks"), *(("pool", n) for n in ("weak", "inside"))):
            joined = torch.cat([getattr(getattr(p[step], part), name) for p in parts])
            assert torch.equal(joined, getattr(getattr(batch, part), name))
        assert torch.equal(torch.cat([p[step].pool.boxes for p in parts]), batch.pool.boxes)
        assert [key for p in parts for key in p[step].labelled.keys] == batch.labelled.keys
        assert [key for p in parts for key in p[step].pool.keys] == batch.pool.keys


@pytest.mark.parametrize("start", [1, 2, 5])
def test_resuming_goes_on_with_the_same_draws(start):
    assert all_equal(run(start=start, steps=6), run(steps=6)[start:])
    assert run(start=6, steps=6) == []


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match=r"train\.batch=4 .* 3 devices"):
        RankSteps(0, 1, 4, 0, 3)


def test_the_global_generators_do_not_matter():
    first = run()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    assert all_equal(first, run())


# -- streams -----------------------------------------------------------------------------------------------------------


def test_every_pass_visits_every_item_once_in_another_order():
    items = [Item(str(k), str(k)) for k in range(10)]
    stream = Stream(items, 0, 1)
    passes = [[stream.item(n).id for n in range(10 * k, 10 * k + 10)] for k in range(5)]
    assert all(sorted(order) == sorted(i.id for i in items) for order in passes)
    assert len({tuple(order) for order in passes}) == 5
    backwards = [Stream(items, 0, 1).item(n).id for n in range(49, -1, -1)]
    assert backwards[::-1] == [name for order in passes for name in order], "no history is needed"
    assert [Stream(items, 0, 0).item(n).id for n in range(10)] != passes[0], "the other stream has its own order"


def test_weighted_draws_follow_their_weights():
    items = [Item(name, name) for name in "abc"]
    stream = Stream(items, 0, 0, np.array([3.0, 0.0, 1.0]))
    found = Counter(stream.item(n).id for n in range(2000))
    assert found["b"] == 0
    assert found["a"] / 2000 == pytest.approx(0.75, abs=0.03)
    assert [stream.item(n).id for n in range(50)] == [
        Stream(items, 0, 0, np.array([3.0, 0, 1])).item(n).id for n in range(50)
    ]


def test_two_items_are_enough():
    domain = Tiny(Path("/nowhere"))
    train = domain.index("train")
    few = Draws(domain, Stream(train[:1], 0, 0), Stream(train[4:5], 0, 1), DATA, Views())
    batch = collate([few[n] for n in range(3)])
    assert len(set(batch.labelled.keys)) == 3


# -- data on disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DIFFMATCH_DATA", raising=False)
    (tmp_path / "given").mkdir()
    return tmp_path


def test_data_that_are_given_but_wrong_are_never_replaced(places):
    for wrong in (places / "given", places / "missing"):
        with pytest.raises(InputError, match=f"--data {wrong}.*tiny.example"):
            find_data(Tiny, wrong)
    assert not (places / "cache").exists()


def test_given_data_come_before_the_variable_and_that_before_invention(places, monkeypatch):
    (places / "given" / "x.txt").touch()
    (places / "all" / "tiny").mkdir(parents=True)
    root, fabricated = find_data(Tiny, None)
    assert fabricated
    assert (root / "made.txt").read_text() == "made"
    assert find_data(Tiny, None) == (root, True), "made once"
    monkeypatch.setenv("DIFFMATCH_DATA", str(places / "all"))
    assert find_data(Tiny, None) == (places / "all" / "tiny", False)
    assert find_data(Tiny, places / "given") == (places / "given", False)


def test_invention_that_fails_leaves_nothing_behind(places, monkeypatch):
    def fail(root, seed=0, size=1):
        (root / "half.txt").touch()
        raise RuntimeError("no")

    monkeypatch.setattr(Tiny, "fabricate", fail)
    with pytest.raises(RuntimeError):
        find_data(Tiny, None)
    assert not list((places / "cache" / "fabricated").iterdir())


def test_the_fingerprint_follows_names_and_contents_and_not_the_place(places):
    prints = {}
    for name, content in (
        ("one", {"a.txt": "1"}),
        ("same", {"a.txt": "1"}),
        ("size", {"a.txt": "2"}),
        ("three", {"a.txt": "12"}),
        ("four", {"b.txt": "1"}),
    ):
        (places / name).mkdir()
        for file, text in content.items():
            (places / name / file).write_text(text)
        prints[name] = open_domain(Tiny, places / name)[1]
    assert prints["one"] == prints["same"]
    assert len({found.sha256 for found in prints.values()}) == 4
    assert prints["one"].names_and_sizes == prints["size"].names_and_sizes
    assert len({found.names_and_sizes for found in prints.values()}) == 3


def content(opened):
    """The first file's bytes, decoded through the cache."""
    return bytes(opened.cache.array("a", lambda: np.frombuffer(next(iter(opened.files())).read_bytes(), np.uint8)))


def test_a_file_replaced_by_one_of_its_size_and_time_is_decoded_anew_and_the_same_content_is_not(places):
    path = places / "given" / "a.txt"
    seen = []
    for text in ("old", "new", "new"):
        path.write_text(text)
        os.utime(path, ns=(0, 1_700_000_000_000_000_000))
        opened, _ = open_domain(Tiny, path.parent)
        seen.append((content(opened), opened.cache.folder))
    assert [decoded for decoded, _ in seen] == [b"old", b"new", b"new"]
    assert seen[0][1] != seen[1][1] == seen[2][1]


def test_decoded_arrays_go_when_no_open_has_asked_for_them_for_weeks(places):
    decoded, path = places / "cache" / "decoded", places / "given" / "a.txt"
    for text, days in (("1", 30), ("12", 2), ("123", 30)):
        path.write_text(text)
        opened, _ = open_domain(Tiny, path.parent)
        content(opened)
        then = time.time() - days * 24 * 3600
        os.utime(opened.cache.folder, (then, then))
    other = decoded / "other-1-0123"
    other.mkdir()
    os.utime(other, (0, 0))
    assert content(open_domain(Tiny, path.parent)[0]) == b"123"
    assert len(list(decoded.iterdir())) == 3 and opened.cache.folder.exists() and other.exists()


def test_labelled_pixels_are_counted_per_item_without_void():
    domain = Tiny(Path("/nowhere"))
    items = domain.index("train")[:2]
    expected = [[int((domain.read(i).mask == c).sum()) for c in range(3)] for i in items]
    assert labelled_pixels(domain, items).tolist() == expected


def test_a_labelled_item_without_a_mask_is_refused(monkeypatch):
    domain = Tiny(Path("/nowhere"))
    monkeypatch.setattr(domain, "read", lambda item, mask=True: Sample(np.zeros((1, 1, 4, 4), np.float32)))
    with pytest.raises(InputError, match="train0/0 is in the labelled set but has no mask"):
        labelled_pixels(domain, domain.index("train")[:1])


def test_every_tensor_of_a_batch_moves_and_is_pinned(monkeypatch):
    """The data loader calls `pin_memory` of a batch; without it a nested dataclass would be left in pageable memory."""
    batch = run(steps=1)[0]
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.data_ptr()) or tensor.clone())
    again = batch.pin_memory()
    pool = batch.unlabelled
    tensors = [batch.labelled.images, batch.labelled.masks, pool.weak, *pool.strong, pool.inside, pool.boxes]
    assert sorted(pinned) == sorted(tensor.data_ptr() for tensor in tensors)
    assert equal(again, batch) and again.labelled.images is not batch.labelled.images
    meta = batch.to(torch.device("meta"))
    assert meta.unlabelled.strong[0].is_meta and meta.labelled.masks.is_meta and meta.all_keys == batch.all_keys
