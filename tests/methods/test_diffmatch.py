"""What the paper's method promises beyond what every method must do, and what its twins must not do."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.ema import follow, teacher_of
from diffmatch.learning.losses import one_hot, pseudo_loss, supervised_loss
from diffmatch.learning.pseudo_labels import PseudoLabels, cutmix, mixed_targets
from diffmatch.settings import Diffusion

ADJUSTMENTS = get_args(Diffusion.model_fields["adjustment"].annotation)
KEYS = ["a", "b"]


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def heeding(method: Any) -> Any:
    """The method with a denoiser that heeds its mask, as after training: a new one ignores it."""
    fuse = method.network.denoiser.fuse.weight
    with torch.no_grad():
        fuse[:, : method.network.denoiser.mask_channels].normal_(generator=torch.Generator().manual_seed(0))
    return method


def first_losses(method: Any, batch: Any) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(0, 1))


# -- adjustments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adjustment", [a for a in ADJUSTMENTS if a != "none"])
def test_tau_0_is_no_adjustment_bit_for_bit(adjustment: str, planned: Any, draw: Any, fit: Any, same: Any) -> None:
    states = []
    for settings in ({"diffusion__adjustment": "none"}, {"diffusion__adjustment": adjustment, "diffusion__tau": 0.0}):
        p = planned(method__threshold=0.0, **settings)
        method = p.build()
        fit(method, [draw(p, 2, 2 * k) for k in range(3)])
        states.append(method.state_dict())
    assert same(*states)


@pytest.mark.parametrize(
    "codec, adjustment, loss", list(product(["embedding", "bits"], ADJUSTMENTS, ["squared", "ce", "domain"]))
)
def test_every_reading_trains(codec: str, adjustment: str, loss: str, planned: Any, draw: Any, fit: Any) -> None:
    """Two finite steps, also where a class has no labelled pixel; and what is asked for changes what it should, nothing
    else."""
    changed = {
        "diffusion__codec": codec,
        "diffusion__adjustment": adjustment,
        "diffusion__loss": loss,
        "method__threshold": 0.0,
    }
    p = planned(**changed, diffusion__tau=0.5)
    p.pixels[:, 3] = 0
    plain = planned(**changed | {"diffusion__adjustment": "none"})
    batch = draw(p)
    adjusted, natural = p.build(), plain.build()
    ours, theirs = first_losses(adjusted, batch).terms, first_losses(natural, batch).terms
    assert (ours["sup"] != theirs["sup"]) == (adjustment not in ("none", "posthoc"))
    adjusted.eval(), natural.eval()
    adjusted.load_state_dict(
        {**natural.state_dict(), **{k: v for k, v in adjusted.state_dict().items() if k.startswith("prior.")}}
    )
    with torch.no_grad():
        equal = torch.equal(adjusted.probabilities(images(), KEYS), natural.probabilities(images(), KEYS))
    assert equal == (adjustment not in ("posthoc", "logit"))  # the others' scores are the natural ones as they come
    history = fit(adjusted, [batch, draw(p, 2, 2)])
    assert torch.tensor([list(terms.values()) for terms in history]).isfinite().all()
    assert all(q.isfinite().all() for q in adjusted.state_dict().values())


@pytest.mark.parametrize("kind", ["ce", "ce_dice", "ohem", "squared"])
def test_the_domains_loss_is_that_of_the_discriminative_methods(
    kind: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = planned(diffusion__loss="domain", train__loss=kind, diffusion__adjustment="none", method__threshold=0.0)
    method, batch, seen = p.build(), draw(p), []
    scores = method.network.scores
    monkeypatch.setattr(method.network, "scores", lambda *args: seen.append(scores(*args)) or seen[-1])
    terms = first_losses(method, batch).terms
    pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    target, accepted = mixed_targets(pseudo, batch.pool.inside, batch.pool.boxes)
    labelled, strong = seen[0].split(len(batch.labelled.images))
    assert terms["sup"] == supervised_loss(kind, labelled, batch.labelled.masks)
    assert terms["unsup"] == pseudo_loss(kind, strong, target, accepted)


def test_posthoc_leaves_training_and_pseudo_labels_as_they_are(planned: Any, draw: Any, fit: Any, same: Any) -> None:
    """Eq. 7 needs no retraining: the same weights to the bit, other predictions."""
    states, predictions, pseudo = [], [], []
    for adjustment in ("none", "posthoc"):
        p = planned(method__threshold=0.0, diffusion__adjustment=adjustment, diffusion__tau=1.0)
        method = p.build()
        fit(method, [draw(p, 2, 2 * k) for k in range(3)])
        method.eval()
        states.append(method.state_dict())
        predictions.append(method.probabilities(images(), KEYS))
        pseudo.append(method.pseudo_labels(images(), KEYS).probabilities)
    assert same(*states) and torch.equal(*pseudo)
    assert not torch.equal(*predictions)


def test_prior_follows_pseudo_labels_within_its_bounds(planned: Any, draw: Any) -> None:
    p = planned(diffusion__prior_momentum=0.5)
    method, batch = p.build(), draw(p)
    prior, start = method.prior, method.prior.labelled.clone()
    assert torch.equal(prior.unlabelled, start)  # p(y^u) starts at p(y^l)
    given = first_losses(method, batch).given
    assert given.sum() == batch.pool.inside.sum()
    torch.testing.assert_close(prior.ema, (start + given / given.sum()) / 2)
    for _ in range(30):
        prior.update(torch.tensor([0, 10**6, 0, 0]))
    torch.testing.assert_close(prior.unlabelled, torch.stack([start[0] / 2, start[1] * 2, start[2] / 2, start[3] / 2]))
    assert torch.equal(prior.labelled, start)


# -- pseudo-labels -----------------------------------------------------------------------------------------------------


def test_ema_teacher(planned: Any, draw: Any, fit: Any) -> None:
    """Float buffers follow, integer buffers are copied; it is not trained, stays in eval mode and has no gradient."""
    p = planned(method__ema=0.8)
    method = p.build()
    teacher, student = method.teacher, method.network
    expected = {key: value.clone() for key, value in teacher.state_dict().items()}
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in expected.items())
    for k in range(3):
        fit(method, [draw(p, 2, 2 * k)])
        for key, new in student.state_dict().items():
            expected[key] = 0.8 * expected[key] + 0.2 * new if new.is_floating_point() else new.clone()
        for key, value in teacher.state_dict().items():
            torch.testing.assert_close(value, expected[key], msg=key)
    assert any("running_var" in key and not torch.equal(v, torch.ones_like(v)) for key, v in expected.items())
    assert any("num_batches_tracked" in key and v == 3 for key, v in expected.items())
    method.train()
    assert method.network.training and not any(m.training for m in teacher.modules())
    assert not any(q.requires_grad or q.grad is not None for q in teacher.parameters())
    trained = {id(q) for group in method.parameter_groups() for q in group["params"]}
    assert trained.isdisjoint({id(q) for q in teacher.parameters()})


def test_the_teacher_teaches_and_the_student_predicts(planned: Any) -> None:
    method = planned(method__ema=0.8).build().eval()
    taught, predicted = method.pseudo_labels(images(), KEYS).probabilities, method.probabilities(images(), KEYS)
    with torch.no_grad():
        method.network.denoiser.classifier.bias[0] += 5
    assert torch.equal(method.pseudo_labels(images(), KEYS).probabilities, taught)
    assert not torch.equal(method.probabilities(images(), KEYS), predicted)


def test_without_ema_the_student_is_its_own_teacher(planned: Any) -> None:
    method = planned(method__ema=0.0, diffusion__steps=2, diffusion__pseudo_steps=2).build().eval()
    assert method.teacher is None
    assert torch.equal(method.pseudo_labels(images(), KEYS).probabilities, method.probabilities(images(), KEYS))


def test_follow_copies_integers_exactly() -> None:
    student = torch.nn.BatchNorm1d(2)
    teacher = teacher_of(student)
    student.num_batches_tracked += 7
    student.running_mean += 1
    follow(teacher, student, 0.75)
    assert teacher.num_batches_tracked == 7
    assert torch.equal(teacher.running_mean, torch.full((2,), 0.25))


def test_confidence_decides_what_is_trained_on(planned: Any, draw: Any) -> None:
    """Threshold 0 accepts every pixel of an image, a threshold between accepts some, and the counts say so."""
    everything = planned(method__threshold=0.0)
    batch = draw(everything)
    losses = first_losses(everything.build(), batch)
    assert torch.equal(losses.given, losses.accepted) and losses.given.sum() == batch.pool.inside.sum() > 0
    nothing = first_losses(planned(method__threshold=1.0).build(), batch)
    assert nothing.accepted.sum() == 0 and nothing.terms["unsup"] == 0 < losses.terms["unsup"]
    assert torch.equal(nothing.given, losses.given)


@pytest.mark.parametrize("name", ["fixmatch", "discriminative"])
@pytest.mark.parametrize("loss", ["ce", "ce_dice", "ohem", "squared"])
def test_below_the_threshold_the_unsupervised_loss_is_exactly_zero(
    name: str, loss: str, planned: Any, draw: Any
) -> None:
    p = planned(name, method__threshold=1.0, train__loss=loss)
    method, batch = p.build(), draw(p)
    losses = first_losses(method, batch)
    assert losses.accepted.sum() == 0 and losses.given.sum() > 0
    assert losses.terms["unsup"].item() == 0.0
    grads = torch.autograd.grad(losses.terms["unsup"], list(method.parameters()), allow_unused=True)
    assert all(g is None or not g.any() for g in grads)
    accepting = first_losses(planned(name, method__threshold=0.0, train__loss=loss).build(), batch)
    assert accepting.terms["unsup"] > 0


def test_pseudo_labels_carry_no_gradient(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is that of the loss with the same labels given from outside."""
    p = planned(method__threshold=0.0)
    method, batch = p.build(), draw(p)
    fixed = method.train().pseudo_labels(batch.pool.weak, batch.pool.keys)
    grads = []
    for outside in (False, True):
        if outside:
            monkeypatch.setattr(
                method, "pseudo_labels", lambda *_: PseudoLabels(*(part.detach().clone() for part in fixed))
            )
        method.prior.ema.copy_(method.prior.labelled)
        grads.append(
            torch.autograd.grad(
                first_losses(method, batch).terms["unsup"], list(method.parameters()), allow_unused=True
            )
        )
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True) if a is not None and b is not None)
    assert any(a is not None and a.any() for a in grads[0])


