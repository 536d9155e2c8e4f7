"""Files that no reader here takes, told by their first bytes: what each is, and what to do about it."""

import gzip
import pathlib
import re
import zlib

BEGINNING = 1024
"""Bytes that are looked at."""

GZIP = b"\x1f\x8b"

TAR = "a tar archive"
_CONVERT = "convert it to PNG"
_UNPACK = "unpack it, and give the folder or file"

KINDS: tuple[tuple[bytes, str, str], ...] = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file with `git lfs pull`"),
    (
        rb"(\xef\xbb\xbf)?\s*<(?i:!doctype|html|head|body|\?xml|script|meta)",
        "a web page (HTML or XML), not the file itself",
        "the download failed, and the page says why; fetch the file again",
    ),
    (
        rb"\x93NUMPY",
        "one array as numpy.save writes it (.npy)",
        'write it as .npz, for example with numpy.savez("mine.npz", images=numpy.load("mine.npy"))',
    ),
    (rb".{257}ustar", TAR, "unpack it with `tar -xf`, and give the folder (or a zip of it)"),
    (
        rb"\x80[\x02-\x05]",
        "a Python pickle, which can run code",
        "if you trust it, load it in Python and write its arrays with numpy.savez",
    ),
    (rb"\x89HDF\r\n", "an HDF5 file", "read it with h5py, and write its arrays with numpy.savez"),
    (rb"MATLAB ", "a MATLAB file", "read it with scipy.io.loadmat, and write its arrays with numpy.savez"),
    (rb"PAR1", "a Parquet file", "read it with pyarrow, and write its pictures into a folder"),
    (rb"7z\xbc\xaf|Rar!|\xfd7zXZ|BZh|\x28\xb5\x2f\xfd", "a packed file (7z, rar, xz, bzip2 or zstd)", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|RIFF.{4}WEBP", "one picture", "give the folder that it lies in"),
    (rb"GIF8", "a GIF picture", _CONVERT),
    (rb"BM.{4}\0{4}", "a BMP picture", _CONVERT),
    (rb"II\*\0|MM\0\*", "a TIFF picture", _CONVERT),
    (rb".{4}ftyp(avif|avis|heic|heix|mif1)", "an AVIF or HEIC picture", _CONVERT),
)
"""Patterns of the first bytes, what such a file is, and what to do about it."""


def recognised(start: bytes) -> tuple[str, str] | None:
    """What a file that begins so is, and what to do about it; None for one that a reader may take, or unknown ones."""
    for pattern, what, hint in KINDS:
        if re.match(pattern, start[:BEGINNING], re.DOTALL):
            return what, hint
    return None


def beginning(path: pathlib.Path) -> bytes:
    """The first bytes of a file, of what is inside if it is gzipped; nothing if they cannot be read."""
    try:
        with path.open("rb") as stream:
            start = stream.read(BEGINNING)
        if start.startswith(GZIP):
            with gzip.open(path) as unpacked:
                return unpacked.read(BEGINNING)
    except (OSError, EOFError, zlib.error):
        return b""
    return start
