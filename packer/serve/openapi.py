"""The OpenAPI document of the service, made from the views and their parameters."""

from __future__ import annotations

from functools import cache
from typing import Any

from packer._version import VERSION
from packer.serve import parameters as query
from packer.serve.parameters import Parameter
from packer.serve.views import VIEWS

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}
_MAYBE: Schema = {"type": ["integer", "null"], "minimum": 0}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_FLAG: Schema = {"type": "boolean"}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_TEXT_WITH_BYTES = ("app", "version", "path", "name", "target", "old_path", "old", "new", "id")
"""Texts that come with their exact bytes in base64 where these are no UTF-8."""


def _object(**fields: Schema) -> Schema:
    """Return the schema of an object; fields that are not named here are exact bytes in base64."""
    exact = {f"{name}_base64": _TEXT for name in fields if name in _TEXT_WITH_BYTES}
    return {"type": "object", "required": [*fields], "properties": fields | exact}


def _list(item: Schema, most: int | None = None) -> Schema:
    return {"type": "array", "items": item} | ({} if most is None else {"maxItems": most})


def _texts(*names: str) -> dict[str, Schema]:
    return dict.fromkeys(names, _TEXT)


def _numbers(*names: str) -> dict[str, Schema]:
    return dict.fromkeys(names, _NUMBER)


_ROW = _object(
    **_texts("version", "digest", "created", "origin", "problem"),
    **dict.fromkeys(("files", "bytes", "stored_bytes", "added_bytes"), _MAYBE),
    labels=_LABELS,
)
_LINE = _object(mark={"enum": [" ", "-", "+"]}, text=_TEXT)
_HUNK = _object(**_numbers("old_start", "old_lines", "new_start", "new_lines"), lines=_list(_LINE))
_CHANGE = {"enum": ["added", "removed", "changed", "incomplete"]}
_ANSWERS: dict[str, Schema] = {
    "apps": _object(
        **_texts("place", "kind"),
        total=_NUMBER,
        apps=_list(
            _object(app=_TEXT, versions=_NUMBER, newest={"anyOf": [_ROW, {"type": "null"}]})
        ),
    ),
    "history": _object(
        app=_TEXT, **_numbers("total", "offset"), current=_MAYBE_TEXT, versions=_list(_ROW, 200)
    ),
    "version": _object(
        **_texts("app", "version", "digest", "created", "parent", "tool", "zstd"),
        before=_MAYBE_TEXT,
        **_numbers(
            *("level", "average_chunk_bytes", "files", "directories", "symlinks", "bytes"),
            *("chunks", "stored_bytes", "layers", "index_layers", "index_stored_bytes"),
            *("opened_files", "closed_files"),
        ),
        signatures=_list(
            _object(**_texts("kind", "type", "digest", "subject", "tag", "signer"), size=_NUMBER),
            100,
        ),
        signatures_problem=_TEXT,
    ),
    "tree": _object(
        **_texts("app", "version", "path"),
        **_numbers("total", "offset"),
        entries=_list(
            _object(
                **_texts("name", "path", "kind", "target"),
                **_numbers("mode", "size", "files"),
                stored_bytes=_MAYBE,
                archive=_FLAG,
            ),
            1000,
        ),
        problems=_list(_TEXT),
    ),
    "text": _object(
        **_texts("app", "version", "path", "type", "text"),
        size=_MAYBE,
        form={"enum": ["text", "binary"]},
        cut=_FLAG,
    ),
    "space": _object(
        **_texts("app", "version", "path", "by"),
        stored_bytes=_NUMBER,
        cells=_list(_object(**_texts("name", "path", "kind"), **_numbers("size", "stored_bytes"))),
    ),
    "changes": _object(
        **_texts("app", "old", "new", "path"),
        **_numbers("total", "offset"),
        totals=_object(**_numbers("added", "removed", "changed", "new_bytes")),
        changes=_list(
            _object(
                path=_TEXT,
                change=_CHANGE,
                **_numbers("old_size", "new_size", "new_chunk_bytes"),
                detail=_TEXT,
            ),
            1000,
        ),
    ),
    "patches": _object(
        **_texts("app", "old", "new", "path"),
        **_numbers("total", "offset"),
        cut=_FLAG,
        patches=_list(
            _object(
                **_texts("path", "old_path", "detail"),
                change=_CHANGE,
                form={"enum": ["text", "binary", "large", "other", "unreadable"]},
                **_numbers("old_size", "new_size"),
                hunks=_list(_HUNK),
                cut=_FLAG,
            )
        ),
    ),
    "layers": _object(
        app=_TEXT,
        **_numbers("total", "offset"),
        versions=_list(_TEXT),
        layers=_list(_object(digest=_TEXT, size=_NUMBER, versions=_list(_NUMBER)), 512),
        cut=_FLAG,
    ),
    "deployments": _object(app=_TEXT, deployments=_list(_object(**_texts("version", "time")))),
    "bundles": _object(
        **_numbers("total", "offset"),
        bundles=_list(
            _object(
                **_texts("id", "digest", "created"),
                labels=_LABELS,
                **_numbers("files", "bytes", "stored_bytes", "added_bytes"),
            )
        ),
    ),
}
_PROBLEM = _object(error=_TEXT, kind=_TEXT)
_FAILURES = {
    "400": "A parameter is missing or wrong.",
    "404": "There is no such application, version or path.",
    "500": "What is stored is damaged.",
    "502": "The registry failed.",
    "503": "Too much at once, or the request took too long.",
}


@cache
def document() -> dict[str, Any]:
    """Return the document."""
    paths = {
        f"/api/{name}": {"get": _operation(name, view.text, view.takes, _ANSWERS[name])}
        for name, view in VIEWS.items()
    }
    takes = (query.APP, query.VERSION, query.FILE, query.DOWNLOAD)
    raw = _operation("raw", "The bytes of a file; ranges are answered.", takes, None)
    raw["responses"] |= {
        status: {"description": text}
        for status, text in (("206", "A range."), ("304", "Unchanged."), ("416", "No such range."))
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "layer-packer serve",
            "version": VERSION,
            "description": "Versions of applications, read only. See docs/serve.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths | {"/raw": {"get": raw}},
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(
    name: str, text: str, takes: tuple[Parameter, ...], answer: Schema | None
) -> dict[str, Any]:
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if answer is None:
        problem = {"text/html": {"schema": _TEXT}}
    content = (
        {"*/*": {"schema": {}}} if answer is None else {"application/json": {"schema": answer}}
    )
    failures = {
        status: {"description": why, "content": problem} for status, why in _FAILURES.items()
    }
    return {
        "operationId": name,
        "summary": text,
        "parameters": [_parameter(each) for each in takes],
        "responses": {"200": {"description": text, "content": content}} | failures,
    }


def _parameter(each: Parameter) -> dict[str, Any]:
    if each.is_number:
        least = int(each.name == "limit")
        schema = {
            "type": "integer",
            "minimum": least,
            "maximum": each.maximum,
            "default": each.default,
        }
    elif each.choices:
        schema = {"type": "string", "enum": [*each.choices]}
    elif each.required:
        schema = {"type": "string", "minLength": 1}
    else:
        schema = {"type": "string"}
    return {
        "name": each.name,
        "in": "query",
        "required": each.required,
        "description": each.text,
        "schema": schema,
    }
