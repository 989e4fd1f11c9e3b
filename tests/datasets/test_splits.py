"""Splits: disjoint, complete, in blocks, the same wherever they are made."""

import json
import random

import pytest

from datasets.splits import PARTS, Split, make_split, paper_split
from utils.errors import UserError


def make_names(num: int) -> list[str]:
    return [f"FLIR_{3 * i:05d}_PreviewData.jpg" for i in range(num)]


@pytest.mark.parametrize("num", [5, 12, 100, 1000, 4128])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_disjoint_complete_and_of_the_wanted_size(num, seed):
    names = make_names(num)
    split = make_split(names, seed)
    dealt = [name for part in PARTS for name in split.parts[part]]
    assert sorted(dealt) == sorted(names)
    block = min(max(num // 20, 1), 32)
    for part, share in zip(PARTS, (0.45, 0.45, 0.10)):
        assert abs(len(split.parts[part]) - share * num) <= 2 * block


@pytest.mark.parametrize("num", [100, 1000, 4128])
def test_blocks_are_whole(num):
    names = make_names(num)
    owner = {name: part for part, members in make_split(names, 0).parts.items() for name in members}
    block = min(num // 20, 32)
    for start in range(0, num, block):
        assert len({owner[name] for name in names[start : start + block]}) == 1


# As dealt when the first results were written: checkpoints and results name their split by these.
@pytest.mark.parametrize(
    ("num", "seed", "known"),
    [
        (12, 0, "524d8ce4664ac098"),
        (12, 7, "322277ce1be89af4"),
        (100, 0, "edfe287098a71703"),
        (1000, 7, "61a9728e8e4224c3"),
        (4128, 0, "634a686cc7f079fc"),
    ],
)
def test_splits_of_earlier_results_stay(num, seed, known):
    assert make_split(make_names(num), seed).hash == known


@pytest.mark.parametrize("num", [2, 5, 100, 1000])
@pytest.mark.parametrize("seed", [0, 7])
def test_own_val_list_is_val_and_the_rest_is_halved_in_blocks(num, seed):
    names, own = make_names(num), ["v10.jpg", "v9.jpg", "v1.jpg"]
    split = make_split(names, seed, own_val=own)
    assert split.protocol == "train/arch/val"
    assert split.parts["val"] == ["v1.jpg", "v9.jpg", "v10.jpg"]
    assert sorted(split.parts["train"] + split.parts["arch"]) == names
    block = min(max(num // 20, 1), 32)
    assert abs(len(split.parts["train"]) - len(split.parts["arch"])) <= block
    owner = {name: part for part in ("train", "arch") for name in split.parts[part]}
    for start in range(0, num, block):
        assert len({owner[name] for name in names[start : start + block]}) == 1
    assert Split.from_json(json.loads(json.dumps(split.to_json())), "split.json") == split
    assert len({split.hash, make_split(names, seed, own_val=own[:2]).hash, make_split(names + own, seed).hash}) == 3


def test_own_val_list_shares_no_name():
    with pytest.raises(UserError, match=r"parts\.val: expected each name once, found FLIR_00003"):
        make_split(make_names(40), 0, own_val=make_names(2)[1:])


@pytest.mark.parametrize(("num", "own"), [(1, ["v.jpg"]), (0, ["v.jpg"]), (40, [])])
def test_too_few_pairs_beside_an_own_val_list(num, own):
    with pytest.raises(UserError, match=rf"too few pairs \({num}\)"):
        make_split(make_names(num), 0, own_val=own)


def test_independent_of_order_and_global_random_state():
    names = make_names(200)
    split = make_split(names, 3)
    random.seed(5)
    shuffled = random.sample(names, len(names))
    assert make_split(shuffled, 3) == split
    assert make_split(shuffled, 3).hash == split.hash


def test_neighbours_are_found_by_number():
    names = [f"FLIR_{i}.jpg" for i in range(100)]  # 10 comes before 9 in the order of text
    parts = make_split(names, 0).parts
    owner = {name: part for part, members in parts.items() for name in members}
    assert len({owner[f"FLIR_{i}.jpg"] for i in range(5, 10)}) == 1
    assert parts["train"] == sorted(parts["train"], key=lambda name: int(name[5:-4]))


def test_names_without_numbers():
    split = make_split(list("zyxwvutsrqponmlkjihgfedcba"), 0)
    assert sum(len(members) for members in split.parts.values()) == 26


def test_hash_tells_splits_apart():
    names = make_names(200)
    hashes = {make_split(names, seed).hash for seed in range(10)}
    splits = make_split(names[:-1], 0), make_split(names, 0, own_val=["v"]), paper_split(names, ["t"])
    hashes |= {split.hash for split in splits}
    assert len(hashes) == 13
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in hashes)


@pytest.mark.parametrize("num", [0, 1, 2, 3])
def test_too_few_pairs(num):
    with pytest.raises(UserError, match=rf"too few pairs \({num}\)"):
        make_split(make_names(num), 0)


def test_names_twice():
    with pytest.raises(UserError, match="expected each name once"):
        make_split(make_names(30) * 2, 0)


def test_paper_protocol_uses_test_as_val():
    split = paper_split(make_names(4), ["b.jpg", "a.jpg"])
    assert split.protocol == "paper: test used as val"
    assert split.parts == {"train": make_names(4), "arch": ["a.jpg", "b.jpg"], "val": ["a.jpg", "b.jpg"]}
    with pytest.raises(UserError, match="training and test pairs"):
        paper_split(["a", "b"], ["b"])


@pytest.mark.parametrize("protocol", ["ours", "paper"])
def test_json_round_trip(protocol):
    split = make_split(make_names(50), 2) if protocol == "ours" else paper_split(make_names(5), ["t.jpg"])
    again = Split.from_json(json.loads(json.dumps(split.to_json())), "split.json")
    assert again == split
    assert again.hash == split.hash


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "0"),
        ("seed", None),
        ("protocol", "mine"),
        ("hash", "0" * 16),
        ("parts", []),
        ("parts", {"train": ["a"], "val": ["b"]}),
        ("parts", {"train": [], "arch": ["a"], "val": ["b"]}),
        ("parts", {"train": [1], "arch": ["a"], "val": ["b"]}),
        ("parts", {"train": ["a"], "arch": ["a"], "val": ["b"]}),
    ],
)
def test_wrong_fields_are_named(field, value):
    data = {**make_split(make_names(50), 2).to_json(), field: value}
    with pytest.raises(UserError, match=rf"^run/split\.json: {field}"):
        Split.from_json(data, "run/split.json")


def test_json_that_is_no_split():
    with pytest.raises(UserError, match=r"split\.json.*list"):
        Split.from_json([], "split.json")
