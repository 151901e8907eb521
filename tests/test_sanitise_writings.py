"""How much is read for values that are written in another way, and that they are found."""

import random

import pytest

from ops.sanitise.finder import Finder
from ops.sanitise.writings import readings

SEED = 26


def test_what_is_compressed_is_not_read_over_and_over() -> None:
    """Any byte may be a sign of another writing there: those of a single byte told of nothing."""
    data = random.Random(SEED).randbytes(1 << 20).lower()  # noqa: S311 - made-up contents
    assert sum(map(len, readings(data, 1500))) < 5 * len(data)


@pytest.mark.parametrize(
    "text",
    [
        b"q=Dave+Outsider&x",
        b"dave+outsider%2C",
        b"+1+215+657+4312",
        b"%2B1+215+657+4312",
        b"dave%2Boutsider",
        b"zo%C3%A9+m%C3%BCller",
        b"the+key%3Aof+the+gate",
    ],
)
def test_spaces_that_became_plus_signs_hide_nothing(text: bytes) -> None:
    values = (b"dave outsider", b"+1 215 657 4312", "zoé müller".encode(), b"the key:of the gate")
    finder = Finder(values)
    assert finder.found_in(text)
    assert finder.found_in(b"\0\1" + text.upper() + b"\2")
    assert not finder.found_in(text.replace(b"+", b"-").replace(b"%2B", b"-"))
