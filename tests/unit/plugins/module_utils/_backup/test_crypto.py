"""Keys: nobody stores in the clear by accident, and who has the wrong key or none is told which is needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import crypto
from plugins.module_utils._backup.commands import output
from plugins.module_utils._backup.errors import IdentityError, SettingsError
from plugins.module_utils._backup.kinds import Command
from plugins.module_utils._backup.settings import Settings, StoreSettings

needs_age = pytest.mark.skipif(not shutil.which("age"), reason="age is not installed here")
RECIPIENT = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
PASSPHRASE = "correct horse battery staple"
SALT = bytes(range(16))
# Small, so that the test is quick.
LOG_N = 10


def settings(**values: Any) -> Settings:
    return Settings(host="h", store=StoreSettings(kind="local", path="/x"), **values)


def test_without_recipients_nothing_is_stored_unless_somebody_says_so() -> None:
    with pytest.raises(SettingsError, match="make-key"):
        crypto.check_recipients(settings())
    crypto.check_recipients(settings(encrypted=False))
    crypto.check_recipients(settings(recipients=(RECIPIENT,)))


@pytest.mark.parametrize("recipient", ["", "age1short", "ssh-ed25519 AAAA", RECIPIENT.upper(), RECIPIENT[:-1] + "b"])
def test_what_is_no_public_key_is_refused(recipient: str) -> None:
    with pytest.raises(SettingsError, match="not an age public key"):
        crypto.public_keys([recipient])


def test_a_private_key_among_the_recipients_is_refused_and_not_repeated() -> None:
    secret = "AGE-SECRET-KEY-1" + "Q" * 58
    with pytest.raises(SettingsError, match="private key") as error:
        crypto.public_keys([secret])
    assert secret not in str(error.value)


def test_bech32_as_bip_173_has_it() -> None:
    assert crypto.bech32("a", b"") == "a12uel5l"
    data = bytes.fromhex("751e76e8199196d454941c45d1b3a323f1433bd6")
    # The witness version of the address that the document takes as its example is left out.
    assert crypto.bech32("bc", data).startswith("bc1w508d6qejxtdg4y5r3zarvary0c5xw7k")


@needs_age
def test_a_passphrase_and_its_salt_give_the_same_pair_again() -> None:
    first = crypto.pair_of(PASSPHRASE, SALT, LOG_N)
    [(log_n, salt)] = crypto.salts([first.recipient])
    assert crypto.pair_of(PASSPHRASE, salt, log_n) == first
    assert crypto.pair_of(PASSPHRASE, bytes(16), LOG_N).identity != first.identity
    assert crypto.pair_of(PASSPHRASE + "r", SALT, LOG_N).identity != first.identity
    crypto.public_keys([first.recipient])


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(SettingsError, match="fewer than 12"):
        crypto.pair_of("short", SALT)


@needs_age
def test_what_is_encrypted_for_a_pair_is_read_with_it(tmp_path: Path) -> None:
    pair = crypto.make_pair()
    assert crypto.recipient_of(pair.identity) == pair.recipient
    (tmp_path / "key").write_text(f"# comment\n{pair.identity}\n")
    held = settings(identity_file=str(tmp_path / "key"))
    assert crypto.unlock(held, [RECIPIENT, pair.recipient]) == pair.identity
    sealed = tmp_path / "sealed"
    output(Command((*crypto.encrypt_command([pair.recipient]).argv, "-o", str(sealed))), "hello")
    assert output(Command(("age", "-d", "-i", str(tmp_path / "key"), str(sealed)))) == "hello"


@needs_age
def test_the_wrong_key_is_said_with_the_right_one(tmp_path: Path) -> None:
    pair = crypto.make_pair()
    (tmp_path / "key").write_text(pair.identity)
    with pytest.raises(
        IdentityError, match=f"is the private key of {pair.recipient}, but .* encrypted for {RECIPIENT}"
    ):
        crypto.unlock(settings(identity_file=str(tmp_path / "key")), [RECIPIENT])


def test_a_lost_key_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(IdentityError, match=r"has no private key.*by --identity, or set identity_file"):
        crypto.unlock(settings(), [RECIPIENT])
    with pytest.raises(IdentityError, match=r"Without the private key of age1.* nobody can"):
        crypto.unlock(settings(identity_file=str(tmp_path / "gone")), [RECIPIENT])
    (tmp_path / "empty").write_text("nothing")
    with pytest.raises(IdentityError, match="holds no private key"):
        crypto.unlock(settings(identity_file=str(tmp_path / "empty")), [RECIPIENT])


def test_the_key_may_come_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert crypto.identity_path(settings()) is None
    (tmp_path / "identity").write_text("x")
    assert crypto.identity_path(settings()) == tmp_path / "identity"


@needs_age
def test_with_a_passphrase_no_file_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = crypto.pair_of(PASSPHRASE, SALT, LOG_N)
    assert crypto.unlock(settings(), [pair.recipient], lambda: PASSPHRASE) == pair.identity
    with pytest.raises(IdentityError, match="not the one"):
        crypto.unlock(settings(), [pair.recipient], lambda: "another long passphrase")
