"""The one tree of settings: engine defaults < recipe < preset < file < command line.

An unknown key is an error that suggests the near one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, ValidationError, field_validator

from diffmatch.domain import InputError


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Train(Section):
    """`train.*`. Batch is global: divided by the number of devices. An epoch is one pass over the unlabelled pool."""

    steps: int = Field(default=0, ge=0, description="0: epochs times pool over batch")
    epochs: float = Field(default=80, gt=0)
    batch: int = Field(default=8, ge=1, description="labelled, and as many unlabelled")
    lr: float = Field(default=1e-3, gt=0)
    head_lr_scale: float = Field(default=1.0, gt=0, description="rate of everything but the encoder, relative to lr")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    poly: float = Field(default=0.9, ge=0, description="lr (1 - step/steps)^poly")
    loss: Literal["ce", "ce_dice", "ohem", "squared"] = Field(default="ce", description="of the discriminative methods")
    precision: Annotated[Literal["auto", "32", "16", "bf16"], BeforeValidator(str)] = Field(
        default="auto", description="auto: 16 on CUDA, 32 on CPU"
    )
    audits: int = Field(default=10, ge=0, description="times that pseudo-labels are held against the hidden truth")
    audit_items: int = Field(default=16, ge=1, description="of the unlabelled pool, the same ones each time")
    validations: int = Field(default=4, ge=0, description="times that val is scored for val_best.ckpt")
    checkpoint_minutes: float = Field(default=5, gt=0)


class Network(Section):
    """`network.*`. The same stride for every method of a comparison."""

    decoder: Literal["deeplabv3plus", "unet", "unet_bilinear", "pspnet"] = "deeplabv3plus"
    encoder: str = "resnet50"
    weights: str = Field(default="none", description="none | hub | path of a state dict | package:NAME that ships one")
    stride: int = Field(default=4, ge=1, description="image pixels per mask position")
    dim: int = Field(default=256, ge=8, description="D, channels of the mask denoiser and, but for unet_bilinear, of z")
    layers: int = Field(default=4, ge=1, description="L, of the denoiser")
    heads: int = Field(default=8, ge=1)
    points: int = Field(default=4, ge=1)
    feature_dropout: float = Field(default=0.5, ge=0, lt=1, description="of the strong view")


class Diffusion(Section):
    """`diffusion.*`."""

    codec: Literal["embedding", "bits"] = "embedding"
    scale: float = Field(default=0.1, gt=0, description="b; its meaning depends on codec and D")
    steps: int = Field(default=3, ge=1, description="S, of the sampler")
    pseudo_steps: int = Field(default=3, ge=1, description="sampler steps for pseudo-labels")
    loss: Literal["squared", "ce", "domain"] = Field(
        default="squared", description="domain: train.loss, as the discriminative methods"
    )
    adjustment: Literal["none", "literal", "pixel", "normalised", "logit", "posthoc"] = "normalised"
    tau: float = Field(default=0.1, ge=0, description="0 is no adjustment, bit for bit")
    prior_momentum: float = Field(default=0.99, ge=0, lt=1)


class Data(Section):
    """`data.*`: geometry and photometry of the views."""

    crop: int = Field(default=513, ge=8)
    resize: int | None = Field(
        default=None, ge=8, description="square side before the crop; predictions go back to the own grid"
    )
    scale: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.5, 2.0), description="least and largest, of the image before the crop"
    )
    flip: Literal["none", "horizontal", "rot90"] = "horizontal"
    rotate: float = Field(default=0.0, ge=0, le=180, description="degrees either way")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[PositiveFloat, ...] = (0.229, 0.224, 0.225)
    jitter: float = Field(
        default=0.5, ge=0, lt=1, description="brightness and contrast (saturation too, hue half as far)"
    )
    jitter_p: float = Field(default=0.8, ge=0, le=1)
    grayscale_p: float = Field(default=0.2, ge=0, le=1)
    blur_p: float = Field(default=0.5, ge=0, le=1)
    cutmix: float | None = Field(
        default=None, ge=0, le=1, description="probability per unlabelled image; unset: the method's own"
    )
    split_seed: int = Field(default=0, ge=0, description="of budgets that are drawn, not published")

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("the least comes first")
        return scale


class Eval(Section):
    """`eval.*`."""

    draws: int = Field(default=1, ge=1, description="noise draws averaged")
    batch: int = Field(default=8, ge=1, description="slices or windows at once")
    samples: int = Field(default=4, ge=0, description="test items drawn for the report")


MethodOptions = TypeVar("MethodOptions", bound=Section, covariant=True)
"""The model behind `method.*`: each method has its own."""


class Settings(Section, Generic[MethodOptions]):
    """All settings of a run. `method.*` is the method's own model."""

    train: Train = Train()
    network: Network = Network()
    diffusion: Diffusion = Diffusion()
    data: Data = Data()
    eval: Eval = Eval()
    method: MethodOptions = Field(default_factory=Section)  # type: ignore[assignment]

    def flat(self) -> dict[str, Any]:
        """Dotted names and plain values."""
        return flatten(self.model_dump(mode="json"))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def resolve(method_settings: type[MethodOptions], *layers: Mapping[str, Any]) -> Settings[MethodOptions]:
    """Dotted layers, later ones over earlier ones, checked.

    Args:
        method_settings: the model behind `method.*`. Keys of `method.<name>.*` style do not exist.

    Raises:
        InputError: an unknown key, with the near one, or a value that does not fit.
    """
    models: dict[str, type[BaseModel]] = {
        "train": Train,
        "network": Network,
        "diffusion": Diffusion,
        "data": Data,
        "eval": Eval,
        "method": method_settings,
    }
    known = [f"{section}.{field}" for section, model in models.items() for field in model.model_fields]
    values: dict[str, dict[str, Any]] = {section: {} for section in models}
    for layer in layers:
        for key, value in layer.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1, 0.5)
                raise InputError(
                    f"unknown setting '{key}'"
                    + (f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}")
                )
            section, field = key.split(".", 1)
            values[section][field] = value
    built: dict[str, Any] = {}
    for section, model in models.items():
        try:
            built[section] = model.model_validate(values[section])
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"setting '{section}.{'.'.join(map(str, first['loc']))}': {first['msg']} (got {first['input']!r})"
            ) from error
    return Settings(**built)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["train.steps=50", "data.scale=[1,1]"]` -> a layer; values are read as YAML.

    Raises:
        InputError: not `key=value`.
    """
    layer: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment}: write it as key=value, for example --set train.steps=50")
        try:
            parsed = yaml.safe_load(value)
            # YAML 1.1 reads 1e-3 as text; what stands in quotes is meant as text
            unquoted = isinstance(parsed, str) and parsed == value.strip()
            layer[key.strip()] = float(parsed) if unquoted and is_number(parsed) else parsed
        except yaml.YAMLError as error:
            raise InputError(f"--set {assignment}: the value is not readable as YAML") from error
    return layer


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_layer(path: Path) -> dict[str, Any]:
    """A YAML file of settings, nested or dotted, as a layer.

    Raises:
        InputError: missing or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as a YAML file of settings ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected settings as key: value, found {type(content).__name__}")
    return flatten(content)
