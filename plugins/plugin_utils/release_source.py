# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's side of a release: a digest that names the code, and the archive that carries it."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import tarfile
from typing import Any


class SourceError(Exception):
    """The source cannot become a release; the text is one sentence for the user."""


def wanted(name: str, excludes: list[str]) -> bool:
    return not any(fnmatch.fnmatch(name, pattern) for pattern in excludes)


def walk(directory: str, excludes: list[str]) -> list[str]:
    """Relative paths of the files and links of a directory, in an order that does not depend on the disk."""
    found = []
    for base, folders, names in os.walk(directory):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        folders[:] = sorted(name for name in folders if name not in links and wanted(name, excludes))
        found += [os.path.relpath(os.path.join(base, n), directory) for n in [*names, *links] if wanted(n, excludes)]
    return sorted(found)


def file_digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def directory_digest(directory: str, excludes: list[str]) -> str:
    """A digest of names, contents, links and executable bits; times and owners do not count."""
    digest = hashlib.sha256()
    for name in walk(directory, excludes):
        path = os.path.join(directory, name)
        if os.path.islink(path):
            kind, content = "link", os.readlink(path)
        elif os.path.isfile(path):
            kind, content = "run" if os.access(path, os.X_OK) else "file", file_digest(path)
        else:
            raise SourceError(
                f"web_app_directory: {path} is neither a file nor a link; remove it or add it to web_app_excludes."
            )
        digest.update(f"{kind}\0{name}\0{content}\0".encode())
    return digest.hexdigest()


def describe(source: dict[str, Any]) -> str:
    """The digest of a source whose files are on the controller, empty for a repository.

    @raises SourceError: something that the release needs is not there
    """
    if source["repository"]:
        return ""
    if source["directory"]:
        return describe_directory(source)
    return describe_wheel(source)


def describe_directory(source: dict[str, Any]) -> str:
    directory, requirements = source["directory"], source["requirements"]
    if not os.path.isdir(directory):
        raise SourceError(f"web_app_directory: there is no directory {directory} on the controller.")
    if requirements and not os.path.isfile(os.path.join(directory, requirements)):
        raise SourceError(
            f"web_app_requirements: {directory} has no file {requirements}; lock the dependencies into it, or name the "
            "file that has them."
        )
    return directory_digest(directory, source["excludes"])


def describe_wheel(source: dict[str, Any]) -> str:
    wheel, requirements = source["wheel"], source["requirements"]
    if "://" in wheel:
        digest = wheel.partition("#sha256=")[2]
    elif os.path.isfile(wheel):
        digest = file_digest(wheel)
    else:
        raise SourceError(f"web_app_wheel: there is no file {wheel} on the controller.")
    if not requirements:
        return digest
    if not os.path.isfile(requirements):
        raise SourceError(f"web_app_requirements: there is no file {requirements} on the controller.")
    return hashlib.sha256(f"{digest} {file_digest(requirements)}".encode()).hexdigest()


def clean(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.mode & 0o111 else 0o644
    return info


def pack(source: dict[str, Any]) -> bytes:
    """The files of a source as a compressed archive; for a wheel the file itself and its lock."""
    if source["directory"]:
        names = walk(source["directory"], source["excludes"])
        files = [(os.path.join(source["directory"], name), name) for name in names]
    else:
        paths = [] if "://" in source["wheel"] else [source["wheel"]]
        paths += [source["requirements"]] if source["requirements"] else []
        files = [(path, os.path.basename(path)) for path in paths]
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=6) as archive:
        for path, name in files:
            archive.add(path, arcname=name, recursive=False, filter=clean)
    return target.getvalue()
