"""Community split lists: every published form, names by hash, the store, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch import plugins
from diffmatch.data.splits import make_split
from diffmatch.domain import Domain, InputError, Item
from diffmatch.readers import lists
from diffmatch.readers.lists import budget_of, canonical, chosen, identity, install, installed, read

SPLITS = Path(__file__).parents[2].parent / "shared" / "splits"
needs_lists = pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the community's split lists are not at {SPLITS}")


class Toy(Domain):
    """Eight training images a..h, val v, test s and t."""

    card = plugins.domain("acdc").card.model_copy(
        update={"name": "toy", "label_unit": "images", "budgets": ("2", "1/4")}
    )
    sizes = {"1/4": 2}  # noqa: RUF012
    families = {identity("ab"): "ours", identity("cd"): "theirs"}  # noqa: RUF012

    def __init__(self, root=Path("/toy"), train="abcdefgh"):
        super().__init__(root)
        self.train = train

    def index(self, split):
        return [Item(name, name) for name in {"train": self.train, "val": "v", "test": "st"}[split]]

    def read(self, item, mask=True):
        raise NotImplementedError

    def files(self):
        return []

    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path / "store"))


def write(folder: Path, **files: str) -> Path:
    """`write(folder, labeled="a b")`: one word a line, dots in names written as two underscores."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in files.items():
        (folder / (name.replace("__", ".") + ("" if "__" in name else ".txt"))).write_text("\n".join(words.split()))
    return folder


# -- forms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("JPEGImages/2007_000733.jpg SegmentationClass/2007_000733.png", "2007_000733"),
        ("2007_000733", "2007_000733"),
        ("whucd_00002.png", "whucd_00002"),
        ("data/slices/patient099_frame01_slice_15.h5", "patient099_frame01_slice_15"),
        ("case0031.npy.h5", "case0031"),
        ("a\\b\\c.TIFF x", "c"),
        ("img0001.nii.gz", "img0001"),
    ],
)
def test_a_line_names_the_item_of_its_first_path(line, name):
    assert Domain.listed(line) == name


@pytest.mark.parametrize(
    ("folder", "budget"),
    [("1_16", "1/16"), ("u2pl_1_16", "1/16"), ("1-16", "1/16"), ("5%", "5%"), ("5pct", "5%"), ("92", "92")],
)
def test_a_folder_names_its_budget(folder, budget):
    assert budget_of(folder) == budget


def test_unimatch_form_pairs_of_paths_without_a_last_newline(tmp_path):
    (tmp_path / "1_4").mkdir()
    (tmp_path / "1_4" / "labeled.txt").write_text("img/a.jpg mask/a.png\nimg/b.jpg mask/b.png")
    (tmp_path / "1_4" / "unlabeled.txt").write_text("img/c.jpg mask/c.png\n\n")
    write(tmp_path, val="s.jpg t.jpg")
    (family,) = read(tmp_path, Toy)
    assert (family.name, family.budget, family.labelled, family.unlabelled) == ("ours", "1/4", ("a", "b"), ("c",))
    assert (family.val, family.test) == ((), ("s", "t")), "lists with val alone are scored on it"


def test_semicd_form(tmp_path):
    write(tmp_path, **{"5_train_supervised": "a b", "5_train_unsupervised": "c d", "val": "v", "test": "s"})
    (family,) = read(tmp_path, Toy)
    assert (family.budget, family.labelled, family.unlabelled, family.val, family.test) == (
        "5%",
        ("a", "b"),
        ("c", "d"),
        ("v",),
        ("s",),
    )


@pytest.mark.parametrize("names", [("train_slices__list", "val__list", "test__list"), ("train", "val", "test_vol")])
def test_divisions_without_labelled_members(tmp_path, names):
    (family,) = read(write(tmp_path, **dict(zip(names, ("a b c", "v", "s"), strict=True))), Toy)
    assert (family.budget, family.labelled, family.unlabelled, family.val, family.test) == (
        None,
        None,
        ("a", "b", "c"),
        ("v",),
        ("s",),
    )


def test_a_count_is_the_budget_that_it_stands_for(tmp_path):
    assert canonical(Toy, "2") == "1/4" == canonical(Toy, "1/4")
    write(tmp_path / "2", labeled="a b")
    assert read(tmp_path, Toy)[0].budget == "1/4"


def test_order_does_not_name_a_family_but_members_do(tmp_path):
    write(tmp_path / "1_4", labeled="b a")
    write(tmp_path / "x_1_4", labeled="a c")
    assert {f.name for f in read(tmp_path, Toy)} == {"ours", f"lists-{identity('ac')[:8]}"}


