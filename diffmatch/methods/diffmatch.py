"""DiffMatch: a conditional diffusion model over masks inside weak-to-strong training, with the debiased adjustment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.diffusion.adjustment import natural, posthoc
from diffmatch.diffusion.objective import denoising_loss
from diffmatch.diffusion.prior import ClassPrior
from diffmatch.diffusion.sampler import Adjust
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.ema import follow, teacher_of
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import (
    SOFT_RAMP,
    PseudoLabels,
    accepted_by,
    mixed_targets,
    pixels_per_class,
    soft_loss,
)
from diffmatch.learning.weak_to_strong import in_one_pass, mixed, stacked
from diffmatch.methods.discriminative import DiscriminativeOptions
from diffmatch.networks.extractor import ceil_div
from diffmatch.networks.segmenter import DenoiserNetwork
from diffmatch.settings import Settings


class DiffMatchOptions(DiscriminativeOptions):
    """The paper names no threshold; UniMatch's is used.

    With `ema` 0 the student is its own teacher, as in the paper (section 3.1).

    With soft targets the encoded mask stays the label, and the unlabelled term has no adjustment.
    """

    ema: float = Field(
        default=0.0, ge=0, lt=1, description="of a teacher that gives the pseudo-labels; 0: the student does"
    )


class DiffMatch(Method[DiffMatchOptions]):
    """L = L_sup + L_unsup, both ||f(y_t, g(x), t) - y_0||^2 with adjustment (Eq. 10 and 11, Algorithms 1-3).

    Labelled: y_0 is the truth. Unlabelled: y_0 is the result of the reverse process on the weak view, and f denoises it
    given the strong view. Scoring and pseudo-labels use the natural scores, which `logit` has to restore. `posthoc`
    balances predictions, never pseudo-labels.
    """

    sampled = True
    views = Views(partner=True)
    labelling = Labelling("student", "eval")
    features = "channel dropout"
    family = "generative"
    use = "masks with noise draws"
    version = 3  # the denoiser's branches start at zero, and so does what y_t adds to z
    title = "DiffMatch"
    citation = "Towards Unbiased Learning in Semi-Supervised Semantic Segmentation, under review"
    network: DenoiserNetwork

    def __init__(self, card: Card, settings: Settings[DiffMatchOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.prior = ClassPrior(statistics.pixels, settings.diffusion.prior_momentum)
        self.teacher = teacher_of(self.network) if settings.method.ema > 0 else None

    def build_network(self) -> nn.Module:
        return DenoiserNetwork(self.card, self.settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        pasted = self.pasted(pool)
        t = torch.rand(len(labelled.images) + len(pool.weak), device=pool.weak.device)
        condition, pseudo = self.conditions(labelled, pool)
        target, accepted = mixed_targets(pseudo, pool.inside, pool.boxes, pasted)
        self.prior.update(pixels_per_class(pseudo.labels, pool.inside, len(self.card.classes)))

        scores = self.denoised(condition, torch.cat([labelled.masks, target]), t)
        (own, strong), (t_own, t_strong) = (torch.tensor_split(x, [len(labelled.images)]) for x in (scores, t))

        def supervised(scores: Tensor) -> Tensor:
            return supervised_loss(kind, scores, labelled.masks)

        def taught(scores: Tensor) -> Tensor:
            return pseudo_loss(kind, scores, target, accepted)

        known = labelled.masks != VOID
        sup = self.objective(own, labelled.masks, known, t_own, self.prior.labelled, supervised)
        if self.settings.method.targets == "soft":
            unsup = progress.ramp(SOFT_RAMP) * soft_loss(strong, pseudo, pool.inside, pool.boxes, pasted)
        else:
            unsup = self.objective(strong, target, accepted, t_strong, self.prior.unlabelled, taught)
        return Losses.of({"sup": sup, "unsup": unsup}, pseudo, pool.inside, times=t)

    def conditions(self, labelled: Labelled, pool: Pool) -> tuple[Tensor, PseudoLabels]:
        """Conditions of the labelled images and the CutMixed strong views, and the pseudo-labels of the weak views.

        In train mode the weak views' condition comes from a pass with the labelled images, without gradient, and the
        strong views follow alone; in eval mode it has a pass of its own. The mode is the extractor's: f is the same.
        """
        strong = (mixed(pool), True)
        if self.settings.method.labels == "train" and self.teacher is None:
            own, weak = in_one_pass(self.network.condition, (labelled.images, False), (pool.weak, False))
            pseudo = self.sampled_labels(self.network, weak.detach(), pool.keys, pool.weak.shape[-2:], pool.inside)
            return torch.cat([own, *in_one_pass(self.network.condition, strong)]), pseudo
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        return self.network.condition(*stacked((labelled.images, False), strong)), pseudo

    def denoised(self, condition: Tensor, y_0: Tensor, t: Tensor) -> Tensor:
        """f's scores (N, C, H, W) of the masks y_0 (N, H, W), noised to the times t (N,)."""
        y_t = self.network.noisy(y_0, t, condition.shape[-2:])
        return self.network.scores(y_t, condition, t, y_0.shape[-2:])

    def objective(
        self,
        scores: Tensor,
        target: Tensor,
        accepted: Tensor,
        t: Tensor,
        prior: Tensor,
        domain: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """`denoising_loss` as the settings ask for it."""
        diffusion = self.settings.diffusion
        return denoising_loss(
            scores,
            target,
            accepted,
            t,
            prior,
            loss=diffusion.loss,
            adjustment=diffusion.adjustment,
            tau=diffusion.tau,
            domain=domain,
        )

    def after_step(self, progress: Progress) -> None:
        if self.teacher is not None:
            follow(self.teacher, self.network, self.settings.method.ema)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        teacher = self.network if self.teacher is None else self.teacher
        with in_mode(teacher, "eval"):
            return self.sampled_labels(teacher, teacher.condition(images), keys, images.shape[-2:], inside)

    def sampled_labels(
        self,
        network: DenoiserNetwork,
        condition: Tensor,
        keys: Sequence[str],
        size: Sequence[int],
        inside: Tensor | None,
    ) -> PseudoLabels:
        """The result of the reverse process given the weak views' condition, accepted as the options say."""
        steps = self.settings.diffusion.pseudo_steps
        probabilities = network.sample(condition, keys, size, steps=steps, adjust=self._natural()).mean(0)
        return accepted_by(probabilities, self.settings.method, inside)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self.draws(images, keys, offset).mean(0)

    def draws(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self._sample(images, keys, offset)

    def noise_shape(self, size: Sequence[int]) -> tuple[int, int, int]:
        assert self.network.codec is not None
        height, width = (ceil_div(side, self.network.stride) for side in size)
        return self.network.codec.channels, height, width

    def draws_from(self, noise: Tensor, images: Tensor) -> Tensor:
        network = self.network
        return network.sample_from(
            noise,
            network.condition(images),
            images.shape[-2:],
            steps=self.settings.diffusion.steps,
            adjust=self._adjust(),
        )

    def trajectory(self, images: Tensor, keys: Sequence[str]) -> Tensor:
        maps: list[Tensor] = []
        self._sample(images, keys, on_step=lambda k, p: maps.append(p.argmax(1).to(torch.uint8)))
        return torch.stack(maps)

    def _sample(
        self,
        images: Tensor,
        keys: Sequence[str],
        offset: tuple[int, int] = (0, 0),
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        network, stride = self.network, self.network.stride
        return network.sample(
            network.condition(images),
            keys,
            images.shape[-2:],
            steps=self.settings.diffusion.steps,
            draws=self.settings.eval.draws,
            offset=(offset[0] // stride, offset[1] // stride),
            adjust=self._adjust(),
            on_step=on_step,
        )

    def _natural(self) -> Adjust | None:
        """What makes the scores natural: they are, unless the network was trained with the `logit` reading."""
        diffusion = self.settings.diffusion
        return (
            natural(self.prior.labelled, diffusion.tau)
            if diffusion.adjustment == "logit" and diffusion.tau > 0
            else None
        )

    def _adjust(self) -> Adjust | None:
        """The adjustment of predictions.

        Pseudo-labels stay natural: balanced ones fed back would move the prior that balances them.
        """
        diffusion = self.settings.diffusion
        if diffusion.adjustment == "posthoc" and diffusion.tau > 0:
            return posthoc(self.prior.labelled, diffusion.tau)
        return self._natural()
