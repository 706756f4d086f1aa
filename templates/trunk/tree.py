"""The tree of small networks: how it grows, how it is trained a node at a time, and how an image finds its way to a leaf."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .nodes import Nets, Node, build_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .grouping import Groups

Stage = Literal["waiting", "classes", "groups", "trained"]


@dataclass(frozen=True)
class Place:
    """A node of the tree, built or waiting to be. Turn k leads to the classes `groups[k]`: to a leaf when it is one class, else to a child.

    stage: "classes" while it learns to tell its classes apart, "groups" while it learns its groups. likelihoods: the averaged softmax
    likelihood of its classes, from which the groups follow. since: the epoch after which the stage began.
    """

    name: str
    parent: str | None
    classes: tuple[int, ...]
    groups: Groups
    stage: Stage = "waiting"
    since: int = 0
    likelihoods: tuple[tuple[float, ...], ...] = ()

    def turns(self, n_classes: int) -> list[int]:
        """For each class of the data its turn at this node; -1 for one that is not of this node. (n_classes,)"""
        turn_of = {label: turn for turn, group in enumerate(self.groups) for label in group}
        return [turn_of.get(label, -1) for label in range(n_classes)]


class Routed(NamedTuple):
    """What became of a batch: each (B, ...)."""

    predictions: Tensor
    """int64: the class of the leaf. Where a group has no node yet, its first class."""
    losses: Tensor
    """float32: minus the logarithm of the likelihood of the true class, along the way to it as far as there are nodes."""
    ends: Tensor
    """int64: the place in `Tree.places` of the last node that the image saw."""
    turns: Tensor
    """int64: 1 where the node that learns takes the right turn, 0 where a wrong one, -1 for images of other nodes."""
    likelihoods: Tensor
    """float32 (B, turns): softmax of the node that learns; 0 for images that it did not see."""
    probabilities: Tensor
    """float32 (B, n_classes): what the last node on the way said; a turn's is shared by the classes behind it, other classes have 0."""


