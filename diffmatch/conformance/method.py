"""The conformance suite for methods: `diffmatch check NAME`, and in a method's own tests

    @pytest.mark.parametrize("name", CHECKS)
    def test_conformance(name):
        CHECKS[name](MyMethod)

Each check takes the method's class and raises AssertionError or InputError with what is wrong. The method trains a tiny
network on toy images, on one thread and within seconds; no data set is needed.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffmatch.conformance.tiny import STUB
from diffmatch.domain import VOID, Card, ClassInfo, Item, Protocol, TopBottom
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.method import Method, Statistics
from diffmatch.settings import Section, Settings, resolve

Kind = type[Method[Section]]
SIDE = 32
"""Height and width of the toy images, in pixels."""
TOY: dict[str, Any] = STUB | {"network.decoder": "unet", "network.stride": 2, "data.crop": SIDE}


def toy_card(classes: int = 4, dates: int = 1) -> Card:
    """A card of three-channel images with so many classes and dates."""
    return Card(
        version=1,
        name="toy",
        title="toy images",
        modality="none",
        classes=tuple(ClassInfo(name=f"class {c}", color=(c, c, c)) for c in range(classes)),
        dates=dates,
        label_unit="images",
        budgets=("1/2",),
        protocols=(Protocol(name="whole", title="whole image", mode="image"),),
        metric="mean_iou",
        head_tail=TopBottom(k=1),
        licence="",
        citation="",
        source="",
    )


def toy_settings(kind: Kind, **changes: Any) -> Settings[Section]:
    """Settings of a tiny network, changed where said (two underscores for the dot)."""
    return resolve(kind.Options, TOY, {key.replace("__", "."): value for key, value in changes.items()})


def toy_method(
    kind: Kind, card: Card, settings: Settings[Section] | None = None, seed: int = 0, unlabelled: int = 0
) -> Method[Section]:
    """The method with weights that the seed alone decides.

    Args:
        unlabelled: so many of the last classes have no labelled pixel.
    """
    torch.manual_seed(seed)
    classes = len(card.classes)
    pixels = tuple(1000 // (c + 1) if c < classes - unlabelled else 0 for c in range(classes))
    return kind.build(card, settings or toy_settings(kind), Statistics(pixels, 4, 8))


def toy_images(card: Card, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, dates, 3, SIDE, SIDE) in which a class has a colour, on the last date alone, and their masks."""
    generator = torch.Generator().manual_seed(seed)
    classes = len(card.classes)
    blocks = torch.randint(0, classes, (count, 1, 4, 4), generator=generator).float()
    masks = nn.functional.interpolate(blocks, size=(SIDE, SIDE), mode="nearest")[:, 0].to(torch.uint8)
    colours = torch.randn(classes, 3, generator=torch.Generator().manual_seed(0))
    images = 0.2 * torch.randn(count, card.dates, 3, SIDE, SIDE, generator=generator)
    images[:, -1] += colours[masks.long()].movedim(-1, 1)
    return images, masks


def toy_batch(kind: Kind, card: Card, settings: Settings[Section], count: int = 2, first: int = 0) -> Batch:
    """A step's batch as training draws it: views, padding in one corner of the pool, CutMix boxes where they are on."""
    images, masks = toy_images(card, count, 2 * first)
    labelled = Labelled(images, masks, [f"own#{first + n}" for n in range(count)])
    if not kind.views.unlabelled:
        return Batch(labelled)
    mixes = kind.views.mixing(settings.data) > 0
    pool = toy_pool(kind, card, count, first, mixes, "pool")
    pool.partner = toy_pool(kind, card, count, first + 500, mixes, "partner") if kind.views.partner and mixes else None
    return Batch(labelled, pool)


def toy_pool(kind: Kind, card: Card, count: int, first: int, mixes: bool, name: str) -> Pool:
    """Unlabelled images with their views."""
    weak, _ = toy_images(card, count, 2 * first + 1)
    generator = torch.Generator().manual_seed(first)
    strong = tuple(weak + 0.1 * torch.randn(weak.shape, generator=generator) for _ in range(kind.views.strong))
    inside = torch.ones(count, SIDE, SIDE, dtype=torch.bool)
    inside[:, :4, :4] = False
    boxes = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    boxes[:, 8:20, 8:24] = mixes
    return Pool(weak, strong, inside, boxes, [f"{name}#{first + n}" for n in range(count)])


