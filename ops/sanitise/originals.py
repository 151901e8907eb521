"""What was found in the source and must not be in the copy, and what stands there instead."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ops.sanitise.documents import read_document, strings_of
from ops.sanitise.finder import Finder

_SHORTEST = 6
_SHORTEST_LETTERS = 16
_NAME_LETTERS = 3
_FULL_NAME = 2
_SHORTEST_NUMBER = 9


def is_distinctive(value: str) -> bool:
    """Tell whether a value can be looked for everywhere: not a word that texts hold anyway."""
    value = value.strip()
    if len(value) < _SHORTEST:
        return False
    if not any(letter.isalpha() for letter in value):
        return len(value) >= _SHORTEST_NUMBER
    return len(value) >= _SHORTEST_LETTERS or not value.isalpha()


@dataclass(slots=True)
class Originals:
    """Collects values of the source, as bytes in UTF-8, each with what replaces it elsewhere.

    `mark` makes letters that stand for a secret. `common` are the secrets that are too short or
    too ordinary to be looked for.
    """

    mark: Callable[[bytes], str]
    found: dict[bytes, bytes] = field(default_factory=dict)
    common: set[str] = field(default_factory=set)
    _finder: Finder | None = field(default=None, init=False)
    _prepared: int = field(default=0, init=False)

    def finder(self) -> Finder:
        """Return what finds all of them; it is made again only where there are more by now."""
        if self._finder is None or self._prepared != len(self.found):
            self._finder, self._prepared = Finder(self.found), len(self.found)
        return self._finder

    def add(self, value: str, instead: str) -> None:
        """Note a value that has a pseudonym."""
        if is_distinctive(value):
            self.found.setdefault(_bytes(value.strip()), _bytes(instead))

    def add_address(self, value: str, instead: str) -> None:
        """Note an e-mail address, however short."""
        if "@" in value:
            self.found[_bytes(value.strip().lower())] = _bytes(instead)
        else:
            self.add(value, instead)

    def add_secret(self, value: str) -> None:
        """Note a secret, and each text in it where it is a JSON document.

        The whole document is looked for as well as its parts.
        """
        for part in {value, *_parts(value)}:
            if is_distinctive(part):
                secret = _bytes(part.strip())
                self.found.setdefault(secret, b"removed-" + self.mark(secret).encode())
            elif part.strip():
                self.common.add(part.strip())

    def add_person(self, names: tuple[str, ...], instead: tuple[str, ...]) -> None:
        """Note a person by the names of a row, in either order; a single name is too ordinary."""
        if len(names) < _FULL_NAME or any(len(name) < _NAME_LETTERS for name in names):
            return
        for join, turned in ((" ", False), (" ", True), (", ", True)):
            old, new = (tuple(reversed(one)) if turned else one for one in (names, instead))
            self.found.setdefault(_bytes(join.join(old)), _bytes(join.join(new)))

    def release(self, value: str) -> None:
        """Forget a value that may be in the copy: the operator has asked for it."""
        self._finder = None
        for known in [known for known in self.found if known.lower() == _bytes(value).lower()]:
            del self.found[known]


def _parts(value: str) -> Iterator[str]:
    if value[:1] not in {"{", "["}:
        return
    try:
        yield from strings_of(read_document(value))
    except ValueError:
        return


def _bytes(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")  # half a letter, which JSON can write
