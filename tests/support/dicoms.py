"""DICOM files for tests: made of arrays and attributes, compressed in every way that is read."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from kneexray.read import read_bytes
from kneexray.types import Radiograph, Rejection

EXPLICIT, IMPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS, JPEG_LS_NEAR, J2K_LOSSLESS, J2K, HTJ2K, RLE = (f"1.2.840.10008.1.2.{n}" for n in ("4.80", "4.81", "4.90", "4.91", "4.201", "5"))
DX = "1.2.840.10008.5.1.4.1.1.1.1"
UID_TEXT = "1.2.3.4.5"
SECRET = "Doe^Jane"


def dicom(
    values: np.ndarray | None, *, bits: int = 0, syntax: str = EXPLICIT, streams: list[bytes] | None = None, **attributes: Any
) -> bytes:
    """A DX image of ``values`` (H, W[, 3]), compressed ``streams`` in its place where given; None leaves an attribute out."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality, dataset.PatientName = DX, UID_TEXT, "DX", SECRET
    if values is not None:
        allocated = values.dtype.itemsize * 8
        dataset.Rows, dataset.Columns = values.shape[-3:-1] if values.ndim == 4 or values.shape[-1] == 3 else values.shape[-2:]
        dataset.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if dataset.SamplesPerPixel == 3 else "MONOCHROME2"
        if dataset.SamplesPerPixel == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits or allocated, (bits or allocated) - 1
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        order = ">" if syntax == BIG else "<"
        raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = encapsulate(streams) if streams is not None else raw + bytes(len(raw) % 2)
        dataset["PixelData"].VR = "OB" if allocated == 8 or streams is not None else "OW"
        dataset["PixelData"].is_undefined_length = streams is not None
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = (
        UID(dataset.get("SOPClassUID", DX)),
        UID(UID_TEXT),
    )
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def lut(first: int, table: list[int], bits: int) -> list[Dataset]:
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new(0x00283006, "OW", np.array(table, "<u2").tobytes())
    return [item]


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def films(data: bytes, **options: Any) -> tuple[Radiograph, ...]:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        study = read_bytes(data, source="x.dcm", **options)
    assert not leaked, [str(w.message) for w in leaked]
    assert not study.rejections, study.rejections
    for radiograph in study.radiographs:
        assert radiograph.pixels.dtype == np.float32
        assert radiograph.pixels.ndim == 2
        assert 0 <= radiograph.pixels.min() <= radiograph.pixels.max() <= 1
    return study.radiographs


def one(data: bytes, **options: Any) -> Radiograph:
    (radiograph,) = films(data, **options)
    return radiograph


def refused(data: bytes, **options: Any) -> Rejection:
    study = read_bytes(data, source="x.dcm", **options)
    assert not study.radiographs
    assert SECRET not in str(study)
    return study.rejections[0]


def ramp(bits: int, *, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    values = np.linspace(0, 2**bits - 1, shape[0] * shape[1]).reshape(shape)
    return np.rint(values).astype(np.uint8 if bits <= 8 else np.uint16)


def smooth(bits: int, *, shape: tuple[int, int] = (61, 67)) -> np.ndarray:
    """Something that lossy codecs keep well."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = (np.sin(y / 9) * np.cos(x / 7) + 1) / 2 * (2**bits - 1)
    return np.rint(values).astype(np.uint8 if bits <= 8 else np.uint16)


def packbits(segment: bytes) -> bytes:
    """PS3.5 Annex G by literal runs alone: long, but valid."""
    runs = b"".join(bytes([len(run) - 1]) + run for run in (segment[i : i + 128] for i in range(0, len(segment), 128)))
    return runs + bytes(len(runs) % 2)


def rle(values: np.ndarray) -> bytes:
    samples = values[..., np.newaxis] if values.ndim == 2 else values
    planes = [samples[..., s].astype(f">u{values.dtype.itemsize}").tobytes() for s in range(samples.shape[-1])]
    segments = [packbits(plane[b :: values.dtype.itemsize]) for plane in planes for b in range(values.dtype.itemsize)]
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def jpeg(values: np.ndarray, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(values, **options))


EXACT = [
    (RLE, 8, rle),
    (RLE, 16, rle),
    (LOSSLESS_SV1, 8, lambda v: jpeg(v, lossless=True)),
    (LOSSLESS_SV1, 12, lambda v: jpeg(v, lossless=True, bitspersample=12)),
    (LOSSLESS, 16, lambda v: jpeg(v, lossless=True, predictor=4, bitspersample=16)),
    (JPEG_LS, 8, lambda v: bytes(imagecodecs.jpegls_encode(v))),
    (JPEG_LS, 16, lambda v: bytes(imagecodecs.jpegls_encode(v))),
    (J2K_LOSSLESS, 8, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=0, reversible=True))),
    (J2K_LOSSLESS, 12, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=0, reversible=True, bitspersample=12))),
    (J2K_LOSSLESS, 16, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="jp2", level=0, reversible=True))),
    (HTJ2K, 12, lambda v: bytes(imagecodecs.htj2k_encode(v))),
]
LOSSY = [
    (BASELINE, 8, lambda v: jpeg(v, level=95)),
    (EXTENDED, 12, lambda v: jpeg(v, level=95, bitspersample=12)),
    (JPEG_LS_NEAR, 12, lambda v: bytes(imagecodecs.jpegls_encode(v, level=3))),
    (J2K, 16, lambda v: bytes(imagecodecs.jpeg2k_encode(v, codecformat="j2k", level=60))),
]
