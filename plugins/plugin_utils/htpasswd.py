# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Password files that come out the same on every run: SHA-512 crypt with a salt that the names give.

Python 3.13 has no crypt module and passlib is not everywhere, so the published algorithm is here:
https://www.akkadia.org/drepper/SHA-crypt.txt
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ROUNDS = 5000


def repeat(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def encode(digest: bytes) -> str:
    """The digest in the alphabet of crypt: three bytes at a time, taken from three places that wander."""
    text = ""
    a, b, c = 0, 21, 42
    for _round in range(21):
        value = digest[a] << 16 | digest[b] << 8 | digest[c]
        text += "".join(ALPHABET[value >> shift & 63] for shift in (0, 6, 12, 18))
        a, b, c = b + 1, c + 1, a + 1
    return text + ALPHABET[digest[63] & 63] + ALPHABET[digest[63] >> 6]


@functools.lru_cache(maxsize=256)
def sha512_crypt(password: str, salt: str) -> str:
    """The C($6$) hash of crypt(5) with its usual 5000 rounds; up to 16 characters of the salt count."""
    key, seed = password.encode(), salt[:16].encode()
    mixed = hashlib.sha512(key + seed + key).digest()
    first = key + seed + repeat(mixed, len(key))
    bits = len(key)
    while bits:
        first += mixed if bits & 1 else key
        bits >>= 1
    digest = hashlib.sha512(first).digest()
    keys = repeat(hashlib.sha512(key * len(key)).digest(), len(key))
    seeds = repeat(hashlib.sha512(seed * (16 + digest[0])).digest(), len(seed))
    for turn in range(ROUNDS):
        parts = keys if turn & 1 else digest
        parts += seeds if turn % 3 else b""
        parts += keys if turn % 7 else b""
        parts += digest if turn & 1 else keys
        digest = hashlib.sha512(parts).digest()
    return f"$6${salt[:16]}${encode(digest)}"


def htpasswd(users: list[dict[str, Any]], scope: str) -> str:
    """The lines of a password file; C(scope) makes the salts of one user differ from file to file."""
    lines = []
    for user in users:
        salt = hashlib.sha256(f"{scope}:{user['name']}".encode()).hexdigest()[:16]
        lines.append(f"{user['name']}:{sha512_crypt(user['password'], salt)}\n")
    return "".join(lines)
