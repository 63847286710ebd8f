"""DDFP: features are pushed to where they are rare, and must still be classified as the teacher says."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from diffmatch.diffusion.objective import masked_mean
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.clipping import with_clipped_gradient
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.grids import nearest
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, cutmix, mixed_targets
from diffmatch.networks.flow import Flow, mixture
from diffmatch.networks.recording import recorded
from diffmatch.networks.segmenter import ClassifierNetwork, upsample
from diffmatch.settings import Section, Settings


class DDFPOptions(ThresholdOptions):
    """The authors' values."""

    ema: float = Field(default=0.999, ge=0, lt=1)
    strong: float = Field(default=0.5, ge=0, description="weight of the strong view")
    descending: float = Field(default=0.5, ge=0, description="weight of the strong view with pushed features")
    length: float = Field(default=4.0, ge=0, description="of the push at each position")
    warm_up: float = Field(
        default=1 / 80,
        ge=0,
        le=0.5,
        description="share of the training without unlabelled images; as long without push",
    )
    flow_lr: float = Field(default=1e-3, gt=0, description="first rate of the flow")
    flow_clip: float = Field(default=50.0, gt=0, description="largest norm of the flow's gradient")
    flow_noise: float = Field(default=0.05, ge=0, description="standard deviation added to what the flow learns from")
    flow_samples: int = Field(default=20_480, ge=1, description="features that the flow learns from in a step")


