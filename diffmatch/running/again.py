"""A run taken up again from its own record: resumed, or scored otherwise. Today's recipe and lists have no say."""

from __future__ import annotations

from pathlib import Path

from diffmatch import plugins
from diffmatch.card import Card
from diffmatch.data.fingerprint import Fingerprint, concerning, made_of, names_of, sizes_of
from diffmatch.data.folds import Fold
from diffmatch.data.loading import labelled_pixels
from diffmatch.data.opening import cache_root, fabricated_data, open_domain
from diffmatch.data.splits import Split, all_items, make_split, recorded_split
from diffmatch.domain import Domain, InputError
from diffmatch.learning import registry
from diffmatch.model.manifest import settings_from
from diffmatch.model.start import read_start
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import Init, Members, RunRecord, Versions
from diffmatch.running.plan import Job, Plan, plan, recorded_root, run_hash


def prepared(job: Job) -> Plan:
    """The plan of a job: of a new one by today's recipe, of one that is taken up again by its record.

    Raises:
        InputError: whatever of it cannot be done, in one line.
    """
    if not job.again:
        return plan(job)
    planned = planned_again(job)
    record = planned.folder.record()
    if record.versions is None and _hash(planned, None) != record.hash:
        raise InputError(
            f"{job.again}: settings, data or versions have changed since it was made, and its record of schema "
            f"{record.schema_version} does not say which; train it anew"
        )
    return planned


def job_of(folder: RunFolder, data: Path | None = None) -> Job:
    """The job that takes a run up again.

    A run on fabricated data keeps them, whatever $DIFFMATCH_DATA holds now.

    Args:
        data: where the run's data lie today, if elsewhere than in the record.
    """
    record = folder.record()
    path = folder.path.resolve()
    return Job(
        dataset=record.dataset,
        method=record.method,
        labels=record.labels.budget,
        seed=record.seed,
        preset=record.preset,
        data=data or (None if record.data.fabricated else Path(record.data.root)),
        out=path.parents[3] if len(path.parts) > 4 else path.parent,
        overrides=record.overrides,
        split=record.split.asked,
        fabricated=record.data.fabricated and data is None,
        invented=record.data.invented,
        again=folder.path,
    )


def planned_again(job: Job) -> Plan:
    """Plan what a run's record says, on the data that it was made with.

    Raises:
        InputError: the data are not there or are not the run's, or a version differs that changes what is trained.
    """
    assert job.again is not None
    folder = RunFolder(job.again)
    record = folder.record()
    domain, fingerprint, split = _data(job, folder, record)
    method = registry.method(record.method)
    settings = settings_from(record.settings, method, folder.record_path)
    today = Versions(card=domain.card.version, recipe=domain.recipe.version, method=method.version)
    versions = record.versions or today
    if (versions.card, versions.method) != (today.card, today.method):
        raise InputError(
            f"{folder.path}: was made with version {versions.method} of the method {record.method} and {versions.card} "
            f"of the reading of {record.dataset}, installed are {today.method} and {today.card}; train it anew, or "
            "install those versions"
        )
    _set_card(domain, record, folder)
    start = None
    if record.init and not (folder.path / "last.ckpt").exists():
        start = read_start(Path(record.init.source))
        if start.sha256 != record.init.sha256:
            raise InputError(f"{start.source}: not the weights any more that {folder.path} is to start from")
    planned = Plan(
        job=job,
        domain=domain,
        fingerprint=fingerprint,
        data=record.data.model_copy(update={"root": recorded_root(job, domain.root)}),
        settings=settings,
        split=split,
        pixels=labelled_pixels(domain, split.labelled),
        hash=record.hash,
        folder=folder,
        versions=versions,
        earlier_hash=record.hash,
        start=start,
    )
    if not planned.fits(record):
        raise InputError(
            f"{domain.root}: not the masks that {folder.path} was trained on: labelled pixels are "
            f"{planned.labelled_pixels}, were {record.labels.pixels}; bring the masks back, or train anew"
        )
    if record.versions and _hash(planned, record.init) != record.hash:
        raise InputError(f"{folder.record_path}: its settings are not those of the run {record.hash}; restore the file")
    return planned


