"""Logs quote nothing of a film."""

from __future__ import annotations

import logging

import pytest

from kneexray.cli._logs import Discreet


def record(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "file.py", 1, text, (), None)


@pytest.mark.parametrize("name", ["pydicom.valuerep", "pynetdicom.utils", "highdicom"])
def test_dicom_libraries_say_nothing_of_a_film(name: str) -> None:
    assert not Discreet().filter(record(name, logging.WARNING, "Invalid value '1.2.03.4.5'"))
    error = record(name, logging.ERROR, "Doe^Jane 1.2.03.4.5")
    assert Discreet().filter(error)
    assert "Doe" not in error.getMessage()


def test_uids_are_taken_out_and_addresses_stay() -> None:
    ours = record("kneexray.node", logging.INFO, "1.2.840.10008.5 from 127.0.0.1")
    assert Discreet().filter(ours)
    assert ours.getMessage() == "[UID] from 127.0.0.1"
    assert not Discreet().filter(record("py.warnings", logging.WARNING, "/site-packages/pydicom/valuerep.py:440: Invalid value"))