class Tree(nn.Module):
    """A node learns at a time, the latest one; its ancestors, and all others, stay as they are, in evaluation mode."""

    def __init__(self, nets: Nets, channels: int, size: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.nets, self.channels, self.size, self.n_classes = nets, channels, tuple(size), n_classes
        self.nodes = nn.ModuleDict()
        classes = tuple(range(n_classes))
        self.places = [Place("root", None, classes, tuple((c,) for c in classes))]
        self.build("root", epoch=0)

    # How it grows

    def place(self, name: str) -> Place:
        """The place called so."""
        return next(place for place in self.places if place.name == name)

    @property
    def learning(self) -> Place:
        """The node that learns, or was the last to learn: the latest that was built."""
        return [place for place in self.places if place.name in self.nodes][-1]

    def node(self, name: str) -> Node:
        """The network at a place."""
        node = self.nodes[name]
        assert isinstance(node, Node)
        return node

    def change(self, name: str, **changes: Any) -> None:
        """Replace what is known of a place."""
        self.places = [replace(place, **changes) if place.name == name else place for place in self.places]

    def build(self, name: str, epoch: int) -> None:
        """A fresh network for a waiting place, to be trained on its classes from `epoch` on."""
        self.change(name, stage="classes", since=epoch)
        self._build(name)

    def build_next(self, epoch: int, likelihoods: Sequence[Sequence[float]] | None = None) -> bool:
        """Go on to the first place that waits; False, and nothing is changed, when there is none.

        likelihoods: the averaged softmax likelihood (n, n) of the node that learns, where it was measured and led to no groups.
        """
        waiting = [place.name for place in self.places if place.stage == "waiting"]
        if waiting:
            if likelihoods is not None:
                self.change(self.learning.name, likelihoods=tuple(map(tuple, likelihoods)))
            self.change(self.learning.name, stage="trained")
            self.build(waiting[0], epoch)
        return bool(waiting)

    def epochs_needed(self, stage_epochs: int, epoch: int) -> int:
        """Epochs after `epoch` until no place waits, if no more classes are grouped."""
        waiting = sum(place.stage == "waiting" for place in self.places)
        return self.learning.since + stage_epochs * (1 + waiting) - epoch

    def regroup(self, name: str, likelihoods: Sequence[Sequence[float]], groups: Groups, epoch: int) -> None:
        """A fresh network at the same place, to be trained on groups of its classes; those of several become places that wait.

        groups: of the places of the classes in `classes`, as `grouping.group` gives them for the averaged softmax likelihood (n, n).
        """
        classes = self.place(name).classes
        named = tuple(tuple(classes[i] for i in group) for group in groups)
        asl = tuple(tuple(row) for row in likelihoods)
        self.change(name, groups=named, stage="groups", since=epoch, likelihoods=asl)
        for group in named:
            if len(group) > 1:
                self.places.append(Place(f"sg{len(self.places)}", name, group, tuple((c,) for c in group)))
        self._build(name)

    def _build(self, name: str) -> None:
        place = self.place(name)
        inputs = self._inputs(place)
        self.requires_grad_(False)
        self.nodes[name] = build_node(self.nets.net(name), inputs[1], inputs[2:], len(place.groups))

    def _inputs(self, place: Place) -> Sequence[int]:
        """The shape (1, C, H, W) of what the node at this place takes: an image, or the feature maps of its parent."""
        return self.maps(place.parent).shape if place.parent else (1, self.channels, *self.size)

    def maps(self, name: str | None) -> Tensor:
        """The feature maps (1, C, H, W) of a node for a black image; the black image for None."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        maps = torch.zeros(1, self.channels, *self.size, device=device)
        with torch.no_grad():
            for ancestor in self.way_to(name) if name else ():
                maps = self.node(ancestor).eval().features(maps)
        return maps

    def way_to(self, name: str) -> list[str]:
        """The names from the root to this place."""
        parent = self.place(name).parent
        return [*(self.way_to(parent) if parent else ()), name]

    def structure(self) -> list[dict[str, Any]]:
        """The places, as JSON can hold them."""
        return [asdict(place) for place in self.places]

    def restructure(self, structure: list[dict[str, Any]]) -> None:
        """The same places, with fresh networks at those that were built."""
        self.places = [
            Place(**{**place, "classes": tuple(place["classes"]), "groups": tuple(map(tuple, place["groups"])),
                     "likelihoods": tuple(map(tuple, place["likelihoods"]))})
            for place in structure
        ]  # fmt: skip
        self.nodes = nn.ModuleDict()
        for place in self.places:
            if place.stage != "waiting":
                self._build(place.name)

    # How it learns

    def train(self, mode: bool = True) -> Tree:
        """Only the node that learns is ever in training mode: dropout and batch norm of the others are as in evaluation."""
        super().train(False)
        self.training = mode
        self.nodes[self.learning.name].train(mode)
        return self

    def learn(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b, turns) of the node that learns, and the right turns (b,), for the images of the batch whose class is of this node.

        b is 0 when there are fewer than two of them, for which batch norm would have no variance.
        """
        place = self.learning
        turns = self._turns(place, labels)
        chosen = (turns >= 0).nonzero().flatten()
        if len(chosen) < 2:
            return torch.zeros(0, len(place.groups), device=images.device), turns[:0]
        maps = images.index_select(0, chosen)
        with torch.no_grad():
            for ancestor in self.way_to(place.name)[:-1]:
                maps = self.node(ancestor).features(maps)
        logits: Tensor = self.nodes[place.name](maps)
        return logits, turns.index_select(0, chosen)

    def _turns(self, place: Place, labels: Tensor) -> Tensor:
        return torch.tensor(place.turns(self.n_classes), device=labels.device).index_select(0, labels)

    # How an image finds its way

    def forward(self, images: Tensor) -> Tensor:
        """images: (B, C, H, W). Returns the probabilities of the classes (B, n_classes)."""
        return self.follow(images).probabilities

    def follow(self, images: Tensor, labels: Tensor | None = None) -> Routed:
        """Send each image from the root on its own way, each turn the one of the highest logit, the lower of equals.

        labels: with them, nodes on the way to the true class are asked too, for losses and likelihoods; the way does not depend on them.
        """
        n, device = len(images), images.device
        none = torch.full((n,), -1, dtype=torch.int64, device=device)
        found = Routed(
            none, torch.zeros(n, device=device), none, none,
            torch.zeros(n, len(self.learning.groups), device=device), torch.zeros(n, self.n_classes, device=device),
        )  # fmt: skip
        everybody = torch.arange(n, device=device)
        arrived = {"root": everybody >= 0}  # of each node that an image came to: bool (B,)
        seen: dict[str | None, tuple[Tensor, Tensor]] = {None: (everybody, images)}  # rows of the maps (B,), maps
        for number, place in enumerate(self.places):
            if place.name not in self.nodes:
                continue
            came = arrived.get(place.name, everybody < 0)
            true = none if labels is None else self._turns(place, labels)
            rows = (came | (true >= 0)).nonzero().flatten()  # (b,)
            if len(rows) == 0:
                continue
            row_of, maps = seen[place.parent]
            maps = self.node(place.name).features(maps.index_select(0, row_of.index_select(0, rows)))
            seen[place.name] = none.index_copy(0, rows, torch.arange(len(rows), device=device)), maps
            logits = self.node(place.name).head(maps)  # (b, turns)
            turn = none.index_copy(0, rows, logits.argmax(1))
            found = self._told_by_label(found, place, rows, logits, true)
            found = self._gone(found, number, rows, logits, came)
            for child in self.places:
                if child.parent == place.name:
                    arrived[child.name] = came & (turn == place.groups.index(child.classes))
        return found

    def _told_by_label(self, found: Routed, place: Place, rows: Tensor, logits: Tensor, true: Tensor) -> Routed:
        """Losses at a node of the images whose class is of it; likelihoods and turns of the node that learns."""
        right = true.index_select(0, rows)  # (b,)
        loss = -logits.log_softmax(1).gather(1, right.clamp(min=0)[:, None])[:, 0]
        losses = found.losses.index_add(0, rows, torch.where(right >= 0, loss, torch.zeros_like(loss)))
        if place.name != self.learning.name:
            return found._replace(losses=losses)
        hits = torch.where(right >= 0, (logits.argmax(1) == right).long(), -1)
        return found._replace(
            losses=losses,
            turns=found.turns.index_copy(0, rows, hits),
            likelihoods=found.likelihoods.index_copy(0, rows, logits.softmax(1)),
        )

    def _gone(self, found: Routed, number: int, rows: Tensor, logits: Tensor, came: Tensor) -> Routed:
        """What a node says of the images that came to it: so far, their answer and their end."""
        place = self.places[number]
        own = came.index_select(0, rows).nonzero().flatten()
        rows, logits = rows.index_select(0, own), logits.index_select(0, own)
        first = torch.tensor([group[0] for group in place.groups], device=rows.device)
        turn_of = torch.tensor(place.turns(self.n_classes), device=rows.device)
        sizes = torch.tensor([float(len(group)) for group in place.groups], device=rows.device)
        shares = (logits.softmax(1) / sizes).index_select(1, turn_of.clamp(min=0))  # (b, n_classes)
        return found._replace(
            predictions=found.predictions.index_copy(0, rows, first.index_select(0, logits.argmax(1))),
            ends=found.ends.index_copy(0, rows, torch.full_like(rows, number)),
            probabilities=found.probabilities.index_copy(0, rows, torch.where(turn_of >= 0, shares, 0.0)),
        )
