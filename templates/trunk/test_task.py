"""The tree against its publication, against hand-made cases, and on a few images drawn here. Keep it green as you change the task."""

from __future__ import annotations

import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent
PACKAGE = diva.load_task(HERE).__module__
grouping, nodes, trees = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("grouping", "nodes", "tree"))
figures = importlib.import_module(f"{PACKAGE}.figures")


# As published: github.com/nikki0519/TRUNK_Tutorial_Paper at ba07edc

CIFAR = """
.635 .028 .080 .029 .029 .014 .015 .020 .109 .040
.031 .803 .009 .007 .004 .005 .009 .007 .033 .093
.086 .009 .481 .086 .103 .072 .083 .047 .024 .009
.029 .008 .088 .440 .069 .195 .084 .048 .019 .018
.031 .005 .100 .070 .555 .058 .061 .095 .014 .011
.013 .005 .070 .199 .062 .526 .033 .073 .008 .010
.014 .009 .082 .082 .062 .033 .686 .013 .012 .008
.020 .007 .049 .050 .091 .075 .011 .667 .007 .023
.105 .036 .024 .017 .013 .008 .011 .007 .743 .035
.040 .090 .010 .017 .010 .011 .007 .024 .034 .758
"""
CIFAR_GROUPS = ((0, 8), (1, 9), (2, 4, 7), (3, 5), (6,))
SVHN_GROUPS = ((0, 6, 8, 9), (1,), (2,), (3, 5), (4,), (7,))


def matrix(text: str) -> list[list[float]]:
    return [[float(value) for value in line.split()] for line in text.split("\n") if line]


def svhn() -> list[list[float]]:
    """What is above the threshold in the published matrix, over a background of 0.01."""
    asl = numpy.full((10, 10), 0.01)
    for i, j, value in [(0, 9, 0.078), (3, 5, 0.111), (6, 8, 0.108), (8, 9, 0.123)]:
        asl[i, j] = value
    for i, j, value in [
        (4, 1, 0.071),
        (6, 5, 0.097),
        (8, 3, 0.096),
        (9, 2, 0.090),
    ]:  # below the diagonal: not looked at
        asl[i, j] = value
    found: list[list[float]] = asl.tolist()
    return found


@pytest.mark.parametrize(
    ("asl", "volatility", "groups"), [(matrix(CIFAR), 0.88, CIFAR_GROUPS), (svhn(), 0.7, SVHN_GROUPS)]
)
def test_published_likelihoods_give_the_published_groups(asl: Any, volatility: float, groups: Any) -> None:
    assert grouping.group(asl, volatility, "upper") == groups
    assert nodes.Nets.model_validate(nodes.read_nets("cifar10")).volatility_of("root") == 0.88
    assert nodes.Nets.model_validate(nodes.read_nets("svhn")).volatility_of("root") == 0.7


