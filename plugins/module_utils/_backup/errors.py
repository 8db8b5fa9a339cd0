# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can go wrong in a backup, a restore or a drill: one family, each with a sentence for the operator."""

from __future__ import annotations


class BackupError(Exception):
    """The text is one sentence that names the job, the store or the setting, and what to do."""


class SettingsError(BackupError):
    """A setting is missing, unknown or of the wrong type."""


class SourceError(BackupError):
    """What is to be backed up could not be read to its end; nothing of it is kept as a backup."""


class IntegrityError(BackupError):
    """What the store holds is not what was stored."""


class IdentityError(BackupError):
    """The private key is missing, or is not one of those that the backup was encrypted for."""


class DrillError(BackupError):
    """A restored backup is not what its manifest says."""


class BusyError(BackupError):
    """Another run holds the lock, or there is no room for this one now."""


class StoreError(BackupError):
    """The store refused or did not answer.

    @param transient: whether the same call may succeed later
    @param after_seconds: how long the store asked to wait, 0 if it did not
    """

    def __init__(self, message: str, *, transient: bool = False, after_seconds: float = 0) -> None:
        super().__init__(message)
        self.transient = transient
        self.after_seconds = after_seconds


class NotFoundError(StoreError):
    """There is no such object."""


class ExistsError(StoreError):
    """There is such an object already; it was not replaced."""


class DeniedError(StoreError):
    """The key, or an object lock, does not allow this."""


class UnsupportedError(StoreError):
    """The store has no such function."""


class NoBucketError(StoreError):
    """There is no such bucket, or nothing is known of it to this key."""
