"""The sums of a stream and those of the tree that it was made from are equal, however the stream is cut into pieces."""

from __future__ import annotations

import grp
import io
import pwd
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._backup.errors import SettingsError, SourceError
from plugins.module_utils._backup.tar_listing import SAMPLES, TarListing, attributes, listing_of, owners_here, rank

names = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=150)


def stream(files: dict[str, bytes], **more: Any) -> bytes:
    """What another program than GNU tar makes of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def evidence(data: bytes, piece: int = 10**9) -> dict[str, Any]:
    listing = TarListing()
    for start in range(0, len(data), piece):
        listing.feed(data[start : start + piece])
    return listing.evidence()


@given(st.dictionaries(names, st.binary(max_size=1500), max_size=8), st.integers(1, 3000))
def test_pieces_of_any_size(files: dict[str, bytes], piece: int) -> None:
    data = stream(files)
    found = evidence(data, piece)
    assert found == evidence(data)
    assert (found["files"], found["bytes"]) == (len(files), sum(map(len, files.values())))
    assert found["samples"] == sorted(rank(name.rstrip("/")) for name in files)


@given(st.dictionaries(names, st.binary(max_size=20), min_size=2, max_size=8))
def test_the_order_does_not_count(files: dict[str, bytes]) -> None:
    assert evidence(stream(files)) == evidence(stream(dict(reversed(files.items()))))


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({"mode": 0o4644}, {"entries"}),
        ({"uid": 5_000_000}, {"entries"}),
        ({"gid": 7}, {"entries"}),
        ({"mtime": 5}, set()),
    ],
)
def test_what_counts(change: dict[str, int], differ: set[str]) -> None:
    one, other = evidence(stream({"a": b"x"})), evidence(stream({"a": b"x"}, **change))
    assert {key for key in one if one[key] != other[key]} == differ


def test_a_content_that_differs() -> None:
    one, other = evidence(stream({"a": b"x"})), evidence(stream({"a": b"y"}))
    assert {key for key in one if one[key] != other[key]} == {"contents"}


def test_the_samples_are_the_same_ones_every_time() -> None:
    files = {f"f{number}": b"%d" % number for number in range(3 * SAMPLES)}
    found = evidence(stream(files))["samples"]
    assert found == sorted(map(rank, files))[:SAMPLES]
    assert evidence(stream({**files, "more": b""}))["samples"] in (found, sorted([*found, rank("more")])[:SAMPLES])


def test_a_tree_on_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a").write_bytes(b"abc")
    (tmp_path / "sub/b").symlink_to("a")
    (tmp_path / "sub/c").hardlink_to(tmp_path / "sub/a")
    found = listing_of({"sub": str(tmp_path / "sub")}, [rank("sub/a")])
    assert (found["files"], found["folders"], found["others"], found["bytes"]) == (2, 1, 1, 3)
    assert found["samples"] == [rank("sub/a")]


def test_owners_have_the_same_names_and_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    held = evidence(stream({"a": b""}, uname="app", uid=999, gname="app", gid=998))
    assert (held["users"], held["groups"]) == ({"app": 999}, {"app": 998})

    def host(users: dict[str, int], groups: dict[str, int]) -> None:
        monkeypatch.setattr(
            "pwd.getpwall", lambda: [pwd.struct_passwd((n, "x", i, 0, "", "", "")) for n, i in users.items()]
        )
        monkeypatch.setattr("grp.getgrall", lambda: [grp.struct_group((n, "x", i, [])) for n, i in groups.items()])

    host({"app": 105, "redis": 999}, {"app": 998})
    assert owners_here(held) == ({105: 999}, {998: 998})
    host({}, {})
    assert owners_here(held) == ({}, {})
    host({"app": 999}, {"redis": 998})
    with pytest.raises(SettingsError, match=r"The group app of the backup .* its number 998 belongs to redis"):
        owners_here(held)


def test_values_with_line_breaks_and_signs() -> None:
    assert attributes(b"13 path=a=\nb\n" + b"12 uid=1234\n") == {"path": "a=\nb", "uid": "1234"}


def test_what_is_no_tar_stream_is_refused() -> None:
    with pytest.raises(SourceError, match="not a tar"):
        TarListing().feed(b"x" * 512)