# Of each node: its turns, its parameters, and the MACs of the way to it in millions, None where they were not published. Which classes
# of EMNIST are together was not either: only how many turns a node has.
EMNIST = tuple((c,) for c in range(13)), tuple(range(13, 47))
LETTERS = tuple((c,) for c in range(13, 19)), (19, 20), tuple(range(21, 47))
PUBLISHED: dict[str, Any] = {
    "cifar10": (3, 32, 10, {
        "root": (CIFAR_GROUPS, 161_413, 80.74), "sg1": (((0,), (8,)), 71_970, 94.91), "sg2": (((1,), (9,)), 71_970, 94.91),
        "sg3": (((2,), (4,), (7,)), 292_995, 120.87), "sg4": (((3,), (5,)), 157_170, "94.90"),
    }),
    "emnist": (1, 28, 47, {
        "root": ((*EMNIST[0], EMNIST[1]), 42_062, 35.3), "sg1": ((*LETTERS[0], *LETTERS[1:]), 54_440, 144.4),
        "sg2": (((19,), (20,)), 63_170, 341.4), "sg3": (((21,), (22,), tuple(range(23, 47))), 63_219, None),
    }),
    "svhn": (3, 32, 10, {
        "root": (SVHN_GROUPS, 42_230, 39.8), "sg1": (((0,), (6,), (8,), (9,)), 54_244, 158.1),
        "sg2": (((3,), (5,)), 54_146, None),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets_have_the_published_parameters_and_macs(name: str) -> None:
    channels, side, n_classes, published = PUBLISHED[name]
    with torch.device("meta"):
        tree = trees.Tree(nodes.Nets.model_validate(nodes.read_nets(name)), channels, (side, side), n_classes)
        for node, (groups, _, _) in published.items():
            place = tree.place(node)
            if len(groups) < len(place.classes):
                tree.regroup(node, [[]], [[place.classes.index(c) for c in group] for group in groups], epoch=0)
            while tree.learning.name != node or (
                len(groups) == len(place.classes) and tree.place(node).stage == "waiting"
            ):
                assert tree.build_next(epoch=0)
        ways = {way.name: way for way in figures.ways(tree)}
        for node, (_, parameters, macs) in published.items():
            assert sum(p.numel() for p in tree.node(node).parameters()) == parameters
            assert macs is None or f"{ways[node].macs / 1e6:.{2 if name == 'cifar10' else 1}f}" == str(macs)


# Groups


def random_likelihoods(seed: int, n: int = 8) -> list[list[float]]:
    values = numpy.random.Generator(numpy.random.Philox(seed)).dirichlet(numpy.ones(n), n)
    found: list[list[float]] = values.tolist()
    return found


@pytest.mark.parametrize("pairs", ["upper", "mean", "max"])
@pytest.mark.parametrize("seed", range(5))
def test_a_higher_volatility_only_splits_groups(pairs: str, seed: int) -> None:
    sweep = [grouping.group(random_likelihoods(seed), volatility / 4, pairs) for volatility in range(17)]
    assert len(sweep[0]) == 1 and len(sweep[-1]) > 1
    for coarse, fine in itertools.pairwise(sweep):
        assert all(any(set(part) <= set(whole) for whole in coarse) for part in fine)


@pytest.mark.parametrize("pairs", ["mean", "max"])
def test_classes_numbered_otherwise_are_grouped_alike(pairs: str) -> None:
    """Published is "upper", with which they are not."""

    def as_sets(groups: Any, names: Any) -> set[frozenset[int]]:
        return {frozenset(int(names[i]) for i in group) for group in groups}

    moved = {"upper": 0, pairs: 0}
    for seed in range(10):
        asl, order = (
            numpy.array(random_likelihoods(seed)),
            numpy.random.Generator(numpy.random.Philox(seed)).permutation(8),
        )
        for rule in moved:
            one, other = (grouping.group(m.tolist(), 2.2, rule) for m in (asl, asl[order][:, order]))
            moved[rule] += as_sets(one, range(8)) != as_sets(other, order)
    assert moved[pairs] == 0 < moved["upper"]


def test_groups_are_closed_and_sorted() -> None:
    assert grouping.closure(6, [(4, 5), (1, 4), (0, 2)]) == ((0, 2), (1, 4, 5), (3,))
    assert grouping.closure(2, []) == ((0,), (1,))


def test_likelihoods_are_averaged_per_class_of_the_node() -> None:
    rows, labels = [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], [4, 4, 9, 7]
    assert grouping.averaged_likelihoods(rows, labels, (4, 7)) == [[0.5, 0.5], [1.0, 0.0]]
    assert grouping.averaged_likelihoods(rows[:2], labels[:2], (4, 7))[1] == [0.0, 0.0]  # a class without images


# The way of an image


def grown() -> Any:
    """Three levels: {0, 1, 2, 3} {4}, then {0, 1, 2} {3}, then {0} {1} {2}."""
    torch.manual_seed(3)
    net = {"family": "vgg", "channels": [4]}
    tree = trees.Tree(nodes.Nets.model_validate({"volatility": 1, "root": net, "child": net}), 1, (4, 4), 5)
    tree.regroup("root", [[]], ((0, 1, 2, 3), (4,)), 1)
    tree.build_next(2)
    tree.regroup("sg1", [[]], ((0, 1, 2), (3,)), 3)
    tree.build_next(4)
    return tree.eval()


def test_an_image_takes_the_turns_of_the_nodes_and_is_right_when_all_of_them_are() -> None:
    tree, images, labels = grown(), torch.randn(60, 1, 4, 4) * 3, torch.arange(60) % 5
    with torch.no_grad():
        found = tree.follow(images, labels)
        blind = tree.follow(images)
        for i in range(60):
            maps, place, right = images[i : i + 1], tree.place("root"), True
            while True:
                maps = tree.node(place.name).features(maps)
                turn = int(tree.node(place.name).head(maps).argmax())
                right = right and turn == place.turns(5)[labels[i]]
                below = [
                    child for child in tree.places if child.parent == place.name and child.classes == place.groups[turn]
                ]
                if not below:
                    break
                place = below[0]
            assert found.predictions[i] == place.groups[turn][0]
            assert (found.predictions[i] == labels[i]) == right
            assert tree.places[found.ends[i]] == place
    assert torch.equal(blind.predictions, found.predictions) and torch.equal(blind.probabilities, found.probabilities)
    assert torch.equal(found.probabilities.argmax(1), found.predictions)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(60))  # a softmax, rounded
    assert len(found.ends.unique()) > 1 and 0 < int((found.predictions == labels).sum()) < 60
    mean = figures.macs_per_image(tree, found.ends)
    assert figures.ways(tree)[0].macs < mean < figures.ways(tree)[2].macs


def test_the_loss_is_that_of_the_way_to_the_true_class() -> None:
    tree, images = grown(), torch.randn(5, 1, 4, 4)
    with torch.no_grad():
        losses = tree.follow(images, torch.arange(5)).losses
        root = tree.node("root")(images).log_softmax(1)
        first = tree.node("sg1")(tree.node("root").features(images)).log_softmax(1)
    torch.testing.assert_close(losses[4], -root[4, 1])
    torch.testing.assert_close(losses[3], -root[3, 0] - first[3, 1])
    assert losses[0] > -root[0, 0] - first[0, 0]


def test_one_node_learns_and_sees_its_own_images_alone() -> None:
    tree, images = grown().train(), torch.randn(10, 1, 4, 4)
    logits, turns = tree.learn(images, torch.arange(10) % 5)
    assert logits.shape == (6, 3) and turns.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(tree.learn(images, torch.full((10,), 4))[1]) == 0
    before = {name: value.clone() for name, value in tree.state_dict().items()}
    tree.learn(images, torch.arange(10) % 5)
    changed = {name for name, value in tree.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("nodes.sg2.") for name in changed)
    assert {name.split(".")[1] for name, p in tree.named_parameters() if p.requires_grad} == {"sg2"}


def test_a_batch_without_an_image_of_the_node_gives_no_weight_a_gradient() -> None:
    """None, not zero: Adam moves whatever has a gradient, be it zero, by the momentum of the steps before."""
    task: Any = diva.load_task(HERE)()
    tree = importlib.import_module(f"{type(task).__module__}.tree").Tree(grown().nets, 1, (4, 4), 5)
    tree.restructure(grown().structure())
    tree.train()
    learning = [p for p in tree.parameters() if p.requires_grad]
    for labels, there in ([0, 1, 2, 0], True), ([4, 4, 4, 4], False):
        step = task.training_step(tree, (torch.randn(4, 1, 4, 4), torch.tensor(labels)), None)
        gradients = torch.autograd.grad(step.loss, learning, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [there] * len(learning)
    assert str(step.loss.item()) == "0.0" and len(step.outputs["turns"]) == 0


def test_a_tree_is_rebuilt_from_its_structure() -> None:
    tree, other = grown(), trees.Tree(grown().nets, 1, (4, 4), 5)
    other.restructure(json.loads(json.dumps(tree.structure())))
    assert other.places == tree.places
    assert [n for n, _ in other.named_parameters()] == [n for n, _ in tree.named_parameters()]
    other.load_state_dict(tree.state_dict())
    images = torch.randn(4, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(other.eval()(images), tree(images))


# The whole task


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of 8 x 8 pixels: two greys that look alike, black and white; as `train|val|test/<class>/<image>`."""
    folder = tmp_path_factory.mktemp("data") / "shades"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        for name, level in (("black", 20), ("grey", 112), ("silver", 132), ("white", 235)):
            (folder / split / name).mkdir(parents=True)
            for i in range(10):
                pixels = generator.integers(level - 20, level + 20, (8, 8), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def values(data: Path, output: Path, **more: Any) -> dict[str, Any]:
    return {"data": data, "output": output / "runs", "seed": 1, "stage_epochs": 4, "batch_size": 8, "lr": 0.01,
            "volatility": 0.4, "tensorboard": False, **more}  # fmt: skip


def test_it_groups_what_looks_alike_learns_and_gives_the_same_bits_twice(
    shapes_run: Any, shades: Path, tmp_path: Path
) -> None:
    _, result = shapes_run
    again = diva.run(HERE, values(shades, tmp_path)).result()
    assert again is not None and again["weights_digest"] == result["weights_digest"]
    assert again["metrics"] == result["metrics"]
    assert result["metrics"]["test/accuracy"] >= 0.9
    assert (result["epochs"], result["best_epoch"] > 8) == (12, True)


@pytest.fixture(scope="module")
def shapes_run(shades: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    run = diva.run(HERE, {**values(shades, tmp_path_factory.mktemp("run")), "tensorboard": True})
    return run, run.result()


def test_the_figures_show_the_tree_its_groups_and_its_costs(shapes_run: Any) -> None:
    folder = shapes_run[0].figures
    text = (folder / "test_tree_json.md").read_text()
    tree = json.loads(text.removeprefix("```json\n").removesuffix("\n```\n"))
    assert tree["turns"] == [{"class": "black"}, {"classes": ["grey", "silver"], "node": "sg1",
                             "turns": [{"class": "grey"}, {"class": "silver"}]}, {"class": "white"}]  # fmt: skip
    assert "grey~silver" in (folder / "test_grouping.csv").read_text()
    costs = (folder / "test_costs.md").read_text()
    assert "root + sg1" in costs and "small_cnn" in costs and "latency" in costs
    assert (folder / "test_tree.png").is_file()
    names = {row["name"] for row in shapes_run[0].rows()}
    assert not any("latency" in name for name in names)


def test_a_tree_that_is_none_is_said_aloud(shades: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = diva.run(HERE, values(shades, tmp_path, volatility=0, stage_epochs=1)).result()
    assert result is not None and result["epochs"] == 1
    assert "all its classes are one group, so the tree is a single network" in capfd.readouterr().err
    task: Any = diva.load_task(HERE).model_validate({"volatility": 3})
    five = diva.Data([], [], [], {"classes": list("abcde")})  # type: ignore[arg-type]
    sure = {"likelihoods": torch.eye(5), "labels": torch.arange(5)}
    module = importlib.import_module(type(task).__module__ + ".tree")
    tree = module.Tree(grown().nets, 1, (4, 4), 5)
    with pytest.warns(UserWarning, match="root: each of its classes is a group of its own"):
        assert task.end_epoch(tree, lambda split: sure, five, 15) == "finished"


def test_a_node_that_stays_whole_says_which_volatility_would_divide_it() -> None:
    """0 and 1 are most alike (0.3), 2 and 3 less (0.2); 1 and 2, the weakest link, are taken for each other once in ten times."""
    asl = [[0.7, 0.3, 0, 0], [0.3, 0.6, 0.1, 0], [0, 0.1, 0.7, 0.2], [0, 0, 0.2, 0.8]]
    one, none = (grouping.degenerate("sg1", "abcd", asl, "mean", n) for n in (1, 4))
    assert "it stays a leaf; a --volatility above about 0.4 would split them (the weakest link is b and c)" in one
    assert "it stays a leaf; a --volatility below about 1.2 would join a and b" in none
    for volatility, n_groups in [(0.39, 1), (0.41, 2), (1.19, 3), (1.21, 4)]:
        assert len(grouping.group(asl, volatility, "mean")) == n_groups


def test_a_leaf_of_several_classes_keeps_the_likelihoods_that_made_it_one() -> None:
    task: Any = diva.load_task(HERE).model_validate({"volatility": 5})
    tree = importlib.import_module(type(task).__module__ + ".tree").Tree(grown().nets, 1, (4, 4), 5)
    tree.regroup("root", torch.eye(5).tolist(), ((0, 1, 2), (3, 4)), 1)
    tree.build_next(2)
    found = {
        "likelihoods": torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.1, 0.6]]),
        "labels": torch.arange(3),
    }
    five = diva.Data([], [], [], {"classes": list("abcde")})  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="sg1: each of its classes"):
        assert task.end_epoch(tree, lambda split: found, five, 99) == "changed"
    table = figures.grouping_table(tree, "abcde", {"root": 1.0, "sg1": 1.0, "sg2": 1.0}, "max")
    assert table.rows[1][4:7] == ["0.3333", "a~b 0.4000", "a~c 0.3000"]
    assert tree.place("root").likelihoods[0] == (1, 0, 0, 0, 0)


def test_epochs_that_leave_the_tree_unfinished_are_said_aloud(
    shades: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = diva.run(HERE, values(shades, tmp_path, epochs=6)).result()
    assert result is not None and result["epochs"] == 6
    assert "the tree stays unfinished: it needs 6 more --epochs" in capfd.readouterr().err


@pytest.mark.parametrize("baseline", ["root", "small_cnn"])
def test_a_baseline_is_one_network(shades: Path, baseline: str) -> None:
    task: Any = diva.load_task(HERE).model_validate({"baseline": baseline})
    folder = diva.DataFolder("shades", shades, "sha256:0", shades.parent / "shades.statistics.json")
    data = task.load_data(folder)
    model = task.build_model(data).eval()
    step = task.training_step(
        model, (torch.stack([data.val[i][0] for i in range(3)]), torch.zeros(3, dtype=torch.int64)), data
    )
    assert set(step.outputs) == {"labels", "predictions"}
    assert task.end_epoch(model, lambda split: {}, data, 10**6) == "finished"


def test_nets_that_are_not_there_and_patience_with_a_tree_are_refused(shades: Path) -> None:
    folder = diva.DataFolder("shades", shades, "sha256:0", shades.parent / "shades.statistics.json")
    for knobs, said in [({"nets": "none"}, "there are cifar10, digits, emnist, svhn"), ({"patience": 2}, "--baseline")]:
        with pytest.raises(diva.UsageError, match=said):
            diva.load_task(HERE).model_validate(knobs).load_data(folder)
