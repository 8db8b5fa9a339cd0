"""Buckets at providers that lack something. How they are changed is in tests/stores, against a real store."""

from __future__ import annotations

import pytest
from botocore.stub import Stubber

from plugins.module_utils._backup.bucket import Policy, S3Bucket, from_s3, open_bucket, to_s3
from plugins.module_utils._backup.errors import StoreError
from plugins.module_utils._backup.settings import StoreSettings

WHERE = {"Bucket": "b"}
RULES = {
    "unfinished": {"prefix": "", "abort_unfinished_days": 7},
    "versions": {"prefix": "", "delete_old_versions_days": 3},
    "expire-tmp/": {"prefix": "tmp/", "expire_days": 1},
}


def bucket(**words: str) -> S3Bucket:
    settings = StoreSettings(kind="s3", bucket="b", access_key="a", secret_key="s", patience_seconds=0, **words)
    found = open_bucket(settings)
    assert isinstance(found, S3Bucket)
    return found


@pytest.mark.parametrize("name", RULES)
def test_rules_come_back_as_they_were(name):
    there = to_s3(name, RULES[name])
    assert there["ID"] == f"bulwark-{name}"
    assert from_s3(there) == RULES[name]
    # As Ceph gives them back.
    there["Prefix"] = there.pop("Filter")["Prefix"]
    assert from_s3(there) == RULES[name]


def test_a_store_with_versions_and_rules_only():
    one = bucket(provider="custom", endpoint="https://s3.lan")
    with Stubber(one.store.client) as stub:
        stub.add_response("get_bucket_versioning", {}, WHERE)
        for operation in ("get_bucket_acl", "get_public_access_block", "get_bucket_policy_status"):
            stub.add_client_error(operation, "NotImplemented", "", 501, expected_params=WHERE)
        stub.add_client_error("get_object_lock_configuration", "MethodNotAllowed", "", 405, expected_params=WHERE)
        stub.add_client_error("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", "", 404)
        before = one.look()
    assert before == {
        "exists": True,
        "public_acl": False,
        "public_access_blocked": "unsupported",
        "public_policy": False,
        "versioned": False,
        "lock": None,
        "rules": {},
    }
    after = one.wanted(Policy(), before)
    assert {name for name in after if after[name] != before[name]} == {"rules"}
    with Stubber(one.store.client) as stub:
        rules = {"Rules": [to_s3("unfinished", RULES["unfinished"])]}
        stub.add_response("put_bucket_lifecycle_configuration", {}, {**WHERE, "LifecycleConfiguration": rules})
        one.apply(before, after)
        stub.assert_no_pending_responses()


def test_a_key_that_may_not_look_is_no_missing_bucket():
    one = bucket(provider="custom", endpoint="https://s3.lan")
    for code, status, said in (("AccessDenied", 403, "does not allow"), ("InvalidAccessKeyId", 403, "does not take")):
        with Stubber(one.store.client) as stub:
            stub.add_client_error("get_bucket_versioning", code, "", status)
            with pytest.raises(StoreError, match=said):
                one.look()


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (
            {"provider": "aws", "region": "eu-central-1"},
            {"CreateBucketConfiguration": {"LocationConstraint": "eu-central-1"}},
        ),
        ({"provider": "aws", "region": "us-east-1"}, {}),
        ({"provider": "spaces", "region": "sgp1"}, {}),
    ],
)
def test_where_a_bucket_is_made(words, sent):
    one = bucket(**words)
    with Stubber(one.store.client) as stub:
        stub.add_response("create_bucket", {}, {**WHERE, **sent})
        one.create(locked=False)
        stub.add_response("create_bucket", {}, {**WHERE, **sent, "ObjectLockEnabledForBucket": True})
        one.create(locked=True)
        stub.assert_no_pending_responses()
