# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a bucket should be: private, versioned, locked, with rules for what goes by itself.

C(look) gives its state, C(wanted) the state by a policy, C(apply) makes the one the other. A state is plain data, for
people to compare. Rules that others made stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import store_b2, store_s3
from .errors import NoBucketError, NotFoundError, SettingsError, StoreError, UnsupportedError
from .settings import StoreSettings, check_store

State = dict[str, Any]

MODES = ("governance", "compliance")
# Rules of ours, by the beginning of their names.
OURS = "bulwark-"
# What AWS calls everybody, and everybody with an account of some kind.
PUBLIC = ("groups/global/AllUsers", "groups/global/AuthenticatedUsers")
# Not BlockPublicAcls: with it Ceph refuses every upload, and IgnorePublicAcls makes such ACLs harmless.
BLOCK = ("IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Policy:
    """What is wanted; days of 0 mean that there is no such rule.

    @param private: nobody reads it without a key; False leaves that as it is
    @param versioned: None leaves that as it is
    @param expire_days: prefix → after how many days what is below it goes
    """

    private: bool = True
    versioned: bool | None = None
    lock_days: int = 0
    lock_mode: str = MODES[0]
    abort_unfinished_days: int = 7
    delete_old_versions_days: int = 0
    expire_days: Mapping[str, int] = field(default_factory=dict)


class S3Bucket:
    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.store = store_s3.open_store(settings)
        # What others have set and what is sent back with ours.
        self.rules_of_others: list[dict[str, Any]] = []
        self.blocks: dict[str, bool] = {}

    def look(self) -> State:
        try:
            versioned = self.get("get_bucket_versioning").get("Status") == "Enabled"
        except NoBucketError:
            return {"exists": False}
        public_acl = self.has_public_acl()
        return {
            "exists": True,
            "public_acl": public_acl,
            "public_access_blocked": self.is_blocked(),
            # To Ceph a public ACL is a public policy.
            "public_policy": not public_acl and self.has_public_policy(),
            "versioned": versioned,
            "lock": self.lock(),
            "rules": self.rules(),
        }

    def wanted(self, policy: Policy, now: State) -> State:
        done = dict(now) if now["exists"] else {**NEW, "rules": {}}
        done["exists"] = True
        if policy.private:
            if done["public_policy"]:
                raise StoreError(f"The policy of the bucket {self.settings.bucket} lets everybody in: remove it.")
            done["public_acl"] = False
            if done["public_access_blocked"] != UNSUPPORTED:
                done["public_access_blocked"] = True
        if policy.versioned is not None or policy.lock_days:
            done["versioned"] = bool(policy.versioned or policy.lock_days)
        if policy.lock_days:
            done["lock"] = {"mode": policy.lock_mode, "days": policy.lock_days}
        rules: dict[str, Any] = {}
        if policy.abort_unfinished_days:
            rules["unfinished"] = {"prefix": "", "abort_unfinished_days": policy.abort_unfinished_days}
        if policy.delete_old_versions_days:
            rules["versions"] = {"prefix": "", "delete_old_versions_days": policy.delete_old_versions_days}
        for prefix, days in policy.expire_days.items():
            rules[f"expire-{prefix}"] = {"prefix": prefix, "expire_days": days}
        done["rules"] = rules
        return done

    def apply(self, before: State, after: State) -> None:
        call = self.store.call
        if not before["exists"]:
            self.create(locked=bool(after["lock"]))
            before = self.look()
        if before["public_access_blocked"] == UNSUPPORTED:
            after = {**after, "public_access_blocked": UNSUPPORTED}
        changed = {name for name, value in after.items() if before[name] != value}
        if "public_access_blocked" in changed:
            blocks = {**self.blocks, **dict.fromkeys(BLOCK, True)}
            call("put_public_access_block", PublicAccessBlockConfiguration=blocks)
        if "public_acl" in changed:
            call("put_bucket_acl", ACL="private")
        if "versioned" in changed:
            status = "Enabled" if after["versioned"] else "Suspended"
            call("put_bucket_versioning", VersioningConfiguration={"Status": status})
        if "lock" in changed:
            self.set_lock(after["lock"])
        if "rules" in changed:
            self.set_rules(after["rules"])

    def create(self, locked: bool) -> None:
        words: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if locked else {}
        if self.settings.provider == "aws" and self.settings.region != "us-east-1":
            words["CreateBucketConfiguration"] = {"LocationConstraint": self.settings.region}
        self.store.call("create_bucket", **words)

    def get(self, operation: str) -> Mapping[str, Any]:
        """An answer, empty where nothing was ever set or the store has no such thing."""
        try:
            answer: Mapping[str, Any] = self.store.call(operation)
            return answer
        except (NotFoundError, UnsupportedError):
            return {}

    def has_public_acl(self) -> bool:
        grants = self.get("get_bucket_acl").get("Grants", ())
        return any(grant["Grantee"].get("URI", "").endswith(PUBLIC) for grant in grants)

    def has_public_policy(self) -> bool:
        return bool(self.get("get_bucket_policy_status").get("PolicyStatus", {}).get("IsPublic"))

    def is_blocked(self) -> bool | str:
        try:
            found = self.store.call("get_public_access_block")["PublicAccessBlockConfiguration"]
        except NotFoundError:
            return False
        except UnsupportedError:
            return UNSUPPORTED
        self.blocks = found
        return all(found.get(name) for name in BLOCK)

    def lock(self) -> dict[str, Any] | None:
        found = self.get("get_object_lock_configuration").get("ObjectLockConfiguration", {})
        kept = found.get("Rule", {}).get("DefaultRetention")
        if not kept:
            return None
        return {"mode": kept["Mode"].lower(), "days": kept.get("Days") or kept["Years"] * 365}

    def set_lock(self, lock: Mapping[str, Any]) -> None:
        kept = {"Mode": lock["mode"].upper(), "Days": lock["days"]}
        try:
            self.store.call(
                "put_object_lock_configuration",
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": kept}},
            )
        except UnsupportedError:
            raise
        except StoreError as error:
            raise StoreError(
                f"The bucket {self.settings.bucket} takes no lock: most stores give one only to a bucket that was made "
                f"with it, so let this module make a new one. {error}"
            ) from error

    def rules(self) -> dict[str, Any]:
        """The rules of ours by name. Those of others are kept for the next C(set_rules)."""
        found, self.rules_of_others = {}, []
        for rule in self.get("get_bucket_lifecycle_configuration").get("Rules", ()):
            name = rule.get("ID", "")
            if name.startswith(OURS) and rule.get("Status") == "Enabled":
                found[name[len(OURS) :]] = from_s3(rule)
            elif not name.startswith(OURS):
                self.rules_of_others.append(rule)
        return found

    def set_rules(self, rules: Mapping[str, Any]) -> None:
        whole = [*self.rules_of_others, *(to_s3(name, rule) for name, rule in rules.items())]
        if whole:
            self.store.call("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": whole})
        else:
            self.store.call("delete_bucket_lifecycle")


