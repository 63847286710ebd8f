"""What a configuration costs: parameters, multiply-accumulates, memory of a step.

No data are needed and nothing is computed.

Everything runs on PyTorch's meta device, where tensors have shapes and no content. Multiply-accumulates count
convolutions and matrix products (the samples of deformable attention, norms and activations are left out, as is usual).
Step memory is what must be held at the same time at the end of the forward pass: parameters, gradients, optimiser
state, buffers and everything saved for backward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from diffmatch import plugins
from diffmatch.card import Preset
from diffmatch.domain import Card, ClassInfo, InputError, Protocol, TopBottom
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.method import Method, Statistics
from diffmatch.networks.segmenter import DenoiserNetwork
from diffmatch.running.plan import parameter_counts, settings_of
from diffmatch.settings import Section, Settings, resolve

T = TypeVar("T")


def cost_of(
    dataset: str | None, classes: int | None, method: str, preset: Preset, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Costs of a method on a dataset's recipe, or on the engine's defaults at `classes` classes.

    The defaults are DeepLabv3+, ResNet-50 and 513 x 513 pixels.

    Returns:
        ``parameters`` {total, extractor}; ``gmac`` per image of the crop's size {prediction, extractor, denoiser_step,
        sampler_steps}; ``step_gmac``, a training step's, per labelled image; ``step_memory_gib``; the settings that
        matter. What cannot be measured is absent: a method of another package may not run on the meta device.

    Raises:
        InputError: neither or both of dataset and classes, or settings that do not fit.
    """
    if (dataset is None) == (classes is None):
        raise InputError("cost: name a dataset, or give --classes N for DeepLabv3+, ResNet-50, 513 x 513")
    kind = registry.method(method)
    overrides = {**overrides, "network.weights": "none"}  # they cost nothing, and cannot be loaded without a connection
    if dataset is not None:
        domain = plugins.domain(dataset)
        card, settings = domain.card, settings_of(domain, kind, preset, overrides)
    else:
        assert classes is not None
        card, settings = plain_card(classes), resolve(kind.Options, overrides)
    side, batch = settings.data.crop, settings.train.batch
    costs = {
        "method": method,
        "encoder": settings.network.encoder,
        "decoder": settings.network.decoder,
        "crop": side,
        "batch": batch,
        "stride": settings.network.stride,
    }
    built = measured(lambda: on_meta(kind, card, settings))
    if built is not None:
        measures = {
            "parameters": measured(lambda: parameter_counts(built)),
            "gmac": measured(lambda: macs(built, card, settings)),
            "step_gmac": measured(lambda: round(step_macs(built, card, settings), 3)),
            "step_memory_gib": measured(lambda: round(step_bytes(built, card, settings) / 2**30, 3)),
        }
        costs |= {name: value for name, value in measures.items() if value}
    return costs


def method_costs(kind: type[Method[Section]]) -> dict[str, float]:
    """Trainable parameters of a method at 21 classes (DeepLabv3+, ResNet-50), and what a training step costs.

    Returns:
        ``parameters``, ``gmac`` per labelled image; those that cannot be measured are absent.
    """
    card = plain_card(21)
    costs: dict[str, float] = {}
    with suppress(Exception):  # another package's method; one that cannot be measured hides no other
        settings = resolve(kind.Options)
        built = on_meta(kind, card, settings)
        costs["parameters"] = parameter_counts(built)["total"]
        costs["gmac"] = step_macs(built, card, settings)
    return costs


def on_meta(kind: type[Method[Section]], card: Card, settings: Settings[Section]) -> Method[Section]:
    """The method without memory for its weights."""
    with torch.device("meta"):
        return kind.build(card, settings, Statistics((1,) * len(card.classes), 1, 1))


def measured(measure: Callable[[], T]) -> T | None:
    """What `measure` returns; None where a method does not run on the meta device.

    Raises:
        InputError: settings that do not fit.
    """
    try:
        return measure()
    except InputError:
        raise
    except Exception:  # another package's method may fail there in any way
        return None