COUNTS = {
    "pascal": {"92": 92, "183": 183, "366": 366, "732": 732, "1464": 1464, "1/16": 662, "1/8": 1323, "1/4": 2646},
    "cityscapes": {"1/30": 100, "1/16": 186, "1/8": 372, "1/4": 744, "1/2": 1488},
    "coco": {"1/512": 232, "1/256": 463, "1/128": 925, "1/64": 1849, "1/32": 3697},
    "whu": {"5%": 297, "10%": 594, "20%": 1189, "40%": 2378},
    "levir": {"5%": 356, "10%": 712, "20%": 1424, "40%": 2848},
    "acdc": {"1": 32, "3": 68, "7": 136},
}
POOLS = {"pascal": 10582, "cityscapes": 2975, "whu": 5947, "levir": 7120, "acdc": 1312}
SCORED = {
    "pascal": (0, 1449),
    "cityscapes": (0, 500),
    "coco": (0, 5000),
    "whu": (743, 744),
    "levir": (1024, 2048),
    "acdc": (20, 40),
}


@needs_lists
@pytest.mark.parametrize("dataset", COUNTS)
def test_the_communitys_lists_have_the_published_counts(dataset):
    families = read(SPLITS / "unimatch" / dataset, Domain)
    assert {f.budget: len(f.labelled) for f in families} == COUNTS[dataset]
    assert {(len(f.val), len(f.test)) for f in families} == {SCORED[dataset]}
    for family in families:
        if dataset in POOLS:
            assert len(family.labelled) + len(family.unlabelled) == POOLS[dataset]
            assert not set(family.labelled) & set(family.unlabelled)
        assert not set(family.labelled) & {*family.val, *family.test}


@needs_lists
def test_two_lists_of_one_size_are_two_families():
    families = [f for f in read(SPLITS / "unimatch" / "pascal", Domain) if f.budget == "1/16"]
    assert len(families) == 2
    assert len({f.name for f in families}) == 2
    assert len(set(families[0].labelled) & set(families[1].labelled)) < 200


@needs_lists
@pytest.mark.parametrize(
    ("folder", "counts"), [("ssl4mis/ACDC", (1312, 20, 40)), ("transunet/lists_Synapse", (2211, 0, 12))]
)
def test_divisions_of_the_medical_communities(folder, counts):
    (family,) = read(SPLITS / folder, Domain)
    assert tuple(len(part or ()) for part in (family.unlabelled, family.val, family.test)) == counts


# -- the store and --split ---------------------------------------------------------------------------------------------


def test_installed_lists_are_taken_for_their_budget_and_named(tmp_path):
    source = write(tmp_path / "theirs", val="s t")
    write(source / "1_4", labeled="c d", unlabeled="e f g")
    assert make_split(Toy(), "1/4", 0).family == "seeded-0"
    assert [f.name for f, _ in install(Toy, source)] == ["theirs"]
    split = make_split(Toy(), "1/4", 0)
    assert split.family == "theirs"
    assert [[i.id for i in part] for part in (split.labelled, split.unlabelled, split.val, split.test)] == [
        ["c", "d"],
        ["e", "f", "g"],
        [],
        ["s", "t"],
    ]
    assert make_split(Toy(), "2", 0).sha256 == split.sha256, "2 is the same budget"
    assert make_split(Toy(), "3", 0).family == "seeded-0"


def test_the_same_family_and_budget_is_replaced_whole(tmp_path):
    install(Toy, write(tmp_path / "first" / "1_4", labeled="c d", unlabeled="e f", val="g", test="s t"))
    install(Toy, write(tmp_path / "second" / "1_4", labeled="c d").parent)
    (family,) = installed(Toy, "1/4")
    assert (family.labelled, family.unlabelled, family.val, family.test) == (("c", "d"), None, None, None)


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    folder = write(tmp_path / "x" / "1_4", labeled="c d")
    (path,) = folder.glob("*.txt")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(tmp_path / "x", Toy)[0].labelled == ("c", "d")


def test_of_two_installed_families_the_first_known_one_is_taken_and_the_other_can_be_named(tmp_path):
    for name, ids in {"x": "c d", "y": "a b", "z": "e f"}.items():
        install(Toy, write(tmp_path / name / "1_4", labeled=ids).parent)
    assert [f.name for f in installed(Toy, "1/4")][:2] == ["ours", "theirs"]
    assert make_split(Toy(), "1/4", 0).family == "ours"
    split = make_split(Toy(), None, 0, "theirs")
    assert (split.family, split.budget, [i.id for i in split.labelled]) == ("theirs", "1/4", ["c", "d"])


def test_fabricated_data_without_the_listed_members_are_drawn_from_by_seed(tmp_path):
    install(Toy, write(tmp_path / "x" / "1_4", labeled="a z").parent)
    assert make_split(Toy(), "1/4", 0, partial=True).family == "seeded-0"
    with pytest.raises(InputError, match="names 1 items that are not there"):
        make_split(Toy(), "1/4", 0)


