"""From a path to text: compressed or not, whatever its encoding, or a sentence."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from nlme.errors import DataError

# how files begin that are not text, and what they are
_NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive (a workbook of a spreadsheet is one); save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "a workbook of an old spreadsheet; save the sheet as CSV"),
    (b"HEADER RECORD", "a SAS transport file; convert it to CSV, or read it with pandas.read_sas and give the DataFrame"),
    (b"%PDF", "a PDF; the data set has to be a table in text"),
    (b"RDX", "a data file of R; write it with write.csv"),
    (b"PAR1", "a Parquet file; read it with pandas.read_parquet and give the DataFrame"),
    (b"BZh", "compressed by bzip2; decompress it, or compress it by gzip"),
    (b"\xfd7zXZ", "compressed by xz; decompress it, or compress it by gzip"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(path: Path, encoding: str | None = None) -> str:
    """The text of a file: UTF-8, or what its byte order mark or ``encoding`` says.

    Raises
    ------
    DataError
        No such file, a damaged one, one that is no text, or another encoding.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no file with a content"
        raise DataError(f"{path} is {what}; a data set is a text file." + _tables_in(path))
    if not path.is_file():
        raise DataError(f"There is no file {path}." + _tables_in(path.parent))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if content.startswith(b"\x1f\x8b") or path.suffix == ".gz":
        content = _decompressed(content, path.name)
    for start, sentence in _NOT_TEXT:
        if content.startswith(start):
            raise DataError(f"{path.name} is {sentence}.")
    return _decoded(content, path.name, encoding)


def _tables_in(folder: Path) -> str:
    """What a folder has that might have been meant, in a sentence with a space before it."""
    near = sorted(p.name for p in folder.glob("*.csv"))[:8] if folder.is_dir() else []
    return f" In {folder} there are: {', '.join(near)}." if near else ""


def _decompressed(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is damaged or not compressed by gzip: {error}. Take a new copy of the file.") from None


def _decoded(content: bytes, name: str, encoding: str | None) -> str:
    marked = next((e for mark, e in _MARKS if content.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    try:
        text = content.decode(chosen)
    except LookupError:
        raise DataError(
            f"encoding={encoding!r} is not known to Python; usual ones are 'utf-8', 'latin-1', 'cp1252', 'utf-16'."
        ) from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{name} is not text in {chosen.upper()} (line {line}); save it as CSV UTF-8, or say what it is: encoding='latin-1' "
            "(older spreadsheets), 'utf-16'."
        ) from None
    if "\0" in text:
        raise DataError(f"{name} holds zero bytes: it is no text, or text in another encoding; try encoding='utf-16'.")
    return text.removeprefix("\ufeff")
