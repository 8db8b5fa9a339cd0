"""Module bucket_policy against a real store and the simulator of B2: check, then for real, then again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from plugins.module_utils._backup.store_s3 import md5
from plugins.modules import bucket_policy
from stores.stores import CA, B2Store, RgwStore
from tests.unit.conftest import Result, run_module, triple  # noqa: F401

Given = Callable[..., dict[str, Any]]
Run = Callable[..., Result]


@pytest.fixture
def given(s3: RgwStore) -> Given:
    """The settings of a bucket that is not there yet."""
    name = f"policy-{uuid.uuid4().hex}"

    def _given(**words: Any) -> dict[str, Any]:
        usual = {"endpoint": s3.endpoint, "bucket": name, "ca_file": str(CA), "patience_seconds": 5}
        return {"kind": "s3", **usual, **s3.keys._asdict(), **words}

    return _given


@pytest.fixture
def given_b2(native_b2: B2Store) -> Given:
    name = f"policy-{uuid.uuid4().hex}"

    def _given(**words: Any) -> dict[str, Any]:
        usual = {"endpoint": native_b2.endpoint, "bucket": name, "ca_file": str(CA), "patience_seconds": 5}
        return {"kind": "b2", **usual, **native_b2.keys._asdict(), **words}

    return _given


def test_a_new_bucket_is_private(triple: Run, run_module: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    foretold = run_module(bucket_policy, check=True, store=given())
    assert foretold["diff"]["before"] == {"exists": False}
    with pytest.raises(ClientError):
        s3.client().head_bucket(Bucket=given()["bucket"])
    real = triple(bucket_policy, store=given())
    assert real["bucket"] == foretold["bucket"]
    assert real["bucket"] == {
        "exists": True,
        "public_acl": False,
        "public_access_blocked": True,
        "public_policy": False,
        "versioned": False,
        "lock": None,
        "rules": {"unfinished": {"prefix": "", "abort_unfinished_days": 7}},
    }
    assert s3.keys.secret_key not in real.text


def test_a_public_bucket_becomes_private(triple: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    client, where = s3.client(), {"Bucket": given()["bucket"]}
    client.create_bucket(**where)
    client.put_bucket_acl(**where, ACL="public-read")
    client.put_object(**where, Key="a", Body=b"x", ACL="public-read")
    stranger = s3.client(s3.writer)
    assert stranger.get_object(**where, Key="a")["Body"].read() == b"x"
    assert triple(bucket_policy, store=given())["diff"]["before"]["public_acl"] is True
    for attempt in (lambda: stranger.get_object(**where, Key="a"), lambda: stranger.list_objects_v2(**where)):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
    # The block is not for who has the key.
    client.put_object(**where, Key="b", Body=b"x")
    assert client.get_object(**where, Key="a")["Body"].read() == b"x"


def test_a_policy_for_everybody_is_for_a_person_to_remove(run_module: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    client, name = s3.client(), given()["bucket"]
    client.create_bucket(Bucket=name)
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    client.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    client.put_bucket_acl(Bucket=name, ACL="public-read")
    for _number in range(2):
        assert "lets everybody in: remove it" in run_module(bucket_policy, store=given())["msg"]
    assert not run_module(bucket_policy, store=given(), private=False).failed


def test_a_lock_holds(triple: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    locked = triple(bucket_policy, store=given(lock_days=3), lock_mode="compliance", delete_old_versions_days=5)
    assert locked["bucket"]["lock"] == {"mode": "compliance", "days": 3}
    assert locked["bucket"]["versioned"] is True
    client, where = s3.client(), {"Bucket": given()["bucket"], "Key": "a"}
    version = client.put_object(**where, Body=b"x", ContentMD5=md5(b"x"))
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(**where, VersionId=version["VersionId"])
    # Without a word about the lock it stays.
    assert triple(bucket_policy, store=given())["bucket"]["lock"] == {"mode": "compliance", "days": 3}


def test_a_bucket_that_takes_no_lock(run_module: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    s3.client().create_bucket(Bucket=given()["bucket"])
    result = run_module(bucket_policy, store=given(lock_days=3))
    assert result.failed
    assert "takes no lock: most stores give one only to a bucket that was made with it" in result["msg"]


def test_rules_of_others_stay(triple: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    client, name = s3.client(), given()["bucket"]
    client.create_bucket(Bucket=name)
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [theirs]})

    def rules() -> dict[str, Any]:
        found = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        return {rule["ID"]: rule for rule in found}

    triple(bucket_policy, store=given(), expire_days={"tmp/": 1, "outputs/": "30"}, delete_old_versions_days=7)
    made = rules()
    assert made["theirs"] == theirs
    assert made["bulwark-expire-tmp/"]["Expiration"] == {"Days": 1}
    assert made["bulwark-expire-outputs/"]["Expiration"] == {"Days": 30}
    assert made["bulwark-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    triple(bucket_policy, store=given(), expire_days={"tmp/": 2}, abort_unfinished_days=0)
    assert rules() == {
        "theirs": theirs,
        "bulwark-expire-tmp/": {**made["bulwark-expire-tmp/"], "Expiration": {"Days": 2}},
    }
    client.put_bucket_lifecycle_configuration(
        Bucket=name, LifecycleConfiguration={"Rules": [made["bulwark-expire-tmp/"]]}
    )
    triple(bucket_policy, store=given(), abort_unfinished_days=0)
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        rules()


def test_versions_are_turned_on_and_off(triple: Run, run_module: Run, given: Given) -> None:  # noqa: F811
    assert triple(bucket_policy, store=given(), versioned=True)["bucket"]["versioned"] is True
    assert not run_module(bucket_policy, store=given())["changed"]
    assert triple(bucket_policy, store=given(), versioned=False)["bucket"]["versioned"] is False


@pytest.mark.parametrize(
    ("store", "words", "said"),
    [
        ({"prefix": "backups"}, {"expire_days": {"backups/web1/": 3}}, "would take backups below backups/"),
        ({"prefix": "/backups/"}, {"expire_days": {"b": 3}}, "would take backups below backups/"),
        ({}, {"expire_days": {"tmp/": 0}}, "'tmp/' has 0: give days, 1 or more"),
        ({}, {"expire_days": {"tmp/": "soon"}}, "must be a dictionary of prefixes to days"),
        ({}, {"abort_unfinished_days": -1}, "abort_unfinished_days is -1"),
        ({"kind": "local", "path": "/mnt"}, {}, "A store of kind local has no bucket"),
        ({"secret_key": "not-the-secret"}, {}, "does not take this key"),
    ],
)
def test_what_is_refused(run_module: Run, given: Given, store: Any, words: Any, said: str) -> None:  # noqa: F811
    result = run_module(bucket_policy, store=given(**store), **words)
    assert result.failed
    assert said in result["msg"]
    assert "not-the-secret" not in result.text


def test_a_key_that_may_not(run_module: Run, s3: RgwStore, given: Given) -> None:  # noqa: F811
    client, name = s3.client(), given()["bucket"]
    client.create_bucket(Bucket=name)
    client.put_bucket_policy(Bucket=name, Policy=s3.append_only_policy(name))
    result = run_module(bucket_policy, store=given(**s3.writer._asdict()))
    assert result.failed
    assert "does not allow this key to" in result["msg"]


def test_b2(triple: Run, run_module: Run, given_b2: Given) -> None:  # noqa: F811
    foretold = run_module(bucket_policy, check=True, store=given_b2())
    real = triple(bucket_policy, store=given_b2())
    assert real["bucket"] == foretold["bucket"]
    assert real["bucket"] == {
        "exists": True,
        "private": True,
        "lock": None,
        "rules": {"": {"abort_unfinished_days": 7}},
    }
    refused = run_module(bucket_policy, store=given_b2(), expire_days={"tmp/": 1})
    assert "give the store a prefix" in refused["msg"]
    assert "B2 keeps versions always" in run_module(bucket_policy, store=given_b2(), versioned=False)["msg"]


def test_b2_with_a_prefix_and_a_lock(triple: Run, given_b2: Given) -> None:  # noqa: F811
    store = given_b2(prefix="backups", lock_days=3)
    made = triple(bucket_policy, store=store, expire_days={"tmp/": 1}, delete_old_versions_days=2)
    assert made["bucket"]["lock"] == {"mode": "governance", "days": 3}
    assert made["bucket"]["rules"] == {
        "backups/": {"abort_unfinished_days": 7, "delete_old_versions_days": 2},
        "tmp/": {"abort_unfinished_days": 7, "delete_old_versions_days": 2, "expire_days": 1},
    }
    # Rules for other prefixes stay.
    changed = triple(bucket_policy, store=store, abort_unfinished_days=3)
    assert changed["bucket"]["rules"]["tmp/"]["expire_days"] == 1
    assert changed["bucket"]["rules"]["backups/"] == {"abort_unfinished_days": 3}
