"""g(x) -> z: sizes, two dates, feature dropout, and the parameter counts of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffmatch.domain import InputError
from diffmatch.networks.extractor import Extractor
from diffmatch.networks.recording import recorded
from diffmatch.networks.segmenter import ClassifierNetwork, DenoiserNetwork
from diffmatch.running.cost import plain_card
from diffmatch.settings import Section, resolve


def extractor(**changes):
    torch.manual_seed(0)
    base = {"decoder": "unet", "encoder": "plain4", "channels": 1, "dim": 8, "stride": 2}
    return Extractor(**(base | changes)).eval()


def millions(module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


# -- parameter counts (Tables 5 and 7 of the paper) --------------------------------------------------------------------


def test_the_discriminative_network_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        found = millions(ClassifierNetwork(plain_card(21), resolve(Section)))
    assert found == pytest.approx(40.48, abs=0.02)
    assert found == pytest.approx(40.5, rel=0.015)


@pytest.mark.parametrize(
    ("layers", "ours", "paper"),
    [(1, 42.36, 42.4), (2, 43.05, 43.3), (4, 44.41, 44.9), (6, 45.78, 45.8), (12, 49.88, 49.9)],
)
def test_the_diffusion_network_has_the_parameters_of_the_paper(layers, ours, paper):
    with torch.device("meta"):
        found = millions(DenoiserNetwork(plain_card(21), resolve(Section, {"network.layers": layers})))
    assert found == pytest.approx(ours, abs=0.02)
    assert found == pytest.approx(paper, rel=0.015)


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [("plain4", [(64, 96), (65, 51)]), ("resnet18", [(64, 96), (65, 51)]), ("convnext_atto", [(64, 96)])],
    ids=["plain", "resnet", "convnext"],
)
def test_the_u_net_gives_z_at_its_stride_for_odd_sizes_too(encoder, sizes, stride):
    """ConvNeXt's stem cuts what is no multiple of 4."""
    with torch.device("meta"):
        g = Extractor(decoder="unet", encoder=encoder, channels=3, dim=8, stride=stride)
        for height, width in sizes:
            assert g(torch.empty(2, 1, 3, height, width)).shape == (2, 8, -(-height // stride), -(-width // stride))


def test_deeplab_gives_z_at_stride_four_for_odd_sizes_too():
    with torch.device("meta"):
        g = Extractor(decoder="deeplabv3plus", encoder="resnet50", channels=3, dim=256, stride=4)
        assert g(torch.empty(1, 1, 3, 129, 66)).shape == (1, 256, 33, 17)


@pytest.mark.parametrize(("decoder", "stride"), [("unet", 3), ("deeplabv3plus", 2)])
def test_a_stride_that_does_not_exist_is_told(decoder, stride):
    with pytest.raises(InputError, match=rf"network\.stride={stride}"):
        extractor(decoder=decoder, stride=stride, encoder="resnet18", channels=3)


def test_a_single_image_can_be_trained_on():
    """The pooled branch of DeepLab has one value per channel there."""
    g = extractor(decoder="deeplabv3plus", encoder="resnet18", channels=3, stride=4).train()
    before = {k: v.clone() for k, v in g.decoder.aspp.convs[-1].norm.named_buffers()}
    z = g(torch.randn(1, 1, 3, 64, 64))
    z.square().mean().backward()
    assert z.isfinite().all()
    assert all(p.grad.isfinite().all() for p in g.parameters() if p.grad is not None)
    assert all(torch.equal(v, before[k]) for k, v in g.decoder.aspp.convs[-1].norm.named_buffers()), (
        "one value leaves no statistics"
    )
    g(torch.randn(2, 1, 3, 64, 64))
    assert not torch.equal(g.decoder.aspp.convs[-1].norm.running_mean, before["running_mean"])


# -- two dates ---------------------------------------------------------------------------------------------------------


def test_swapped_dates_give_the_same_z():
    g, x = extractor(), torch.randn(2, 2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(g(x.flip(1)), g(x))


def test_equal_dates_give_the_z_of_no_difference():
    g, x = extractor(), torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        zeros = [torch.zeros_like(f) for f in g.encoder(x[:, 0])]
        torch.testing.assert_close(g(x.expand(2, 2, 1, 16, 16)), g.decoder(zeros))


def test_pairs_are_not_mixed_with_their_neighbours():
    g, x = extractor(), torch.randn(3, 2, 1, 16, 16)
    with torch.no_grad():
        together = g(x)
        assert (together[0] - together[1]).abs().max() > 1e-4
        for k in range(3):
            torch.testing.assert_close(g(x[k : k + 1])[0], together[k], atol=1e-6, rtol=1e-5)


# -- feature dropout ---------------------------------------------------------------------------------------------------


def test_only_flagged_images_lose_features():
    g, x = extractor(), torch.randn(4, 1, 1, 16, 16)
    flags = torch.tensor([False, True, False, True])
    with torch.no_grad():
        plain, perturbed = g(x), g(x, flags)
    torch.testing.assert_close(perturbed[~flags], plain[~flags])
    assert all((perturbed[k] - plain[k]).abs().max() > 1e-4 for k in (1, 3))


def test_whole_channels_are_dropped_and_the_others_scaled_up():
    g = extractor(feature_dropout=0.25)
    torch.manual_seed(0)
    dropped = g._drop(torch.ones(2, 4000, 2, 2), torch.tensor([True, False]))
    assert torch.equal(dropped[1], torch.ones(4000, 2, 2))
    assert torch.equal(dropped[0], dropped[0, :, :1, :1].expand(4000, 2, 2))
    assert sorted(dropped[0].unique().tolist()) == pytest.approx([0, 4 / 3])
    assert float((dropped[0, :, 0, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_no_dropout_is_no_dropout():
    g, x = extractor(feature_dropout=0.0), torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(g(x, torch.tensor([True, True])), g(x))


@pytest.mark.parametrize(
    ("decoder", "encoder", "stride"),
    [
        ("unet", "plain2", 2),
        ("deeplabv3plus", "plain2", 4),
        ("pspnet", "plain2", 4),
        ("unet", "resnet10t", 2),
        ("deeplabv3plus", "resnet10t", 4),
        ("pspnet", "resnet10t", 8),
    ],
)
def test_every_parameter_takes_part(decoder, encoder, stride):
    """What does not would be waste on one device and an error of DDP's on several."""
    extractor = Extractor(decoder=decoder, encoder=encoder, channels=1, dim=8, stride=stride)
    extractor(torch.rand(2, 1, 1, 64, 64)).square().sum().backward()
    assert not [name for name, parameter in extractor.named_parameters() if parameter.grad is None]


def test_image_pooling_over_devices_has_statistics():
    """One image on each of several devices: SyncBatchNorm has their statistics, and the running ones follow."""
    extractor = Extractor(decoder="deeplabv3plus", encoder="resnet10t", channels=1, dim=8, stride=4)
    branch = nn.SyncBatchNorm.convert_sync_batchnorm(extractor.decoder.aspp.convs[-1]).train()
    calls = []
    branch.norm.forward = lambda x: calls.append(x) or x
    branch(torch.rand(1, branch.conv.in_channels, 4, 4))
    assert len(calls) == 1


@pytest.mark.parametrize("size", [(64, 64), (50, 41)])
def test_an_encoder_of_patches_takes_any_size(size):
    extractor = Extractor(decoder="unet", encoder="convnext_atto", channels=3, dim=16, stride=4).eval()
    assert extractor.multiple == 32
    z = extractor(torch.rand(1, 1, 3, *size))
    assert z.shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))


def test_convolutional_encoders_take_sizes_as_they_are():
    for encoder in ("plain2", "resnet10t"):
        assert Extractor(decoder="unet", encoder=encoder, channels=1, dim=8, stride=4).multiple == 1


# -- parts of the decoders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoder", "encoder", "stride", "coarse"),
    [
        ("unet", "plain4", 2, (64, 5, 7)),
        ("deeplabv3plus", "resnet10t", 4, (8, 5, 7)),
        ("pspnet", "resnet10t", 4, (8, 10, 13)),
    ],
)
def test_the_last_block_and_the_coarse_map(decoder, encoder, stride, coarse):
    """The last layers, run by themselves on what entered them, give z; the coarse map is where the view is widest."""
    channels = 1 if encoder == "plain4" else 3
    g = extractor(decoder=decoder, encoder=encoder, channels=channels, stride=stride)
    layers, images = g.decoder.last, torch.randn(2, 1, channels, 76, 101)
    with recorded(layers[0], layers[-1]) as seen, recorded(g.decoder.coarse) as wide:
        z = g(images)
    again = seen[0]
    for layer in layers:
        again = layer(again)
    torch.testing.assert_close(g.finish(again, (76, 101)), z)
    assert seen[1].shape[1] == z.shape[1] == 8
    assert wide[1].shape[1:] == coarse


# -- the U-Net of the field --------------------------------------------------------------------------------------------

FIELD = {"network.decoder": "unet_bilinear", "network.encoder": "unet16", "network.heads": 4}


def field_network(**changes) -> ClassifierNetwork:
    return ClassifierNetwork(cardiac(), resolve(Section, FIELD | changes))


def cardiac():
    return plain_card(4).model_copy(update={"channels": 1})


def test_the_field_u_net_computes_what_unimatchs_does():
    """LiheYoung/UniMatch@0324f3d, more-scenarios/medical/model/unet.py, with these weights and this image."""
    network = field_network()
    assert sum(p.numel() for p in network.parameters()) == 1_813_764
    encoder, decoder = network.extractor.encoder, network.extractor.decoder
    pairs = zip(decoder.narrow, decoder.blocks, strict=True)
    parts = [*encoder.levels, *(part for pair in pairs for part in pair), network.classifier]
    with torch.no_grad():
        for k, p in enumerate(p for part in parts for p in part.parameters()):
            values = torch.cos(torch.arange(p.numel(), dtype=torch.float64) * 0.37 + k)
            p.copy_((values * (1.5 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.5)).view(p.shape))
        images = torch.sin(torch.arange(2 * 32 * 48, dtype=torch.float64) * 0.1).view(2, 1, 1, 32, 48).float()
        scores = network.eval()(images)
        torch.testing.assert_close(
            scores[1, :, 5, 7], torch.tensor([0.3327664, 0.4911087, 0.5246483, 0.3890175]), rtol=1e-4, atol=1e-5
        )
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        scores = network.train()(images)
        torch.testing.assert_close(
            scores[1, :, 5, 7], torch.tensor([1.6754690, -0.7866160, 1.7167898, -0.6983166]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("encoder", ["resnet18", "convnext_atto"])
def test_the_field_u_net_needs_an_encoder_with_maps_as_fine_as_the_image(encoder):
    with pytest.raises(InputError, match=r"no maps of its own at strides 1 and 2; take network\.encoder=unet16"):
        extractor(decoder="unet_bilinear", encoder=encoder, channels=3)


def test_the_field_u_net_drops_values_more_the_deeper():
    network = field_network()
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.05, 0.1, 0.2, 0.3, 0.5]
    images = torch.rand(2, 1, 1, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(("stride", "dim"), [(1, 16), (2, 32), (4, 8)])
@pytest.mark.parametrize("size", [(32, 48), (33, 19)])
def test_its_z_is_as_fine_as_the_image_and_the_mask_as_asked(stride, dim, size):
    settings = resolve(Section, FIELD | {"network.stride": stride, "network.dim": dim})
    network = DenoiserNetwork(cardiac(), settings).eval()
    images = torch.rand(2, 1, 1, *size)
    assert network.extractor(images).shape == (2, 16, *size)
    condition = network.condition(images)
    assert condition.shape == (2, dim, -(-size[0] // stride), -(-size[1] // stride))
    y_t = network.noisy(torch.zeros(2, *size), torch.full((2,), 0.5), condition.shape[-2:])
    scores = network.scores(y_t, condition, torch.full((2,), 0.5), size)
    assert scores.shape == (2, 4, *size)
    assert torch.equal(scores, network.scores(None, condition, torch.full((2,), 0.5), size))
