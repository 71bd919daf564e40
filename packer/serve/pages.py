"""Objects to HTML: which views a page takes, and the templates that show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from packer._version import VERSION
from packer.serve import drawing, texts
from packer.serve import parameters as query
from packer.serve.limits import Stop
from packer.serve.parameters import Parameter, query_of
from packer.serve.trees import ARCHIVES
from packer.serve.views import VIEWS, Views
from packer.text import escape, format_count, format_size

MAX_TEXT_LINES = 5000
"""Lines of a file that are shown."""
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Types that a page shows: browsers run nothing in them."""

Build = Callable[[Views, dict[str, Any], Stop], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page for people.

    Args:
        name: of the path and of the template.
        takes: its parameters.
        build: returns what the template shows.
    """

    name: str
    takes: tuple[Parameter, ...]
    build: Build


@cache
def environment() -> Environment:
    """Return the templates; everything that they show is escaped."""
    made = Environment(
        loader=FunctionLoader(lambda name: resource("templates", name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        size=lambda number: "unknown" if number is None else format_size(number),
        count=format_count,
        name=escape,
        time=short_time,
        digest=short_digest,
        last=lambda path: path.rstrip("/").rpartition("/")[2],
        no_end=lambda line: line.removesuffix("\n"),
    )
    made.globals.update(
        href=href,
        cells=drawing.cells,
        plot=drawing.plot,
        side_by_side=texts.side_by_side,
        numbered=texts.numbered,
        lines_of=lambda text: texts.lines_of(text, MAX_TEXT_LINES),
        archives=ARCHIVES,
        images=IMAGES,
        program=f"layer-packer {VERSION}",
    )
    return made


def resource(*names: str) -> str:
    """Return the text of a file that is shipped with this room."""
    return resources.files("packer.serve").joinpath(*names).read_text(encoding="utf-8")


def href(page: str, **values: str | int) -> str:
    """Return a link; links are relative, so that the page works below any prefix."""
    found = query_of(values)
    return f"{page}?{found}" if found else page


def short_digest(digest: str) -> str:
    """Return the first digits of a digest."""
    return digest.removeprefix("sha256:")[:12]


def short_time(stamp: str) -> str:
    """Return a time of RFC 3339 without its seconds and its zone, which is UTC here."""
    return escape(stamp[:16].replace("T", " "))


def render(name: str, **values: Any) -> str:
    """Fill a template.

    Args:
        name: of the template, without its end.
        values: what it shows.

    Returns:
        HTML.
    """
    return environment().get_template(f"{name}.html").render({"linked": True, **values})


def given_of(name: str, given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the parameters of a view: those given, else its own defaults."""
    known = {each.name: each.default for each in VIEWS[name].takes}
    return {key: more.get(key, given.get(key, default)) for key, default in known.items()}


def _apps(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    return {"it": views.apps(given, stop)}


def _history(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    return {
        "it": views.history(given, stop),
        "log": views.deployments(given, stop)["deployments"],
    }


def _version(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    found = views.version(given, stop)
    by_path = views.space(given_of("space", given, by="path"), stop)
    by_layer = views.space(given_of("space", given, path="", by="layer"), stop)
    crumbs = _crumbs(by_path["path"])
    return {"it": found, "by_path": by_path, "by_layer": by_layer, "crumbs": crumbs}


def _tree(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    found = views.tree(given, stop)
    return {"it": found, "crumbs": _crumbs(found["path"])}


def _file(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    return {"it": views.text(given, stop), "crumbs": _crumbs(given["path"])}


def _diff(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    if given["layout"] == "list":
        given = {**given, "limit": 500}
    changes = views.changes(given, stop)
    patches: dict[str, Any] = {"patches": [], "cut": False}
    if given["layout"] != "list":
        patches = views.patches(given, stop)
    return {"it": changes, "patches": patches, "layout": given["layout"], "limit": given["limit"]}


def _layers(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    return {"it": views.layers(given, stop)}


def _bundles(views: Views, given: dict[str, Any], stop: Stop) -> dict[str, Any]:
    return {"it": views.bundles(given, stop)}


def _crumbs(path: str) -> list[tuple[str, str]]:
    """Return the directories on the way to a path: name and path of each."""
    out = []
    at = 0
    clean = path.strip("/")
    while clean and at >= 0:
        at = clean.find("/", at + 1)
        whole = clean if at < 0 else clean[:at]
        name = whole.rpartition("/")[2]
        link = whole + "/" if whole.endswith("!") else whole
        out.append((name, link))
    return out


PAGES = {
    page.name: page
    for page in (
        Page("apps", VIEWS["apps"].takes, _apps),
        Page("history", VIEWS["history"].takes, _history),
        Page("version", (query.APP, query.VERSION, query.PATH), _version),
        Page("tree", VIEWS["tree"].takes, _tree),
        Page("file", VIEWS["text"].takes, _file),
        Page("diff", (*VIEWS["patches"].takes, query.LAYOUT), _diff),
        Page("layers", VIEWS["layers"].takes, _layers),
        Page("bundles", VIEWS["bundles"].takes, _bundles),
    )
}
"""The pages by the last part of their path; ``apps`` is also the first page."""