class DDFPNetwork(ClassifierNetwork):
    """The classifier, whose last block has a second set of norms for pushed features."""

    def __init__(self, card: Card, settings: Settings[Section]) -> None:
        super().__init__(card, settings)
        layers = self.extractor.decoder.last
        self.auxiliary = nn.ModuleList(deepcopy(layer) for layer in layers if isinstance(layer, _BatchNorm))

    def opened(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (N, C, H, W), the last block's input v (N, K, h, w) and its output (N, D, h, w)."""
        layers = self.extractor.decoder.last
        with recorded(layers[0], layers[-1]) as seen:
            scores: Tensor = self(images)
        return scores, seen[0], seen[1]

    def last_block(self, v: Tensor) -> Tensor:
        """The last block's output of its input, through the second norms."""
        norms = iter(self.auxiliary)
        for layer in self.extractor.decoder.last:
            v = next(norms)(v) if isinstance(layer, _BatchNorm) else layer(v)
        return v

    def scores_of(self, v: Tensor, size: Sequence[int]) -> Tensor:
        """Scores (N, C, H, W) of the last block's input, through the second norms."""
        return upsample(self.classifier(self.extractor.finish(self.last_block(v), size)), size)


class DDFP(Method[DDFPOptions]):
    """L = L_sup + 1/2 CE(y^, f(v)) + 1/2 CE(y^, f(v + d)) over confident pixels (Wang et al. 2024).

    v is what enters the decoder's last block F for the strong view, y^ the EMA teacher's label.
    d = length * g / ||g||_2 at each position, with g the gradient of - log p(F(v)) over confident positions in v: F(v +
        d) lies where features are rarer.
    p is a normalising flow onto one Gaussian per class with a learnt mean. It learns from the teacher's features of
        labelled images under the Gaussian of their class, and of unlabelled images under the mixture.
    Perturbed features have norms of their own in F. The first `warm_up` of the training is L_sup alone; then the flow
    begins, and the strong view goes through the second norms, unpushed, with both weights; after twice `warm_up` the
    push begins. Settings of the authors: the options' defaults, 80 epochs on PASCAL, crop 513, SGD 1e-3 (head x10); the
    flow has Adam 1e-3.

    Differs from the authors' code: there the teacher's parameters share the student's storage after the first epoch, so
    that the teacher is the student (`ema` 0 does the same); here it is the average that they print. The flow has no
    optimiser of its own: it is a group with a rate of its own in the shared one, and follows its schedule. Its hidden
    layers are as wide as z (256, as theirs, by default). Strong views pass through the network in the warm-up too, with
    weight 0. CutMix boxes are drawn for each image and have 2 to 40 % of it, where theirs are drawn once for a batch
    and have half. The networks here have no dropout in F. Which positions are confident is read at nearest positions,
    centres aligned. A medical recipe's Dice takes the place of cross-entropy. The student predicts; the authors report
    the better of both.
    """

    views = Views(cutmix=0.5)
    labelling = Labelling("teacher", "train", "own")
    features = "density descent"
    family = "consistency"
    use = "harder features, one more network"
    title = "DDFP"
    citation = "Wang et al., CVPR 2024"
    network: DDFPNetwork
    teacher: DDFPNetwork

    def __init__(self, card: Card, settings: Settings[DDFPOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)
        dim = self.network.extractor.dim
        self.flow = Flow(len(card.classes), dim, hidden=dim)

    def build_network(self) -> nn.Module:
        return DDFPNetwork(self.card, self.settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        kind, count, size = self.settings.train.loss, len(labelled.images), labelled.images.shape[-2:]
        started = progress.share >= options.warm_up
        pushed = started and progress.share >= 2 * options.warm_up

        with torch.no_grad(), in_mode(self.teacher, self.labelling.mode):
            taught, _, features = self.teacher.opened(torch.cat([labelled.images, pool.weak]))
        pseudo = accepted_by(taught[count:].softmax(1), options, pool.inside)
        target, accepted = mixed_targets(pseudo, pool.inside, pool.boxes)
        target = torch.where(accepted, target, VOID)

        scores, v, _ = self.network.opened(torch.cat([labelled.images, cutmix(pool.strong[0], pool.boxes)]))
        v = v[count:]
        if pushed:
            v = v + options.length * self.direction(v, nearest(accepted, v.shape[-2:]))
        weights = (options.strong, options.descending) if pushed else (0.0, options.strong + options.descending)
        unsup = [
            started * weight * pseudo_loss(kind, view, target, accepted)
            for weight, view in zip(weights, (scores[count:], self.network.scores_of(v, size)), strict=True)
        ]
        grid, valid = features.shape[-2:], torch.cat([labelled.masks != VOID, pool.inside])
        flow = self.flow_loss(features, nearest(labelled.masks, grid), nearest(valid, grid))
        terms = {
            "sup": supervised_loss(kind, scores[:count], labelled.masks),
            "unsup": unsup[0],
            "descending": unsup[1],
            "flow": started * flow,
        }
        return Losses.of(terms, pseudo, pool.inside)

    def direction(self, v: Tensor, accepted: Tensor) -> Tensor:
        """The unit vector at each position of v (N, K, h, w) along which the density of F(v) falls; 0 where none does.

        Args:
            accepted: (N, h, w) bool, the positions whose density is lowered.
        """
        v = v.detach().requires_grad_()
        features = self.network.last_block(v)
        density = self.flow.log_density(features.movedim(1, -1).flatten(0, 2)).view(accepted.shape)
        (gradient,) = torch.autograd.grad(-(density * accepted).sum(), v)
        return F.normalize(gradient.float(), dim=1)

    def flow_loss(self, features: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """-log p of random teacher features (N, D, h, w): labelled ones given their class, unlabelled ones not.

        Args:
            labels: (B, h, w), of the first B images.
            valid: (N, h, w) bool, without void and padding.
        """
        options, flat = self.settings.method, features.movedim(1, -1).flatten(0, 2)
        lot = torch.where(valid.flatten(), torch.rand(len(flat), device=flat.device), -1.0)
        chosen = lot.topk(min(options.flow_samples, len(flat)))
        drawn = flat[chosen.indices].float()
        logs = self.flow.class_log_densities(drawn + options.flow_noise * torch.randn_like(drawn))
        known = F.pad(labels.flatten(), (0, len(flat) - labels.numel()), value=VOID)[chosen.indices].long()
        own = logs.gather(1, torch.where(known == VOID, 0, known)[:, None])[:, 0]
        counted = chosen.values >= 0
        loss = -masked_mean(torch.where(known == VOID, mixture(logs), own), counted.float(), counted)
        return with_clipped_gradient(loss, self.flow.parameters(), options.flow_clip)

    def after_step(self, progress: Progress) -> None:
        options = self.settings.method
        begun = progress.step - round(options.warm_up * progress.steps)
        follow(self.teacher, self.network, warmed(options.ema, max(begun, 0)), buffers=False)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return accepted_by(self.teacher(images).softmax(1), self.settings.method, inside)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The flow has a rate of its own, `flow_lr` at first; all else is as in every method."""
        own = list(self.flow.parameters())
        held = {id(parameter) for parameter in own}
        groups = super().parameter_groups()
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in held]
        return [*groups, {"params": own, "lr_scale": self.settings.method.flow_lr / self.settings.train.lr}]
