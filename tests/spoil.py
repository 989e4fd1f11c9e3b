"""Spoiling good files: near-valid content with fields dropped, swapped or absurd, hostile constructs, changed bytes.

Everything is drawn from a `random.Random`, so that a seed gives the same content again. What must never run touches
`WITNESS` in the current folder.
"""

import ast
import copy
import io
import json
import os
import random
import re
from typing import Any

import torch
import yaml

WITNESS = "witness"
TOUCH = f"touch {WITNESS}"
LEAVING = ("../../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "C:x", "a/../../b", "...jpg")
NAMES = (
    "",
    "x" * 5000,
    "x" * 300 + ".jpg",
    "a\0b",
    "\x1b[31mred\x1b[0m",
    "\u202egpj.exe",
    "\ud800",
    "a\nb",
    "$\\frac$",
)
NUMBERS = (0, -1, 3, 2**53, 2**63, 10**400, -0.5, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"))
OTHERS = (None, True, [], {}, [[]], {"a": {"b": [1]}}, [0] * 2000, "1", "yes", "2024-01-01")
ODD = (*LEAVING, *NAMES, *NUMBERS, *OTHERS)


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def spoil_tree(rng: random.Random, data: Any) -> Any:
    """Return a copy with one to three of its entries dropped, doubled, wrapped, renamed, moved or replaced."""
    data = {"all": copy.deepcopy(data)}
    for _ in range(rng.randint(1, 3)):
        place = data
        key = "all"
        while isinstance(place[key], (dict, list)) and place[key] and rng.random() < (0.98 if place is data else 0.85):
            place = place[key]
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        _spoil_entry(rng, place, key)
        if "all" not in data:
            return None
    return data["all"]


def _spoil_entry(rng: random.Random, place: dict | list, key: Any) -> None:
    way = rng.choice(("drop", "odd", "odd", "odd", "number", "wrap", "text", "double", "rename", "swap", "deep"))
    value = place[key]
    if way == "drop":
        del place[key]
    elif way == "odd":
        place[key] = copy.deepcopy(rng.choice(ODD))
    elif way == "number" and type(value) in (int, float):
        place[key] = rng.choice((-value, value - 1, value + 1, value + 2, value + 0.5, value * 1000, 0, 1))
    elif way == "wrap":
        place[key] = [value]
    elif way == "text":
        place[key] = str(value)
    elif way == "double" and isinstance(place, list):
        place.append(copy.deepcopy(value))
    elif way == "rename" and isinstance(place, dict) and key != "all":
        place[rng.choice(("", "x", f"{key}s", "\x1b]0;x\x07", 7))] = place.pop(key)
    elif way == "swap" and isinstance(place, list):
        other = rng.randrange(len(place))
        place[key], place[other] = place[other], value
    else:
        place[key] = nested(rng.choice((3, 50, 800)))


def spoil_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return the content with bits turned, a stretch cut, doubled, emptied or put elsewhere, or its end gone."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 30, len(data) // 3))
        way = rng.choice(("turn", "turn", "cut", "end", "double", "zero", "noise", "insert"))
        if way == "turn" and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif way == "cut":
            del data[place : place + length]
        elif way == "end":
            del data[place:]
        elif way == "double":
            data[place:place] = data[place : place + length]
        elif way == "zero":
            data[place : place + length] = bytes(len(data[place : place + length]))
        elif way == "noise":
            data[place : place + length] = rng.randbytes(len(data[place : place + length]))
        else:
            data[place:place] = rng.choice(
                (b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", b"\x1b[2J", b"9" * 5000, b"[" * 3000)
            )
    return bytes(data)


def spoil_coco(rng: random.Random, content: bytes) -> bytes:
    """Spoil a COCO file; one in three has boxes that are odd, some without being wrong."""
    if rng.random() < 0.67:
        return spoil_json(rng, content)
    data = json.loads(content)
    for box in rng.sample(data["annotations"], 3):
        x, y, width, height = box["bbox"]
        beside = rng.choice((-2, -1, 1, 2, 40))
        odd = ([beside, y, width, height], [x, y, 0, height], [x, y, width, 64 - y + beside], [x, y, -width, height])
        box |= rng.choice((*({"bbox": bbox} for bbox in odd), {"iscrowd": 1}, {"category_id": 2}, {"area": 0.5}, {}))
    return json.dumps(data).encode()


def spoil_json(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.2:
        return spoil_bytes(rng, content)
    text = json.dumps(spoil_tree(rng, json.loads(content)))
    if rng.random() < 0.1:
        text = re.sub(
            r'"(\w+)":', lambda found: f"{found[0]} null, {found[0]}", text, count=1
        )  # a key that is there twice
    return text.encode()


YAML_BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
)
HOSTILE_YAML = (
    YAML_BOMB,
    f"!!python/object/apply:os.system ['{TOUCH}']",
    f"x: !!python/object/apply:subprocess.check_output [[touch, {WITNESS}]]",
    f"x: !!python/object/new:os.system ['{TOUCH}']",
    "x: !!python/name:os.system",
    "base: &b {a: 1}\nmore: {<<: *b}",
    "<<: {a: 1}",
    "x: &x [*x]",
    "x: !!timestamp y",
    "x: !!int ''",
    "x: !!bool maybe",
    "x: !!binary '====x'",
    f"x: 0x{'f' * 6000}",
    "x: " + "1:" * 3000 + "1",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "- " * 3000 + "x",
    "[" * 5000,
    "a: 1\na: 2",
    "--- a\n--- b",
    "a: |\n" + " x\n" * 100_000,
)


def spoil_yaml(rng: random.Random, content: bytes) -> bytes:
    way = rng.random()
    if way < 0.2:
        return spoil_bytes(rng, content)
    if way < 0.45:
        text = rng.choice(HOSTILE_YAML)
        return (content + b"\n" if rng.random() < 0.5 else b"") + text.encode()
    try:
        text = yaml.safe_dump(spoil_tree(rng, yaml.safe_load(content)))
    except RecursionError:
        text = "x: " + "[" * 800 + "]" * 800
    return text.encode("utf-8", "backslashreplace")  # what does not go into UTF-8 is spelled


HOSTILE_TEXT = (
    f"__import__('os').system('{TOUCH}')",
    f"[__import__('os').system('{TOUCH}') for _ in (1,)]",
    f"(lambda: __import__('os').system('{TOUCH}'))()",
    f"open('{WITNESS}', 'w')",
    f"exec('import os; os.system(\"{TOUCH}\")')",
    f'f\'{{open("{WITNESS}", "w")}}\'',
    "().__class__.__base__.__subclasses__()",
    "9 ** 9 ** 9",
    "'x' * 10**9",
    "0x" + "f" * 6000,
    "9" * 5000,
    "-" * 3000 + "1",
    "(" * 3000,
    "1" + "+1" * 3000,
    "'\\ud800'",
    "b'x'",
    "{[]: 1}",
    "1j",
    "...",
    "**x",
)


def spoil_text(rng: random.Random, content: bytes) -> bytes:
    """Spoil a text genotype: a number, text or list of it becomes something else."""
    text = content.decode()
    if rng.random() < 0.2:
        return spoil_bytes(rng, content)
    for _ in range(rng.randint(1, 2)):
        pieces = list(re.finditer(r"'\w+'|\d+|\[[^][]*\]|\w+=", text))
        piece = rng.choice(pieces)
        new = rng.choice((*HOSTILE_TEXT, *(repr(value) for value in OTHERS), "", "99", "-1", "'skip'", "x="))
        text = text[: piece.start()] + new + text[piece.end() :]
    return text.encode()


XML_BOMB = '<!DOCTYPE annotation [<!ENTITY a0 "xxxxxxxxxx">' + "".join(
    f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)
)
HOSTILE_XML = (
    XML_BOMB + "]>",
    '<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE annotation SYSTEM "http://localhost:1/x.dtd">',
    '<?xml version="1.0" encoding="cp037"?>',
    '<?xml version="1.0" encoding="nonsense"?>',
    '<?xml version="9.9"?>',
)


def spoil_xml(rng: random.Random, content: bytes) -> bytes:
    way = rng.random()
    text = content.decode()
    if way < 0.25:
        return spoil_bytes(rng, content)
    if way < 0.4:
        text = rng.choice(HOSTILE_XML) + text.replace("<name>", "<name>&a11;" if rng.random() < 0.5 else "<name>", 1)
    elif way < 0.5:
        tag = rng.choice(re.findall(r"<(\w+)>", text))
        text = text.replace(f"<{tag}>", f"<{tag}>" + "<a>" * 5000 + "</a>" * 5000, 1)
    else:
        for _ in range(rng.randint(1, 3)):
            found = rng.choice(list(re.finditer(r">([^<>]+)<", text)))
            odd = (
                "",
                " ",
                "dog",
                "x" * 5000,
                "1e400",
                "0x10",
                "../../a",
                "&#x202e;",
                "1_0",
                "&#x1b;",
                "79.5",
                "81",
                "-1",
            )
            text = text[: found.start(1)] + rng.choice((*map(str, NUMBERS), *odd)) + text[found.end(1) :]
            if rng.random() < 0.2:
                tag = rng.choice(re.findall(r"<(\w+)>", text))
                text = re.sub(rf"(</?){tag}>", r"\1other>", text)
    return text.encode()


class Touching:
    """What a pickle would run."""

    def __init__(self, function: Any = os.system, argument: str = TOUCH):
        self.function, self.argument = function, argument

    def __reduce__(self):
        return self.function, (self.argument,)


def endless_tree(depth: int = 60) -> list:
    """Return lists of 2 ** depth values in `depth` objects."""
    value: list = [1]
    for _ in range(depth):
        value = [value, value]
    return value


def hostile_values() -> tuple:
    """Return what a pickle can hold that a checkpoint must not."""
    cyclic: list = []
    cyclic.append(cyclic)
    return (
        Touching(),
        Touching(eval, f"open('{WITNESS}', 'w')"),
        Touching(ast.literal_eval, "1"),
        endless_tree(),
        cyclic,
        10**6000,
        {1, 2},
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, 2).to_sparse(),
        torch.empty(2, 2, device="meta"),
        torch.tensor(float("nan")),
        torch.Size((1,)),
        torch.float32,
        b"bytes",
    )


def spoil_checkpoint(rng: random.Random, content: bytes) -> bytes:
    """Change bytes, or values of the saved dict; in either form that torch writes."""
    if rng.random() < 0.5:
        return spoil_bytes(rng, content)
    data = torch.load(io.BytesIO(content), weights_only=True)
    if rng.random() < 0.5:
        place = data[rng.choice(("model", "args"))] if rng.random() < 0.7 else data
        place[rng.choice(list(place))] = rng.choice(hostile_values())
    else:
        data = spoil_tree(rng, data)
    file = io.BytesIO()
    try:
        torch.save(data, file, _use_new_zipfile_serialization=rng.random() < 0.7)
    except (RecursionError, ValueError):  # too deep, or numbers of the old form that have no pickle
        return spoil_bytes(rng, content)
    return file.getvalue() if rng.random() < 0.8 else spoil_bytes(rng, file.getvalue())


def spoil_list(rng: random.Random, content: bytes) -> bytes:
    """Spoil a list of names: lines that lead elsewhere, are there twice, are not names at all."""
    if rng.random() < 0.3:
        return spoil_bytes(rng, content)
    lines = content.decode().splitlines()
    for _ in range(rng.randint(1, 3)):
        lines[rng.randrange(len(lines))] = rng.choice((*LEAVING, *NAMES, *lines, "000001.xml.xml", "./000002", "a b"))
    return "\n".join(lines).encode("utf-8", "backslashreplace")
