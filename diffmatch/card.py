"""What is fixed about a dataset: its classes, how its files are read and scored, how the paper trains on it.

No torch, no pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VOID = 255
"""The mask value that carries no loss and is scored nowhere."""

VOID_NAMES = frozenset(
    (
        *("void", "ignore", "ignored", "ignoreindex", "ignorelabel", "ignoreregion", "ignoredregion"),
        *("unlabeled", "unlabelled", "notlabeled", "notlabelled", "unannotated", "notannotated"),
        *("unknown", "dontcare", "donotcare", "nodata"),
    )
)
"""What tables of classes call void: in lower case, letters only."""

DOUBTFUL_NAMES = frozenset(
    ("unclassified", "undefined", "unsure", "uncertain", "ambiguous", "invalid", "missing", "none", "null", "excluded")
)
"""What is void in some tables and a class in others."""

API = 1
"""Version of this interface. A card of another version is refused by name."""

SplitName = Literal["train", "val", "test"]
Empty = Literal["excluded", "zero", "transunet"]


class ExpectedError(Exception):
    """An error that the commands tell in one line on stderr, without a traceback. Its only argument is the message.

    Attributes:
        exit_code: of the command.
        advice: follows the message on that line.
    """

    exit_code: ClassVar[int] = 1
    advice: ClassVar[str] = ""


class InputError(ExpectedError):
    """What the user gave cannot be used. The message is one line: what, which file, what to do."""

    exit_code = 2


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def is_void(name: str) -> bool:
    """Whether a name in a table of classes is a customary one of void.

    Case, spaces and punctuation do not count: `Ignore_Index`, `don't care` and `not labeled` are void.
    """
    return _letters(name) in VOID_NAMES


def may_be_void(name: str) -> bool:
    """Whether a name leaves in doubt if it is a class or void."""
    return _letters(name) in DOUBTFUL_NAMES


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


class ClassInfo(Frozen):
    """One class: its name and the colour (r, g, b in 0..255) it has in every figure."""

    name: str
    color: tuple[int, int, int]


COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (128, 128, 128),
)
"""The colours of Okabe and Ito, which colour-blind readers can tell apart."""


def distinct_color(index: int) -> tuple[int, int, int]:
    """The colour (r, g, b) number `index` of `COLORS`; past the last one they repeat, darker."""
    darker, place = divmod(index, len(COLORS))
    r, g, b = COLORS[place]
    return r >> darker, g >> darker, b >> darker


class TopBottom(Frozen):
    """Head and tail are the `k` most and the `k` least frequent classes (the paper, section 4.3 and Table 6: k = 5)."""

    kind: Literal["top_bottom"] = "top_bottom"
    k: int = Field(ge=1)


class ForegroundThirds(Frozen):
    """Head and tail are the most and the least frequent third of the foreground classes (medicine).

    Each has one class at least.
    """

    kind: Literal["foreground_thirds"] = "foreground_thirds"


class Named(Frozen):
    """Head and tail are given by class index (change detection: unchanged is head, changed is tail)."""

    kind: Literal["named"] = "named"
    head: tuple[int, ...]
    tail: tuple[int, ...]


HeadTail = Annotated[TopBottom | ForegroundThirds | Named, Field(discriminator="kind")]


class Protocol(Frozen):
    """How test items are scored. Its name stands beside every number.

    Attributes:
        splits: the splits whose items are scored together (UniMatch's ACDC figures pool val and test).
        mode: `image` (whole), `window` (sliding, side `window`, stride `stride`) or `volume` (slice by slice, stacked
            and scored on the volume's own grid).
        edge: the last window of a row or column is `shifted` to end at the border, or `cut` there and so smaller
            (UniMatch).
        empty: what a class scores that is absent from the truth. `excluded` (ours): NaN if absent from the prediction
            too, else 0. `zero`: 0 in both cases (UniMatch's IoU). `transunet`: Dice 1 and HD95 0 if predicted all the
            same, 0 and 0 otherwise.
    """

    name: str
    title: str
    mode: Literal["image", "window", "volume"]
    splits: tuple[SplitName, ...] = ("test",)
    window: int | None = None
    stride: int | None = None
    edge: Literal["shifted", "cut"] = "shifted"
    empty: Empty = "excluded"

    @model_validator(mode="after")
    def _window_has_a_side(self) -> Protocol:
        if self.mode == "window" and not (self.window and self.stride and 0 < self.stride <= self.window):
            raise ValueError(f"protocol {self.name}: mode 'window' needs window and stride, and no gap between windows")
        return self


class Card(Frozen):
    """What is fixed about a dataset. The defaults fit photographs.

    Class 0 is background unless `background` is false. `classes` may be given as names, which then get the colours of
    `COLORS`; a first class called background is black. `protocols[0]` is the default protocol.
    """

    api: int = API
    version: int = Field(
        default=1, description="of the reading recipe: a change that alters pixels raises it, and with it the run hash"
    )
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    modality: str = "photographs"
    classes: tuple[ClassInfo, ...] = Field(min_length=2)
    background: bool = True
    dates: int = Field(default=1, ge=1)
    channels: int = Field(default=3, ge=1)
    label_unit: Literal["images", "cases"] = "images"
    budgets: tuple[str, ...] = ("1/8", "1/4", "1/2")
    protocols: tuple[Protocol, ...] = Field(
        default=(Protocol(name="whole", title="IoU over all pixels of the test images", mode="image"),), min_length=1
    )
    metric: Literal["mean_dice", "mean_iou", "changed_iou"] = "mean_iou"
    head_tail: HeadTail = TopBottom(k=1)
    foreground_calibration: bool = Field(
        default=False, description="the headline ECE leaves out pixels that are background in truth and prediction"
    )
    licence: str
    citation: str
    source: str = Field(description="where the data come from and into which folders they go")
    note: str = ""

    @field_validator("classes", mode="before")
    @classmethod
    def _color_the_names(cls, classes: Any) -> Any:
        """Class names -> `ClassInfo`; what already has a colour stays."""
        if not isinstance(classes, list | tuple):
            return classes
        colors = [distinct_color(place) for place in range(len(classes))]
        if classes and classes[0] == "background":
            colors[0] = (0, 0, 0)
        return tuple(
            {"name": one, "color": color} if isinstance(one, str) else one
            for one, color in zip(classes, colors, strict=True)
        )

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.classes]

    @property
    def foreground(self) -> list[int]:
        return list(range(1 if self.background else 0, len(self.classes)))

    @property
    def scored(self) -> list[int]:
        """The classes whose mean is the primary metric (mean Dice leaves the background out, mean IoU does not)."""
        if self.metric == "changed_iou":
            return [1]
        return self.foreground if self.metric == "mean_dice" else list(range(len(self.classes)))

    def protocol(self, name: str | None = None) -> Protocol:
        """The named protocol, the default without a name.

        Raises:
            InputError: no protocol has that name.
        """
        if name is None:
            return self.protocols[0]
        for protocol in self.protocols:
            if protocol.name == name:
                return protocol
        raise InputError(
            f"{self.name} has no protocol '{name}': choose one of {', '.join(p.name for p in self.protocols)}"
        )

    def ranked(self, pixels: Sequence[float] | NDArray[Any]) -> tuple[list[int], list[int]]:
        """Head and tail class indices by the card's rule.

        Args:
            pixels: labelled pixels per class, shape (C,); ties go to the lower index.
        """
        rule = self.head_tail
        if isinstance(rule, Named):
            return list(rule.head), list(rule.tail)
        among = self.foreground if isinstance(rule, ForegroundThirds) else list(range(len(self.classes)))
        k = rule.k if isinstance(rule, TopBottom) else max(1, len(among) // 3)
        order = sorted(among, key=lambda c: (-float(pixels[c]), c))
        return order[:k], order[-k:]


class Window(Frozen):
    """`low` becomes 0 and `high` 1, in the file's own unit (Hounsfield in CT); what lies beyond is clipped."""

    kind: Literal["window"] = "window"
    low: float
    high: float


class Percentiles(Frozen):
    """These percentiles (0 to 100) of each volume's channel become 0 and 1; what lies beyond is clipped."""

    kind: Literal["percentiles"] = "percentiles"
    low: float
    high: float


class MinMax(Frozen):
    """The least and the greatest value of each volume's channel become 0 and 1."""

    kind: Literal["min_max"] = "min_max"


Scaling = Annotated[Window | Percentiles | MinMax, Field(discriminator="kind")]


class Reading(Frozen):
    """How the values of a file, or of an array in memory, become what the network is trained on.

    It says all that is needed to read a file that no data set holds: neither the plugin nor its data are.

    Attributes:
        kind: `photograph` is RGB whatever the file holds (grey is repeated), `picture` has its channels as they are
            stored, `volume` has slices.
        values: the number of each class in the set's own mask files, in the classes' order.
        axes: of a volume's file, those that are its slices, rows and columns: three numbers of NIfTI's axes, or three
            letters, the anatomical directions in which slices, rows and columns run (nibabel's codes: `SPL` is from
            feet to head, from front to back, from right to left).
        scaling: of each channel of a volume; one stands for all, none leaves the values as they are.
        half: a volume's values are rounded to half precision, as the set's cache stores them.
        white: of a picture's 16 bit files, the value that becomes 1; None for the greatest of 16 bits. A set of 12 bit
            pictures in 16 bit files has 4095.
    """

    kind: Literal["photograph", "picture", "volume"]
    values: tuple[int, ...]
    axes: tuple[int, int, int] | str = (2, 1, 0)
    scaling: tuple[Scaling, ...] = ()
    half: bool = False
    white: int | None = Field(default=None, ge=1, lt=1 << 16)

    @field_validator("axes")
    @classmethod
    def _three_different_axes(cls, axes: tuple[int, int, int] | str) -> tuple[int, int, int] | str:
        named = ["RLAPSI".find(letter) // 2 for letter in axes] if isinstance(axes, str) else axes
        if sorted(named) != [0, 1, 2]:
            raise ValueError(f"axes {axes!r}: give each of 0, 1 and 2 once, or one letter each of RL, AP and SI")
        return axes


Preset = Literal["quick", "standard", "paper"]
PRESETS: tuple[Preset, ...] = get_args(Preset)


class Recipe(Frozen):
    """Dotted settings (`train.lr`, `network.encoder`, ...) on top of the engine's defaults.

    `paper` holds what the paper, or where it is silent its reference code, trains with. The two others are laid over it
    and change encoder, width, size, batch and steps, with the optimiser and its rate: `quick` takes minutes on a
    laptop, `standard` is sized for an hour or two there.
    `method.threshold` and the like hold for the methods that have such an option.
    """

    version: int = 1
    paper: dict[str, Any]
    quick: dict[str, Any]
    standard: dict[str, Any] = Field(default_factory=dict, description="empty: the set has no such preset")

    @property
    def presets(self) -> tuple[Preset, ...]:
        """Those that the recipe has."""
        return tuple(preset for preset in PRESETS if preset != "standard" or self.standard)

    def settings(self, preset: Preset) -> dict[str, Any]:
        """What a preset sets on top of the engine's defaults."""
        return self.paper | {"paper": {}, "quick": self.quick, "standard": self.standard}[preset]

    def updated(
        self,
        paper: Mapping[str, Any] | None = None,
        quick: Mapping[str, Any] | None = None,
        standard: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """This recipe with some settings replaced or added; the version stays."""
        changes = {"paper": paper, "quick": quick, "standard": standard}
        return self.model_copy(update={name: getattr(self, name) | dict(new or {}) for name, new in changes.items()})
