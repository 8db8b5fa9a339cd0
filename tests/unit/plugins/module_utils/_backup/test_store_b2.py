"""What B2 answers and what becomes of it. How the store behaves is in tests/stores, against a simulator of B2."""

from __future__ import annotations

import io

import pytest
from b2sdk.v2 import exception as b2
from b2sdk.v2.exception import interpret_b2_error

from plugins.module_utils._backup import store_b2
from plugins.module_utils._backup.errors import DeniedError, NotFoundError, StoreError
from plugins.module_utils._backup.settings import StoreSettings

SETTINGS = StoreSettings(kind="b2", bucket="backups", access_key="key", secret_key="secret")


@pytest.mark.parametrize(
    ("status", "code", "kind", "transient", "said"),
    [
        (503, "service_unavailable", StoreError, True, "could not store a now"),
        (500, "internal_error", StoreError, True, "could not store a now"),
        (429, "too_many_requests", StoreError, True, "could not store a now"),
        (502, None, StoreError, True, "could not store a now"),
        (401, "expired_auth_token", DeniedError, False, "does not take this key"),
        (401, "unauthorized", DeniedError, False, "does not allow this key to store a"),
        (403, "access_denied", DeniedError, False, "does not allow this key to store a"),
        (403, "AccessDenied", DeniedError, False, "does not allow this key to store a"),
        (403, "storage_cap_exceeded", StoreError, False, "is full: the account's cap is reached"),
        (403, "transaction_cap_exceeded", StoreError, False, "cap is reached"),
        (404, "not_found", NotFoundError, False, "has no a."),
        (400, "file_not_present", NotFoundError, False, "has no a."),
        (400, "bad_request", StoreError, False, "refused to store a"),
    ],
)
def test_refusals(status, code, kind, transient, said):
    error = interpret_b2_error(status, code, "said", {}, {})
    told = store_b2.refusal(SETTINGS, error, "upload_file", "a")
    assert type(told) is kind
    assert told.transient is transient
    assert said in str(told)
    assert str(told).startswith("b2:backups ")


def test_how_long_to_wait():
    error = interpret_b2_error(429, "too_many_requests", "said", {"retry-after": "9"}, {})
    assert store_b2.refusal(SETTINGS, error, "upload_file", "a").after_seconds == 9


@pytest.mark.parametrize(
    ("error", "transient", "said"),
    [
        (b2.ClockSkew(1200), False, "set the clock"),
        (b2.UnknownError("JSONDecodeError: <html>502"), True, "could not store a now"),
        (b2.UnknownError("418 teapot"), False, "refused to store a"),
        (b2.BrokenPipe(), True, "could not store a now"),
        (b2.B2RequestTimeoutDuringUpload(), True, "could not store a now"),
        (b2.B2ConnectionError("refused"), True, "cannot be reached"),
        (b2.B2ConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), False, "set ca_file"),
    ],
)
def test_disturbances(error, transient, said):
    told = store_b2.refusal(SETTINGS, error, "upload_part", "a")
    assert told.transient is transient
    assert said in str(told)


def test_the_library_tries_nothing_again_by_itself():
    session = store_b2.make_session(SETTINGS)
    calls = []

    def fail():
        calls.append(1)
        raise b2.ServiceError("busy")

    with pytest.raises(b2.ServiceError):
        session.raw_api.b2_http._translate_and_retry(fail, 20, None)
    assert calls == [1]


def test_a_window_is_a_file():
    window, file = store_b2.Window(memoryview(b"0123456789")), io.BytesIO(b"0123456789")
    for step in (
        lambda one: one.read(3),
        lambda one: one.tell(),
        lambda one: one.read(100),
        lambda one: one.read(1),
        lambda one: one.seek(0, io.SEEK_END),
        lambda one: one.seek(-2, io.SEEK_CUR),
        lambda one: one.read(),
        lambda one: one.seek(4),
        lambda one: one.readall() if hasattr(one, "readall") else one.read(),
        lambda one: (one.readable(), one.seekable()),
    ):
        assert step(window) == step(file)
