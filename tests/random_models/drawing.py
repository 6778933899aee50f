"""Draws, and the lines of Python that they write."""

import dataclasses

import numpy as np


class Source:
    """A program that is drawn line by line, and what draws it."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)
        self.lines = []

    def chance(self, probability):
        return bool(self.generator.random() < probability)

    def integer(self, low, high):
        """A whole number from `low` to `high`, both of them possible."""
        return int(self.generator.integers(low, high + 1))

    def choice(self, values):
        return values[self.integer(0, len(values) - 1)]

    def add(self, expression, name=None):
        """Writes a line that gives the expression a name, and returns it."""
        name = name or f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        return name

    def options(self, table):
        """Some of a table's options: name -> (probability, values)."""
        drawn = {
            name: self.choice(values)
            for name, (probability, values) in table.items()
            if self.chance(probability)
        }
        return "".join(f", {name}={value}" for name, value in drawn.items())


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a drawn network, by its name in the program."""

    name: str
    features: int
    timed: bool = True
    masked: bool = False


@dataclasses.dataclass(frozen=True)
class Input:
    """An input of a drawn network: what fills it."""

    name: str
    kind: str  # "numbers", "padded", "tokens", "static"
    features: int


@dataclasses.dataclass(frozen=True)
class Output:
    """An output of a drawn network: what judges it."""

    name: str
    task: str
    features: int
    timed: bool
    places: tuple  # axes between those of rows and steps and the features


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A draw that is to be compared: its description, and what does it."""

    told: str
    run: object


def told(network, chosen, *more):
    return "; ".join([*network.lines, chosen.told(), *more])
