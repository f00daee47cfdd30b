"""Whether two films are of one person, by what their headers say: patient's ID and its issuer, name, birth date and sex."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from kneexray.types import DicomContext

_NOBODY = frozenset(
    (
        *("anon", "deid", "de", "identified", "deidentified", "unknown", "unbekannt", "desconocido", "inconnu", "none", "null", "nil"),
        *("na", "n", "a", "x", "xx", "nan", "not", "available", "applicable", "no", "name", "id", "noname", "unnamed", "test", "testing"),
        *("demo", "dummy", "sample", "phantom", "patient", "pat", "patientid", "patientname", "removed", "redacted", "blank", "empty"),
        *("hidden", "private", "john", "jane", "doe", "temp", "temporary", "default", "undefined", "invalid", "emergency"),
    )
)
"""Words that, alone or together, name nobody; so do those that begin with ``anonym``, or are a letter or digit over and over."""
_REPEATED = re.compile(r"0+|(.)\1{2,}")
_COUNTED = frozenset(("123", "1234", "12345", "123456", "1234567", "12345678", "123456789"))


@dataclass(frozen=True, slots=True)
class Person:
    """What a film says of whom it shows; empty where it does not say. It names a patient: it belongs in no log and no report."""

    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)

    @classmethod
    def of(cls, context: DicomContext | None) -> Person:
        """Return the person of a DICOM film; one without any facts for other images."""
        if context is None:
            return cls()
        name, born, sex = (text_of(context, keyword) for keyword in ("PatientName", "PatientBirthDate", "PatientSex"))
        born = re.sub(r"[^0-9]", "", born)
        return cls(
            "" if is_placeholder(name) else _plain(name),
            born if re.fullmatch(r"(18|19|20)[0-9]{6}", born) and born not in ("19000101", "18000101", "18991230") else "",
            sex.upper() if sex.upper() in ("M", "F") else "",
        )

    def may_be(self, other: Person) -> bool:
        """Say whether nothing that both state differs. Of two names one may have words that the other lacks, and they may change places."""
        if any(mine and theirs and mine != theirs for mine, theirs in ((self.birth_date, other.birth_date), (self.sex, other.sex))):
            return False
        mine, theirs = set(self.name.split()), set(other.name.split())
        return mine <= theirs or theirs <= mine


def text_of(context: DicomContext, keyword: str) -> str:
    """Return a text of a header, undecoded: the same octets are the same text."""
    return context.attributes.get(keyword, b"").decode("latin-1").strip(" \0")


def is_placeholder(name: str, *, number: bool = False) -> bool:
    """Say whether a patient's ID or name names nobody: empty, ``ANON``, ``UNKNOWN``, ``000``, ``XXXX`` and the like.

    With ``number`` a row of digits may be a name: tables count their patients.
    """
    plain = re.sub(r"[\s^=_.,*#?/-]+", " ", name.casefold()).strip()
    squeezed = plain.replace(" ", "")
    if number and squeezed.isdigit():
        return False
    if squeezed in _COUNTED:
        return True
    return all(word in _NOBODY or word.startswith("anonym") or _REPEATED.fullmatch(word) for word in plain.split())


def _plain(name: str) -> str:
    """Return the words of a person's family and given names (PS3.5 6.2.1.2), of the first group, without case, accents, punctuation."""
    letters = unicodedata.normalize("NFKD", " ".join(name.split("=")[0].split("^")[:2])).casefold()
    return " ".join(re.findall(r"\w+", "".join(letter for letter in letters if not unicodedata.combining(letter))))
