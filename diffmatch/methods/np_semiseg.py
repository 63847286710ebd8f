"""NP-SemiSeg: a neural process takes the place of the classifier, so that a prediction has its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.grids import nearest
from diffmatch.learning.losses import one_hot, pseudo_loss, supervised_loss
from diffmatch.learning.memory import MemoryBank
from diffmatch.learning.method import Statistics
from diffmatch.methods.augseg import AugSeg, AugSegOptions
from diffmatch.networks.neural_process import Latent, NeuralProcessNetwork
from diffmatch.networks.segmenter import upsample
from diffmatch.settings import Settings
from diffmatch.shared.seeds import seed_of


class NPSemiSegOptions(AugSegOptions):
    """The authors' values on PASCAL; they have ema 0.996, weight 2 and threshold 0 on Cityscapes."""

    divergence: float = Field(default=0.005, ge=0, description="weight of the KL divergence")
    samples: int = Field(default=5, ge=1, description="T, latents drawn for a prediction")
    latent: int = Field(default=32, ge=1, description="numbers of a latent and of a memory vector")
    bank: int = Field(default=2560, ge=1, description="vectors kept per class")


class NPSemiSeg(AugSeg[NPSemiSegOptions]):
    """L = L_sup + lambda_u L_u + lambda_KL KL(target || context) on AugSeg's views (Wang et al. 2023).

    phi, a small network on z that does not train z, is remembered per class: in the context memory of labelled pixels,
    in the target memory of labelled and mixed pixels by label and pseudo-label. A memory's mean is the class's centre.
    The pixels of an image attend to the centres of both (`NeuralProcessHead`). What the context says goes to the
    decoder; what the target says gives mean and sigma of the image's latent, of which T draws go to the decoder beside
    z. The student's scores are the mean of the T scores, the teacher's probabilities the mean of the T softmaxes. KL is
    between the latents' distributions by target and by context, the mean over images. Settings of the authors: the
    options' defaults, SGD 1e-3, gradients clipped at 5, crop 480, 80 epochs on PASCAL.

    Differs from the authors' code: there the two memories change places at every step and the channels of the stored
    vectors are mixed; here each memory holds what its name says. Vectors are those at the mask stride, of more than fit
    a random choice, and of one pass, where theirs sends the labelled images through the encoder twice. The teacher uses
    the centres of the last step, theirs those of the last epoch. The T draws of a prediction are the same for every
    image. Sigma is a standard deviation where it is drawn from and a variance in KL, as in theirs. z has gone through
    the shared decoder; gradients are not clipped. AugSeg says what differs in the views.
    """

    family = "generative"
    use = "predictions with their uncertainty"
    title = "NP-SemiSeg"
    citation = "Wang et al., ICML 2023"
    noise: Tensor
    network: NeuralProcessNetwork
    teacher: NeuralProcessNetwork

    def __init__(self, card: Card, settings: Settings[NPSemiSegOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        options = settings.method
        self.context = MemoryBank(len(card.classes), options.bank, options.latent)
        self.target = MemoryBank(len(card.classes), options.bank, options.latent)
        generator = torch.Generator().manual_seed(seed_of(self.title))
        noise = torch.randn(options.samples, 1, options.latent, generator=generator, device="cpu")
        self.register_buffer("noise", noise.to(torch.get_default_device()))

    def build_network(self) -> nn.Module:
        return NeuralProcessNetwork(self.card, self.settings, self.settings.method.latent)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool = batch.labelled, batch.unlabelled
        options, kind, count = self.settings.method, self.settings.train.loss, len(batch.labelled.images)
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        images, target, accepted = self.mixture(labelled, pool, pseudo)
        z = self.network.extractor(torch.cat([labelled.images, images]))
        embedded = self.network.head.embed(z)
        members = one_hot(nearest(torch.cat([labelled.masks, target]), z.shape[-2:]), len(self.card.classes)).bool()
        self.context.push(embedded[:count], members[:count])
        self.target.push(embedded, members)
        noise = torch.randn(options.samples, len(z), options.latent, device=z.device)
        drawn, context, latent = self.network.head(z, embedded, self.context.means, self.target.means, noise)
        scores = upsample(drawn.float().mean(0), images.shape[-2:])
        terms = {
            "sup": supervised_loss(kind, scores[:count], labelled.masks),
            "unsup": options.weight * pseudo_loss(kind, scores[count:], target, accepted),
            "divergence": options.divergence * divergence(latent, context).mean(),
        }
        return Losses.of(terms, pseudo, pool.inside)

    def draws(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        z = self.teacher.extractor(images)
        embedded = self.teacher.head.embed(z)
        drawn, _, _ = self.teacher.head(z, embedded, self.context.means, self.target.means, self.noise)
        return torch.stack([upsample(scores, images.shape[-2:]).softmax(1) for scores in drawn])

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self.draws(images, keys, offset).mean(0)


def divergence(target: Latent, context: Latent) -> Tensor:
    """KL(target || context) of each image, (N,), with sigma as the variance."""
    ratio, apart = target.sigma / context.sigma, (target.mean - context.mean).square() / context.sigma
    return 0.5 * (ratio - 1 - ratio.log() + apart).sum(1)