def fit(
    method: Method[Section],
    batches: Sequence[Batch],
    lr: float = 0.05,
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
    start: int = 0,
    descent: torch.optim.Optimizer | None = None,
) -> list[dict[str, float]]:
    """One optimiser step per batch, without weight decay, seeded as the trainer does; the loss terms of each step."""
    descent = descent or toy_optimizer(method, lr, optimizer)
    method.train()
    history = []
    for step, batch in enumerate(batches, start):
        torch.manual_seed(step)
        progress = Progress(step, start + len(batches))
        losses = method.losses(batch, progress)
        descent.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        descent.step()
        method.after_step(progress)
        history.append({name: float(term.detach()) for name, term in losses.terms.items()})
    return history


def toy_optimizer(method: Method[Section], lr: float, kind: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """An optimiser on the method's parameter groups, all at one rate."""
    groups = [{"params": group["params"], "lr": lr} for group in method.parameter_groups()]
    return kind(groups, lr=lr, weight_decay=0.0)  # type: ignore[call-arg]


def same(some: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two states have the same names and bits."""
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def check_card(kind: Kind) -> None:
    """Title, citation and docstring are there; the options have defaults; views that are asked for make sense."""
    for field in ("title", "citation"):
        assert getattr(kind, field).strip(), f"{field} is empty"
    assert (kind.__doc__ or "").strip(), "the class has no docstring: `diffmatch describe` prints it"
    assert isinstance(kind.version, int) and kind.version >= 1, "version is a whole number from 1 on"
    kind.Options()
    assert len(kind.use.split()) <= 5, "use says in five words at most when one would use the method"
    views = kind.views
    assert views.strong >= 0 and 0 <= views.cutmix <= 1, "views: strong counts views, cutmix is a probability"
    assert views.unlabelled or not views.strong, "views: strong views are of unlabelled images"


def check_learning(kind: Kind) -> None:
    """Losses are finite, every trainable parameter gets a gradient and moves, and the supervised term falls.

    A threshold that an untrained network does not reach is 0 for this, so that what confident pixels teach is taught.
    """
    card, settings = toy_card(), toy_settings(kind)
    open_to_all = {"method__threshold": 0.0} if "threshold" in kind.Options.model_fields else {}
    method = toy_method(kind, card, toy_settings(kind, **open_to_all))
    before = {name: p.detach().clone() for name, p in method.named_parameters() if p.requires_grad}
    fit(method, [toy_batch(kind, card, settings, 2, n) for n in range(3)])
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} takes no part in the loss"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
            assert not torch.equal(parameter, before[name]), f"{name} has not moved in three steps"
    batch = toy_batch(kind, card, settings, 4)
    history = fit(toy_method(kind, card), [batch] * 20, 5e-3, torch.optim.AdamW)
    assert all(np.isfinite(list(terms.values())).all() for terms in history), "a loss is not finite"
    assert "sup" in history[0], "losses() returns no term 'sup', the supervised one"
    assert sum(terms["sup"] for terms in history[-5:]) / 5 < 0.7 * history[0]["sup"], (
        "the supervised term does not fall"
    )


def check_repeats(kind: Kind) -> None:
    """The same seed gives the same bits; another seed gives others."""
    card, settings = toy_card(), toy_settings(kind)
    batches = [toy_batch(kind, card, settings, 2, n) for n in range(4)]
    states = []
    for seed in (0, 0, 1):
        method = toy_method(kind, card, seed=seed)
        fit(method, batches)
        states.append(method.state_dict())
    assert same(states[0], states[1]), "the same seed gives other weights: a random number is drawn from elsewhere"
    assert not same(states[0], states[2]), "the seed has no influence"


def check_resumes(kind: Kind) -> None:
    """Stopped after two steps and taken up from its state_dict, the method ends with the same bits."""
    card, settings = toy_card(), toy_settings(kind)
    batches = [toy_batch(kind, card, settings, 2, n) for n in range(4)]
    runs = []
    for stop in (False, True):
        method = toy_method(kind, card)
        descent = toy_optimizer(method, 0.05, torch.optim.SGD)
        for half, first in ((batches[:2], 0), (batches[2:], 2)):
            if stop and first:
                kept = copy.deepcopy((method.state_dict(), descent.state_dict()))
                method = toy_method(kind, card, seed=1)
                descent = toy_optimizer(method, 0.05, torch.optim.SGD)
                method.load_state_dict(kept[0])
                descent.load_state_dict(kept[1])
            fit(method, half, start=first, descent=descent)
        runs.append(method.state_dict())
    assert same(*runs), "a run that was stopped and resumed ends elsewhere: some state is not in the state_dict"


def check_nothing_to_learn(kind: Kind) -> None:
    """A labelled crop that is all void and a pool that is all padding give finite losses and gradients."""
    card, settings = toy_card(), toy_settings(kind)
    for loss in ("ce", "ce_dice", "ohem", "squared"):
        method = toy_method(kind, card, toy_settings(kind, train__loss=loss)).train()
        batch = toy_batch(kind, card, settings)
        void = replace(batch.labelled, masks=torch.full_like(batch.labelled.masks, VOID))
        pool = batch.pool and replace(batch.pool, inside=torch.zeros_like(batch.pool.inside))
        torch.manual_seed(0)
        losses = method.losses(Batch(void, pool), Progress(0, 1))
        assert torch.isfinite(losses.total), (
            f"train.loss={loss}: the loss is not finite where there is nothing to learn"
        )
        losses.total.backward()  # type: ignore[no-untyped-call]
        finite = all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
        assert finite, f"train.loss={loss}: a gradient is not finite where there is nothing to learn"
        if losses.given is not None and losses.accepted is not None:
            assert not losses.given.any() and not losses.accepted.any(), "padding is counted as pseudo-labels"


def check_every_kind_of_set(kind: Kind) -> None:
    """A step and a prediction with one image, two classes, two dates, 81 classes, and classes without a label."""
    for count, classes, dates, unlabelled in ((1, 4, 1, 0), (2, 2, 2, 0), (2, 81, 1, 0), (2, 4, 1, 2)):
        card, settings = toy_card(classes, dates), toy_settings(kind)
        method = toy_method(kind, card, unlabelled=unlabelled)
        batches = [toy_batch(kind, card, settings, count, n) for n in range(2)]
        for batch in batches:
            batch.labelled.masks[batch.labelled.masks >= classes - unlabelled] = 0
        history = fit(method, batches)
        where = f"{count} images a step, {classes} classes ({unlabelled} without a label), {dates} dates"
        assert np.isfinite([list(terms.values()) for terms in history]).all(), f"{where}: a loss is not finite"
        weights = torch.cat([p.detach().flatten() for p in method.parameters()])
        assert torch.isfinite(weights).all(), f"{where}: a weight is not finite after two steps"
        images, _ = toy_images(card, 1, 0)
        method.eval()
        with torch.no_grad():
            assert method.probabilities(images, ["a"]).shape == (1, classes, SIDE, SIDE), where


def check_probabilities(kind: Kind) -> None:
    """Predictions have the image's size whatever it is, sum to one, and do not depend on the batch."""
    card = toy_card()
    method = toy_method(kind, card).eval()
    images = torch.randn(3, 1, 3, 37, 51, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = method.probabilities(images, ["a", "b", "c"])
        alone = torch.cat([method.probabilities(images[i : i + 1], [key]) for i, key in enumerate("abc")])
        maps = method.trajectory(images, ["a", "b", "c"])
    assert together.shape == (3, 4, 37, 51), f"probabilities() of (3, 1, 3, 37, 51) images is {tuple(together.shape)}"
    assert together.dtype == torch.float32, f"probabilities() is {together.dtype}, not float32"
    assert torch.allclose(together.sum(1), torch.ones(3, 37, 51), atol=1e-5), "probabilities() does not sum to 1"
    assert torch.allclose(together, alone, atol=1e-5, rtol=1e-4), "a prediction depends on the images beside it"
    assert maps.shape[1:] == (3, 37, 51) and maps.dtype == torch.uint8, "trajectory() is not (steps, N, H, W) uint8"
    assert torch.equal(maps[-1], together.argmax(1).to(torch.uint8)), "trajectory() does not end with the prediction"


def check_pseudo_labels(kind: Kind) -> None:
    """They are the argmax of their probabilities, without gradient, and leave no trace in the method."""
    card = toy_card()
    method = toy_method(kind, card).train()
    images, _ = toy_images(card, 2, 0)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    modes = [module.training for module in method.modules()]
    pseudo = method.pseudo_labels(images, ["a", "b"])
    assert pseudo.labels.shape == pseudo.accepted.shape == (2, SIDE, SIDE), "labels or acceptance have another size"
    assert pseudo.labels.dtype == torch.uint8 and pseudo.accepted.dtype == torch.bool, "labels uint8, acceptance bool"
    assert not pseudo.probabilities.requires_grad, "pseudo_labels() keeps a gradient"
    argmax = pseudo.probabilities.argmax(1).to(torch.uint8)
    assert torch.equal(pseudo.labels, argmax), "labels are not the argmax"
    assert modes == [module.training for module in method.modules()], "pseudo_labels() changes the modules' modes"
    assert same(method.state_dict(), state), "pseudo_labels() changes weights or BatchNorm's statistics"


def check_state(kind: Kind) -> None:
    """A fresh method that loads the state_dict predicts and teaches the same; so does a pickled one, and a copy."""
    card, settings = toy_card(), toy_settings(kind)
    trained = toy_method(kind, card)
    fit(trained, [toy_batch(kind, card, settings, 2, n) for n in range(2)])
    fresh = toy_method(kind, card, seed=1)
    fresh.load_state_dict(trained.state_dict())
    images, _ = toy_images(card, 2, 0)
    methods = [
        method.eval() for method in (trained, fresh, pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained))
    ]
    with torch.no_grad():
        for one, other in pairwise(methods):
            equal = torch.equal(one.probabilities(images, ["a", "b"]), other.probabilities(images, ["a", "b"]))
            assert equal, "a copy predicts otherwise: some state is neither parameter nor buffer"
            taught = (m.pseudo_labels(images, ["a", "b"]).accepted for m in (one, other))
            assert torch.equal(*taught), "a copy accepts other pseudo-labels: some state is not in the state_dict"


def check_parameter_groups(kind: Kind) -> None:
    """Every trainable parameter is in exactly one group, and each group has its share of the rate."""
    method = toy_method(kind, toy_card(), toy_settings(kind, train__head_lr_scale=10.0))
    groups = method.parameter_groups()
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held)), "a parameter is in two groups"
    assert set(held) == {id(p) for p in method.parameters() if p.requires_grad}, "a trainable parameter is in no group"
    assert all(group["lr_scale"] > 0 for group in groups), "a group has no lr_scale"


def check_sample_weights(kind: Kind) -> None:
    """Weights of the labelled items, where a method has them, are one each, finite, and not all zero."""
    items = [Item(str(n), str(n)) for n in range(3)]
    weights = toy_method(kind, toy_card()).sample_weights(items, np.array([[9, 1, 0, 0], [9, 0, 1, 0], [9, 0, 0, 1]]))
    if weights is not None:
        assert weights.shape == (3,) and np.isfinite(weights).all(), "sample_weights() is not one number per item"
        assert (weights >= 0).all() and weights.any(), "sample_weights() has a negative number, or only zeros"


CHECKS: dict[str, Callable[[Kind], None]] = {
    "card": check_card,
    "learning": check_learning,
    "repeats": check_repeats,
    "resumes": check_resumes,
    "nothing to learn": check_nothing_to_learn,
    "every kind of set": check_every_kind_of_set,
    "probabilities": check_probabilities,
    "pseudo-labels": check_pseudo_labels,
    "state": check_state,
    "parameter groups": check_parameter_groups,
    "sample weights": check_sample_weights,
}
"""All checks by name, in the order in which they make sense."""
