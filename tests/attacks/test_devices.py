"""Every method on images of another device: a pretended one anywhere, and CUDA where there is one."""

import pytest
import torch
from far_device import FAR, FarTensor, far_device
from mlverify.attacks.apgd import Apgd
from mlverify.attacks.ball import Ball, Norm
from mlverify.attacks.consistent import Consistent
from mlverify.attacks.decision import Threshold, TopK
from mlverify.attacks.diverse import DiverseApgd
from mlverify.attacks.flips import Flips, Others
from mlverify.attacks.gmla import Direction, Gmla
from mlverify.attacks.graph import LabelGraph
from mlverify.attacks.jma import Jma
from mlverify.attacks.loss_attack import LossAttack
from mlverify.attacks.losses import rank_flipped
from mlverify.attacks.metrics import distortion, score
from mlverify.attacks.ml_cw import MlCw
from mlverify.attacks.ml_deepfool import MlDeepFool
from mlverify.attacks.ml_rank import MlRank1, MlRank2
from mlverify.attacks.mla import MlaC, MlaU
from mlverify.attacks.mla_de import MlaDe
from mlverify.attacks.mla_lp import MlaLp
from mlverify.attacks.pgd import Pgd
from mlverify.attacks.sampled import SampledApgd
from mlverify.attacks.tkml_ap import TkmlAp, TopKLoss
from torch.nn import functional

GRAPH = LabelGraph.of_edges(["a", "b", "c", "d"], [(0, 1)], range(4))
METHODS = {
    "PGD": LossAttack(Pgd(5, restarts=2, decay=1.0)),
    "APGD": LossAttack(Apgd(6, restarts=3), rank_flipped),
    "MLA-U": MlaU(Apgd(5)),
    "MLA-C": MlaC(Apgd(5, restarts=2)),
    "GMLA": Gmla(GRAPH, Apgd(6)),
    "GMLA, optimal": Gmla(None, Apgd(6, restarts=2), Direction.OPTIMAL),
    "MLA-LP": MlaLp(),
    "MLA-LP as published": MlaLp.as_published(),
    "ML-DeepFool": MlDeepFool(iterations=4),
    "ML-CW": MlCw(5, 2),
    "ML-Rank1": MlRank1(5, 2),
    "ML-Rank2": MlRank2(5, 2),
    "TkML-AP": TkmlAp(6),
    "TkML-AP, exact": TkmlAp(6, loss=TopKLoss.EXACT),
    "JMA": Jma(),
    "MLA-DE": MlaDe(3, 6),
    "consistent": Consistent(LossAttack(Apgd(5)), GRAPH),
}


def weights():
    draw = torch.Generator().manual_seed(5)
    kernel, matrix = torch.randn(3, 1, 3, 3, generator=draw), torch.randn(4, 27, generator=draw)
    return kernel, matrix, -torch.tensor([0.5, 0.2, 0.1, 0.4]) - 0.1 * matrix.sum(dim=1)


def network_on(device):
    kernel, matrix, bias = (tensor.to(device) for tensor in weights())
    return lambda points: functional.linear(functional.conv2d(points, kernel).relu().flatten(1), matrix, bias)


def attacked(method, device, decision, ball, flips):
    images = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    network = network_on(device)
    record = method.attack(network, images.to(device), flips, ball=ball, decision=decision)
    return record, images.to(device)


def wish(method, others):
    """Some labels of each image; targets of a top-k attack."""
    home = torch.device("cpu")
    images = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    decision = TopK(2) if isinstance(method, TkmlAp) else Threshold()
    present = decision.present(network_on(home)(images))
    return decision, Flips.toggle(present, torch.eye(4, dtype=torch.bool)[:3], others)


def check(name, device, others):
    method = METHODS[name]
    decision, flips = wish(method, others)
    norms = [Norm.L2] if name in ("ML-CW", "JMA", "ML-DeepFool", "MLA-DE", "TkML-AP") else []
    for norm in (Norm.LINF, *norms):
        ball = Ball(0.3 if norm is Norm.LINF else 1.0, norm)
        here, _ = attacked(method, torch.device("cpu"), decision, ball, flips)
        there, images = attacked(method, device, decision, ball, flips)
        for tensor in (there.images, there.success, there.before, there.after, there.infeasible):
            assert tensor.device == device
        assert there.before.cpu().tolist() == here.before.tolist()
        score(images, there, flips, GRAPH)
        distortion(images, there.images)
        yield here, there


@pytest.mark.parametrize("others", list(Others))
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left_at_home(name, others):
    with far_device():
        for here, there in check(name, FAR, others):
            assert isinstance(there.images, FarTensor)
            # The same arithmetic: the pretended device computes as the real one at home.
            assert torch.equal(there.images.cpu(), here.images)


@pytest.mark.parametrize("search", [SampledApgd(100, Apgd(4, restarts=3)), DiverseApgd(Apgd(4, restarts=4))])
def test_searches_over_boxes(search):
    with far_device():
        network, generator = network_on(FAR), torch.Generator().manual_seed(0)
        lower, upper = torch.zeros(1, 1, 5, 5).to(FAR), torch.ones(1, 1, 5, 5).to(FAR)
        if isinstance(search, SampledApgd):
            found = search.maximize(lambda points: network(points)[:, 0] - 100, lower, upper, generator)
        else:
            found = search.maximize(network, lambda scores: scores[:, 0] - 100, lower, upper, None, generator)
        assert found.points.device == FAR


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda far: far + torch.ones(3), RuntimeError),
        (lambda far: far.numpy(), TypeError),
        (lambda far: torch.where(torch.ones(3, dtype=torch.bool), far, far), RuntimeError),
        (lambda far: torch.rand(3, generator=torch.Generator(), device=far.device), RuntimeError),
        (lambda far: torch.stack([far, torch.zeros(3)]), RuntimeError),
    ],
)
def test_the_pretended_device_refuses_what_cuda_refuses(mistake, error):
    with far_device(), pytest.raises(error):
        mistake(torch.zeros(3).to(FAR))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("others", list(Others))
@pytest.mark.parametrize("name", METHODS)
def test_cuda(name, others):
    for _ in check(name, torch.device("cuda", 0), others):
        pass
