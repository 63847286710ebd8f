"""The two networks that methods train: a plain classifier on z, and z with the mask denoiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.diffusion.codec import Codec, build_codec
from diffmatch.diffusion.sampler import Adjust, batch_noise, ddim
from diffmatch.diffusion.schedule import add_noise
from diffmatch.domain import Card
from diffmatch.networks.denoiser import Denoiser
from diffmatch.networks.extractor import Extractor
from diffmatch.settings import Section, Settings


def upsample(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Class scores to the image's size, bilinear, float32: losses and probabilities never see half precision."""
    return F.interpolate(scores.float(), size=tuple(size), mode="bilinear", align_corners=False)


def build_extractor(card: Card, settings: Settings[Section]) -> Extractor:
    net = settings.network
    return Extractor(
        decoder=net.decoder,
        encoder=net.encoder,
        weights=net.weights,
        channels=card.channels,
        dim=net.dim,
        stride=net.stride,
        feature_dropout=net.feature_dropout,
    )


class ClassifierNetwork(nn.Module):
    """z -> classifier: the network of every discriminative method (UniMatch's, 40.5 M in Table 5)."""

    def __init__(self, card: Card, settings: Settings[Section]) -> None:
        super().__init__()
        self.extractor = build_extractor(card, settings)
        self.classifier = self.extractor.classifier(len(card.classes))

    def forward(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """(N, dates, channels, H, W) -> scores (N, C, H, W), float32."""
        return upsample(self.classifier(self.extractor(images, perturbed)), images.shape[-2:])

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the images and of the images with feature channels lost, (N, C, H, W) each: `Extractor.both`."""
        clean, perturbed = upsample(self.classifier(self.extractor.both(images)), images.shape[-2:]).chunk(2)
        return clean, perturbed


class DenoiserNetwork(nn.Module):
    """g and f together, with the codec (none for the discriminative twin, whose y_t is always 0 and t always 1).

    The extractor runs once per image (`condition`), the denoiser once per step (`scores`).

    Attributes:
        stride: pixels of the image per position of the mask.
    """

    codec: Codec | None

    def __init__(self, card: Card, settings: Settings[Section], diffusion: bool = True) -> None:
        super().__init__()
        net, classes = settings.network, len(card.classes)
        self.extractor = build_extractor(card, settings)
        self.stride = net.stride
        codec = build_codec(settings.diffusion.codec, classes, settings.diffusion.scale, net.dim)
        self.codec = codec if diffusion else None
        self.denoiser = Denoiser(
            classes,
            codec.channels,
            net.dim,
            net.layers,
            net.heads,
            net.points,
            z_channels=self.extractor.dim,
            z_per_mask=self.stride // self.extractor.stride,
        )

    def condition(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """What the denoiser needs of the images (N, dates, channels, H, W): (N, D, h, w)."""
        return self.denoiser.condition(self.extractor(images, perturbed))

    def scores(self, y_t: Tensor | None, condition: Tensor, t: Tensor, size: Sequence[int]) -> Tensor:
        """f at the image's size, (N, C, H, W) float32; y_t None stands for 0."""
        return upsample(self.denoiser(y_t, condition, t), size)

    def noisy(self, masks: Tensor, t: Tensor, grid: Sequence[int]) -> Tensor:
        """y_t of image-sized masks (N, H, W): nearest to the grid (h, w), encoded, noised (Eq. 3)."""
        assert self.codec is not None
        small = F.interpolate(masks[:, None].float(), size=tuple(grid), mode="nearest-exact")[:, 0]
        y_0 = self.codec(small).float()
        return add_noise(y_0, torch.randn_like(y_0), t)

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        keys: Sequence[str],
        size: Sequence[int],
        *,
        steps: int,
        draws: int = 1,
        offset: tuple[int, int] = (0, 0),
        adjust: Adjust | None = None,
        on_step: Callable[[int, Tensor], Any] | None = None,
    ) -> Tensor:
        """The reverse process: the probabilities of each draw, (R, N, C, H, W).

        Args:
            keys: one per image; they fix the noise.
            offset: of a window in its scene's grid.
            on_step: called with step number and that step's probabilities (N, C, H, W), averaged over draws.
        """
        assert self.codec is not None
        noise = batch_noise(keys, draws, (self.codec.channels, *condition.shape[-2:]), condition.device, offset)
        return self.sample_from(noise, condition, size, steps=steps, adjust=adjust, on_step=on_step)

    def sample_from(
        self,
        noise: Tensor,
        condition: Tensor,
        size: Sequence[int],
        *,
        steps: int,
        adjust: Adjust | None = None,
        on_step: Callable[[int, Tensor], Any] | None = None,
    ) -> Tensor:
        """`sample` of given noise (R, N, channels, h, w): a function of tensors alone, which can be exported."""
        assert self.codec is not None
        draws = len(noise)
        repeated = condition.repeat(draws, 1, 1, 1) if draws > 1 else condition

        def probabilities(scores: Tensor) -> Tensor:
            maps = upsample(scores.flatten(0, 1), size).softmax(1)
            return maps.view(draws, -1, *maps.shape[1:])

        report = None if on_step is None else (lambda k, scores: on_step(k, probabilities(scores).mean(0)))
        return probabilities(ddim(lambda y, t: self.denoiser(y, repeated, t), self.codec, noise, steps, adjust, report))
