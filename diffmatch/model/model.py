"""A finished run as a model: `diffmatch.load` anywhere, `predict` anything that looks like its training data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffmatch import plugins
from diffmatch.card import Card, Reading
from diffmatch.domain import Domain, Image, InputError, Scene
from diffmatch.learning.method import Method
from diffmatch.model import source
from diffmatch.model.manifest import Manifest
from diffmatch.model.paths import later, without_ending
from diffmatch.model.predict import predict_image
from diffmatch.model.prediction import MAPS, Prediction
from diffmatch.readers import outside
from diffmatch.settings import Section, Settings

One: TypeAlias = str | Path | NDArray[Any] | Tensor
"""A file, an array or a tensor of one date."""
Input: TypeAlias = One | tuple[One, One]
"""What one prediction is made of; two dates are a tuple (before, after)."""


def load(
    path: str | Path, *, checkpoint: source.Which = "last", steps: int | None = None, draws: int | None = None
) -> Model:
    """A trained model, from a run folder alone or from one exported file. It needs neither data nor the set's plugin.

    ::

        model = diffmatch.load("runs/acdc/diffmatch/3/0-c3573078")
        found = model.predict("patient001_frame01.nii.gz")
        found.labels, found.probabilities, found.entropy

    Args:
        path: a finished run's folder, or a .safetensors file of `diffmatch export`.
        checkpoint: of the run folder: the last, or the best on val.
        steps, draws: of the sampler; None: the run's own.

    Returns:
        The model on the CPU; `to("cuda")` moves it.

    Raises:
        InputError: not a finished run and no exported file, a checkpoint of another run, a file of a newer version, a
            method that is not installed, or steps and draws for a method that does not sample.
    """
    path = Path(path)
    manifest, tensors = source.read(path, checkpoint)
    manifest = manifest.sampling(steps, draws, path)
    method = manifest.build(path)
    try:
        method.load_state_dict(tensors)
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"{path}: its weights do not fit the method '{manifest.method}' as it is installed ({why[:120]}); install "
            f"the version that trained it ({manifest.version})"
        ) from error
    return Model(manifest, method.eval().requires_grad_(False))


@dataclass(frozen=True)
class Opened:
    """An input whose pixels can be read.

    Attributes:
        name: of the noise: a file's without its ending, nothing for an array.
        image: the pixels, or a scene of them.
        own: takes maps (..., *grid) from the image's grid to the input's own.
    """

    name: str
    image: Image | Scene
    own: Callable[[NDArray[Any]], NDArray[Any]] = lambda maps: maps


class Model:
    """A trained method that predicts files, arrays and tensors.

    Attributes:
        manifest: where it comes from: data set, method, run, checkpoint, step.
        method: the network and all that predicts.
        card: classes with their colours, channels, dates.
    """

    def __init__(self, manifest: Manifest, method: Method[Section]) -> None:
        self.manifest, self.method = manifest, method
        self.card: Card = manifest.card
        self.device = torch.device("cpu")

    @property
    def classes(self) -> list[str]:
        """Names of the classes; a label is an index into them."""
        return self.card.names

    @property
    def settings(self) -> Settings[Section]:
        """The settings that it was trained with; steps and draws are those that it samples with."""
        return self.method.settings

    @property
    def reading(self) -> Reading:
        """How the values of files and arrays become what the network was trained on."""
        return self.manifest.reading

    def to(self, device: str | torch.device) -> Self:
        """Move it to a device, `cpu` or `cuda`."""
        self.device = torch.device(device)
        self.method.to(self.device)
        return self

    @overload
    def predict(self, x: list[Input]) -> list[Prediction]: ...
    @overload
    def predict(self, x: Input) -> Prediction: ...
    def predict(self, x: Input | list[Input]) -> Prediction | list[Prediction]:
        """Labels, probabilities and uncertainty, on the input's own grid.

        The noise of a sampler goes by the name of a file without its ending; every array has the same. A prediction is
        the same alone and in a list. What does not fit into memory is predicted by windows or slices, and its arrays
        are kept in a temporary file.

        Args:
            x: a picture or a volume, or a list of them. A file; an array (H, W) or (H, W, channels), of volumes
                (Z, H, W), (Z, H, W, channels) or one slice; a tensor with the channels first. 8 and 16 bit integers
                count over their range, floats of pictures lie in [0, 1]; volumes are scaled as in training. Of two
                dates a tuple (before, after), or the earlier file in a folder A with the later one in B beside it.

        Raises:
            InputError: it cannot be read, or is not what the model was trained on.
        """
        if isinstance(x, list):
            return [self.predict(one) for one in x]
        opened = self.open(x)
        return self.predict_opened(opened).moved(opened.own)

    def open(self, x: Input) -> Opened:
        """The pixels of an input, as the network was trained to see them but for size and normalisation.

        Raises:
            InputError: as `predict`.
        """
        if isinstance(x, tuple):
            return self._pair(*x)
        if not isinstance(x, str | Path):
            return self._array(x)
        path = Path(x)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if self.card.dates == 2:
            return self._pair(path, later(path))
        return Opened(self.stem(path), *self._file(path))

    def predict_opened(self, opened: Opened, keep: Collection[str] = MAPS, scratch: Path | None = None) -> Prediction:
        """The prediction on the grid of the image as it was read; `opened.own` takes it to the input's.

        Args:
            keep: fields of `Prediction` besides the labels that are worked out; the others stay empty.
            scratch: a folder for the arrays of what is large.
        """
        return predict_image(self.method, self.card, opened.name, opened.image, self.device, keep, scratch)

    @property
    def _plugin(self) -> type[Domain] | None:
        """The set's plugin where it is installed and works."""
        return plugins.domains.find(self.manifest.dataset)

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that it reads: those of its kind, and those that the set's plugin adds where it is installed."""
        return (*outside.endings_of(self.reading), *(self._plugin.endings if self._plugin else ()))

    def stem(self, path: Path) -> str:
        """A file's name without its ending."""
        return without_ending(path.name, self.endings) or path.stem

    def _file(self, path: Path) -> tuple[Image | Scene, Callable[[NDArray[Any]], NDArray[Any]]]:
        name = path.name.lower()
        if name.endswith(outside.endings_of(self.reading)):
            image = outside.of_file(path, self.card, self.reading)
            return image, partial(outside.own_axes, like=path, reading=self.reading)
        if self._plugin and name.endswith(self._plugin.endings):
            return self._plugin.outside(path), lambda maps: maps
        more = "" if self._plugin else f"; the plugin '{self.manifest.dataset}', which may read more, is not installed"
        raise InputError(f"{path}: is no file of this model's kind ({', '.join(self.endings)}){more}")

    def _pair(self, before: One, after: One) -> Opened:
        if self.card.dates != 2:
            raise InputError(f"two dates, but the model was trained on one ({self.card.title}); give it one image")
        if isinstance(before, str | Path) and isinstance(after, str | Path):
            first, second = Path(before), Path(after)
            return Opened(self.stem(first), outside.of_pair(first, second, self.card, self.reading))
        if isinstance(before, str | Path) or isinstance(after, str | Path):
            raise InputError("two dates, a file and an array; give both as files or both as arrays")
        names = ("the array before", "the array after")
        dates = [
            outside.of_array(values, self.card, self.reading, channels_first=channels_first, name=name)
            for (values, channels_first), name in zip(map(_values, (before, after)), names, strict=True)
        ]
        return Opened("", outside.both(dates[0], dates[1], names))

    def _array(self, x: NDArray[Any] | Tensor) -> Opened:
        if self.card.dates == 2:
            raise InputError(
                f"one array, but the model was trained on two dates ({self.card.title}); give (before, after)"
            )
        values, channels_first = _values(x)
        image = outside.of_array(values, self.card, self.reading, channels_first=channels_first, name="the array")
        if outside.is_slice(values, self.card, self.reading, channels_first=channels_first):
            return Opened("", image, lambda maps: maps[..., 0, :, :])
        return Opened("", image)


def _values(x: NDArray[Any] | Tensor) -> tuple[NDArray[Any], bool]:
    """The numbers of an array, and whether its channels come first, as a tensor's do."""
    return (x.detach().cpu().numpy(), True) if isinstance(x, Tensor) else (np.asarray(x), False)
