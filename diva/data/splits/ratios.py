"""Ratios: how large each part of a split is to be, and what a user is told when a class would be missing in one."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from diva.data.layouts import SPLITS
from diva.data.splits import partition
from diva.errors import DataError, UsageError
from diva.records import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.data.splits.items import Item, Whole

DEFAULT = {"train": Fraction(3, 5), "val": Fraction(1, 5), "test": Fraction(1, 5)}
NUMBER = re.compile(
    r"[+-]?(\d{1,40}/\d{1,40}|(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[+-]?\d{1,2})?)", re.ASCII | re.IGNORECASE
)
TOLERANCE = Fraction(1, 10**9)


def shares_of(ratios: Mapping[str, Fraction | float | str] | None, kfold: int) -> dict[str, Fraction]:
    """The parts and their shares, in the order in which they are filled: test first, train last."""
    given = {} if ratios is None else {name: _fraction(name, value) for name, value in ratios.items()}
    for name, share in given.items():
        if name not in SPLITS:
            raise UsageError(f"--{name}: no such split; allowed: {', '.join(SPLITS)}")
        if not 0 <= share <= 1:
            raise UsageError(f"--{name} {ratios[name] if ratios else ''}: a ratio lies between 0 and 1")
    if kfold:
        return _folds(given, kfold)
    shares = given or DEFAULT
    total = sum(shares.values(), Fraction(0))
    if abs(total - 1) > TOLERANCE:
        told = " + ".join(f"{float(share):g}" for share in shares.values())
        raise UsageError(
            f"the ratios must sum to 1: {told} = {float(total):g}; give those of all splits that are wanted, as in "
            "--train 0.6 --val 0.2 --test 0.2 (or fractions: 1/3)"
        )
    if not shares.get("train"):
        raise UsageError(
            "--train 0: a data set without training samples; to only list or link samples, no split is needed"
        )
    return {name: shares[name] / total for name in reversed(SPLITS) if shares.get(name)}


def _folds(given: Mapping[str, Fraction], kfold: int) -> dict[str, Fraction]:
    test = given.get("test", Fraction(0))
    if kfold < 2:
        raise UsageError(f"--kfold {kfold}: at least 2")
    if test == 1:
        raise UsageError("--test 1: nothing is left for the folds")
    share = (1 - test) / kfold
    for name, made in (("val", share), ("train", 1 - test - share)):
        if name in given and abs(given[name] - made) > TOLERANCE:
            raise UsageError(f"--kfold {kfold} makes {name} {float(made):g} of the whole: leave --train and --val out")
    return {**({"test": test} if test else {}), **{f"fold-{i}": share for i in range(kfold)}}


def fraction_of(value: Fraction | float | str) -> Fraction:
    """The number that a text says, as in `0.2`, `1/5` or `1e-3`; ValueError for none, and for one too long to reckon with."""
    text = str(value).strip()
    if not isinstance(value, Fraction | int) and not NUMBER.fullmatch(text):
        raise ValueError(text)
    return Fraction(text)


def _fraction(name: str, value: Fraction | float | str) -> Fraction:
    try:
        return fraction_of(value)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--{name} {str(value)[:60]}: is no number; as in 0.2 or 1/5") from None


def refuse_empty(
    whole: Whole,
    parts: Mapping[str, Sequence[Item]],
    members: Sequence[Sequence[int]],
    shares: Mapping[str, Fraction],
    by_group: bool,
    allow_empty: bool,
) -> None:
    """Refuse a part without a sample, and, unless it is allowed, a class that a part lacks; the message says what would do."""
    for part, items in parts.items():
        if not items:
            way = f"give {part} more, or 0"
            if part.startswith("fold-"):
                most = _most_folds(whole, parts, members)
                way = f"at most {most} folds" if most > 1 and not allow_empty else "take fewer folds"
            raise DataError(
                f"{whole.folder}: its {counted(len(whole.items), 'sample')} would leave {part} without any at {_told(shares)}; {way}"
            )
    totals = Counter(target for item in whole.items for target in item.targets)
    if allow_empty or not totals:
        return
    counts = {part: Counter(target for item in items for target in item.targets) for part, items in parts.items()}
    lacking = [c for c in range(len(whole.classes)) if totals[c] and any(not counts[part][c] for part in parts)]
    if not lacking:
        return
    worst = min(lacking, key=lambda c: (totals[c], c))
    n, named = totals[worst], files.printable(whole.classes[worst])
    without = " and ".join(part for part in sorted(parts, key=_order) if not counts[part][worst])
    n_units = sum(any(worst in whole.items[i].targets for i in group) for group in members)
    if n < len(parts):
        way = f"{len(parts)} are needed: add some or remove the class"
    elif n_units < len(parts):
        kind = "group" if by_group else "set"
        hint = "" if by_group else " of identical files (see --scatter-duplicates)"
        way = f"they lie in {counted(n_units, kind)}{hint}, {len(parts)} are needed"
    else:
        ratio = None if by_group else _ratio_for(n, shares)
        kept = "groups are" if by_group else "identical files are" if len(members) < len(whole.items) else ""
        none = f"no way was found{f' while {kept} kept together' if kept else ''}, other ratios may do"
        way = f"{ratio} would do" if ratio else none
    more = f" ({len(lacking)} such classes)" if len(lacking) > 1 else ""
    raise DataError(
        f"{whole.folder}: the class {named} has {counted(n, 'sample')}, and {without} would get none at {_told(shares)}{more}; {way}. "
        "To allow it: --allow-empty"
    )


def _most_folds(whole: Whole, parts: Mapping[str, Sequence[Item]], members: Sequence[Sequence[int]]) -> int:
    """How many folds can have a sample of each class, or, where there are none, a sample, of what is not in test."""
    test = {item.name for item in parts.get("test", ())}
    left = [group for group in members if whole.items[group[0]].name not in test]
    n_of = Counter(target for group in left for target in {t for i in group for t in whole.items[i].targets})
    return min(len(left), *n_of.values()) if n_of else len(left)


def _ratio_for(n: int, shares: Mapping[str, Fraction]) -> str | None:
    """Ratios near those given at which every part gets one of `n` samples; None where folds are made, or where it is not the ratios."""
    if "train" not in shares or 0 not in partition.quotas([n], list(shares.values()))[0]:
        return None
    least = Fraction(-(-100 // n), 100)
    others = {name: max(share, least) for name, share in shares.items() if name != "train"}
    wanted = {**others, "train": 1 - sum(others.values(), Fraction(0))}
    if wanted["train"] <= 0 or 0 in partition.quotas([n], list(wanted.values()))[0]:
        return None
    return _told(wanted)


def _told(shares: Mapping[str, Fraction]) -> str:
    if "train" in shares:
        return " ".join(f"--{name} {float(shares[name]):g}" for name in SPLITS if name in shares)
    test = f" --test {float(shares['test']):g}" if "test" in shares else ""
    return f"--kfold {sum(name != 'test' for name in shares)}{test}"


def counted(n: int, noun: str) -> str:
    """A number and what is counted: `1 sample`, `2 samples`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _order(part: str) -> int:
    """train, val, test, then folds."""
    return SPLITS.index(part) if part in SPLITS else len(SPLITS)