def _hash(planned: Plan, init: Init | None) -> str:
    """The run hash that the plan would get, to hold against the recorded one."""
    job, split, fingerprint = planned.job, planned.split.sha256, planned.data.fingerprint
    weights = init.sha256 if init else None
    return run_hash(job.dataset, job.method, planned.settings, split, fingerprint, planned.versions, weights)


def _data(job: Job, folder: RunFolder, record: RunRecord) -> tuple[Domain, Fingerprint, Split]:
    """The domain on the run's data as the run reads it, their fingerprint today, and the run's split.

    Files that were added since do not matter; those of the run must be what they were.
    """
    kind, members = plugins.domain(record.dataset), folder.members()
    root = fabricated_data(kind, job.invented) if job.fabricated else job.data or cache_root() / record.data.root
    if not root.is_dir():
        raise InputError(f"{root}: the run's data are not there any more; say where they are with --data")
    domain, fingerprint = open_domain(kind, root)
    same = fingerprint.of(record.data.fingerprint_of) == record.data.fingerprint
    if members is None:
        if not same:
            raise _other_files(root, folder, "names or sizes differ")
        lists = record.split.asked
        split_seed = record.settings["data"]["split_seed"]
        pool = registry.method(record.method).views.unlabelled
        split = make_split(domain, record.labels.budget, split_seed, lists, partial=record.data.fabricated, pool=pool)
    else:
        if not same:
            domain.keep(members.cases)
        if fold := Fold.named(record.split.asked):
            fold.divided(all_items(domain), domain, record.settings["data"]["split_seed"])
        ids = {part: getattr(members, part) for part in ("labelled", "unlabelled", "val", "test")}
        try:
            split = recorded_split(domain, record.split.family, record.labels.budget, ids)
        except InputError as error:
            then = members.contents or {}
            changed = {name for name in then if then[name] != fingerprint.files.get(name)}
            raise InputError(f"{error}; changed since: {_some(changed)}" if changed else str(error)) from error
        if members.contents is not None:
            _look_at_contents(domain.fitted(split.labelled), fingerprint, members, split, folder)
        elif not same and (members.files is None or sizes_of(root, split.items) != members.files):
            raise _other_files(root, folder, "names or sizes differ")
    if split.sha256 != record.split.sha256:
        raise InputError(
            f"{folder.path}: was made with split {record.split.sha256[:8]}, the lists now give {split.sha256[:8]}; "
            "bring the run's lists back"
        )
    return domain.fitted(split.labelled), fingerprint, split


def _look_at_contents(
    domain: Domain, fingerprint: Fingerprint, members: Members, split: Split, folder: RunFolder
) -> None:
    """Whether the run's own files are what they were.

    A file that no item refers to, such as a table of classes, may change as long as the plugin makes the same of it:
    it may list cases that were added. Where no item refers to files, none may change.

    Raises:
        InputError: naming the files that changed.
    """
    then, now = members.contents or {}, concerning(domain, fingerprint.files, split.items)
    others = {name for name in then.keys() | now.keys() if then.get(name) != now.get(name)}
    own = names_of(domain.root, split.items) or others
    if not others & own and made_of(domain, split.items) == members.made:
        return
    changed = others & then.keys()
    named = changed & own or changed or others
    why = f"{_some(named)} changed since" if named else "the plugin reads the same files otherwise"
    raise _other_files(domain.root, folder, why)


def _some(names: set[str]) -> str:
    """The first three of them, and how many more there are."""
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _other_files(root: Path, folder: RunFolder, why: str) -> InputError:
    return InputError(
        f"{root}: not the files that {folder.path} was trained on ({why}); bring them back, or train anew"
    )


def _set_card(domain: Domain, record: RunRecord, folder: RunFolder) -> None:
    """Score with the card that the run was made with.

    Raises:
        InputError: the data have other classes or channels now.
    """
    card = Card.model_validate(record.card)
    for what in ("names", "channels", "dates"):
        if (today := getattr(domain.card, what)) != (then := getattr(card, what)):
            raise InputError(f"{domain.root}: {what} are {today}, but {folder.path} was trained on {then}")
    domain.card = card
