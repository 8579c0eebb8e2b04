"""MLA-DE: a black-box attack by differential evolution; uses scores only, never gradients."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import InputError
from .ball import Ball, Norm
from .base import Attack, Attempt, Incumbent, Task
from .box import per_row
from .flips import Others

_NEW_PARAMETERS = 0.1


@dataclass(frozen=True, slots=True)
class MlaDe(Attack):
    """Evolve perturbations on a coarse grid of tiles within the ball.

    Published details of MLA-DE are not available to us; this is a differential evolution of our own with
    self-adapting parameters (jDE), the candidates being tile patterns of at most epsilon, and the
    fitness the shortfall of all labels asked for.

    Attributes:
        generations: rounds of evolution, each one forward pass of the whole population.
        population: candidates per image.
        tiles: tiles along each side of the image; images smaller than that get one per pixel.

    Reference:
        L. Kong, W. Luo, H. Zhang, Y. Liu and Y. Shi, "Evolutionary multilabel adversarial examples",
        IEEE Transactions on Artificial Intelligence, 2022; the adaptation: J. Brest et al.,
        "Self-adapting control parameters in differential evolution", IEEE TEVC 10(6), 2006.
    """

    generations: int = 200
    population: int = 40
    tiles: int = 12

    def __post_init__(self) -> None:
        if self.population < 4:
            raise InputError(f"differential evolution needs at least 4 candidates, not {self.population}")

    def search(self, task: Task) -> Attempt:
        """Evolve one image after the other."""
        images = [self._evolve(task.rows(torch.tensor([index]))) for index in range(len(task.images))]
        return Attempt(torch.cat(images), self.generations, 0)

    @torch.no_grad()
    def _evolve(self, task: Task) -> Tensor:
        best = Incumbent(task, task.ball.norm)
        genes = self._first_genes(task)
        control = _random(task, self.population, 2)
        fitness = self._fitness(task, genes, best)
        for _ in range(self.generations):
            if bool(best.complete.all()) or task.stop():
                break
            trial_control = self._vary(task, control)
            trial = self._cross(task, genes, fitness, trial_control)
            trial_fitness = self._fitness(task, trial, best)
            better = trial_fitness >= fitness
            genes = torch.where(per_row(better, genes), trial, genes)
            control = torch.where(better[:, None], trial_control, control)
            fitness = torch.where(better, trial_fitness, fitness)
        return best.images

    def _first_genes(self, task: Task) -> Tensor:
        shape = task.images.shape[1:]
        grid = (shape[0], *(min(self.tiles, side) for side in shape[1:])) if len(shape) == 3 else tuple(shape)
        return 2 * _random(task, self.population, *grid).round() - 1

    def _fitness(self, task: Task, genes: Tensor, best: Incumbent) -> Tensor:
        """Minus the shortfall of each candidate, shape (population,)."""
        points = _paint(task, genes)
        margins = task.margins(points)
        side = task.wanted + task.kept if task.flips.others is Others.KEEP else task.wanted
        fitness = -(torch.relu(-side * margins) * side.abs()).sum(dim=1)
        leader = int(fitness.argmax())
        done = torch.nonzero(task.goal.reached(margins >= 0)).flatten().tolist()
        for row in {leader, *done[:1]}:
            best.offer(points[row : row + 1], margins[row : row + 1])
        return fitness

    def _vary(self, task: Task, control: Tensor) -> Tensor:
        """Now and then a candidate draws a new step factor and crossover rate."""
        renew = _random(task, *control.shape) < _NEW_PARAMETERS
        return torch.where(renew, _random(task, *control.shape), control)

    def _cross(self, task: Task, genes: Tensor, fitness: Tensor, control: Tensor) -> Tensor:
        """current-to-best/1 with binomial crossover; control holds factor and rate."""
        count = self.population
        picks = torch.stack([_random(task, count).argsort() for _ in range(2)])
        factor = per_row(0.1 + 0.9 * control[:, 0], genes)
        leader = genes[fitness.argmax()]
        mutant = genes + factor * (leader - genes) + factor * (genes[picks[0]] - genes[picks[1]])
        take = _random(task, *genes.shape) < per_row(control[:, 1].clamp_min(1 / genes[0].numel()), genes)
        return torch.where(take, mutant, genes).clamp(-1, 1)


def _paint(task: Task, genes: Tensor) -> Tensor:
    """Candidates as allowed images: tile values in [-1, 1] times the reach of the ball."""
    pattern = genes
    if genes.shape[1:] != task.images.shape[1:]:
        pattern = interpolate(genes, size=task.images.shape[2:], mode="nearest")
    image = task.images.expand(len(genes), *task.images.shape[1:])
    return task.ball.project(image + _reach(task.ball, image) * pattern, image)


def _reach(ball: Ball, image: Tensor) -> float:
    """The size of a tile that fills the ball."""
    if ball.norm is Norm.LINF:
        return ball.epsilon
    return float(ball.epsilon / max(1.0, image[0].numel() ** 0.5))


def _random(task: Task, *shape: int) -> Tensor:
    drawn = torch.rand(shape, generator=task.generator, device=task.generator.device)
    return drawn.to(task.images)
