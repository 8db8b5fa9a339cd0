"""Machines as no provider has them: what simulated accounts are filled with, and what an inventory must say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

NETWORK = "backend"
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Machine:
    """A server.

    @param place: number of the region, the plan and the image in the lists of the provider, modulo their lengths
    @param special: "gpu" at DigitalOcean, "metal" at Vultr
    @param change: what is different in the answer of the provider, done last
    """

    number: int
    name: str
    place: int = 0
    status: str = "running"
    public_ipv4: str | None = None
    public_ipv6: str | None = None
    private_ipv4: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    special: str = ""
    change: Callable[[dict[str, object]], object] | None = None
    made: datetime | None = None

    @property
    def created(self) -> datetime:
        return self.made or BEGIN + timedelta(minutes=self.number)

    @property
    def network_v6(self) -> str | None:
        """The /64 that the address is in."""
        return self.public_ipv6.rpartition("::")[0] + "::" if self.public_ipv6 else None

    def words(self) -> list[str]:
        """Labels and tags of a provider that has tags only."""
        return [f"{key}:{value}" for key, value in self.labels.items()] + list(self.tags)


ENVIRONMENTS = ("prod", "staging", "test")
ROLES = ("web", "db", "worker")


def machine(number: int) -> Machine:
    """The usual one; the numbers decide everything."""
    return Machine(
        number,
        f"{ROLES[number % 3]}-{number:05d}",
        place=number,
        status=("running", "running", "running", "stopped", "running", "pending")[number % 6],
        public_ipv4=f"198.{18 + number // 65025 % 2}.{number // 255 % 255}.{1 + number % 255}",
        public_ipv6=f"2001:db8:{number // 65536:x}:{number % 65536:x}::1",
        private_ipv4=f"10.{number // 65025 % 100}.{number // 255 % 255}.{1 + number % 255}" if number % 2 else None,
        labels={"env": ENVIRONMENTS[number % 3], "role": ROLES[number % 3]},
        tags=("bulwark",),
    )


def fleet(count: int, first: int = 1) -> list[Machine]:
    return [machine(number) for number in range(first, first + count)]


def plain(number: int, name: str, **words: object) -> Machine:
    """A running one without labels, to be made awkward."""
    return replace(machine(number), name=name, status="running", labels={}, tags=(), **words)