def test_a_users_folder_of_lists(tmp_path):
    folder = write(tmp_path / "mine" / "1_4", labeled="a h", unlabeled="b", val="v", test="t")
    split = make_split(Toy(), None, 0, str(folder))
    assert split.family == f"lists-{identity('ah')[:8]}"
    assert [i.id for i in split.test] == ["t"]


def test_an_installed_division_serves_any_budget(tmp_path):
    install(Toy, write(tmp_path / "theirs", train="a b c d", val="v", test="s"))
    assert [f.budget for f in installed(Toy)] == [None]
    split = make_split(Toy(), "1/4", 0)
    assert split.family == f"seeded-0 in lists-{identity('abcd')[:8]}"
    assert [i.id for i in split.test] == ["s"]
    install(Toy, write(tmp_path / "more" / "1_4", labeled="e f").parent)
    assert [i.id for i in make_split(Toy(), "1/4", 0).labelled] == ["e", "f"], (
        "lists of the budget come before a division"
    )


def test_a_division_alone_leaves_the_draw_to_the_seed(tmp_path):
    """Training frames may become the tuning set: a part is looked for among all items."""
    folder = write(tmp_path / "drives", train="a b c d", val="g h", test="s")
    split = make_split(Toy(), "1/4", 5, str(folder))
    assert split.family == f"seeded-5 in lists-{identity('abcd')[:8]}"
    assert {i.id for i in (*split.labelled, *split.unlabelled)} == set("abcd")
    assert len(split.labelled) == 1, "a quarter of the listed pool, not of the published set"
    assert [i.id for i in split.val] == ["g", "h"]


def test_fabricated_data_hold_a_part_of_the_pool_but_all_that_is_labelled(tmp_path):
    folder = str(write(tmp_path / "1_4", labeled="a b", unlabeled="c nowhere"))
    assert [i.id for i in make_split(Toy(), None, 0, folder, partial=True).unlabelled] == ["c"]
    with pytest.raises(InputError, match=r"names 1 items that are not there \(nowhere\)"):
        make_split(Toy(), None, 0, folder)
    with pytest.raises(InputError, match="names 1 items that are not there"):
        make_split(Toy(train="acd"), None, 0, folder, partial=True)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("../../etc/passwd", "leaves the data root"),
        ("/etc/passwd", "leaves the data root"),
        ("a/../../b.png", "leaves the data root"),
        ("", "the list is empty"),
        ("a b a", "'a' is listed twice"),
    ],
)
def test_a_bad_list_is_told_by_name(tmp_path, words, message):
    write(tmp_path / "1_4", labeled=words)
    with pytest.raises(InputError, match=message) as told:
        read(tmp_path, Toy)
    assert "labeled.txt" in str(told.value)


def test_lists_that_overlap_are_refused(tmp_path):
    for n, parts in enumerate(
        ({"unlabeled": "b c"}, {"unlabeled": "c", "val": "x b"}, {"unlabeled": "c", "test": "c"})
    ):
        folder = write(tmp_path / f"{n}_8", labeled="a b", **{"test": "s", **parts})
        with pytest.raises(
            InputError, match=f"labels '{n}/8' have '[bc]' in (un)?labelled and in (unlabelled|val|test)"
        ):
            make_split(Toy(), None, 0, str(folder))


def test_two_divisions_that_overlap_by_case_are_refused(tmp_path):
    """The ids differ, the patient does not."""
    toy = Toy()
    toy.card = toy.card.model_copy(update={"label_unit": "cases"})
    toy.index = lambda split: [Item(f"{split}{c}", c) for c in {"train": "abc", "val": "", "test": "cd"}[split]]
    with pytest.raises(InputError, match="case 'c' is both in"):
        make_split(toy, "1", 0)


def test_a_list_has_as_many_units_as_its_count_says(tmp_path):
    """A table's column says 3 labels: the runs in it have three."""
    write(tmp_path / "3", labeled="a b", unlabeled="c d")
    with pytest.raises(InputError, match="labels '3' has 2 images: correct it, or name its folder"):
        make_split(Toy(), "3", 0, str(tmp_path))
    write(tmp_path / "3", labeled="a b c", unlabeled="d")
    assert len(make_split(Toy(), "3", 0, str(tmp_path)).labelled) == 3


def test_a_folder_without_lists_and_a_budget_without_a_list_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="name a folder of split lists"):
        read(tmp_path / "empty", Toy)
    write(tmp_path / "lists" / "1_4", labeled="a b")
    with pytest.raises(InputError, match=r"no list for labels '3' \(there: ours 1/4\)"):
        chosen(Toy, "3", str(tmp_path / "lists"))
    with pytest.raises(InputError, match=r"no list for labels '3' \(there: none\)"):
        chosen(Toy, "3", "nobody")


def test_the_store_is_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFMATCH_SPLITS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert lists.store() == tmp_path / "diffmatch" / "splits"
