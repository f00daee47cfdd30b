"""What a command writes to the log: nothing that DICOM libraries quote from a film."""

from __future__ import annotations

import logging
import re
import sys

_LIBRARIES = ("pydicom", "pynetdicom", "highdicom")
_UID = re.compile(r"\d+(?:\.\d+){3,}")


class Discreet(logging.Filter):
    """Withholds what DICOM libraries say below ERROR, and the values in what they say above: UIDs and names of patients among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether ``record`` is to be written, having taken UIDs out of any."""
        quoting = record.name.partition(".")[0] in _LIBRARIES
        if quoting and record.levelno < logging.ERROR:
            return False
        if record.name == "py.warnings":  # logging.captureWarnings: the text names the file that warns
            return not any(f"/{library}/" in record.getMessage().replace("\\", "/") for library in _LIBRARIES)
        if quoting:
            record.msg, record.args, record.exc_info, record.exc_text = "an error that may quote the film is withheld", (), None, None
        elif _UID.search(said := record.getMessage()):
            record.msg, record.args = _UID.sub(lambda found: found[0] if _is_address(found[0]) else "[UID]", said), ()
        return True


def start(*, verbose: bool) -> None:
    """Send log and warnings to standard error, through :class:`Discreet`."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        if not any(isinstance(present, Discreet) for present in handler.filters):
            handler.addFilter(Discreet())


def _is_address(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(int(part) < 256 for part in parts)  # 127.0.0.1, not a UID
