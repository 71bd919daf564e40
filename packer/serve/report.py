"""One page about a version, or about an application, in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from markupsafe import Markup

from packer.errors import InvalidParameter, NotFound
from packer.serve import pages
from packer.serve.limits import Stop
from packer.serve.places import Place
from packer.serve.views import Views

SECONDS = 3600.0
"""Time that a report may take: nobody waits for it at a connection."""
_VERSIONS = 200
_MATRIX = 24
_CHANGES = 500
_PATCHES = 50


class _Unhurried(Stop):
    """The event of a caller of the library, as the event of a request."""

    def __init__(self, cancel: Any) -> None:
        super().__init__(SECONDS)
        self._cancel = cancel

    def is_set(self) -> bool:
        """Return whether to stop."""
        return super().is_set() or (self._cancel is not None and self._cancel.is_set())


def report(place: Place, cancel: Any = None) -> str:
    """Return a page about what a place holds of its application.

    An application with several versions gets its history, the layers that they share, and the
    changes from the last version but one to the last; a version gets where its bytes went.

    Args:
        place: holds one application.
        cancel: a `threading.Event` or the like.

    Returns:
        HTML with its style in it. It has no script and no link, and asks nothing of any host.

    Raises:
        NotFound: the place has no version.
        InvalidParameter: the place has several applications.
        Cancelled: `cancel` was set.
    """
    stop = _Unhurried(cancel)
    views = Views(place)
    apps = place.apps()
    if not apps or not (names := place.names(apps[0])):
        raise NotFound("version", place.title, "there is none to report on")
    if len(apps) > 1:
        raise InvalidParameter(f"{place.title} holds {len(apps)} applications: name one")
    app, name = apps[0], names[-1]
    version = {"app": app, "version": name, "path": ""}
    shown: dict[str, Any] = {
        "it": views.version(version, stop),
        "by_path": views.space({**version, "by": "path"}, stop),
        "by_layer": views.space({**version, "by": "layer"}, stop),
        "history": views.history({"app": app, "offset": 0, "limit": _VERSIONS}, stop),
        "log": views.deployments({"app": app}, stop)["deployments"],
        "matrix": views.layers({"app": app, "offset": 0, "limit": _MATRIX}, stop),
        "changes": None,
        "patches": None,
    }
    if len(names) > 1:
        pair = {"app": app, "old": names[-2], "new": name, "path": "", "offset": 0}
        shown["changes"] = views.changes({**pair, "limit": _CHANGES}, stop)
        shown["patches"] = views.patches({**pair, "limit": _PATCHES}, stop)
    style = pages.resource("static", "app.css")
    return pages.render(
        "report",
        place=place,
        given={},
        linked=False,
        style=Markup(style),  # noqa: S704 - our own file, which a test holds free of "</"
        policy=f"default-src 'none'; style-src '{hash_of(style)}'; base-uri 'none'",
        **shown,
    )


def hash_of(text: str) -> str:
    """Return the source expression of a style's content, as in a Content-Security-Policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()
