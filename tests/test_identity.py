"""Whom a film shows: placeholders, and names as headers spell them."""

from __future__ import annotations

import pytest

from kneexray.identity import Person, is_placeholder
from kneexray.types import DicomContext


def person(name: str = "", born: str = "", sex: str = "") -> Person:
    return Person.of(DicomContext({"PatientName": name.encode(), "PatientBirthDate": born.encode(), "PatientSex": sex.encode()}))


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "ANON",
        "anonymous",
        "ANONYMIZED",
        "Anonymous^Patient",
        "0",
        "000",
        "9999",
        "Anonymized01",
        "UNKNOWN",
        "N/A",
        "TEST",
        "test^patient",
        "XXXX",
        "---",
        "123456",
        "No Name",
        "NULL",
    ],
)
def test_placeholders_name_nobody(name: str):
    assert is_placeholder(name)
    assert person(name).name == ""


@pytest.mark.parametrize("name", ["7", "12", "P-001", "ANON0007", "Meier^Anna", "Li^N", "Nonetti^Marco", "9003175"])
def test_others_name_somebody(name: str):
    assert not is_placeholder(name)


def test_tables_may_count_their_patients():
    assert not is_placeholder("0", number=True)
    assert is_placeholder("anon", number=True)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("Meier^Anna", "19500101", "F"), ("MEIER^ANNA^^Dr", "19500101", "F"), True),
        (("Müller^Anna",), ("müller^anna",), True),
        (("Garcia^Maria",), ("Garcia Lopez^Maria",), True),
        (("ANON", "", ""), ("Meier^Anna", "19500101", "F"), True),
        (("Meier^Anna", "19500101"), ("Meier^Anna", "19500102"), False),
        (("Meier^Anna", "", "F"), ("Meier^Anna", "", "M"), False),
        (("Meier^Anna",), ("Meier^Otto",), False),
        (("Meier^Anna", "", "O"), ("Meier^Anna", "", "F"), True),
    ],
)
def test_persons_are_told_apart_by_what_both_films_state(one: tuple[str, ...], other: tuple[str, ...], same: bool):
    assert person(*one).may_be(person(*other)) == person(*other).may_be(person(*one)) == same


def test_no_name_is_printed():
    assert "meier" not in f"{DicomContext({'PatientName': b'Meier^Anna'})} {person('Meier^Anna')}".lower()
