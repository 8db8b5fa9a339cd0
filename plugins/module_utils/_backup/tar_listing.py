# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a tree holds, in numbers and sums: taken from a tar stream as it passes, and from a tree on disk.

Both give the same for the same tree. The sums go to the manifest, which is not encrypted: so no name and no
checksum of a single file is in them. Sums of all entries do not depend on the order.
"""

from __future__ import annotations

import grp
import hashlib
import heapq
import os
import pwd
import stat
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .errors import SettingsError, SourceError

BLOCK = 512
# Files whose content is compared: enough to notice, few enough to cost nothing.
SAMPLES = 64
MODULUS = 1 << 128
LETTERS = {
    tarfile.REGTYPE: "f",
    tarfile.AREGTYPE: "f",
    tarfile.LNKTYPE: "f",
    tarfile.DIRTYPE: "d",
    tarfile.SYMTYPE: "l",
}
LETTER_BY_TYPE = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


def rank(name: str) -> str:
    """Where a file is in the order by which samples are chosen: the same in every backup, and unlike its name."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Listing:
    """Adds up entries; C(evidence) is what the manifest gets."""

    def __init__(self) -> None:
        self.files = self.folders = self.others = self.bytes = 0
        self.entry_sum = self.sample_sum = 0
        self.samples: list[str] = []

    def entry(self, letter: str, name: str, mode: int, uid: int, gid: int, link: str = "") -> None:
        self.files += letter == "f"
        self.folders += letter == "d"
        self.others += letter not in "fd"
        # A link's own mode means nothing and differs between file systems.
        self.entry_sum += number(letter, name, str(0 if letter == "l" else mode), str(uid), str(gid), link)

    def sample(self, place: str, digest: str) -> None:
        self.samples.append(place)
        self.sample_sum += number(place, digest)

    def evidence(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "folders": self.folders,
            "others": self.others,
            "bytes": self.bytes,
            "entries": f"{self.entry_sum % MODULUS:032x}",
            "samples": sorted(self.samples),
            "contents": f"{self.sample_sum % MODULUS:032x}",
        }


def number(*words: str) -> int:
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")


class TarListing:
    """Reads a POSIX tar stream in pieces of any size; the content of files passes unseen, but for the samples.

    The samples are the files with the lowest ranks, which is known only at the end: a file is looked at if it may
    still be one of them, which for n files are about C(SAMPLES * ln(n / SAMPLES)).
    """

    def __init__(self) -> None:
        self.listing = Listing()
        self.block = bytearray()
        self.left = self.padding = 0
        self.extended: bytearray | None = None
        self.attributes: dict[str, str] = {}
        self.content: Any = None
        self.place = ""
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        # The ranks of the samples so far, the highest first, and the sums of their contents.
        self.best: list[tuple[int, str, str]] = []

    def feed(self, piece: bytes | memoryview) -> None:
        """@raises SourceError: if this is not a tar stream"""
        view, start = memoryview(piece), 0
        while start < len(view):
            if self.left:
                end = min(start + self.left, len(view))
                self.payload(view[start:end])
                self.left -= end - start
                if not self.left:
                    self.file_end()
            elif self.padding:
                end = min(start + self.padding, len(view))
                self.padding -= end - start
            else:
                end = min(start + BLOCK - len(self.block), len(view))
                self.block += view[start:end]
                if len(self.block) == BLOCK:
                    self.header(bytes(self.block))
                    self.block.clear()
            start = end

    def payload(self, view: memoryview) -> None:
        if self.extended is not None:
            self.extended += view
        elif self.content:
            self.content.update(view)

    def header(self, block: bytes) -> None:
        if not any(block):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise SourceError(f"tar gave something that is not a tar stream: {error}.") from error
        if info.type == tarfile.XHDTYPE:
            self.extended, self.left = bytearray(), info.size
        else:
            self.member(info)
        self.padding = -self.left % BLOCK

    def member(self, info: tarfile.TarInfo) -> None:
        have, self.attributes = self.attributes, {}
        name = have.get("GNU.sparse.name") or have.get("path") or info.name
        regular = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        self.left = int(have.get("size", info.size)) if regular else 0
        link = have.get("linkpath", info.linkname) if info.issym() else ""
        owner = int(have.get("uid", info.uid)), int(have.get("gid", info.gid))
        self.users[have.get("uname") or info.uname] = owner[0]
        self.groups[have.get("gname") or info.gname] = owner[1]
        self.listing.entry(LETTERS.get(info.type, "o"), name.rstrip("/"), info.mode & 0o7777, *owner, link)
        if regular:
            self.listing.bytes += int(have.get("GNU.sparse.realsize", self.left))
            self.place = rank(name)
            wanted = len(self.best) < SAMPLES or int(self.place, 16) < -self.best[0][0]
            # The content of a file with holes is not in the stream as it is on disk.
            self.content = hashlib.sha256() if wanted and "GNU.sparse.realsize" not in have else None
            if not self.left:
                self.file_end()

    def file_end(self) -> None:
        if self.extended is not None:
            self.attributes, self.extended = attributes(bytes(self.extended)), None
        elif self.content:
            keep = heapq.heappush if len(self.best) < SAMPLES else heapq.heappushpop
            keep(self.best, (-int(self.place, 16), self.place, self.content.hexdigest()))
            self.content = None

    def evidence(self) -> dict[str, Any]:
        for _order, place, digest in self.best:
            self.listing.sample(place, digest)
        self.best = []
        # Those without a name in the stream have none on the host.
        self.users.pop("", None)
        self.groups.pop("", None)
        return {**self.listing.evidence(), "users": self.users, "groups": self.groups}


