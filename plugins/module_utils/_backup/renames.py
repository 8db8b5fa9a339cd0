# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Puts something in the place of something else, so that there is never nothing in that place. See renameat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os

RENAME_EXCHANGE = 2
AT_FDCWD = -100
# The file system, or the C library, cannot exchange.
CANNOT = (errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.ENOTSUP)


def replace(new: str, path: str, kept: str) -> bool:
    """Renames C(new) to C(path); what was there gets the name C(kept). Whether there was something.

    @raises OSError: if one of them cannot be renamed; everything is as it was then
    """
    if not os.path.lexists(path):
        os.rename(new, path)
        return False
    if exchange(new, path):
        os.rename(new, kept)
        return True
    os.rename(path, kept)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(kept, path)
        raise
    return True


def exchange(one: str, other: str) -> bool:
    """Whether the two have changed names, in one step; not if the file system cannot do that."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    if function(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in CANNOT:
        return False
    raise OSError(number, os.strerror(number), other)
