"""What the query of a request may say: one table for parsing and for the OpenAPI document.

Names of applications, versions and paths may hold bytes that are no UTF-8, so the query is parsed
here: such bytes become lone surrogates, as everywhere in this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

from packer.errors import InvalidParameter

MAX_QUERY_BYTES = 16 << 10
"""Greatest query that is parsed."""
_MAX_FIELDS = 32


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query.

    Args:
        name: as in the query.
        text: what it means, for the OpenAPI document.
        required: whether it must be given.
        default: its value where it is not given; a number for numbers.
        maximum: greatest number.
        choices: the words that are allowed; none for any text.
    """

    name: str
    text: str
    required: bool = False
    default: str | int = ""
    maximum: int = 0
    choices: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether it is a whole number from 0."""
        return isinstance(self.default, int)

    def parse(self, given: str | None) -> str | int:
        """Return the value of what was given.

        Args:
            given: the text of the query; None if the parameter is not there.

        Returns:
            The value.

        Raises:
            InvalidParameter: it is missing, no such number, or none of the choices.
        """
        if given is None:
            if self.required:
                raise InvalidParameter(f"the parameter {self.name} is missing")
            return self.default
        if self.required and not given:
            raise InvalidParameter(f"the parameter {self.name} is empty")
        if self.is_number:
            least = int(self.name == "limit")
            number = int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else -1
            if not least <= number <= self.maximum:
                raise InvalidParameter(f"{self.name} is no number from {least} to {self.maximum}")
            return number
        if self.choices and given not in self.choices:
            raise InvalidParameter(f"{self.name} is none of {', '.join(self.choices)}")
        if "\0" in given:
            raise InvalidParameter(f"{self.name} holds a NUL")
        return given


APP = Parameter("app", "The application, as the list of applications names it.", required=True)
VERSION = Parameter("version", "The version: its name or its digest.", required=True)
OLD = Parameter("old", "The older version.", required=True)
NEW = Parameter("new", "The newer version.", required=True)
PATH = Parameter("path", "A path in the version; what follows `!/` lies in an archive.")
FILE = Parameter("path", "Path of a file; what follows `!/` lies in an archive.", required=True)
OFFSET = Parameter("offset", "Rows to pass over.", default=0, maximum=100_000_000)
DOWNLOAD = Parameter("download", "Whether to save it as a file.", default="", choices=("", "1"))
BY = Parameter(
    "by", "Whether parts are paths or layers.", default="path", choices=("path", "layer")
)
LAYOUT = Parameter(
    "layout", "How texts are shown.", default="unified", choices=("unified", "split", "list")
)


def limit(default: int, most: int) -> Parameter:
    """Return the parameter for the number of rows of a page."""
    return Parameter("limit", "Greatest number of rows.", default=default, maximum=most)


def parse(query: bytes, known: tuple[Parameter, ...]) -> dict[str, Any]:
    """Parse a query.

    Args:
        query: as in the request; fields that are not known are left alone.
        known: the parameters.

    Returns:
        A value for each parameter.

    Raises:
        InvalidParameter: the query is too long or malformed, or a value is wrong or missing.
    """
    if len(query) > MAX_QUERY_BYTES:
        raise InvalidParameter(f"the query is longer than {MAX_QUERY_BYTES} bytes")
    try:
        fields = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise InvalidParameter("the query is malformed") from None
    given = dict(reversed(fields))
    return {each.name: each.parse(given.get(each.name)) for each in known}


def query_of(values: Mapping[str, str | int]) -> str:
    """Return a query that `parse` reads back; empty values are left out.

    Args:
        values: texts with bytes that are no UTF-8 as lone surrogates, and numbers.

    Returns:
        The query, without a question mark; only characters that need no escape in HTML but ``&``.
    """
    return "&".join(
        f"{name}={quote(os.fsencode(str(value)), safe='/:!')}"
        for name, value in values.items()
        if value != ""
    )
