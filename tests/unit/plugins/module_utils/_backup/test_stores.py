"""What all stores share."""

from __future__ import annotations

import pytest

from plugins.module_utils._backup.errors import SettingsError
from plugins.module_utils._backup.settings import StoreSettings
from plugins.module_utils._backup.stores import PART_BYTES, PARTS, holds, open_store, part_bytes, task, trusted

GIB = 2**30


@pytest.mark.parametrize("expected", [0, 1, GIB, 39 * GIB, 40 * GIB, 10_000 * GIB])
def test_parts_are_enough_for_four_times_what_is_expected(expected):
    size = part_bytes(expected)
    assert size >= PART_BYTES
    assert size % 2**20 == 0
    assert size * PARTS >= 4 * expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "s4"}, "store.kind is 's4'"),
        ({"kind": "local"}, "store.path is missing: a store of kind local needs it."),
        ({"kind": "s3", "provider": "hetzer"}, "store.provider is 'hetzer' (did you mean 'hetzner'?)"),
        ({"kind": "s3"}, "store.bucket is missing: a store of kind s3 needs it."),
        ({"kind": "s3", "bucket": "b", "access_key": "a", "secret_key": "s"}, "store.endpoint is missing"),
        ({"kind": "s3", "provider": "spaces", "bucket": "b", "access_key": "a", "secret_key": "s"}, "store.region"),
        ({"kind": "s3", "provider": "r2", "bucket": "b", "access_key": "a", "secret_key": "s"}, "store.account"),
        ({"kind": "b2", "bucket": "b", "access_key": "a"}, "store.secret_key is missing"),
        ({"kind": "sftp", "host": "h", "user": "u", "path": "p", "key_file": "k"}, "store.known_hosts_file is missing"),
    ],
)
def test_what_a_store_cannot_do_without(settings, said):
    with pytest.raises(SettingsError) as error:
        open_store(StoreSettings(**settings))
    assert str(error.value).startswith(said)


def test_endpoints_of_providers():
    def address(**words):
        return StoreSettings(kind="s3", **words).address

    assert address(provider="spaces", region="sgp1") == "https://sgp1.digitaloceanspaces.com"
    assert address(provider="r2", account="abc") == "https://abc.r2.cloudflarestorage.com"
    assert address(provider="spaces", region="x", endpoint="https://s3.lan") == "https://s3.lan"


def test_tasks_in_words():
    assert task("upload_part", "a/b") == "store a/b"
    assert task("get_object", "a/b") == "read a/b"
    assert task("delete_objects", "") == "delete objects"
    assert task("get_bucket_versioning", "") == "get bucket versioning"


def test_own_authorities_count(tmp_path):
    assert trusted(StoreSettings(kind="s3", ca_file="/ca.pem")) == "/ca.pem"
    assert trusted(StoreSettings(kind="s3"))


def test_an_object_holds_just_these_bytes():
    class Pieces:
        def read(self, key):
            return iter([b"ab", b"cd"])

    found = {data: holds(Pieces(), "a", data) for data in (b"abcd", b"abc", b"abcde", b"", b"xbcd", b"abxd")}
    assert [data for data, same in found.items() if same] == [b"abcd"]
