"""Sphinx: the documentation site, from the same files that are read in the repository.

The source directory is the repository's root, so that a link between two texts means the same file
there and on the site. `make docs` builds it; warnings are errors, a link that leads nowhere among
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pygments.lexers.special import TextLexer

import packer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "layer-packer"
author = "the authors of layer-packer"
version = release = packer.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "docs/*.md",
]

myst_heading_anchors = 4  # links may name a heading down to this level, as on GitHub
suppress_warnings = ["myst.header"]  # README.md of a folder may begin at any level

default_role = "code"  # `name` in docstrings
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style"), ("Thread safety", "notes_style")]

highlight_language = "none"
html_theme = "furo"
html_title = f"layer-packer {release}"
html_extra_path = ["site"]  # index.html at the top, which leads to the root document
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Let blocks of bytes and of test vectors be shown as they are."""
    for name in ("hex", "vectors"):
        app.add_lexer(name, TextLexer)
