"""Takes films from the archive and from modalities: C-ECHO and C-STORE (PS3.4 annexes A and B)."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from pydicom import uid
from pynetdicom import AE, evt
from pynetdicom.presentation import VerificationPresentationContexts

from kneexray.errors import ConfigError, OutputError
from kneexray.node.queue import Queue
from kneexray.node.settings import NodeSettings
from kneexray.node.spool import Spool
from kneexray.read.dicom import TRANSFER_SYNTAXES
from kneexray.read.dicom_attributes import is_own
from kneexray.read.dicom_header import parse
from kneexray.read.limits import DEFAULT_LIMITS

logger = logging.getLogger(__name__)

FILMS = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.VLPhotographicImageStorage,
)
"""SOP classes that may be a radiograph."""
COMPANIONS = (
    uid.BasicTextSRStorage,
    uid.EnhancedSRStorage,
    uid.ComprehensiveSRStorage,
    uid.Comprehensive3DSRStorage,
    uid.XRayRadiationDoseSRStorage,
    uid.KeyObjectSelectionDocumentStorage,
    uid.GrayscaleSoftcopyPresentationStateStorage,
    uid.EncapsulatedPDFStorage,
)
"""SOP classes that come along with whole studies, our own results among them: taken, so that no sender fails, and let go."""

SUCCESS, OUT_OF_RESOURCES, MISMATCH, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4 table B.2-1


class Receiver:
    """Listens for associations. What it answers with success is in the spool and in the queue for good, or of no interest."""

    def __init__(self, settings: NodeSettings, queue: Queue, spool: Spool) -> None:
        self._settings = settings
        self._queue = queue
        self._spool = spool
        self._rates = Rates(settings.most_a_minute)
        self._received: defaultdict[Any, int] = defaultdict(int)  # bytes of the message that each association is sending
        self._entity = entity = AE(settings.aet)
        entity.require_calling_aet = list(settings.allow)
        entity.require_called_aet = True
        entity.maximum_associations = settings.most_associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = 60
        entity.supported_contexts = VerificationPresentationContexts  # C-ECHO
        for sop_class in FILMS:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        for sop_class in COMPANIONS:
            entity.add_supported_context(sop_class)

    def start(self) -> int:
        """Listen, and return the port; raises :class:`~kneexray.errors.ConfigError` where that cannot be listened on."""
        address = (self._settings.host, self._settings.port)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_DATA_RECV, self._count),
            (evt.EVT_DIMSE_RECV, self._reset),
            (evt.EVT_CONN_CLOSE, self._reset),
        ]
        try:
            server = self._entity.start_server(address, block=False, evt_handlers=handlers)
        except OSError as error:
            where = f"{address[0]} port {address[1]} ({error.strerror})"
            raise ConfigError(f"the DICOM node cannot listen on {where}; choose another --dicom-port") from error
        assert server is not None  # since it does not block
        port: int = server.server_address[1]
        return port

    def stop(self) -> None:
        """Abort what is being received, and listen no more."""
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        """Return the status that answers an object."""
        if event.context.abstract_syntax in COMPANIONS:
            return SUCCESS
        caller = event.assoc.requestor.ae_title
        if not self._rates.admit(caller):
            logger.warning("%s sends more than %d objects a minute; it is told to wait", caller, self._settings.most_a_minute)
            return OUT_OF_RESOURCES
        try:
            return self._receive(event.encoded_dataset())
        except (OutputError, sqlite3.Error) as error:
            logger.error("an object of %s cannot be stored: %s", caller, error)
            return OUT_OF_RESOURCES

    def _receive(self, data: bytes) -> int:
        try:
            header = parse(data, limits=DEFAULT_LIMITS).header
        except Exception as error:  # the parser meets damage with nearly anything, and its text may quote values: name the kind only
            logger.warning("an object cannot be parsed (%s); it is refused", type(error).__name__)
            return NOT_UNDERSTOOD
        instance, study = header.text("SOPInstanceUID"), header.text("StudyInstanceUID")
        if not instance or not study:
            logger.warning("an object without SOP Instance UID or Study Instance UID is refused")
            return MISMATCH
        if is_own(header):
            logger.info("a result of KneeXRay came back; it is let go")
        elif not self._queue.knows(instance):
            self._queue.add(instance, study=study, file=self._spool.store_film(data, uid=instance))
            logger.info("a film was received")
        return SUCCESS

    def _count(self, event: evt.Event) -> None:
        """End an association within an object that is too large, before it fills the memory."""
        before = self._received[event.assoc]
        self._received[event.assoc] = before + len(event.data)
        if before <= self._settings.most_bytes < before + len(event.data):  # once: more may come before the abort does
            logger.warning("%s sends an object of more than %d bytes; aborted", event.assoc.requestor.ae_title, self._settings.most_bytes)
            event.assoc.abort()

    def _reset(self, event: evt.Event) -> None:
        self._received.pop(event.assoc, None)


class Rates:
    """Counts what each sender sent in the last minute."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._mutex = threading.Lock()
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def admit(self, sender: str) -> bool:
        """Say whether one more object of ``sender`` may come, and count it if so."""
        with self._mutex:
            now, times = self._clock(), self._times[sender]
            while times and times[0] <= now - 60:
                times.popleft()
            if len(times) >= self._most:
                return False
            times.append(now)
            return True
