"""The catalogue: what one listing tells, and manifests that are lost or swapped."""

from __future__ import annotations

import json

import pytest

from plugins.module_utils._backup import catalogue, names
from plugins.module_utils._backup.errors import IntegrityError
from plugins.module_utils._backup.manifest import Manifest
from plugins.module_utils._backup.names import Name

from .memory import Clock, MemoryStore

FIRST, SECOND = "20260301T020000Z-00000001", "20260302T020000Z-00000002"


@pytest.fixture
def store() -> MemoryStore:
    """Two hosts; the first has two jobs, and of the second backup of shop there is no manifest."""
    store = MemoryStore(Clock())
    for host, job, backup, files in (
        ("h1", "files", FIRST, ["a.zst", "manifest.json"]),
        ("h1", "shop", FIRST, ["a.zst", "drill-20260301T040000Z.json", "drill-20260308T040000Z.json", "manifest.json"]),
        ("h1", "shop", SECOND, ["a.zst", "b.zst"]),
        ("h11", "shop", FIRST, ["manifest.json"]),
    ):
        for file in files:
            manifest = Manifest(host, job, "files", backup, "", "").to_json()
            data = manifest if file == "manifest.json" else json.dumps({"ok": file < "drill-20260302"}).encode()
            store.put(names.key("pre/fix", Name(host, job, backup, file)), data)
    store.put("pre/fix/h1/probe-00", b"")
    store.put("other/h1/shop/x", b"")
    return store


def test_backups_by_host_job_and_time(store: MemoryStore) -> None:
    found = [(r.host, r.job, r.backup, r.complete) for r in catalogue.catalogue(store)]
    assert found == [
        ("h1", "files", FIRST, True),
        ("h1", "shop", FIRST, True),
        ("h1", "shop", SECOND, False),
        ("h11", "shop", FIRST, True),
    ]


@pytest.mark.parametrize(
    ("host", "job", "count"), [("h1", "", 3), ("h1", "shop", 2), ("", "shop", 3), ("h2", "", 0), ("h1", "sho", 0)]
)
def test_only_those_of_a_host_or_a_job(store: MemoryStore, host: str, job: str, count: int) -> None:
    assert len(list(catalogue.catalogue(store, host, job))) == count


def test_no_manifest_is_read_for_it(store: MemoryStore) -> None:
    list(catalogue.catalogue(store))
    assert not [call for call in store.calls if call[0] == "read"]


def test_size_and_drills_are_in_the_listing(store: MemoryStore) -> None:
    record = next(catalogue.catalogue(store, "h1", "shop"))
    assert record.drills == ["drill-20260301T040000Z.json", "drill-20260308T040000Z.json"]
    assert record.stored_bytes == sum(
        len(data) for key, (data, _at) in store.objects.items() if "h1/shop/20260301" in key
    )
    assert catalogue.last_drill(store, record) == {"ok": False}


def test_without_a_drill_there_is_no_result(store: MemoryStore) -> None:
    assert catalogue.last_drill(store, next(catalogue.catalogue(store, "h1", "files"))) is None


def test_a_swapped_manifest_is_noticed(store: MemoryStore) -> None:
    record = next(catalogue.catalogue(store, "h1", "files"))
    store.replace(
        catalogue.key_of(store, record, "manifest.json"),
        store.objects[store.file("h11/shop/" + FIRST + "/manifest.json")][0],
    )
    with pytest.raises(IntegrityError, match=f"is the manifest of h11/shop/{FIRST}: it was swapped"):
        catalogue.manifest(store, record)


def test_a_lost_manifest_is_said(store: MemoryStore) -> None:
    record = next(catalogue.catalogue(store, "h1", "files"))
    del store.objects[catalogue.key_of(store, record, "manifest.json")]
    with pytest.raises(IntegrityError, match=r"manifest.json is missing"):
        catalogue.manifest(store, record)