# A bucket that was just made, as far as this can be known before.
NEW: State = {
    "public_acl": False,
    "public_access_blocked": False,
    "public_policy": False,
    "versioned": False,
    "lock": None,
}


def to_s3(name: str, rule: Mapping[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"ID": OURS + name, "Status": "Enabled", "Filter": {"Prefix": rule["prefix"]}}
    if "abort_unfinished_days" in rule:
        done["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule["abort_unfinished_days"]}
    if "delete_old_versions_days" in rule:
        done["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule["delete_old_versions_days"]}
        # What is left of an object once its versions are gone.
        done["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if "expire_days" in rule:
        done["Expiration"] = {"Days": rule["expire_days"]}
    return done


def from_s3(rule: Mapping[str, Any]) -> dict[str, Any]:
    prefix = rule.get("Filter", {}).get("Prefix")
    done: dict[str, Any] = {"prefix": rule.get("Prefix", "") if prefix is None else prefix}
    places = {
        "abort_unfinished_days": ("AbortIncompleteMultipartUpload", "DaysAfterInitiation"),
        "delete_old_versions_days": ("NoncurrentVersionExpiration", "NoncurrentDays"),
        "expire_days": ("Expiration", "Days"),
    }
    for name, (outer, inner) in places.items():
        if inner in rule.get(outer, {}):
            done[name] = rule[outer][inner]
    return done


class B2Bucket:
    """B2 has versions always, and one rule for a prefix, which holds everything that is to happen there."""

    def __init__(self, settings: StoreSettings) -> None:
        self.settings = settings
        self.store = store_b2.open_store(settings)
        self.raw: Mapping[str, Any] = {}

    def look(self) -> State:
        try:
            self.raw = self.store.retry(self.store.find_bucket)
        except NoBucketError:
            return {"exists": False}
        lock = (self.raw.get("fileLockConfiguration") or {}).get("value") or {}
        kept = lock.get("defaultRetention") or {}
        period = kept.get("period") or {}
        days = (period.get("duration") or 0) * (365 if period.get("unit") == "years" else 1)
        return {
            "exists": True,
            "private": self.raw["bucketType"] == "allPrivate",
            "lock": {"mode": kept["mode"], "days": days} if days else None,
            "rules": {rule["fileNamePrefix"]: from_b2(rule) for rule in self.raw.get("lifecycleRules", ())},
        }

    def wanted(self, policy: Policy, now: State) -> State:
        if policy.versioned is False:
            raise SettingsError("B2 keeps versions always: leave versioned out, and set delete_old_versions_days to 1.")
        done = dict(now) if now["exists"] else {"private": True, "lock": None, "rules": {}}
        done["exists"] = True
        if policy.private:
            done["private"] = True
        if policy.lock_days:
            done["lock"] = {"mode": policy.lock_mode, "days": policy.lock_days}
        start = f"{self.settings.prefix.strip('/')}/" if self.settings.prefix.strip("/") else ""
        if policy.expire_days and not start:
            raise SettingsError(
                "B2 takes no two rules for one file: give the store a prefix, so that its rule is not for all files."
            )
        common = {
            "abort_unfinished_days": policy.abort_unfinished_days,
            "delete_old_versions_days": policy.delete_old_versions_days,
        }
        rules = {start: common}
        for prefix, days in policy.expire_days.items():
            # What expires is only hidden by that; it goes a day later.
            rules[prefix] = {**common, "expire_days": days}
            rules[prefix]["delete_old_versions_days"] = policy.delete_old_versions_days or 1
        clean = {prefix: {name: days for name, days in rule.items() if days} for prefix, rule in rules.items()}
        others = {prefix: rule for prefix, rule in done["rules"].items() if prefix not in clean}
        done["rules"] = {**others, **{prefix: rule for prefix, rule in clean.items() if rule}}
        return done

    def apply(self, before: State, after: State) -> None:
        store, session = self.store, self.store.session
        account = store.retry(store.log_in)
        if not before["exists"]:
            with_lock = {"is_file_lock_enabled": True} if after["lock"] else {}
            name = self.settings.bucket
            store.attempt(lambda: session.create_bucket(account, name, "allPrivate", **with_lock), "create_bucket")
            before = self.look()
        words: dict[str, Any] = {}
        if before["private"] != after["private"]:
            words["bucket_type"] = "allPrivate"
        if before["rules"] != after["rules"]:
            words["lifecycle_rules"] = [to_b2(prefix, rule) for prefix, rule in after["rules"].items()]
        if before["lock"] != after["lock"]:
            words["default_retention"] = store_b2.retention(**after["lock"])
        if words:
            bucket_id = self.raw["bucketId"]
            store.attempt(lambda: session.update_bucket(account, bucket_id, **words), "update_bucket")


B2_NAMES = {
    "abort_unfinished_days": "daysFromStartingToCancelingUnfinishedLargeFiles",
    "delete_old_versions_days": "daysFromHidingToDeleting",
    "expire_days": "daysFromUploadingToHiding",
}


def to_b2(prefix: str, rule: Mapping[str, int]) -> dict[str, Any]:
    return {"fileNamePrefix": prefix, **{B2_NAMES[name]: days for name, days in rule.items()}}


def from_b2(rule: Mapping[str, Any]) -> dict[str, int]:
    return {name: rule[theirs] for name, theirs in B2_NAMES.items() if rule.get(theirs)}


def open_bucket(settings: StoreSettings) -> S3Bucket | B2Bucket:
    """@raises SettingsError: if this kind of store has no buckets"""
    check_store(settings)
    if settings.kind == "s3":
        return S3Bucket(settings)
    if settings.kind == "b2":
        return B2Bucket(settings)
    raise SettingsError(f"A store of kind {settings.kind} has no bucket: s3 and b2 have.")


def check_policy(settings: StoreSettings, policy: Policy) -> None:
    """@raises SettingsError: if the policy makes no sense, or would delete the backups themselves"""
    days = {
        "abort_unfinished_days": policy.abort_unfinished_days,
        "delete_old_versions_days": policy.delete_old_versions_days,
        "lock_days": policy.lock_days,
    }
    for name, value in days.items():
        if value < 0:
            raise SettingsError(f"{name} is {value}: give days, or 0 for no such rule.")
    backups = f"{settings.prefix.strip('/')}/" if settings.prefix.strip("/") else None
    for prefix, value in policy.expire_days.items():
        if value < 1:
            raise SettingsError(f"expire_days: {prefix!r} has {value}: give days, 1 or more.")
        if backups and (backups.startswith(prefix) or prefix.startswith(backups)):
            raise SettingsError(f"expire_days: {prefix!r} would take backups below {backups} before their time.")
