"""Inputs by chance: bytes and values that were right, changed a little; nothing but UserErrors may come of them."""

import copy
import io
import logging
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import pytest

from depthlab.errors import UserError

INPUTS = [int(os.environ.get("FUZZ", 20)), pytest.param(10_000, marks=pytest.mark.full)]
"""How many, by default and where there is time."""
HANGS = 120
"""Seconds after which an input is one on which a reader hangs; none takes one."""
TOKENS = (
    *(b"\t", b"\n", b"\r", b"\r\n", b" ", b"", b"_", b"-", b".", b"#", b"=", b"|", b'"', b"\\", b"/", b"0", b"-1"),
    *(b"(", b")", b"[", b"]", b"{", b"}", b"null", b"true", b"NaN", b"1e999", b"[SEP]", b"[MASK]", b"<pad>", b"<unk>"),
    *(
        b"\x00",
        b"\xff",
        b"\xe2\x80",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\xc2\x85",
        b"\xef\xbb\xbf",
    ),
    *("\u2028", "天地", "เป็น", "e\u0301" * 50, "\u202e"),
    *(b"9" * 5000, b"[" * 5000, b"(" * 5000, b"{" * 300, b"x" * 20_000, b"1-2", b"2.1", b"# newdoc\n", b"\n\n\n"),
)
VALUES = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, float("nan"), float("inf"), 10**400, "", "x", "1", "\ud800", "a/b"),
    *([], {}, [None], {"a": {}}, [[1]], {"path": 3}, ["x"] * 3, "x" * 5000),
)
Reader = Callable[[Any], object]


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """Some of it put elsewhere, doubled, dropped, or replaced by what may be special to a format."""
    for _ in range(draw.randint(1, 6)):
        first, second = sorted(draw.randint(0, len(content)) for _ in "ab")
        second = min(second, first + draw.choice([1, 3, 30, 3000]))
        token = draw.choice(TOKENS)
        token = token.encode() if isinstance(token, str) else token
        piece = content[first:second]
        new = draw.choice([token, token, piece * 2, b"", bytes([draw.randrange(256)]), piece[::-1], token + piece])
        content = content[:first] + new + content[second:]
        if draw.random() < 0.05:
            content = content[:first]
    return content


def changed_values(content: Any, draw: random.Random) -> Any:
    """A value or more, at any depth, replaced or taken away."""
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        places = list(_places(content))
        if not places:
            return content
        holder, key = draw.choice(places)
        if draw.random() < 0.25:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in list(keys):
        yield content, key
        yield from _places(content[key])


def only_user_errors(reader: Reader, inputs: int, make: Callable[[random.Random], Any], seed: object = 0) -> int:
    """Give a reader so many inputs; how many of them it refused, each in one line."""
    refused = 0
    for number in range(inputs):
        given = make(random.Random(f"{seed} {number}"))
        try:
            with _watched():
                reader(given)
        except UserError as error:
            assert "\n" not in str(error), (number, error)
            refused += 1
        except BaseException as error:
            error.add_note(f"input {number}: {given!r:.2000}")
            raise
    assert refused, "all inputs were taken: they are not changed enough"
    return refused


@contextmanager
def _watched() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise TimeoutError("the reader hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS)
    logging.disable()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # half a character is none to pytest-xdist
            yield
    finally:
        logging.disable(logging.NOTSET)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def one_of(seeds: Sequence[bytes]) -> Callable[[random.Random], bytes]:
    """Changes one of several contents."""
    return lambda draw: changed_bytes(draw.choice(seeds), draw)