def plain_card(classes: int) -> Card:
    return Card(
        version=1,
        name="plain",
        title=f"{classes} classes",
        modality="photographs",
        label_unit="images",
        budgets=(),
        metric="mean_iou",
        classes=tuple(ClassInfo(name=str(c), color=(0, 0, 0)) for c in range(classes)),
        head_tail=TopBottom(k=1),
        protocols=(Protocol(name="whole", title="whole image", mode="image"),),
        licence="",
        citation="",
        source="",
    )


def macs(method: Method[Section], card: Card, settings: Settings[Section]) -> dict[str, Any]:
    """Billions of multiply-accumulates for one image: extractor, one denoiser step, and a prediction with S steps."""
    images = torch.empty(1, card.dates, card.channels, settings.data.crop, settings.data.crop, device="meta")
    method.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        method.probabilities(images, ["0"])
    prediction = whole.get_total_flops() / 2e9
    network = getattr(method, "network", None)
    extractor = getattr(network, "extractor", None)
    parts: dict[str, Any] = {"prediction": round(prediction, 3)}
    if extractor is not None:
        with torch.no_grad(), FlopCounterMode(display=False) as first:
            z = extractor(images)
        parts["extractor"] = round(first.get_total_flops() / 2e9, 3)
    if isinstance(network, DenoiserNetwork):
        denoiser = network.denoiser
        with torch.no_grad(), FlopCounterMode(display=False) as step:
            condition = denoiser.condition(z)
            y_t = torch.empty(1, denoiser.mask_channels, *condition.shape[-2:], device="meta")
            denoiser(y_t, condition, torch.empty(1, device="meta"))
        parts["denoiser_step"] = round(step.get_total_flops() / 2e9, 3)
        parts["sampler_steps"] = settings.diffusion.steps if network.codec is not None else 1
    return parts


def meta_batch(method: Method[Section], card: Card, settings: Settings[Section]) -> Batch:
    """A global batch with shapes and no content."""
    side, size = settings.data.crop, settings.train.batch
    with torch.device("meta"):
        images = torch.empty(size, card.dates, card.channels, side, side)
        flags = torch.empty(size, side, side, dtype=torch.bool)
        masks = torch.empty(size, side, side, dtype=torch.uint8)
    keys, views = ["0"] * size, method.views
    pool, partner = (Pool(images, (images,) * views.strong, flags, flags, keys) for _ in range(2))
    pool.partner = partner if views.partner and views.mixing(settings.data) > 0 else None
    return Batch(Labelled(images, masks, keys), pool)


def step_macs(method: Method[Section], card: Card, settings: Settings[Section]) -> float:
    """Billions of multiply-accumulates of a training step, forward and backward, per labelled image."""
    method.train()
    with FlopCounterMode(display=False) as counted:
        method.losses(meta_batch(method, card, settings), Progress(0, 1)).total.backward()  # type: ignore[no-untyped-call]
    method.zero_grad()
    return float(counted.get_total_flops()) / 2e9 / settings.train.batch


def step_bytes(method: Method[Section], card: Card, settings: Settings[Section]) -> int:
    """Bytes held when a training step of the global batch turns from forward to backward, in float32."""
    method.train()
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        method.losses(meta_batch(method, card, settings), Progress(0, 1))
    own = {p.untyped_storage()._cdata for p in method.parameters()} | {
        b.untyped_storage()._cdata for b in method.buffers()
    }
    activations = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
    trainable = sum(p.nbytes for p in method.parameters() if p.requires_grad)
    frozen = sum(p.nbytes for p in method.parameters() if not p.requires_grad) + sum(b.nbytes for b in method.buffers())
    states = {"sgd": 1, "adamw": 2}[settings.train.optimizer]
    return activations + trainable * (2 + states) + frozen
