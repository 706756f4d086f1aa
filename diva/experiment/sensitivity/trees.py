"""Trees that runs grew, as `trunk` does: which classes they put together, and how far apart the trees of a study are."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from diva.statistics.numbers import mean, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.sensitivity.design import Design
    from diva.experiment.sensitivity.factors import Factor
    from diva.records.run_folder import RunFolder

Groups = frozenset[str]
Tree = frozenset[Groups]


def tree_of(run: RunFolder) -> Tree | None:
    """The groups of two classes or more that a run's best model put together, that of all classes among them.

    None without a checkpoint, and for a model that is no tree: its structure is no list of nodes, each with `classes` and `groups` of them.
    """
    from safetensors import safe_open

    from diva.experiment.execute import best_weights

    if not (run.checkpoints / "state.json").exists():  # somebody took the checkpoints away
        return None
    path = run.checkpoints / best_weights(run)
    if not path.exists():
        return None
    with safe_open(path, "numpy") as file:
        structure = json.loads((file.metadata() or {}).get("structure", "null"))
    if not isinstance(structure, list) or not structure:
        return None
    if not all(isinstance(node, dict) and {"classes", "groups"} <= node.keys() for node in structure):
        return None
    names = run.manifest().facts.get("classes")
    found = [group for node in structure for group in (node["classes"], *node["groups"]) if len(group) > 1]
    return frozenset(frozenset(names[label] if names else str(label) for label in group) for group in found)


def distance(one: Tree, two: Tree) -> float:
    """The share of groups that only one of two trees has, of all groups of both: 0 for equal trees, 1 when all but the root differ.

    Source: Robinson and Foulds 1981, of rooted trees; the group of all classes, which every tree has, does not count.
    """
    n = len(one) + len(two) - 2 * len(one & two)
    whole = max(one | two, key=len, default=frozenset())
    n_all = len(one - {whole}) + len(two - {whole})
    return n / n_all if n_all else 0.0


def as_text(tree: Tree) -> str:
    """The tree on a line: what is inside braces was put together, "{3 5} {8 9} 0 1"."""
    if not tree:
        return ""
    whole = max(tree, key=len)
    return _inside(whole, tree - {whole})


def _inside(group: Groups, below: Tree) -> str:
    within = [other for other in below if other < group]
    outermost = [one for one in within if not any(one < other for other in within)]
    single = group.difference(*outermost) if outermost else group
    parts = [f"{{{_inside(one, below)}}}" for one in sorted(outermost, key=lambda one: sorted(one))]
    return " ".join([*parts, *sorted(single)])


def trees_apart(factors: Sequence[Factor], design: Design, trees: Mapping[str, Tree]) -> dict[str, Any]:
    """How many different trees there are, which, and for each factor the mean distance of runs that differ by it alone.

    trees: of the members that finished, by name. A factor's pairs are runs of two of its levels that share all else.
    """
    counted: dict[str, list[str]] = {}
    for member in design.members:
        if member.name in trees:
            counted.setdefault(as_text(trees[member.name]), []).append(member.name)
    common = sorted(counted.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        "trees": [{"tree": text, "members": members} for text, members in common],
        "factors": [_of_factor(factor, design, trees) for factor in factors],
    }


def _of_factor(factor: Factor, design: Design, trees: Mapping[str, Tree]) -> dict[str, Any]:
    blocks: dict[str, list[Tree]] = {}  # a level is in a block once
    for cell in design.of(factor):
        if cell.member in trees:
            blocks.setdefault(cell.block, []).append(trees[cell.member])
    pairs = [distance(one, two) for block in blocks.values() for one, two in itertools.combinations(block, 2)]
    different = {tree for block in blocks.values() for tree in block}
    found = {
        "name": factor.name,
        "n_runs": sum(map(len, blocks.values())),
        "n_trees": len(different),
        "n_pairs": len(pairs),
        "distance": mean(sorted(pairs)),
        "largest": max(pairs, default=float("nan")),
    }
    return dict(to_json(found))
