"""What file names tell while a folder or an archive is searched; a file that was named by a person is always looked at."""

from __future__ import annotations

from pathlib import PurePosixPath

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom"})
_NOT_IMAGES = frozenset(
    f".{suffix}"
    for suffix in (
        *(
            "txt",
            "csv",
            "tsv",
            "json",
            "jsonl",
            "md",
            "rst",
            "html",
            "htm",
            "xml",
            "xsd",
            "css",
            "js",
            "ts",
            "py",
            "pyc",
            "ipynb",
            "r",
            "m",
        ),
        *("c", "cpp", "h", "sh", "bat", "ps1", "ini", "cfg", "conf", "toml", "yaml", "yml", "db", "sqlite", "log", "lock", "sha256", "md5"),
        *("pdf", "rtf", "doc", "docx", "xls", "xlsx", "ods", "odt", "ppt", "pptx", "parquet", "feather", "npy", "npz", "mat", "h5", "pkl"),
        *("pt", "pth", "ckpt", "onnx", "safetensors", "exe", "dll", "so", "lnk", "url", "mp4", "mov", "avi", "mkv", "webm", "mp3", "wav"),
        *(
            "jar",
            "war",
            "class",
            "mf",
            "inf",
            "ico",
            "icns",
            "cab",
            "chm",
            "hlp",
            "msi",
            "ocx",
            "sys",
            "dylib",
            "jnilib",
            "swf",
            "ttf",
            "woff",
        ),
        *(
            "partial",
            "part",
            "tmp",
            "crdownload",
            "properties",
            "policy",
            "jnlp",
            "manifest",
            "sf",
            "rsa",
            "dsa",
            "lic",
            "reg",
            "vbs",
            "cmd",
        ),
    )
)
_NOT_IMAGE_NAMES = frozenset({"dicomdir", "thumbs.db", "desktop.ini", "autorun", "license", "licence", "readme", "makefile"})


def is_image_name(name: str) -> bool:
    """Say whether ``name`` ends like an image, so that nobody need look whether it is an archive."""
    return PurePosixPath(name).suffix.lower() in _IMAGES


def is_hidden(name: str) -> bool:
    """Say whether ``name`` is one that systems hide, or the folder that macOS puts into archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_passed_over(name: str) -> bool:
    """Say whether ``name`` (a path with ``/``) is hidden, or plainly no image: such files in a folder or archive are not reported."""
    path = PurePosixPath(name.replace("\\", "/"))
    if any(is_hidden(part) for part in path.parts if part not in (".", "..")):
        return True
    return path.suffix.lower() in _NOT_IMAGES or path.name.lower() in _NOT_IMAGE_NAMES