# -- CutMix ------------------------------------------------------------------------------------------------------------


def test_cutmix_mixes_image_label_acceptance_and_padding_alike() -> None:
    """By hand: two 2 x 2 images; the first takes the right column of the second, the second takes nothing."""
    boxes = torch.tensor([[[False, True], [False, True]], [[False, False], [False, False]]])
    pictures = torch.arange(8.0).view(2, 1, 1, 2, 2)
    assert cutmix(pictures, boxes).flatten().tolist() == [0, 5, 2, 7, 4, 5, 6, 7]
    labels = torch.tensor([[[0, 1], [2, 3]], [[3, 2], [1, 0]]], dtype=torch.uint8)
    accepted = torch.tensor([[[True, False], [False, True]], [[True, True], [False, True]]])
    inside = torch.tensor([[[True, True], [False, True]], [[True, True], [True, False]]])
    target, taken = mixed_targets(PseudoLabels(labels, accepted, torch.empty(0)), inside, boxes)
    assert target.tolist() == [[[0, 2], [VOID, VOID]], [[3, 2], [1, VOID]]]
    assert taken.tolist() == [[[True, True], [False, False]], [[True, True], [False, False]]]


def watched(call: Any, seen: list[torch.Tensor]) -> Any:
    """The same call; the images of training steps are kept."""

    def calling(x: torch.Tensor, perturbed: torch.Tensor | None = None) -> torch.Tensor:
        if perturbed is not None:
            seen.append(x.detach().clone())
        return call(x, perturbed)

    return calling


