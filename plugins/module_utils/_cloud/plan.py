# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has to be done so that an account holds what is declared, and what it costs a month. Pure.

The rules, in full:

1. A resource is known by its kind and its name. What is declared and not there is created; what is there and declared
   differently is changed; what is there and not declared is left alone, and said if it is ours.
2. Only what is named as to be destroyed is destroyed, and only if it is not declared any more.
3. What cannot be changed in place is never replaced: it is said, and left as it is. What needs a restart is changed
   only for servers that are named as to be restarted.
4. A DNS record waits until its servers have addresses. So a plan is made again after servers were created, and a set
   that was left half-created is finished by the next plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

# In the order in which they are created; destroyed in the opposite one.
KINDS = ("key", "network", "firewall", "server", "volume", "load_balancer", "record")
# What no provider changes in place. Providers add their own.
FIXED = frozenset(
    {
        ("network", "range"),
        ("server", "region"),
        ("server", "image"),
        ("volume", "region"),
        ("load_balancer", "region"),
    }
)
RESTARTING = frozenset({("server", "plan")})
# What somebody has added by hand stays.
ADDED_ONLY = frozenset({("server", "networks")})
# Said when nobody declares them, also where no mark can tell whether they are ours: they cost money.
COSTLY = frozenset({"volume", "load_balancer"})
# Not worth a word when nobody declares them: other programs make them too, and they cost nothing.
SILENT = frozenset({"key", "record"})
SIGNS = {"create": "+", "change": "~", "restart": "~", "destroy": "-", "note": "!", "keep": " "}


@dataclass(frozen=True)
class Resource:
    """Something in an account, or what is to be there.

    @param spec: what is compared; references are names
    @param ours: whether it carries our mark; nothing where the provider can mark no such thing
    @param facts: what is known beside, such as addresses; never compared
    """

    kind: str
    provider: str
    name: str
    spec: Mapping[str, Any]
    id: str = ""
    ours: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.provider, self.kind, self.name)

    @property
    def word(self) -> str:
        """How it is named in a command."""
        return self.name if self.kind == "server" else f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Action:
    """One step of a plan.

    @param verb: create, change, restart, destroy; note for what is only said, keep for what is as declared
    @param wanted: what is declared, nothing when it is destroyed or noted as undeclared
    @param existing: what is there, nothing when it is created
    @param differences: the attributes that differ
    @param waits_for: the servers without which it cannot be done yet
    """

    verb: str
    wanted: Resource | None
    existing: Resource | None = None
    differences: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    text: str = ""

    @property
    def resource(self) -> Resource:
        found = self.wanted or self.existing
        if found is None:
            raise ValueError("an action is about something")
        return found

    @property
    def acts(self) -> bool:
        return self.verb not in ("note", "keep")


# The price of a resource a month, nothing where the provider's price list does not say.
Price = Callable[[Resource], "Decimal | None"]
# The currency of a provider, known once its price list was read.
Currency = Callable[[str], str]


@dataclass(frozen=True)
class Plan:
    """@param problems: why nothing of it may be done"""

    actions: tuple[Action, ...]
    problems: tuple[str, ...] = ()

    @property
    def todo(self) -> list[Action]:
        return [action for action in self.actions if action.acts]


def make_plan(
    wanted: Collection[Resource],
    existing: Collection[Resource],
    *,
    destroy: Collection[str] = (),
    restart: Collection[str] = (),
    fixed: Collection[tuple[str, str, str]] = (),
) -> Plan:
    """The steps from what is there to what is wanted.

    @param destroy: words of what goes, such as C(web3), C(volume/media) or C(web3@4711) with an id
    @param restart: names of the servers that may be restarted for a change
    @param fixed: provider, kind and attribute of what this provider cannot change in place
    """
    there: dict[tuple[str, str, str], list[Resource]] = {}
    for one in existing:
        there.setdefault(one.key, []).append(one)
    doomed, problems = find_doomed(destroy, wanted, existing)
    actions = []
    for one in wanted:
        found = [other for other in there.get(one.key, []) if other not in doomed]
        if len(found) > 1:
            problems.append(
                f"{one.provider} has {len(found)} {one.kind}s named {one.name}: {', '.join(o.id for o in found)}. Look "
                f"which one serves, and destroy the other by its id: {one.word}@{found[-1].id}."
            )
            continue
        resolved, waits_for = resolve(one, there)
        if resolved is None:
            continue
        actions += compare(resolved, found[0] if found else None, waits_for, restart, fixed)
    declared = {one.key for one in wanted}
    for one in existing:
        if one in doomed:
            actions.append(Action("destroy", None, one))
        elif one.kind in SILENT:
            continue
        elif one.key not in declared and (one.ours or (one.ours is None and one.kind in COSTLY)):
            actions.append(Action("note", None, one, text=f"not declared, left alone; destroy={one.word}"))
    return Plan(tuple(sorted(actions, key=order)), tuple(problems))


