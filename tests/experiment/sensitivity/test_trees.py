"""Trees that runs grew: read from checkpoints, as far apart as Robinson and Foulds say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from diva.experiment.sensitivity.design import design
from diva.experiment.sensitivity.trees import Tree, as_text, distance, tree_of, trees_apart
from diva.learning.checkpoints import save_tensors
from diva.records.files import write_json
from diva.records.run_folder import RunFolder
from tests.experiment.sensitivity.test_design import knob, seeds

ROOT = "abcdef"


def tree(*groups: str) -> Tree:
    return frozenset(map(frozenset, (ROOT, *groups)))


class Kept(RunFolder):
    """A run of which only the checkpoint and the names of classes are asked."""

    def manifest(self) -> Any:
        """Only the facts."""
        return type("Manifest", (), {"facts": {"classes": list(ROOT)}})


def kept(folder: Path, structure: str | None) -> Kept:
    (folder / "checkpoints").mkdir(parents=True)
    save_tensors(folder / "checkpoints" / "epoch-0003.safetensors", {"w": torch.zeros(1)}, structure)
    write_json(folder / "checkpoints" / "state.json", {"progress": {"best_weights": "epoch-0003.safetensors"}})
    return Kept(folder)


def test_a_tree_is_read_from_the_best_checkpoint_with_the_names_of_classes(tmp_path: Path) -> None:
    structure = (
        '[{"classes": [0,1,2,3,4,5], "groups": [[0,1,2],[3],[4,5]]}, {"classes": [0,1,2], "groups": [[0],[1,2]]}]'
    )
    assert tree_of(kept(tmp_path / "a", structure)) == tree("abc", "ef", "bc")
    for number, other in enumerate((None, '{"layers": 3}', "[]", '[{"layers": 3}]')):
        assert tree_of(kept(tmp_path / str(number), other)) is None


def test_distance_counts_the_groups_that_only_one_tree_has() -> None:
    assert distance(tree("ab", "cd"), tree("ab", "cd")) == 0
    assert distance(tree("ab"), tree("cd")) == 1
    assert distance(tree("ab", "cd"), tree("ab", "ef")) == 0.5
    assert distance(tree("ab", "abc"), tree("ab")) == pytest.approx(1 / 3)
    assert distance(tree(), tree()) == 0 and distance(tree(), tree("ab")) == 1


def test_a_tree_on_a_line_has_braces_inside_braces() -> None:
    assert as_text(tree("abc", "bc", "ef")) == "{{b c} a} {e f} d"
    assert as_text(tree()) == "a b c d e f"


def test_factors_are_told_how_far_apart_their_trees_are() -> None:
    factors = (seeds(1, 2, 3), knob("size", "16", "64"))
    trees = {"seed-1": tree("ab"), "seed-2": tree("ab"), "seed-3": tree("cd"), "size-64-seed-1": tree("ab", "cd")}
    found = trees_apart(factors, design(factors, 1), trees)
    assert found["trees"][0] == {"tree": "{a b} c d e f", "members": ["seed-1", "seed-2"]}
    by_seed, by_size = found["factors"]
    assert (by_seed["n_pairs"], by_seed["n_trees"], by_seed["distance"]) == (3, 2, pytest.approx(2 / 3))
    assert (by_size["n_pairs"], by_size["distance"], by_size["largest"]) == (
        1,
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
