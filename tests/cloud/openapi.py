"""Whether requests and answers are as the providers' OpenAPI documents have them.

The documents are other people's data and not part of this collection: BULWARK_OPENAPI names a folder with them, as
.json or .yaml, packed with gzip or not. Which is whose is told by the address of the service in them.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft4Validator

HOSTS = {
    "api.hetzner.cloud": "hetzner",
    "api.digitalocean.com": "digitalocean",
    "api.vultr.com": "vultr",
    "api.linode.com": "linode",
}
# Where the documents are older than the services, or do not agree with themselves.
GAPS = (
    "'datacenter' is a required property",
    "query parameter show_pending_charges",
    "query parameter hostname",
    "query parameter firewall_group_id",
    # Null without a NAT or a backup, says Linode's own Go library.
    "['nat_1_1']: None",
    "['last_successful']: None",
    "['rate']: None",
    "['secondary_entity']: None",
)


PLAIN = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "pattern")


def documents(folder: Path) -> dict[str, Document]:
    found = {}
    for file in sorted(folder.iterdir()):
        if not re.search(r"\.(json|yaml|yml)(\.gz)?$", file.name):
            continue
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = raw.decode()
        data = json.loads(text) if ".json" in file.name else yaml.load(text, Loader=yaml.CSafeLoader)
        host = data["servers"][0]["url"].split("/")[2]
        if host in HOSTS:
            found[HOSTS[host]] = Document(data)
    return found


def request_faults(log: Iterable[Any], documents: dict[str, Document]) -> set[str]:
    """Of all requests in the log of a simulator."""
    wrong = set()
    for one in log:
        if one.provider in documents:
            faults = documents[one.provider].faults(one.method, one.path, one.query, one.body)
            wrong |= {f"{one.provider} {one.method} {one.path}: {text}" for text in faults}
    return {text for text in wrong if not any(gap in text for gap in GAPS)}


class Document:
    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.known: dict[int, Any] = {}
        self.paths = []
        for path in data["paths"]:
            short = re.sub(r"^/(v2|\{apiVersion\})(?=/)", "", path)
            self.paths.append((re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(short))), short.count("{"), path))
        self.paths.sort(key=lambda entry: entry[1])

    def resolved(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            target = self.data
            for part in node["$ref"].split("/")[1:]:
                target = target[part.replace("~1", "/").replace("~0", "~")]
            node = target
        return node

    def schema(self, node: Any, depth: int = 0) -> Any:
        """As JSON Schema: references resolved, `nullable` as a type; without formats and examples."""
        node = self.resolved(node)
        if id(node) in self.known:
            return self.known[id(node)]
        if isinstance(node, list):
            return [self.schema(one, depth + 1) for one in node]
        if not isinstance(node, dict) or depth > 40:
            return {} if isinstance(node, dict) else node
        made: dict[str, Any] = {}
        self.known[id(node)] = made
        for name, value in node.items():
            if name in ("properties", "patternProperties"):
                made[name] = {key: self.schema(one, depth + 1) for key, one in value.items()}
            elif name in ("items", "allOf", "anyOf", "oneOf", "not") or (name == "additionalProperties" and value):
                # Forbidden ones are not looked at: Linode's document forbids them in each part of an allOf.
                made[name] = self.schema(value, depth + 1)
            elif name in PLAIN or (name == "required" and isinstance(value, list) and value):
                made[name] = value
        if node.get("nullable"):
            # With `allOf` beside it the null would have to fit the others as well.
            made = {"anyOf": [{"enum": [None]}, made]}
            self.known[id(node)] = made
        return made

    def operation(self, method: str, path: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        for pattern, _holes, whole in self.paths:
            if pattern.fullmatch(path) and method.lower() in self.data["paths"][whole]:
                item = self.data["paths"][whole]
                return item, item[method.lower()]
        return None

    def faults(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Iterator[str]:
        """What is wrong with a request."""
        found = self.operation(method, path)
        if found is None:
            yield f"{method} {path} is not in the document"
            return
        item, operation = found
        known = {
            one["name"]: one
            for one in map(self.resolved, [*item.get("parameters", []), *operation.get("parameters", [])])
            if one["in"] == "query"
        }
        for name, values in query.items():
            if name not in known:
                yield f"query parameter {name} is not in the document"
                continue
            schema = self.schema(known[name].get("schema", {}))
            if schema.get("type") == "array":
                schema = schema["items"]
            for value in values:
                typed = int(value) if schema.get("type") == "integer" and value.isdigit() else value
                yield from (
                    f"query parameter {name}: {one.message}" for one in Draft4Validator(schema).iter_errors(typed)
                )
        content = self.resolved(operation.get("requestBody", {})).get("content", {}).get("application/json")
        if content and body is not None:
            yield from self.unfit(body, content.get("schema", {}), "body")

    def answer_faults(self, method: str, path: str, status: int, body: Any) -> Iterator[str]:
        found = self.operation(method, path)
        if found is None:
            return
        answers = found[1]["responses"]
        names = (str(status), status, f"{status // 100}xx", "default")
        answer = next((answers[name] for name in names if name in answers), None)
        if answer is None:
            yield f"{status} is no answer of the document"
            return
        content = self.resolved(answer).get("content", {}).get("application/json")
        if content:
            yield from self.unfit(body, content.get("schema", {}), "answer")

    def unfit(self, value: Any, schema: Any, where: str) -> Iterator[str]:
        for error in Draft4Validator(self.schema(schema)).iter_errors(value):
            inner = min(error.context or [error], key=lambda one: len(one.path))
            yield f"{where}{''.join(f'[{part!r}]' for part in error.path)}: {inner.message[:300]}"
