"""Cross teaching: a CNN and a transformer, which see differently, teach each other."""

from __future__ import annotations

from pydantic import Field
from torch import nn

from diffmatch.learning.batch import Progress
from diffmatch.methods.cps import CPS, CPSOptions
from diffmatch.networks.transformer import TransformerNetwork


class CrossTeachingOptions(CPSOptions):
    """The transformer's width and heads are `network.dim` and `network.heads`, so that it shrinks with the CNN."""

    weight: float = Field(default=0.1, ge=0, description="of the cross teaching, at its highest")
    depth: int = Field(default=8, ge=1, description="transformer blocks")


class CrossTeaching(CPS[CrossTeachingOptions]):
    """L = L_sup(f_c) + L_sup(f_t) + w(t) [l(f_c(x), argmax f_t(x)) + l(f_t(x), argmax f_c(x))].

    (Luo et al. 2022, section 2.) w = 0.1 exp(-5 (1 - t/t_max)^2), l the Dice loss, f_c a U-Net, f_t Swin-UNet with
    ImageNet weights. The CNN predicts. Further settings of the paper: ACDC 224 x 224, batch 16, SGD 0.9, lr 0.01, poly
    0.9, 30,000 steps.

    Differs from the paper: f_t is a plain vision transformer (`TransformerNetwork`) without pretrained weights, at any
    crop, channel count and number of dates. The loss is Dice in medical recipes and cross-entropy elsewhere. Audits
    count the transformer's labels, which the CNN is taught, in eval mode there.
    """

    use = "CNN and transformer, medical slices"
    title = "Cross Teaching"
    citation = "Luo et al., MIDL 2022"

    def build_second(self) -> nn.Module:
        return TransformerNetwork(self.card, self.settings, self.settings.method.depth)

    def weight(self, progress: Progress) -> float:
        return super().weight(progress) * progress.ramp()
