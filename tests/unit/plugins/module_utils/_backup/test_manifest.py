"""The manifest: what was stored years ago stays readable, what a later release writes is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugins.module_utils._backup.errors import IntegrityError
from plugins.module_utils._backup.manifest import Manifest, Member, from_json

# As the first release wrote it. This file is never changed.
FORMAT_1 = (Path(__file__).parent / "manifest-1.json").read_bytes()


def test_a_manifest_of_the_first_format_is_read() -> None:
    manifest = from_json(FORMAT_1, "manifest.json")
    assert (manifest.host, manifest.job, manifest.kind) == ("db1", "shop", "postgres")
    assert manifest.member("shop.dump").plain_bytes == 772802048
    assert manifest.member("shop.dump").evidence == {"tables": 2, "rows": 3000000}
    assert manifest.stored_bytes == 101187584 + 1312
    assert manifest.recipients[0].startswith("age1")
    assert manifest.assertions == ("SELECT count(*) > 0 FROM orders",)


def test_what_is_written_is_read_again() -> None:
    member = Member("a", "a.zst", 10, "11", 5, "22", {"rows": 1})
    manifest = Manifest("h", "j", "files", "b", "s", "f", (member,), {"tar": "1"}, {}, ("x",), ("age1",))
    assert from_json(manifest.to_json(), "x") == manifest


def test_a_field_of_a_later_release_is_passed_over() -> None:
    plain = json.loads(FORMAT_1)
    plain["colour"] = "blue"
    plain["members"][0]["shade"] = 3
    assert from_json(json.dumps(plain).encode(), "x") == from_json(FORMAT_1, "x")


def test_a_later_format_is_refused_with_what_to_do() -> None:
    plain = {**json.loads(FORMAT_1), "format": 2}
    with pytest.raises(IntegrityError, match="has format 2, this agent reads up to 1: update the collection"):
        from_json(json.dumps(plain).encode(), "web1/manifest.json")


@pytest.mark.parametrize("data", [b"", FORMAT_1[:200], b"[]", b"{}", b"null", b"\xff\xfe", b'{"format": "one"}'])
def test_what_was_cut_or_overwritten_is_no_manifest(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="x/manifest"):
        from_json(data, "x/manifest.json")


def test_a_member_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(IntegrityError, match=r"has no member 'other'; it has shop.dump, globals.sql"):
        from_json(FORMAT_1, "x").member("other")
