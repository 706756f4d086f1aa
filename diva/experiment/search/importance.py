"""Which knobs matter: a forest learns the objective from the trials, and its variance is divided among the knobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diva.seeding import Seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diva.experiment.search.samplers import Told
    from diva.experiment.search.space import Dimension

N_TREES = 64
N_AVERAGED = 256  # points of the other knobs over which a knob's effect is averaged
N_PLACES = 33  # places along a knob; a choice has one per value
FEWEST = 10  # trials, below which a forest would tell stories


@dataclass(frozen=True)
class Surface:
    """What the forest expects along one or two knobs, averaged over the others. places: in [0, 1], per axis; values: (n,) or (n, m)."""

    places: tuple[NDArray[np.float64], ...]
    values: NDArray[np.float64]


def can_grow(told: Sequence[Told]) -> bool:
    """Whether there are finished trials enough for a forest, and anything to learn from them."""
    values = [trial.value for trial in told if trial.state == "finished"]
    return len(values) >= FEWEST and len(set(values)) > 1


class Forest:
    """A random forest over the unit cube of the space; the same trials give the same one.

    Logarithms and the order of choices are in the cube's coordinates; a choice among things without order is a column per value.
    """

    def __init__(self, space: Sequence[Dimension], told: Sequence[Told]) -> None:
        """told: finished trials that can grow one."""
        from sklearn.ensemble import RandomForestRegressor

        self._space = space
        shares = np.array([[d.share(t.point[d.name]) for d in space] for t in told])
        self._forest: Any = RandomForestRegressor(N_TREES, min_samples_leaf=2, random_state=0, n_jobs=1)
        self._forest.fit(self._columns(shares), np.array([t.value for t in told], np.float64))
        generator = Seeds(0).python("search", "importance")
        drawn = [[d.share(d.value(generator.random())) for d in space] for _ in range(N_AVERAGED)]
        self._others = np.array(drawn)  # (N_AVERAGED, D)

    def places(self, d: Dimension) -> NDArray[np.float64]:
        """Where along a knob the forest is asked."""
        if d.kind == "choice" or (d.n_values is not None and d.n_values <= N_PLACES):
            return np.array([d.share(value) for value in d.values()])
        return np.linspace(0, 1, N_PLACES)

    def along(self, *axes: int) -> Surface:
        """What the forest expects along one or two knobs, given by their numbers."""
        places = tuple(self.places(self._space[axis]) for axis in axes)
        grids = np.stack([g.ravel() for g in np.meshgrid(*places, indexing="ij")], axis=1)  # (P, len(axes))
        points = np.repeat(self._others[None], len(grids), axis=0)  # (P, N_AVERAGED, D)
        points[:, :, list(axes)] = grids[:, None]
        expected = self._forest.predict(self._columns(points.reshape(-1, len(self._space))))
        means = expected.reshape(len(grids), N_AVERAGED).mean(axis=1)
        return Surface(places, means.reshape([len(p) for p in places]))

    def importances(self) -> dict[str, float]:
        """Each knob's share of the variance of what the forest expects over the whole space; what is missing to 1 are interactions.

        Source: Hutter, Hoos, Leyton-Brown 2014, An efficient approach for assessing hyperparameter importance: functional ANOVA's
        main effects, here by averaging over 256 points instead of the trees' leaves. Nothing varies: all are 0.
        """
        total = float(self._forest.predict(self._columns(self._others)).var())
        if total <= 0:
            return {d.name: 0.0 for d in self._space}
        effects = [float(self.along(axis).values.var()) / total for axis in range(len(self._space))]
        return {d.name: min(1.0, effect) for d, effect in zip(self._space, effects, strict=True)}

    def _columns(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, D) in [0, 1] -> what the forest splits: a choice that is not of numbers becomes a column per value."""
        columns: list[NDArray[np.float64]] = []
        for axis, d in enumerate(self._space):
            column = shares[:, axis]
            if d.kind == "choice" and not _ordered(d):
                index = np.rint(column * max(1, len(d.choices) - 1))
                columns += [(index == number).astype(np.float64) for number in range(len(d.choices))]
            else:
                columns.append(column)
        return np.stack(columns, axis=1)


def _ordered(d: Dimension) -> bool:
    """Whether the choices are numbers, in order or not: their places in the list are what trees split."""
    numbers = [c for c in d.choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
    return len(numbers) == len(d.choices) and numbers == sorted(numbers)
