"""deap: a toolbox whose ``map`` is the pool's."""

from __future__ import annotations

import random

from deap import algorithms, base, creator, tools

import zexec
from compat.libraries.work import rosenbrock

creator.create("Fitness", base.Fitness, weights=(-1.0,))
creator.create("Individual", list, fitness=creator.Fitness)


def evaluate(individual: list[float]) -> tuple[float]:
    return (rosenbrock(individual),)


def evolve(map_: object) -> list[list[float]]:
    random.seed(1)
    box = base.Toolbox()
    box.register("map", map_)
    box.register("individual", tools.initRepeat, creator.Individual, lambda: random.uniform(-2, 2), 4)
    box.register("population", tools.initRepeat, list, box.individual)
    box.register("evaluate", evaluate)
    box.register("mate", tools.cxBlend, alpha=0.5)
    box.register("mutate", tools.mutGaussian, mu=0, sigma=0.3, indpb=0.3)
    box.register("select", tools.selTournament, tournsize=3)
    found, _ = algorithms.eaSimple(box.population(40), box, 0.6, 0.3, 12, verbose=False)
    return [list(individual) for individual in found]


def test_pool(pool: zexec.Pool) -> None:
    assert evolve(pool.map) == evolve(map)


def test_executor(executor: zexec.Executor) -> None:
    assert evolve(executor.map) == evolve(map)
