# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keys: backups are encrypted by age for public keys, so a host that makes them cannot read them.

A recipient is a public key, then an optional comment. The comment of one that was made from a passphrase is
C(passphrase:LOG_N:SALT), which with the passphrase gives the private key again; it is in every manifest.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .commands import output
from .errors import IdentityError, SettingsError
from .kinds import Command
from .settings import Settings

RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
IDENTITY = re.compile(r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}")
PASSPHRASE = re.compile(r"passphrase:(\d+):([A-Za-z0-9_-]+)")
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
LOG_N = 17
SALT_BYTES = 16
SHORTEST_PASSPHRASE = 12


class Pair(NamedTuple):
    recipient: str
    identity: str


def public_keys(recipients: Iterable[str]) -> list[str]:
    """The keys without their comments.

    @raises SettingsError: if one is not a public key
    """
    keys = [line.split()[0] if line.split() else "" for line in recipients]
    for key in keys:
        if IDENTITY.fullmatch(key):
            # The key itself is not repeated: this goes to the journal.
            raise SettingsError(
                "One of the recipients is a private key: give its public key (age1…) and make a new pair."
            )
        if not RECIPIENT.fullmatch(key):
            raise SettingsError(f"The recipient {key!r} is not an age public key (age1 and 58 letters).")
    return keys


def check_recipients(settings: Settings) -> None:
    """@raises SettingsError: if backups would be readable by whoever sees the store, and nobody said so"""
    public_keys(settings.recipients)
    if settings.encrypted and not settings.recipients:
        raise SettingsError(
            "There are no recipients, so nobody could read the backups: make a key with 'bulwark-backup make-key' "
            "and set recipients to its public half."
        )


def encrypt_command(recipients: Sequence[str]) -> Command:
    return Command(("age", "-e", *(word for key in public_keys(recipients) for word in ("-r", key))))


def decrypt_command(identity_fd: int) -> Command:
    return Command(("age", "-d", "-i", f"/dev/fd/{identity_fd}"))


def make_pair() -> Pair:
    """A new pair; nothing is written anywhere."""
    text = output(Command(("age-keygen",)))
    match = IDENTITY.search(text)
    if not match:
        raise IdentityError("age-keygen gave no key; is it the age package of the distribution?")
    return Pair(recipient_of(match[0]), match[0])


def pair_of(passphrase: str, salt: bytes, log_n: int = LOG_N) -> Pair:
    """The pair that a passphrase stands for. Takes a second and 128 MiB, so that guessing takes long."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise SettingsError(f"The passphrase has fewer than {SHORTEST_PASSPHRASE} characters: take a longer one.")
    memory = 2 * 128 * 8 * 2**log_n
    secret = hashlib.scrypt(passphrase.encode(), salt=salt, n=2**log_n, r=8, p=1, maxmem=memory, dklen=32)
    identity = bech32("age-secret-key-", secret).upper()
    words = base64.urlsafe_b64encode(salt).decode().rstrip("=")
    return Pair(f"{recipient_of(identity)} passphrase:{log_n}:{words}", identity)


def salts(recipients: Iterable[str]) -> list[tuple[int, bytes]]:
    """What is needed beside the passphrase, of those recipients that were made from one."""
    found = [PASSPHRASE.search(recipient) for recipient in recipients]
    return [
        (int(match[1]), base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))) for match in found if match
    ]


def recipient_of(identity: str) -> str:
    return output(Command(("age-keygen", "-y")), identity + "\n").strip()


def bech32(prefix: str, data: bytes) -> str:
    """Bech32 (BIP 173), the way that age writes keys."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[start : start + 5], 2) for start in range(0, len(bits), 5)]
    expanded = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    check = polymod([*expanded, *values, 0, 0, 0, 0, 0, 0]) ^ 1
    sums = [check >> 5 * (5 - index) & 31 for index in range(6)]
    return prefix + "1" + "".join(BECH32[value] for value in [*values, *sums])


def polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> index & 1:
                check ^= generator
    return check


def identity_path(settings: Settings) -> Path | None:
    """The file with the private key; systemd's C(LoadCredential=identity) counts, too."""
    given = settings.identity_file
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not given and folder and (Path(folder) / "identity").exists():
        return Path(folder) / "identity"
    return Path(given) if given else None


def unlock(settings: Settings, recipients: Sequence[str], passphrase: Callable[[], str] | None = None) -> str:
    """The private key for what was encrypted for these recipients.

    @param passphrase: asks for it; None = there is nobody to ask
    @raises IdentityError: if this host has no private key, or another one; in words that say which one is needed
    """
    wanted = public_keys(recipients)
    if passphrase and salts(recipients):
        pairs = [pair_of(passphrase(), salt, log_n) for log_n, salt in salts(recipients)]
        for pair in pairs:
            if pair.recipient.split()[0] in wanted:
                return pair.identity
        raise IdentityError("The passphrase is not the one that the backup was encrypted with.")
    path = identity_path(settings)
    names = " or ".join(wanted)
    if path is None:
        raise IdentityError(
            f"This host has no private key, so it cannot read backups: give the private key of {names} by --identity, "
            "or set identity_file."
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise IdentityError(
            f"The private key {path} cannot be read ({error.strerror}). Without the private key of {names} nobody can "
            "read the backup: get it from where the keys are kept, outside of this host."
        ) from error
    found = IDENTITY.findall(text)
    if not found:
        raise IdentityError(f"{path} holds no private key (a line AGE-SECRET-KEY-1…); the one of {names} is needed.")
    for identity in found:
        if recipient_of(identity) in wanted:
            return identity
    held = ", ".join(recipient_of(identity) for identity in found)
    raise IdentityError(f"{path} is the private key of {held}, but the backup was encrypted for {names}.")


def ask(prompt: str = "Passphrase of the backups: ") -> str:
    """From the terminal, or the first line of the input where there is none."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
