"""The three layouts in which ACDC is found on disks, with one set of ids and the same pixels from all."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffmatch.domain import InputError, Item, SplitName
from diffmatch.readers import arrays, nifti, text_of
from diffmatch.readers.volumes import Source

PATIENTS = range(1, 101)

WHERE = (
    "get it from https://www.creatis.insa-lyon.fr/Challenge/acdc and unpack it so that DIR/training/patient001/ exists "
    "(or take the prepared h5 files of SSL4MIS: DIR/data/slices/, DIR/data/patient001_frame01.h5, or of WSL4MIS: "
    "DIR/ACDC_training_slices/, DIR/ACDC_training_volumes/)"
)

PREPARED = {"data": "data/slices", ".": "slices", "ACDC_training_volumes": "ACDC_training_slices"}
"""Folders of the volumes and of the slices below a root: SSL4MIS's, its inner one, WSL4MIS's."""


class Layout(ABC):
    """Where a copy of ACDC keeps its frames."""

    @abstractmethod
    def items(self, part: Callable[[int], SplitName]) -> Iterator[tuple[int, Item]]:
        """Slices of the patients to train on, volumes of the others, with the patient's number; headers are read.

        Ids are those of the community's lists: frame 01 is end diastole and 02 end systole, slices count from 1.

        Raises:
            InputError: a file that the patient's part needs is missing, or a patient has too many frames.
        """


def find(root: Path) -> Layout:
    """The layout below a folder.

    Raises:
        InputError: none is there.
    """
    for folder in (root / "training", root / "database" / "training", root):
        if any(number_of(path.name) for path in folder.glob("patient???")):
            return Raw(folder)
    for inside, slices in PREPARED.items():
        prepared = Prepared(root / inside, root / slices)
        if any(prepared.files()):
            return prepared
    raise InputError(
        f"{root}: neither training/patient001/ nor data/slices/*.h5 nor ACDC_training_slices/*.h5 is there; {WHERE}"
    )


def number_of(name: str) -> int:
    """The number of a patient of the protocol by folder name, 0 for anything else."""
    match = re.fullmatch(r"patient(\d{3})", name)
    return int(match[1]) if match and int(match[1]) in PATIENTS else 0


@dataclass(frozen=True)
class Raw(Layout):
    """The challenge's own folders: `patient###/{Info.cfg, patient###_frame##.nii.gz, patient###_frame##_gt.nii.gz}`."""

    folder: Path

    def items(self, part: Callable[[int], SplitName]) -> Iterator[tuple[int, Item]]:
        for folder in sorted(self.folder.glob("patient???")):
            number = number_of(folder.name)
            if not number:
                continue
            for phase, frame in enumerate(_phases(folder), 1):
                image, mask = _nifti(folder, frame), _nifti(folder, f"{frame}_gt")
                if image is None:
                    raise InputError(
                        f"{folder / frame}.nii.gz: missing, though Info.cfg or its mask names it; copy the patient "
                        "again"
                    )
                volume = opened(image)
                spacing = nifti.spacing(volume, image)[::-1]
                if spacing[0] < max(spacing[1:]):
                    raise InputError(
                        f"{image}: voxels of {spacing[0]:.3g} mm along the last axis, which is that of the slices, and "
                        f"{max(spacing[1:]):.3g} mm along another; store it as (X, Y, Z)"
                    )
                planes = range(volume.shape[2]) if part(number) == "train" else None
                whole = Source(_key(number, phase), image, mask, spacing)
                yield from ((number, item) for item in _parts(whole, planes))


