"""The flow is what its authors' library makes of it, invertible, and learns a density."""

from __future__ import annotations

import math

import torch

from diffmatch.networks.flow import Flow, mixture


def waves(*shape: int, rate: float, scale: float, shift: float = 0.0) -> torch.Tensor:
    return (scale * torch.sin(torch.arange(math.prod(shape)).float() * rate + shift)).view(shape)


def test_golden_numbers(golden_flow: Flow) -> None:
    """RNVP, FastGMM and FlowLoss of Gavinwxy/DDFP 7956c726 (model/flow/model.py 24-57, distributions.py 27-58, loss.py
    26-37) with FrEIA 0.2, on five features: three of their own class, two under the mixture."""
    flow, features = golden_flow, waves(5, 6, rate=0.9, scale=1.5, shift=0.2)
    z, log_determinant = flow(features)
    expected = [0.94569588, 1.24442053, -0.74670964, -1.39298463, 0.03772423, -2.65326643]
    torch.testing.assert_close(z[0], torch.tensor(expected), atol=1e-5, rtol=1e-5)
    found = torch.tensor([0.05870806, -0.01008615, -0.01721534, 0.08380771, 0.12671864])
    torch.testing.assert_close(log_determinant, found, atol=1e-5, rtol=1e-4)

    own = flow.class_log_densities(features)
    under = torch.cat([own[[0, 1, 2], [0, 1, 2]], mixture(own)[3:]])
    torch.testing.assert_close(-under.mean(), torch.tensor(14.7365932))
    torch.testing.assert_close(-flow.log_density(features).mean(), torch.tensor(14.7624464))
    (-under.mean()).backward()
    norm = torch.stack([p.grad.norm() for p in flow.parameters()]).norm()
    torch.testing.assert_close(norm, torch.tensor(17.9664745), rtol=1e-4, atol=0)
    torch.testing.assert_close(flow.means.grad.norm(), torch.tensor(2.6882372), rtol=1e-4, atol=0)


def test_the_determinant_is_that_of_the_jacobian() -> None:
    """A density: it integrates to 1 because the change of volume is counted. Odd widths are split unevenly."""
    torch.manual_seed(0)
    for dim in (6, 5, 2):
        flow = Flow(2, dim, hidden=8)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.mul_(10)
        x = torch.randn(dim)
        jacobian = torch.autograd.functional.jacobian(lambda v, flow=flow: flow(v[None])[0][0], x)
        torch.testing.assert_close(flow(x[None])[1][0], torch.linalg.slogdet(jacobian).logabsdet)


def test_it_learns_where_the_features_are() -> None:
    """Two clusters: after training their density is higher than that of the empty place between them."""
    torch.manual_seed(0)
    flow = Flow(2, 4, hidden=16)
    descent = torch.optim.Adam(flow.parameters(), 0.01)
    centre = torch.tensor([3.0, 0, -3, 0])
    for _ in range(100):
        cluster = torch.cat([centre, -centre]).view(2, 1, 4) + 0.1 * torch.randn(2, 32, 4)
        descent.zero_grad()
        (-flow.log_density(cluster.flatten(0, 1)).mean()).backward()
        descent.step()
    dense, empty, other = flow.log_density(torch.stack([centre, torch.zeros(4), -centre]))
    assert min(dense, other) > empty + 1


def test_its_start_is_nearly_the_identity() -> None:
    """Weights of 0.05: shifts and scales are small, so that z is x in another order."""
    torch.manual_seed(0)
    flow, x = Flow(3, 8), torch.randn(10, 8)
    z, log_determinant = flow(x)
    ordered = x[:, flow.orders[0]][:, flow.orders[1]]
    assert (z - ordered).abs().max() < 1.5 and log_determinant.abs().max() < 2
    assert sorted(flow.orders[0].tolist()) == list(range(8))


def test_half_precision_stays_outside(golden_flow: Flow) -> None:
    """A density of many dimensions is a small difference of large numbers."""
    flow, features = golden_flow, waves(5, 6, rate=0.9, scale=1.5, shift=0.2)
    expected = flow.log_density(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flow.log_density(features)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    with torch.device("meta"):
        assert Flow(3, 6).log_density(torch.empty(5, 6)).shape == (5,)
