"""Damage as disks, editors and other programs do it to a file of JSON."""

import json
from typing import Any

import numpy as np

OTHERS = (None, True, -1, 1e300, "", "\x1b[31m", [], {}, [None], {"a": 1})


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """A flipped bit, a cut, a hole, or a value of another type somewhere in it."""
    kind = random.integers(4)
    place = int(random.integers(len(content)))
    if kind == 0:
        return (
            content[:place]
            + bytes([content[place] ^ 1 << random.integers(8)])
            + content[place + 1 :]
        )
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + bytes(len(content) - place)
    value = json.loads(content)
    _swap(value, random)
    return json.dumps(value).encode()


def _swap(value: Any, random: np.random.Generator) -> None:
    """Replaces, or takes out, something that is in a container, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[random.integers(len(keys))]
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.7:
        _swap(value[key], random)
    elif random.random() < 0.3:
        del value[key]
    else:
        value[key] = OTHERS[random.integers(len(OTHERS))]
