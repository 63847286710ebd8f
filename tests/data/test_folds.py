"""Folds: every case with masks is scored once, never by a run that saw one of its images."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from diffmatch import plugins
from diffmatch.data.folds import Fold
from diffmatch.data.splits import all_items, make_split
from diffmatch.domain import Card, ClassInfo, Domain, InputError, Item, Protocol, TopBottom
from diffmatch.running.restored import evaluate_run


class Scenes(Domain):
    """Eleven scenes of three images, one of them with an image that has no mask, over all parts of the set."""

    def __init__(self, mode="image"):
        super().__init__(Path("/scenes"))
        self.card = Card(
            version=1,
            name="scenes",
            title="scenes",
            modality="none",
            label_unit="images",
            budgets=("2",),
            metric="mean_iou",
            classes=(ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(1, 1, 1))),
            head_tail=TopBottom(k=1),
            protocols=(Protocol(name="whole", title="whole", mode=mode),),
            licence="",
            citation="",
            source="",
        )
        scenes = [Item(f"s{c:02d}/{n}", f"s{c:02d}", masked=(c, n) != (3, 1)) for c in range(11) for n in range(3)]
        self.parts = {"train": scenes[:24], "val": scenes[24:27], "test": scenes[27:]}

    def index(self, split):
        return self.parts[split]

    def read(self, item, mask=True):
        raise NotImplementedError

    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        raise NotImplementedError

    def published(self, budget):
        raise AssertionError("a fold is drawn")


def test_every_case_with_masks_is_scored_once_and_no_run_saw_it():
    splits = [make_split(Scenes(), "2", 0, f"fold-{n}-of-5") for n in range(1, 6)]
    scored = [item.id for split in splits for item in split.test]
    assert sorted(scored) == sorted(f"s{c:02d}/{n}" for c in range(11) if c != 3 for n in range(3))
    for number, split in enumerate(splits, 1):
        assert split.family == f"seeded-0 in fold-{number}-of-5"
        seen = {item.case for item in (*split.labelled, *split.unlabelled)}
        assert len(split.labelled) == 2 and not split.val and not seen & {item.case for item in split.test}
        assert len({item.case for item in split.test}) == 2 and len(split.items) == 33
    assert len({split.sha256 for split in splits}) == 5


def test_the_same_seed_draws_the_same_folds_and_another_one_others():
    first, again, other = (make_split(Scenes(), "2", seed, "fold-1-of-5").test for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        ("fold-6-of-5", "image", "no such fold"),
        ("fold-0-of-5", "image", "no such fold"),
        ("fold-1-of-1", "image", "no such fold"),
        ("fold-1-of-11", "image", "10 cases have masks, too few for 11 folds"),
        ("fold-1-of-5", "volume", "scores volumes"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(name, mode, told):
    with pytest.raises(InputError, match=told) as error:
        make_split(Scenes(mode), "2", 0, name)
    assert "\n" not in str(error.value)


def test_other_names_are_no_folds():
    assert Fold.named(None) is None and Fold.named("unimatch") is None and Fold.named("lists/fold-1-of-5") is None


@pytest.mark.parametrize("name", ["msd", "acdc"])
def test_volumes_are_scored_once_each_and_their_slices_never_seen(name, few, tmp_path):
    """A case is volumes where it is scored and slices where it is learnt from, whichever part it has in the set."""
    kind = plugins.domain(name)
    root = few if name == "acdc" else tmp_path
    if name == "msd":
        kind.fabricate(root)
    cases = {item.case for item in all_items(kind(root))}
    scored = []
    for number in (1, 2):
        split = make_split(kind(root), "1", 0, f"fold-{number}-of-2")
        scored += sorted({item.case for item in split.test})
        assert {item.case for item in split.items} == cases and not split.val
        assert all(kind(root).read(item).image.ndim == 5 for item in split.test[:1])
        assert all(kind(root).read(item).image.ndim == 4 for item in split.labelled[:1])
        seen = {item.case for item in (*split.labelled, *split.unlabelled)}
        assert not seen & {item.case for item in split.test}
    assert sorted(scored) == sorted(cases)


def test_a_fold_of_volumes_is_scored_again_as_it_was(job, quietly, tmp_path):
    run = quietly(job(tmp_path, "supervised", split="fold-1-of-2", train__steps=2))
    again = evaluate_run(run, "last", "test", steps=None, draws=None, protocol=None, data=None)
    assert again.metrics == run.record().metrics["test"] and len(run.members().test) == 4


def test_prepared_files_that_lack_a_patient_s_volumes(tmp_path):
    (tmp_path / "data" / "slices").mkdir(parents=True)
    for name in ("patient001_frame01", "patient002_frame01", "slices/patient038_frame01_slice_1"):
        with h5py.File(tmp_path / "data" / f"{name}.h5", "w") as file:
            for key in ("image", "label"):
                file[key] = np.zeros((4, 4) if "slice" in name else (2, 4, 4), np.uint8)
    with pytest.raises(InputError, match=r"patient0\d\d_frame01\.h5: missing, though .* belongs to (test|val); add it"):
        make_split(plugins.domain("acdc")(tmp_path), "1", 0, "fold-2-of-2")
