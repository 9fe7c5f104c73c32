"""The file of a fit: a zip archive that knows its own digest, so that no change of a bit goes unnoticed.

    archive = zip(fit.json, arrays.npz, model.py) with the comment "SHA-256 " + digest,   digest = SHA-256 of all bytes before it

What is read is JSON and arrays of numbers; nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from nlme.errors import FitError

_MARK = b"SHA-256 "
_DIGITS = 64


def write(path: Path, document: dict, arrays: dict[str, np.ndarray], source: str) -> None:
    """Write the archive; an existing file is replaced only once the new one is complete.

    Raises
    ------
    FitError
        The place cannot be written to.
    """
    packed, whole = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, **arrays)
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fit.json", json.dumps(document, indent=1))
        archive.writestr("arrays.npz", packed.getvalue())
        archive.writestr("model.py", source)
        archive.comment = _MARK + b"0" * _DIGITS
    content = whole.getvalue()[:-_DIGITS]
    content += hashlib.sha256(content).hexdigest().encode()
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        raise FitError(f"The fit cannot be written to {path}: {error.strerror or error}.") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read(path: Path, form: str, version: int) -> tuple[dict, dict[str, np.ndarray], str]:
    """The document, the arrays and the model's text of an archive of this form and version.

    Raises
    ------
    FitError
        No such file, another kind of file, another version, or a file that is not as it was written.
    """
    if not path.is_file():
        raise FitError(f"There is no file {path}.")
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            document = json.loads(archive.read("fit.json"))
    except Exception as error:  # whatever a damaged archive makes zipfile, zlib or json say
        raise FitError(f"{path} is not a fit saved by nlme, or was damaged ({_said(error)}).") from None
    if not isinstance(document, dict) or document.get("format") != form:
        raise FitError(f"{path} is not a fit saved by nlme.")
    if document.get("version") != version:
        raise FitError(
            f"{path} was saved in format {str(document.get('version'))[:20]}, and this nlme reads format {version}: open it with the nlme "
            f"that saved it (version {_saved_by(document)})."
        )
    if content[-_DIGITS:] != hashlib.sha256(content[:-_DIGITS]).hexdigest().encode():
        raise FitError(
            f"{path} is not as nlme wrote it: it was damaged or edited (its digest is another). Take a copy that is whole."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            source = archive.read("model.py").decode()
            with np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False) as packed:
                arrays = {name: packed[name] for name in packed.files}
    except Exception as error:
        raise FitError(f"{path} is damaged: its arrays cannot be read ({_said(error)}).") from None
    return document, arrays, source


def _saved_by(document: dict) -> str:
    versions = document.get("versions")
    return str(versions.get("nlme", "unknown"))[:20] if isinstance(versions, dict) else "unknown"


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
