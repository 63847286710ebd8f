"""A classifier with pixel representations beside it, which contrastive methods compare."""

from __future__ import annotations

from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.networks.decoders import conv_bn_relu
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Section, Settings

LARGEST = 256
"""Numbers of a representation, unless z has fewer channels (ReCo's and U2PL's)."""


class RepresentationNetwork(ClassifierNetwork):
    """z -> classifier, and z -> 3x3 convolution, BatchNorm, ReLU, 1x1 convolution: the head of representations."""

    def __init__(self, card: Card, settings: Settings[Section]) -> None:
        super().__init__(card, settings)
        dim = self.extractor.dim
        self.size = min(LARGEST, dim)
        self.representation = nn.Sequential(conv_bn_relu(dim, dim, 3), nn.Conv2d(dim, self.size, 1))

    def represent(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, C, h, w) and representations (N, R, h, w) at the mask stride, float32, neither of them normed."""
        z = self.extractor(images)
        return self.classifier(z).float(), self.representation(z).float()