def order(action: Action) -> tuple[bool, int, str, str]:
    """What is destroyed comes last, and backwards: nothing goes while something still points at it."""
    place = KINDS.index(action.resource.kind)
    destroying = action.verb == "destroy"
    return (destroying, -place if destroying else place, action.resource.provider, action.resource.name)


def find_doomed(
    destroy: Collection[str], wanted: Collection[Resource], existing: Collection[Resource]
) -> tuple[list[Resource], list[str]]:
    """What the words name, and a sentence for each word that may not be followed."""
    doomed, problems = [], []
    declared = {one.key for one in wanted}
    for word in destroy:
        name, _sep, number = word.partition("@")
        found = [one for one in existing if one.word == name and number in ("", one.id)]
        twins = {one.key for one in existing if sum(other.key == one.key for other in existing) > 1}
        if not found:
            # A word that was followed by a run that was cut off is no mistake.
            continue
        for one in found:
            if one.key in declared and not (number and one.key in twins):
                problems.append(f"{name} is to be destroyed and is still declared; remove it from the data first.")
            elif one.ours is False:
                problems.append(
                    f"{name} at {one.provider} was not made by this collection, so it is not destroyed; do that at "
                    "the provider."
                )
            elif len(found) > 1:
                words = ", ".join(f"{other.word}@{other.id} ({other.provider})" for other in found)
                problems.append(f"{name} is there more than once; say which: {words}.")
                break
            else:
                doomed.append(one)
    return doomed, problems


def resolve(one: Resource, there: Mapping[tuple[str, str, str], list[Resource]]) -> tuple[Resource | None, list[str]]:
    """A DNS record with the addresses of what it points at; nothing when none of them has one of that family."""
    if one.kind != "record":
        return one, []
    values, waits_for = [], []
    for kind, name in one.facts["targets"]:
        found = there.get((one.provider, kind, name))
        addresses = found[0].facts.get("addresses") if found else None
        if not addresses:
            waits_for.append(name)
        elif addresses.get(one.spec["type"]):
            values.append(addresses[one.spec["type"]])
    if not values and not waits_for:
        return None, []
    spec = {**one.spec, "values": sorted(values) + [f"(address of {name})" for name in sorted(waits_for)]}
    return Resource(one.kind, one.provider, one.name, spec, facts=one.facts), waits_for


def compare(
    wanted: Resource,
    found: Resource | None,
    waits_for: Collection[str],
    restart: Collection[str],
    fixed: Collection[tuple[str, str, str]],
) -> list[Action]:
    if found is None:
        return [Action("create", wanted, waits_for=tuple(waits_for))]
    verbs: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name, value in wanted.spec.items():
        # What an API does not tell, or the user does not care about, cannot differ.
        now = None if value == "" else found.spec.get(name)
        if now is None or same(wanted.kind, name, now, value):
            continue
        verb, text = verb_of(wanted, name, now, value, restart, fixed)
        verbs.setdefault(verb, []).append(name)
        texts[name] = text
    if not verbs:
        return [Action("keep", wanted, found)]
    stranger = "found here and not made by us; " if found.ours is False else ""
    return [
        Action(verb, wanted, found, tuple(names), tuple(waits_for), stranger + "; ".join(texts[name] for name in names))
        for verb, names in verbs.items()
    ]


def same(kind: str, name: str, now: Any, value: Any) -> bool:
    """Whether nothing has to be done about an attribute; labels of other origin stay."""
    if isinstance(value, Mapping):
        return all(now.get(key) == one for key, one in value.items())
    if (kind, name) in ADDED_ONLY:
        return set(value) <= set(now)
    return bool(now == value)


def verb_of(
    wanted: Resource,
    name: str,
    now: Any,
    value: Any,
    restart: Collection[str],
    fixed: Collection[tuple[str, str, str]],
) -> tuple[str, str]:
    """What becomes of one attribute that differs, and the words for it."""
    text = f"{name} {shown(now)} → {shown(value)}"
    if (wanted.kind, name) in FIXED or (wanted.provider, wanted.kind, name) in fixed:
        return "note", f"{text} cannot be changed in place, left as it is"
    if (wanted.kind, name) == ("volume", "size_gb") and value < now:
        return "note", f"{text}: a volume cannot become smaller, left as it is"
    if (wanted.kind, name) in RESTARTING:
        if wanted.name not in restart:
            return "note", f"{text} needs a restart; restart={wanted.name}"
        return "restart", f"{text}, with a restart"
    if isinstance(now, list) and isinstance(value, list):
        gone = [one for one in now if one not in value and (wanted.kind, name) not in ADDED_ONLY]
        new = [one for one in value if one not in now]
        return "change", f"{name} " + ", ".join(
            [*(f"-{shown(one)}" for one in gone), *(f"+{shown(one)}" for one in new)]
        )
    return "change", text


def shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={shown(one)}" if one else str(key) for key, one in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(one) for one in value) or "none"
    return str(value) if value not in (None, "") else "none"


def about(resource: Resource) -> str:
    """What is worth knowing of something that is created or there, in a few words."""
    spec = resource.spec
    words = {
        "network": ("range",),
        "server": ("plan", "region", "image", "networks"),
        "volume": ("size_gb", "server"),
        "load_balancer": ("plan", "region", "ports", "servers"),
        "record": ("values",),
    }.get(resource.kind, ())
    parts = [f"{shown(spec[name])} GB" if name == "size_gb" else shown(spec[name]) for name in words if spec.get(name)]
    if resource.kind == "firewall":
        parts.append(openings(spec["rules"]))
    return ", ".join(parts)


def openings(rules: Collection[str]) -> str:
    """Who gets in where, ping aside: what a person has to see before saying yes."""
    sources: dict[str, set[str]] = {}
    for rule in rules:
        protocol, port, source = rule.split()
        if protocol != "icmp":
            sources.setdefault(port if protocol == "tcp" else f"{port}/{protocol}", set()).add(source)
    ports: dict[str, list[str]] = {}
    for port, found in sources.items():
        anywhere = {"0.0.0.0/0", "::/0"} <= found
        ports.setdefault("anywhere" if anywhere else " and ".join(sorted(found)), []).append(port)
    words = [f"{', '.join(sorted(each, key=lambda one: (len(one), one)))} from {who}" for who, each in ports.items()]
    return "; ".join(sorted(words, key=lambda word: (not word.endswith("anywhere"), word))) or "nothing open"


@dataclass
class Bill:
    """The monthly cost in one currency; C(unknown) holds what the price list does not tell."""

    now: Decimal = Decimal(0)
    then: Decimal = Decimal(0)
    unknown: list[str] = field(default_factory=list)


def monthly(action: Action, price: Price) -> tuple[Decimal | None, Decimal | None]:
    """What the resource of a step costs a month before and after it."""
    existing, wanted = action.existing, action.wanted
    before = price(existing) if existing else Decimal(0)
    if action.verb == "destroy":
        return before, Decimal(0)
    if action.verb in ("keep", "note") or wanted is None:
        return before, before
    # What is not changed with this step goes on costing what it costs.
    spec = wanted.spec if existing is None else {**existing.spec, **{n: wanted.spec[n] for n in action.differences}}
    facts = wanted.facts if existing is None else existing.facts
    return before, price(Resource(wanted.kind, wanted.provider, wanted.name, spec, facts=facts))


def bills(actions: Collection[Action], price: Price, currency: Currency) -> dict[str, Bill]:
    """Currency to the sum over everything that is ours; a resource that several steps are about counts once."""
    done: dict[str, Bill] = {}
    costs: dict[tuple[str, str, str, str], list[tuple[Decimal | None, Decimal | None]]] = {}
    for action in actions:
        costs.setdefault((*action.resource.key, action.existing.id if action.existing else ""), []).append(
            monthly(action, price)
        )
    for (provider, kind, name, _id), pairs in costs.items():
        bill = done.setdefault(currency(provider), Bill())
        if any(one is None for pair in pairs for one in pair):
            bill.unknown.append(f"{kind} {name}")
            continue
        bill.now += pairs[0][0] or Decimal(0)
        changed = [after for before, after in pairs if after != before]
        bill.then += (changed or [pairs[0][1]])[0] or Decimal(0)
    return done


def money(amount: Decimal | None, currency: str) -> str:
    return "?" if amount is None else f"{amount:.2f} {currency}" if amount else ""


def table(actions: Collection[Action], price: Price, currency: Currency) -> list[str]:
    """The plan as lines: what is done, what is said, and the monthly cost before and after."""
    rows = [("", "what", "name", "at", "a month", "how")]
    for action in actions:
        if action.verb == "keep":
            continue
        one = action.resource
        before, after = monthly(action, price)
        cost = (
            money(before, currency(one.provider))
            if action.verb == "note"
            else difference(before, after, currency(one.provider))
        )
        how = action.text or about(one)
        rows.append((SIGNS[action.verb], one.kind, one.name, one.provider, cost, how))
    lines = align(rows) if len(rows) > 1 else ["Everything is as declared."]
    for word, bill in sorted(bills(actions, price, currency).items()):
        line = f"Monthly cost: {bill.now:.2f} {word} now, {bill.then:.2f} {word} after this"
        lines.append(line + f" ({bill.then - bill.now:+.2f} {word})" * (bill.then != bill.now) + ".")
        if bill.unknown:
            lines.append(f"Not in the price list, so not in the sum: {', '.join(sorted(bill.unknown))}.")
    return lines


def difference(before: Decimal | None, after: Decimal | None, currency: str) -> str:
    if before is None or after is None:
        return "?"
    return "" if before == after else f"{after - before:+.2f} {currency}"


def align(rows: Collection[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(next(iter(rows))))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