def attributes(data: bytes) -> dict[str, str]:
    """The records of an extended header, see pax(1): C(length key=value), the length in decimal and of all of it."""
    found, start = {}, 0
    while start < len(data):
        length = int(data[start : data.index(b" ", start)])
        key, _sign, value = data[start : start + length - 1].partition(b" ")[2].partition(b"=")
        found[key.decode()] = value.decode("utf-8", "surrogateescape")
        start += length
    return found


class Owners(NamedTuple):
    """Numbers of users and of groups as they are here -> as they are in the stream, where those differ."""

    users: Mapping[int, int] = {}
    groups: Mapping[int, int] = {}


SAME_NUMBERS = Owners()


def owners_here(evidence: Mapping[str, Any]) -> Owners:
    """How tar translates owners by their names when it unpacks here what the evidence is of.

    @raises SettingsError: if the files of one owner would become those of another one
    """
    return Owners(
        numbers("user", evidence.get("users", {}), {one.pw_name: one.pw_uid for one in pwd.getpwall()}),
        numbers("group", evidence.get("groups", {}), {one.gr_name: one.gr_gid for one in grp.getgrall()}),
    )


def numbers(what: str, packed: Mapping[str, int], known: Mapping[str, int]) -> dict[int, int]:
    names = {number: name for name, number in known.items()}
    for name, number in packed.items():
        if name not in known and number in names:
            raise SettingsError(
                f"The {what} {name} of the backup does not exist here, and its number {number} belongs to "
                f"{names[number]}: create {name} first, as site.yml does, or restore into an empty folder by path=."
            )
    return {known[name]: number for name, number in packed.items() if name in known}


def listing_of(places: Mapping[str, str], samples: Iterable[str], owners: Owners = SAME_NUMBERS) -> dict[str, Any]:
    """The same evidence from trees on disk.

    @param places: name in the stream, such as C(srv/app) -> where that tree is now
    @param samples: the C(samples) of the backup's evidence
    @param owners: of C(owners_here) if the trees were unpacked with the owners' names
    """
    listing, wanted, seen = Listing(), set(samples), set()
    for name, top in places.items():
        for path in walk(top):
            status, inner = os.lstat(path), name + path[len(top) :]
            letter = LETTER_BY_TYPE.get(stat.S_IFMT(status.st_mode), "o")
            link = os.readlink(path) if letter == "l" else ""
            owner = owners.users.get(status.st_uid, status.st_uid), owners.groups.get(status.st_gid, status.st_gid)
            listing.entry(letter, inner, stat.S_IMODE(status.st_mode), *owner, link)
            if letter == "f":
                # The other names of a file are links to it in the stream.
                inode = (status.st_dev, status.st_ino)
                listing.bytes += 0 if inode in seen else status.st_size
                if status.st_nlink > 1:
                    seen.add(inode)
                place = rank(inner)
                if place in wanted:
                    listing.sample(place, digest_of(path))
    return listing.evidence()


def walk(top: str) -> Iterable[str]:
    yield top
    if os.path.isdir(top) and not os.path.islink(top):
        with os.scandir(top) as entries:
            # Which of them are folders is in the listing; asking for each costs as much again.
            inner = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_folder in inner:
            if is_folder:
                yield from walk(path)
            else:
                yield path


def digest_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
