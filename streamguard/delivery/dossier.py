"""A dossier: the folder of one exhibit, which is either whole and true to its manifest, or not there.

Files are written into a hidden folder and forced to the disk; the manifest, with the SHA-256 of each, comes last;
then the folder gets its name. What a crash leaves behind is hidden, and swept up at the next start. A folder is
deleted the other way round: it is hidden first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

from streamguard.errors import EvidenceDamaged, EvidenceMissing

MANIFEST: Final = "manifest.json"
MANIFEST_FORMAT: Final = "streamguard.evidence.v1"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]|^\.")
_LONGEST: Final = 120  # characters of a name; file systems take 255 bytes


def safe_name(name: str) -> str:
    """``name`` as the name of one folder: it stays below its parent, is not hidden, and two names never become one.

    >>> safe_name("door"), safe_name("../etc"), safe_name("a/b")
    ('door', '~2e.~2fetc', 'a~2fb')
    """
    safe = _UNSAFE.sub(lambda found: "".join(f"~{byte:02x}" for byte in found[0].encode()), name)
    if 0 < len(safe) <= _LONGEST:
        return safe
    return f"{safe[:_LONGEST]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def folder_of(stream: str, name: str) -> PurePosixPath:
    """Where the evidence of segment ``name`` lies, below the folder of all evidence."""
    return PurePosixPath(safe_name(stream), safe_name(name))


class Dossier:
    """Writes one folder. Leaving the block without :meth:`publish` leaves nothing.

    Raises:
        OSError: from any method, whatever the disk says.
    """

    def __init__(self, root: Path, folder: PurePosixPath) -> None:
        self.folder = root / folder
        self.size = 0
        self._draft = self.folder.with_name(f".{self.folder.name}.part")
        self._files: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._draft, ignore_errors=True)

    def write(self, name: str, content: bytes) -> None:
        """Put a file in, forced to the disk."""
        self._write(name, content)
        self._files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file so far, in hex."""
        return {name: file["sha256"] for name, file in self._files.items()}

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest, ``facts`` and all files, and give the folder its name."""
        document = {"format": MANIFEST_FORMAT, **facts, "files": self._files}
        self._write(MANIFEST, _json(document))
        _sync(self._draft)
        os.rename(self._draft, self.folder)
        _sync(self.folder.parent)

    def _write(self, name: str, content: bytes) -> None:
        with (self._draft / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.size += len(content)


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """JSON as dossiers hold it: readable, floats with all their digits."""
    return _json(document)


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sync(folder: Path) -> None:
    """Force a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def dossiers(root: Path) -> Iterator[Path]:
    """Every folder that was published, in no order."""
    for manifest in root.glob(f"*/*/{MANIFEST}"):
        if not manifest.parent.name.startswith("."):
            yield manifest.parent


def sweep(root: Path) -> int:
    """Delete what a crash left; how many folders that were."""
    left = [path for path in root.glob("*/.*") if path.is_dir() and path.suffix in (".part", ".gone")]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def delete(folder: Path) -> None:
    """Delete a dossier; its stream's folder too, if it was the last.

    Raises:
        OSError: it can't be deleted.
    """
    hidden = folder.with_name(f".{folder.name}.gone")
    os.rename(folder, hidden)
    shutil.rmtree(hidden)
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def size_of(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(file.stat().st_size for file in folder.iterdir())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, every file of it checked.

    Raises:
        EvidenceMissing: the folder, its manifest or a file of it is absent.
        EvidenceDamaged: a file is not what the manifest states; all of them are named.
    """
    if not folder.is_dir():
        raise EvidenceMissing(f"'{folder}' is no folder. Name one of an evidence folder: STREAM/SEGMENT.")
    document = read_document(folder / MANIFEST, MANIFEST_FORMAT)
    files = document.get("files")
    if not isinstance(files, dict) or not files:
        raise EvidenceDamaged(f"'{folder / MANIFEST}' names no files.")
    problems = [problem for name, stated in files.items() if (problem := _problem(folder, str(name), stated))]
    strange = sorted(path.name for path in folder.iterdir() if path.name not in files and path.name != MANIFEST)
    problems += [f"'{name}' is not in the manifest" for name in strange]
    if problems:
        absent = all("is absent" in problem for problem in problems)
        raise (EvidenceMissing if absent else EvidenceDamaged)(f"'{folder}': {'; '.join(problems)}.")
    return document


def read_document(path: Path, form: str) -> dict[str, Any]:
    """A JSON object that says of itself that it is ``form``.

    Raises:
        EvidenceMissing: no such file. EvidenceDamaged: it is something else.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise EvidenceMissing(f"'{path}' is absent.") from error
    except (OSError, ValueError) as error:
        raise EvidenceDamaged(f"'{path}' can't be read: {type(error).__name__}.") from error
    if not isinstance(document, dict) or document.get("format") != form:
        raise EvidenceDamaged(f"'{path}' is not of format {form}.")
    return document


def _problem(folder: Path, name: str, stated: Any) -> str | None:
    """What is wrong with a file, or None."""
    path = folder / name
    if PurePosixPath(name).name != name or name == ".." or path.is_symlink():
        return f"'{name}' is no file of this folder"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return f"'{name}' is absent"
    except OSError as error:
        return f"'{name}' can't be read: {error.strerror}"
    wanted = stated if isinstance(stated, dict) else {}
    if len(content) != wanted.get("bytes"):
        return f"'{name}' has {len(content)} bytes, the manifest states {wanted.get('bytes')}"
    found = hashlib.sha256(content).hexdigest()
    if found != wanted.get("sha256"):
        return f"'{name}' has SHA-256 {found[:16]}..., the manifest states {str(wanted.get('sha256'))[:16]}..."
    return None
