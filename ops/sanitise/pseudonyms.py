"""Names that stand for others: the same for the same value, and nobody can go back."""

import hashlib
import hmac
import unicodedata
from collections.abc import Iterable, Mapping

from ops.rules import Kind

KEY_BYTES = 32
DOMAIN = "staging.invalid"
"""RFC 2606 keeps `.invalid` for names that are no names: no mail is ever delivered there."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz023456789"
_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_MARK_LETTERS = 12
_SYLLABLES = 4
_PHONE_DIGITS = 9


class Pseudonyms:
    """Pseudonyms by a keyed hash (HMAC-SHA256, RFC 2104): without the key they tell nothing.

    Equal values have equal pseudonyms, in every column and in every run with the same key.
    E-mail addresses are equal whatever the case of their letters, and all texts whatever their
    normal form (https://unicode.org/reports/tr15/).

    Args:
        key: The secret, at least 32 bytes.
        chosen: Addresses in lower case whose pseudonym is given, for example the
            administrator's.
    """

    def __init__(self, key: bytes, chosen: Mapping[str, str] | None = None) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, and {KEY_BYTES} are needed")
        self._key = key
        self._chosen = dict(chosen or {})
        self._first: set[str] = set()
        self._made: dict[tuple[Kind, str], str] = {}

    def choose(self, address: str, pseudonym: str) -> None:
        """Give an address a pseudonym by hand."""
        spelling = _spelling(Kind.EMAIL, address)
        self._chosen[spelling] = pseudonym
        self._first.add(address)
        self._made.pop((Kind.EMAIL, spelling), None)

    def of(self, kind: Kind, value: str) -> str:
        """Return the pseudonym of a value."""
        spelling = _spelling(kind, value)
        made = self._made.get((kind, spelling))
        if made is None:
            made = self._chosen.get(spelling) if kind is Kind.EMAIL else None
            if made is None:
                made = _shaped(kind, self._digest(kind, spelling))
            self._made[kind, spelling] = made
        return made

    def mark(self, value: bytes) -> str:
        """Return twelve letters that stand for bytes, for example for a file's name."""
        return _letters(self._digest("mark", value.decode("utf-8", "surrogateescape")))

    def distinct(self, kind: Kind, values: Iterable[str]) -> dict[str, str]:
        """Return the pseudonyms of all values of a column in which no value may come twice.

        Two spellings of one address get two: the one whose pseudonym was given by hand, the one in
        lower case, or else the first, has the pseudonym that the address has everywhere.
        """
        given: dict[str, str] = {}
        taken: set[str] = set()

        def rank(value: str) -> tuple[bool, bool, str]:
            return value not in self._first, value != value.lower(), value

        for value in sorted(values, key=rank):
            pseudonym, turn = self.of(kind, value), 0
            while pseudonym in taken:
                turn += 1
                pseudonym = _shaped(kind, self._digest(f"{kind} {turn}", value))
            taken.add(pseudonym)
            given[value] = pseudonym
        return given

    def _digest(self, purpose: str, value: str) -> bytes:
        message = f"{purpose}\0{value}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, message, hashlib.sha256).digest()


def _spelling(kind: Kind, value: str) -> str:
    value = unicodedata.normalize("NFC", value)
    return value.lower() if kind is Kind.EMAIL else value


def _shaped(kind: Kind, digest: bytes) -> str:
    """Make a digest look like what it stands for."""
    match kind:
        case Kind.EMAIL:
            return f"u-{_letters(digest)}@{DOMAIN}"
        case Kind.NAME:
            return _pronounceable(digest)
        case Kind.PHONE:
            return _digits(digest)
        case Kind.TEXT:
            return f"text-{_letters(digest)}"


def _letters(digest: bytes) -> str:
    """Return letters that nobody confuses, five bits each."""
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_MARK_LETTERS])


def _pronounceable(digest: bytes) -> str:
    syllables = [
        _CONSONANTS[digest[2 * at] % len(_CONSONANTS)] + _VOWELS[digest[2 * at + 1] % len(_VOWELS)]
        for at in range(_SYLLABLES)
    ]
    return "".join(syllables).capitalize()


def _digits(digest: bytes) -> str:
    """Return a number under the country code 999, which ITU-T E.164 has given to nobody."""
    number = int.from_bytes(digest[:8], "big") % 10**_PHONE_DIGITS
    return f"+999 {number:0{_PHONE_DIGITS}}"
