"""Cut the training list into train (weights), arch (architecture logits) and val (choosing), without video leaks.

FLIR frames come from video, so neighbours are nearly equal: whole blocks of neighbouring file numbers go to one part.
Where a data set brings its own val list, that is val, and only train and arch are cut from the training list.
The published protocols search and choose on the test set (`paper_split`), or learn on all lists (`all_in_both_roles`).
`overfit_split` checks on a few pairs that a network can learn them; its scores are not results.
"""

import hashlib
import json
import random
import re
from dataclasses import dataclass
from typing import Any

from utils.errors import UserError, short
from utils.untrusted import checked, is_names

PARTS = ("train", "arch", "val")
BLOCKED = "train/arch/val"
PAPER = "paper: test used as val"
DEV = "paper: dev used as arch and val"
ALL = "paper: all lists used as train and arch"
OVERFIT = "overfit: learned pairs used as val"
# Of each protocol, the parts that have no name in common.
DISJOINT = {BLOCKED: PARTS, PAPER: ("train", "val"), DEV: ("train", "val"), ALL: ("train",), OVERFIT: ("train",)}
SHARES, HALVES = {"train": 0.45, "arch": 0.45, "val": 0.10}, {"train": 0.5, "arch": 0.5}
MAX_BLOCK = 32  # frames; shorter for small sets, so that each has about 20 blocks or more to deal out


