"""The OpenAPI document (3.1.0), made of the descriptions that the routes themselves read."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from appliance.api.resources import ROOT, Report, Resource
from appliance.api.shapes import Object, Part
from appliance.config import Config

Document = dict[str, Any]

ERRORS = {
    400: "What was sent can't be: the error names the key and what is wrong with it",
    401: "No token, or none that is good",
    403: "The token's role may not do this",
    404: "There is no such thing",
    409: "It doesn't fit what is there: a name that is taken, a thing in use",
    413: "Too long",
    415: "That isn't application/json",
    503: "Something doesn't answer right now: try again",
}


def document(
    config: Config, of: Sequence[Resource], paging: Sequence[Part], reports: Sequence[Report] = ()
) -> Document:
    paths: Document = {}
    schemas: Document = {"Error": Object((Part("error", _Plain(), "a sentence for people"),), ("error",)).schema()}
    for resource in of:
        paths |= _paths(resource, paging)
        schemas |= _schemas(resource)
    for report in reports:
        paths[f"{ROOT}/{report.name}"] = {"get": _report(report)}
        schemas[_title(report)] = report.item().schema()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Gatehouse of {config.site.name}",
            "version": version("gatehouse"),
            "description": "Times are UTC seconds since 1970; octets from the guest are input, to the guest output.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Plain:
    def read(self, value: object, where: str) -> Any:
        return value

    def parse(self, text: str, where: str) -> Any:
        return text

    def schema(self) -> Document:
        return {"type": "string"}


def _title(of: Resource | Report) -> str:
    return "".join(word.capitalize() for word in of.one.split())


def _schemas(of: Resource) -> Document:
    title = _title(of)
    found = {title: of.answer().schema()}
    if any(field.once for field in of.fields):
        found[f"{title}Once"] = of.answer(once=True).schema()
    if of.add:
        found[f"{title}New"] = of.given(new=True).schema()
    if of.change:
        found[f"{title}Change"] = of.given(new=False).schema()
    return found


def _paths(of: Resource, paging: Sequence[Part]) -> Document:
    key = {"name": "key", "in": "path", "required": True, "description": f"its {of.key}", "schema": {"type": "string"}}
    collection = {"get": _list(of, paging)} if of.query else {}
    if of.add:
        collection["post"] = _writing(of, "add", "New", f"Add to {of.name}", 201)
    item: Document = {}
    if of.find:
        item["get"] = _operation(of, "get", f"Show one of {of.name}", of.reads) | _answers(
            of, 200, _ref(_title(of)), 404
        )
    if of.change:
        item["patch"] = _writing(of, "change", "Change", f"Change one of {of.name}; what isn't given stays", 200, 404)
    if of.remove:
        removed = Object(of.removed, tuple(part.name for part in of.removed)).schema() if of.removed else None
        status = 200 if removed else 204
        item["delete"] = _operation(of, "remove", f"{of.ends} one of {of.name}", of.changes) | _answers(
            of, status, removed, 404, 409
        )
    if item:
        item = {"parameters": [key], **item}
    found = {f"{ROOT}/{of.name}": collection, f"{ROOT}/{of.name}/{{key}}": item}
    return {path: methods for path, methods in found.items() if methods}


def _operation(of: Resource | Report, verb: str, summary: str, role: str) -> Document:
    return {
        "operationId": f"{verb}-{of.name.replace('/', '-')}",
        "tags": [of.name],
        "summary": summary,
        "description": f"{of.about} Role: {role}.",
    }


def _list(of: Resource, paging: Sequence[Part]) -> Document:
    items = {"type": "array", "items": _ref(_title(of))}
    whole = {
        "type": "object",
        "properties": {"items": items, "next": {"type": ["string", "null"], "description": "the next `cursor`"}},
        "required": ["items", "next"],
        "additionalProperties": False,
    }
    found = _operation(of, "list", f"List {of.name}, in pages", of.reads)
    return found | {"parameters": _parameters((*paging, *of.filters))} | _answers(of, 200, whole)


def _parameters(parts: Sequence[Part]) -> list[Document]:
    return [
        {"name": part.name, "in": "query", "description": part.about, "schema": part.shape.schema()} for part in parts
    ]


def _report(of: Report) -> Document:
    items = {"type": "array", "items": _ref(_title(of))}
    beside = {part.name: part.shape.schema() | {"description": part.about} for part in of.beside}
    whole = {
        "type": "object",
        "properties": {"items": items, **beside},
        "required": ["items", *beside],
        "additionalProperties": False,
    }
    found = _operation(of, "ask", f"Ask for {of.name}", of.reads)
    return found | {"parameters": _parameters(of.parts)} | _answers(of, 200, whole)


def _writing(of: Resource, verb: str, sent: str, summary: str, status: int, *errors: int) -> Document:
    once = "Once" if any(field.once for field in of.fields) else ""
    body = {"required": True, "content": {"application/json": {"schema": _ref(f"{_title(of)}{sent}")}}}
    found = _operation(of, verb, summary, of.changes) | {"requestBody": body}
    return found | _answers(of, status, _ref(f"{_title(of)}{once}"), 409, 413, 415, *errors)


def _answers(of: Resource | Report, status: int, schema: Document | None, *errors: int) -> Document:
    good: Document = {"description": "Done"}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema}}
    failed = {"application/json": {"schema": _ref("Error")}}
    bad = {str(e): {"description": ERRORS[e], "content": failed} for e in sorted({400, 401, 403, 503, *errors})}
    return {"responses": {str(status): good} | bad}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}