@pytest.mark.parametrize("name", ["diffmatch", "discriminative"])
def test_cutmix_reaches_the_loss(name: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box over the whole crop of every image is a change of order: the network sees the strong views in that
    order."""
    p = planned(name, method__threshold=0.0, network__feature_dropout=0.0)
    batch = draw(p)
    seen: list[torch.Tensor] = []
    for whole in (False, True):
        method = p.build()
        entry = "condition" if hasattr(method.network, "condition") else "forward"
        monkeypatch.setattr(method.network, entry, watched(getattr(method.network, entry), seen))
        losses = first_losses(
            method, replace(batch, pool=replace(batch.pool, boxes=torch.full_like(batch.pool.boxes, whole)))
        )
        assert losses.terms["unsup"].isfinite()
    plain, mixed = seen
    assert torch.equal(plain[:2], mixed[:2]) and torch.equal(plain[2:], batch.pool.strong[0])
    assert torch.equal(mixed[2], plain[3]) and torch.equal(mixed[3], plain[2])


# -- the diffusion itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["embedding", "bits"])
def test_the_noisy_mask_is_used(codec: str, planned: Any) -> None:
    """Where the image is noise and y_t carries the truth, the truth comes out at small t: a denoiser that drops y_t
    stays at chance."""
    p = planned(diffusion__codec=codec, diffusion__scale=1.0)
    network = p.build().network.train()
    descent = torch.optim.AdamW(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)

    def toy(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        blocks = torch.randint(0, 4, (n, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
        return torch.randn(n, 1, 1, 32, 32, generator=generator), blocks.to(torch.uint8)

    def scores(x: torch.Tensor, y: torch.Tensor, t: float) -> torch.Tensor:
        z, times = network.condition(x), torch.full((len(x),), t)
        return network.scores(network.noisy(y, times, z.shape[-2:]), z, times, x.shape[-2:])

    torch.manual_seed(0)
    for _ in range(100):
        x, y = toy(4)
        descent.zero_grad()
        (scores(x, y, 0.1).softmax(1) - one_hot(y, 4)).square().sum(1).mean().backward()
        descent.step()
    network.eval()
    x, y = toy(8)
    with torch.no_grad():
        told = (scores(x, y, 0.1).argmax(1) == y).float().mean()
        untold = (scores(x, toy(8)[1], 0.1).argmax(1) == y).float().mean()
    assert told > 0.9 and untold < 0.4


def test_it_starts_as_its_twin_and_then_noise_enters_the_one_and_not_the_other(planned: Any) -> None:
    """What tells them apart after training is what the diffusion added."""
    diffusion, twin = (planned(name).build().eval() for name in ("diffmatch", "discriminative"))
    with torch.no_grad():
        assert torch.equal(diffusion.probabilities(images(), KEYS), twin.probabilities(images(), KEYS))
        heeding(diffusion)
        assert not torch.equal(diffusion.probabilities(images(), KEYS), diffusion.probabilities(images(), ["c", "d"]))
        assert torch.equal(twin.probabilities(images(), KEYS), twin.probabilities(images(), ["c", "d"]))
        condition, t = twin.network.condition(images()), torch.ones(2)
        y = torch.zeros(2, twin.network.denoiser.mask_channels, *condition.shape[-2:])
        assert torch.equal(
            twin.network.denoiser(y, condition, t), twin.network.denoiser(None, condition, t)
        )  # None stands for y_t = 0
        given = diffusion.network.denoiser(torch.ones_like(y), condition, t)
        assert not torch.equal(given, diffusion.network.denoiser(y, condition, t))


def test_sampler_settings_reach_scoring_and_pseudo_labels_separately(planned: Any) -> None:
    """`diffusion.steps` and `eval.draws` are of scoring, `diffusion.pseudo_steps` of pseudo-labels."""
    usual = heeding(planned().build().eval())
    other = heeding(planned(diffusion__steps=1, eval__draws=3).build().eval())
    assert usual.trajectory(images(), KEYS).shape[0] == 3 and other.trajectory(images(), KEYS).shape[0] == 1
    with torch.no_grad():
        assert not torch.equal(usual.probabilities(images(), KEYS), other.probabilities(images(), KEYS))
    assert torch.equal(
        usual.pseudo_labels(images(), KEYS).probabilities, other.pseudo_labels(images(), KEYS).probabilities
    )
    quick = heeding(planned(diffusion__pseudo_steps=1).build().eval())
    assert not torch.equal(
        usual.pseudo_labels(images(), KEYS).probabilities, quick.pseudo_labels(images(), KEYS).probabilities
    )


def test_times_and_noise_differ_from_step_to_step_and_image_to_image(planned: Any, draw: Any) -> None:
    p = planned()
    method, batch = p.build().train(), draw(p)
    torch.manual_seed(0)
    drawn = torch.cat([method.losses(batch, Progress(k, 2)).times for k in range(2)])
    assert len(drawn.unique()) == 8 and drawn.min() >= 0 and drawn.max() <= 1