@dataclass
class Frame:
    """The h5 files of one frame."""

    volume: Path | None = None
    slices: dict[int, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared(Layout):
    """h5 files: volumes `patient###_frame##.h5` in one folder, slices `patient###_frame##_slice_#.h5` in another.

    SSL4MIS numbers the frames 01 and 02, the slices from 1, and has slices of the patients to train on, volumes of the
    others. WSL4MIS keeps the frames' own numbers, counts slices from 0, has both of all patients, and a data set
    `scribble` in each file, which is not read. A patient without slices is learnt from by the planes of its volumes.
    """

    volumes: Path
    slices: Path

    def items(self, part: Callable[[int], SplitName]) -> Iterator[tuple[int, Item]]:
        patients = self._frames()
        numbers = [n for frames in patients.values() for frame in frames.values() for n in frame.slices]
        first = min(numbers, default=1)
        for number, frames in sorted(patients.items()):
            for phase, (name, frame) in self._phases(number, frames).items():
                for item in self._items(_key(number, phase), name, frame, part(number), min(first, 1)):
                    yield number, item

    def files(self) -> Iterator[tuple[Path, int, int, int | None]]:
        """Path, patient, frame and slice (None: the volume) of each file of the protocol's patients."""
        for folder, ending in ((self.volumes, ""), (self.slices, r"_slice_(?P<slice>\d+)")):
            for path in folder.glob("patient*.h5"):
                found = re.fullmatch(rf"(?P<case>patient\d{{3}})_frame(?P<frame>\d\d){ending}", path.stem)
                if found and (number := number_of(found["case"])):
                    yield path, number, int(found["frame"]), int(found["slice"]) if ending else None

    def _frames(self) -> dict[int, dict[int, Frame]]:
        """The files of each patient and frame, by their numbers."""
        patients: dict[int, dict[int, Frame]] = defaultdict(lambda: defaultdict(Frame))
        for path, number, frame, k in self.files():
            if k is None:
                patients[number][frame].volume = path
            else:
                patients[number][frame].slices[k] = path
        return patients

    def _phases(self, number: int, frames: dict[int, Frame]) -> dict[int, tuple[str, Frame]]:
        """Name and files of end diastole, 1, and end systole, 2; the heart fills before it empties in all patients."""
        names = {frame: f"patient{number:03d}_frame{frame:02d}" for frame in sorted(frames)}
        listed = ", ".join(f"{frame:02d}" for frame in names)
        if len(names) > 2:
            raise InputError(
                f"{self.volumes}: patient{number:03d} has the frames {listed} where two should be; two copies are "
                "mixed, keep one of them"
            )
        if len(names) == 1 and not names.keys() <= {1, 2}:
            raise InputError(
                f"{self.volumes}: patient{number:03d} has frame {listed} alone, which may be either phase; add the "
                "other"
            )
        phases = {frame: frame for frame in names} if names.keys() <= {1, 2} else dict(zip(names, (1, 2), strict=True))
        return {phase: (names[frame], frames[frame]) for frame, phase in phases.items()}

    def _items(self, key: str, name: str, frame: Frame, part: SplitName, first: int) -> Iterator[Item]:
        """Items of one frame.

        Args:
            key: what the lists call it.
            name: what its files are called.
            first: number of a volume's first slice.
        """
        case, sliced = key[:10], frame.slices
        if part != "train":
            if frame.volume is None:
                raise InputError(
                    f"{self.volumes / name}.h5: missing, though {len(sliced)} of its slices are in {self.slices} and "
                    f"{case} belongs to {part}; add it"
                )
            yield Item(key, case, Source(key, frame.volume, frame.volume))
            return
        depth = None if frame.volume is None else arrays.shape(frame.volume, "image")[0]
        if frame.volume is not None and not sliced:
            yield from _parts(Source(key, frame.volume, frame.volume), range(depth or 0))
            return
        expected = range(first, first + depth if depth is not None else max(sliced) + 1)
        for k in sorted(sliced.keys() ^ set(expected)):
            path = self.slices / f"{name}_slice_{k}.h5"
            if k in sliced:
                raise InputError(f"{path}: its volume {frame.volume} has {depth} slices; take both from one copy")
            raise InputError(f"{path}: missing, though others of {name} are there; copy {case} again")
        for k, path in sorted(sliced.items()):
            name = f"{key}_slice_{k - first + 1}"
            yield Item(name, case, Source(name, path, path))


def _key(number: int, phase: int) -> str:
    return f"patient{number:03d}_frame{phase:02d}"


def _parts(whole: Source, planes: range | None) -> Iterator[Item]:
    """The volume as one item, or each of its planes as one."""
    case, masked = whole.key[:10], whole.mask is not None
    if planes is None:
        yield Item(whole.key, case, whole, masked=masked)
    for k in planes or ():
        plane = Source(whole.key, whole.image, whole.mask, whole.spacing, k)
        yield Item(f"{whole.key}_slice_{k + 1}", case, plane, masked=masked)


def _phases(folder: Path) -> list[str]:
    """Names of the ED and the ES frame, by Info.cfg, or if that does not say, the two frames that have masks."""
    info = folder / "Info.cfg"
    try:
        text = text_of(info) if info.is_file() else ""
    except OSError as error:
        raise InputError(f"{info}: cannot be read as text ({type(error).__name__}); copy it again") from error
    frame_of = dict(re.findall(r"^\s*(ED|ES)\s*[:=]\s*(\d+)", text, re.MULTILINE))
    if len(frame_of) == 2:
        return [f"{folder.name}_frame{int(frame_of[phase]):02d}" for phase in ("ED", "ES")]
    frames = sorted(
        {
            match[1]
            for path in folder.iterdir()
            if (match := re.fullmatch(r"(patient\d+_frame\d+)_gt\.nii(\.gz)?", path.name))
        }
    )
    if len(frames) != 2:
        raise InputError(
            f"{folder}: Info.cfg does not give ED and ES, and {len(frames)} frames have masks where 2 should; copy it "
            "again"
        )
    return frames


def _nifti(folder: Path, stem: str) -> Path | None:
    return next((path for end in (".nii.gz", ".nii") if (path := folder / (stem + end)).is_file()), None)


def opened(path: Path) -> Any:
    """A NIfTI file's header and affine; pixels are not read yet.

    Raises:
        InputError: cannot be read, or not three axes.
    """
    volume = nifti.volume(path)
    if len(volume.shape) != 3:
        raise InputError(
            f"{path}: expected a volume of 3 axes, found shape {volume.shape}; take the single frames, not the 4D file"
        )
    return volume