@dataclass(frozen=True)
class Split:
    """Which file names belong to which part; `seed` is None for protocols that draw nothing."""

    seed: int | None
    protocol: str
    parts: dict[str, list[str]]

    @property
    def hash(self) -> str:
        """Name the content (protocol and parts) by 16 hex digits."""
        content = {"protocol": self.protocol, "parts": {part: sorted(self.parts[part]) for part in PARTS}}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the content of `split.json`."""
        return {"hash": self.hash, "seed": self.seed, "protocol": self.protocol, "parts": self.parts}

    @classmethod
    def from_json(cls, data: Any, source: str) -> "Split":
        """Check and read the content of `split.json`; `source` names the file in the UserError of a wrong field."""
        if not isinstance(data, dict):
            raise UserError(f"{source}: expected a JSON object with a split, found {type(data).__name__}")
        split = cls(data.get("seed"), data.get("protocol"), data.get("parts"))
        _check_fields(split, source)
        _check_disjoint(split, source)
        expected = f"{split.hash} from the names in it"
        checked(data.get("hash"), lambda written: written == split.hash, expected, f"{source}: hash")
        return split


def make_split(file_names: list[str], seed: int, own_val: list[str] | None = None) -> Split:
    """Deal blocks of neighbouring files to the parts.

    Args:
        file_names: unique names, in any order; neighbours are found by the numbers in them, then by name.
        seed: orders the blocks, each of which goes to the part that then lacks most files.
        own_val: the data set's own val list, of other names.
    Returns:
        The split; each part in the order of file numbers.
    Raises:
        UserError: a part would be empty, or a name is there twice.
    """
    names = sorted(file_names, key=number_key)
    length = min(max(len(names) // 20, 1), MAX_BLOCK)
    blocks = [names[start : start + length] for start in range(0, len(names), length)]
    parts = _deal(blocks, seed, SHARES) if own_val is None else _deal(blocks, seed, HALVES) | {"val": own_val}
    if not all(parts.values()):
        num = len(file_names)
        raise UserError(f"training pairs: expected enough for train, arch and val, found too few pairs ({num})")
    parts = {part: sorted(parts[part], key=number_key) for part in PARTS}
    return _check_disjoint(Split(seed, BLOCKED, parts), "training pairs")


def _deal(blocks: list[list[str]], seed: int, shares: dict[str, float]) -> dict[str, list[str]]:
    """Give each block, in a drawn order, to the part that then lacks most names."""
    random.Random(seed).shuffle(blocks)
    num = sum(map(len, blocks))
    parts = {part: [] for part in shares}
    for block in blocks:
        lacking = {part: share * num - len(parts[part]) for part, share in shares.items()}
        parts[max(shares, key=lacking.get)] += block
    return parts


def paper_split(train_names: list[str], test_names: list[str]) -> Split:
    """Return the published protocol: weights on all training pairs, architecture and choice on the test pairs."""
    train, test = sorted(train_names, key=number_key), sorted(test_names, key=number_key)
    split = Split(None, PAPER, {"train": train, "arch": test, "val": test})
    return _check_disjoint(split, "training and test pairs")


def all_in_both_roles(train_names: list[str], test_names: list[str]) -> Split:
    """Return the published protocol of FAD's search: weights and logits learn on all images.

    `arch` lists them in the opposite order, so that the loaders of both, which draw places in a list by one seed, do
    not give the same batches. `val` is the test list, whose images are learned from: nothing can be chosen on it.
    """
    names = sorted([*train_names, *test_names], key=number_key)
    split = Split(None, ALL, {"train": names, "arch": names[::-1], "val": sorted(test_names, key=number_key)})
    return _check_disjoint(split, "training and test images")


def overfit_split(names: list[str], num: int) -> Split:
    """Learn and choose on the same few pairs.

    Args:
        names: of training pairs with objects.
        num: of pairs to take, the first by number.
    Raises:
        UserError: there are fewer.
    """
    if len(names) < num:
        raise UserError(f"--overfit {num}: expected as many training pairs with objects, found {len(names)}")
    taken = sorted(names, key=number_key)[:num]
    return Split(None, OVERFIT, dict.fromkeys(PARTS, taken))


def dev_split(train: list[str], dev: dict[str, list[str]], seed: int | None) -> Split:
    """Deal the groups of a data set's own dev list to arch and val; without a seed both are all of it, as published.

    Args:
        train: names, all of which are the train part.
        dev: names by group; a group is not cut.
        seed: orders the groups, each of which goes to the part that then lacks more names.
    Raises:
        UserError: there is one group alone, or a name is there twice.
    """
    if seed is None:
        every = sorted(name for names in dev.values() for name in names)
        return _check_disjoint(Split(None, DEV, {"train": sorted(train), "arch": every, "val": every}), "examples")
    if len(dev) < 2:
        raise UserError(f"dev list: expected two groups or more, one for arch and one for val, found {len(dev)}")
    parts = {"train": train} | _deal([dev[group] for group in sorted(dev)], seed, {"arch": 0.5, "val": 0.5})
    return _check_disjoint(Split(seed, BLOCKED, {part: sorted(names) for part, names in parts.items()}), "examples")


def number_key(name: str) -> tuple[list[str | int], str]:
    """Order names by their text and numbers in turn, so that frames 9, 10, 11 of one video are neighbours."""
    return [int(piece) if i % 2 else piece for i, piece in enumerate(re.split(r"([0-9]+)", name))], name


def _check_fields(split: Split, source: str) -> None:
    protocols = f"{BLOCKED!r}, {PAPER!r}, {DEV!r}, {ALL!r} or {OVERFIT!r}"
    checked(split.protocol, lambda protocol: protocol in list(DISJOINT), protocols, f"{source}: protocol")
    seeded = split.protocol == BLOCKED
    expected = "an integer" if seeded else "null"
    checked(split.seed, lambda seed: (type(seed) is int) == seeded, expected, f"{source}: seed")
    if not isinstance(split.parts, dict) or set(split.parts) != set(PARTS):
        found = sorted(split.parts) if isinstance(split.parts, dict) else split.parts
        raise UserError(f"{source}: parts: expected {', '.join(PARTS)}, found {short(found)}")
    for part, names in split.parts.items():
        checked(names, is_names, "a list of file names", f"{source}: parts.{part}")


def _check_disjoint(split: Split, source: str) -> Split:
    owner = {}
    for part in DISJOINT[split.protocol]:
        for name in split.parts[part]:
            if name in owner:
                raise UserError(f"{source}: parts.{part}: expected each name once, found {name} also in {owner[name]}")
            owner[name] = part
    return split
