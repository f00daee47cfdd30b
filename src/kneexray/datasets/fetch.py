"""Brings a public data set to this machine: resumed where it was cut, retried where that may help, checked before it gets its name."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

from kneexray.datasets.catalogue.record import ByHand, Card, Kaggle, WebFile
from kneexray.errors import DataError, MissingExtraError
from kneexray.files import make_folder, output_errors
from kneexray.read.sniff import ARCHIVES, SNIFF_BYTES, sniff

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Told the bytes that are here, and how many there will be (None where the server does not say)."""

_CHUNK = 1 << 14  # what a break may cost: of a chunk that does not arrive whole, nothing is kept
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


def fetch(
    card: Card, out: Path, *, progress: Progress = lambda here, total: None, retries: int = 4, wait: float = 1.0, timeout: float = 60.0
) -> Path:
    """Download the data set of ``card`` into folder ``out`` and return the file or folder that ``kneexray data prepare`` takes.

    What is there already is checked and kept. A download that breaks is resumed, up to ``retries`` times with a growing pause that starts
    at ``wait`` seconds, and by the next call after that. ``timeout`` (seconds) is how long the server may be silent. Raises
    :class:`DataError` where a person has to act (credentials, a licence to accept, a set brought by hand), where the hash is wrong or the
    server fails for good.
    """
    make_folder(out)
    if isinstance(card.access, ByHand):
        raise DataError(f"{card.name} cannot be downloaded by a program. {card.access.steps} The page: {card.url}")
    if isinstance(card.access, Kaggle):
        return _kaggle(card, card.access, out)
    return _web(card, card.access, out, ResumingDownload(card, progress=progress, retries=retries, wait=wait, timeout=timeout))


class ResumingDownload:
    """A downloader for pooch that goes on where the last attempt, or the last call, was cut."""

    def __init__(self, card: Card, *, progress: Progress, retries: int, wait: float, timeout: float) -> None:
        self._card = card
        self._progress = progress
        self._retries = retries
        self._wait = wait
        self._timeout = timeout
        self.part = Path()
        """Where what has arrived lies until it is whole."""

    def __call__(self, url: str, output_file: str | IO[bytes], pooch: object) -> None:
        """Bring ``url`` to ``output_file``, as pooch asks for it."""
        import requests

        attempt = 0
        while True:
            before = self._size()
            try:
                self._attempt(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, _Broken) as error:
                attempt = 0 if self._size() > before else attempt + 1
                if attempt > self._retries:
                    raise DataError(
                        f"{url}: the download broke off {attempt} times without getting further ({_short(error)}). Check the network "
                        "and run the command again: "
                        f"it goes on at {self._size():,} bytes."
                    ) from error
                pause = self._wait * 2 ** max(attempt - 1, 0)
                logger.info("%s: %s; trying again in %.0f s from byte %d", url, _short(error), pause, self._size())
                time.sleep(pause)
        with output_errors(self.part):
            self.part.replace(str(output_file))
            self._tag.unlink(missing_ok=True)

    @property
    def _tag(self) -> Path:
        """Where the server's name for this very content is kept: with another one, what has arrived is of no use."""
        return self.part.with_name(f"{self.part.name}.etag")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self, url: str) -> None:
        import requests

        here = self._size()
        headers = {"Accept-Encoding": "identity"}
        tag = self._tag.read_text(encoding="utf-8") if here and self._tag.is_file() else ""
        if tag:
            headers |= {"Range": f"bytes={here}-", "If-Range": tag}
        with requests.get(url, headers=headers, stream=True, timeout=(10, self._timeout)) as answer:
            if answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.part.unlink(missing_ok=True)
                raise _Broken("the server holds less than what is here; starting over")
            self._check(url, answer)
            resumed = answer.status_code == HTTPStatus.PARTIAL_CONTENT and answer.headers.get("Content-Range", "").startswith(
                f"bytes {here}-"
            )
            here = here if resumed else 0
            length = answer.headers.get("Content-Length")
            total = here + int(length) if length is not None and length.isdigit() else None
            tag = answer.headers.get("ETag", "")
            if not tag or tag.startswith("W/"):  # a weak one may stand for other bytes (RFC 9110, 13.1.5)
                tag = answer.headers.get("Last-Modified", "")
            with output_errors(self.part):
                self._tag.write_text(tag, encoding="utf-8")
                file = self.part.open("ab" if resumed else "wb", buffering=0)
            with file:
                for chunk in answer.iter_content(_CHUNK):  # what goes wrong here is the network's fault, not the disk's
                    with output_errors(self.part):
                        file.write(chunk)
                    here += len(chunk)
                    self._progress(here, total)
            if total is not None and here < total:
                raise _Broken(f"{here} of {total} bytes came")

    def _check(self, url: str, answer: Any) -> None:
        """Raise for an answer that is no file: for good, or as :class:`_Broken` where trying again may help."""
        code = answer.status_code
        if code in _REFUSED:
            raise DataError(
                f"{url}: the server refuses ({code}). The set may need an account, or a licence to accept, or its address has changed: "
                f"open {self._card.url} "
                f"in a browser, download the file there, and run 'kneexray data prepare FILE --out DIR'."
            )
        if code in _PASSING or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Broken(f"the server answers {code}")
        if code >= HTTPStatus.BAD_REQUEST:
            raise DataError(
                f"{url}: the server answers {code}. The address may have changed: look at {self._card.url} and download the file there."
            )
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(
                f"{url}: a web page came instead of the file; a login or a licence to accept stands before it. Open {self._card.url} in "
                "a browser, "
                f"download the file there, and run 'kneexray data prepare FILE --out DIR'."
            )


class _Broken(Exception):
    """An attempt that failed in a way that another may not."""


def _web(card: Card, access: WebFile, out: Path, download: ResumingDownload) -> Path:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    place = out / access.name
    download.part = out / f"{access.name}.part"
    try:
        pooch.retrieve(access.url, known_hash=access.sha256 and f"sha256:{access.sha256}", fname=access.name, path=out, downloader=download)
    except ValueError as error:  # how pooch says that the hash differs; it has removed what came
        raise DataError(
            f"{access.url}: what came is not the file that was checked ({error}). It was removed. Try again; if it differs again, the "
            "data set has changed: "
            f"look at {card.url}."
        ) from error
    with place.open("rb") as file:
        kind = sniff(file.read(SNIFF_BYTES))
    if kind not in ARCHIVES:
        place.unlink()
        raise DataError(f"{access.url}: what came is no archive but {kind or 'of no known format'}. It was removed. Look at {card.url}.")
    return place


def _kaggle(card: Card, access: Kaggle, out: Path) -> Path:
    import requests

    try:
        kagglehub = importlib.import_module("kagglehub")  # it has no types
        exceptions = importlib.import_module("kagglehub.exceptions")
    except ImportError:
        raise MissingExtraError(f"downloading {card.name} from Kaggle", "kaggle") from None
    try:
        return Path(kagglehub.dataset_download(access.handle, output_dir=str(out / card.name)))
    except (
        requests.RequestException,
        exceptions.BackendError,
        exceptions.CredentialError,
        exceptions.DataCorruptionError,
        exceptions.NotFoundError,
        exceptions.UnauthenticatedError,
    ) as error:
        raise DataError(
            f"Kaggle did not give {access.handle} ({_short(error)}). If it asks for credentials, make an API token at "
            "https://www.kaggle.com/settings and "
            f"save it as ~/.kaggle/kaggle.json; if it asks for consent, accept the licence at {card.url}. Or download the ZIP there in "
            "a browser."
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
