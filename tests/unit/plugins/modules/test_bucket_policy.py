"""What is refused before a store is asked. The rest is tried on real stores, see tests/stores/test_bucket_policy.py."""

from __future__ import annotations

import pytest

from plugins.modules import bucket_policy

S3 = {
    "kind": "s3",
    "provider": "custom",
    "endpoint": "https://s3.example.test",
    "bucket": "shop",
    "region": "r1",
    "access_key": "key",
    "secret_key": "a-secret-nobody-may-see",
}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"store": {"kind": "local", "path": "/srv/backups"}}, "bucket"),
        ({"store": S3, "expire_days": {"tmp/": "soon"}}, "expire_days"),
        ({"store": {**S3, "prefix": "backups"}, "expire_days": {"backups/": 30}}, "backups"),
        ({"store": S3, "lock_mode": "forever"}, "lock_mode"),
    ],
)
def test_refused(run_module, given, words):
    result = run_module(bucket_policy, **given)
    assert result.failed
    assert words in result["msg"]
    assert S3["secret_key"] not in result.text


def test_days_may_be_texts():
    assert bucket_policy.whole_days({"outputs/": "30"}) == {"outputs/": 30}
