"""Small scenes for tests of synthesis: a network, an image, an object in it and the label to protect."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlverify.synthesis.layers import ObjectLayers
from mlverify.synthesis.oracle import Oracle, Scope
from mlverify.synthesis.problem import SynthesisProblem
from mlverify.synthesis.prover import Prover
from mlverify.synthesis.rows import CertifiedRows
from mlverify.synthesis.weakest import Weakening
from mlverify.verifier.decision import ranking
from mlverify.verifier.linear_bounds import LinearBounds
from mlverify.verifier.network import Network
from mlverify.verifier.onnx_reader import load_network
from mlverify.verifier.portfolio import Settings, Solver
from mlverify.verifier.property import Clause, top_k
from mlverify.verifier.region import Layered
from mlverify.verifier.session import Judge
from numpy.typing import NDArray
from onnx_factory import conv_network


@dataclass(frozen=True)
class Scene:
    network: Network
    image: NDArray[np.float32]
    layers: ObjectLayers
    target: int

    @property
    def count(self) -> int:
        return self.layers.count

    def clause(self, k: int = 2) -> Clause:
        return top_k(len(self.network.labels), self.target, k).clauses[0]

    def problem(self, k: int = 2, weights: NDArray[np.float64] | None = None) -> SynthesisProblem:
        sized = np.ones(self.count) if weights is None else weights
        where = Layered(self.image, self.layers.layers, np.zeros(self.count))
        return SynthesisProblem(self.network, where, self.target, k, sized)

    def rows(self, dtype, k: int = 2, weights: NDArray[np.float64] | None = None) -> CertifiedRows:
        linear = LinearBounds(self.network, dtype)
        sized = np.ones(self.count) if weights is None else weights
        return CertifiedRows(linear, self.image, self.layers.layers, sized, self.clause(k))

    def oracle(self, problem: SynthesisProblem) -> Oracle:
        """Of a run on the problem, with HiGHS on one thread."""
        prover, where = Prover(self.network, Settings(Solver.HIGHS, 1)), problem.neighbourhood
        clause = problem.question.clauses[0]
        weakening = Weakening(prover.falsifier.module, where.image, where.layers, clause, 0)
        scope = Scope(problem.at, where.image, where.layers, problem.goal, problem.allowed)
        return Oracle(scope, prover, weakening)

    def samples(self, epsilons: NDArray[np.float64], number: int, seed: int) -> NDArray[np.float32]:
        """Images of the neighbourhood: uniform ones and corners, exactly inside."""
        region = Layered(self.image, self.layers.layers, epsilons).region
        generator = np.random.default_rng(seed)
        inside = generator.random((number, *self.image.shape))
        inside[number // 2 :] = np.round(inside[number // 2 :])
        points = region.lower + inside * (region.upper - region.lower)
        return np.stack([region.project(point) for point in points])

    def margins(self, images: NDArray[np.float32], k: int = 2) -> NDArray[np.float64]:
        """Of top-k membership of the target, by onnxruntime; negative where the target is seen."""
        return self.clause(k).margin(Judge(self.network).logits(images))


def small_scene(folder: Path, *, labels: int = 5, size: int = 10, pool: bool = True, seed: int = 0) -> Scene:
    """A random convolutional network; the protected label is its most confident one."""
    path = folder / f"net-{labels}-{size}-{pool}-{seed}.onnx"
    network = load_network(conv_network(path, (1, size, size), labels, pool=pool, seed=seed))
    image = np.random.default_rng(seed).random((1, size, size), dtype=np.float32)
    mask = np.zeros((size, size), dtype=bool)
    mask[3:5, 2:5] = True
    target = ranking(Judge(network).logits(image[None])[0])[0]
    return Scene(network, image, ObjectLayers.around(mask), target)
