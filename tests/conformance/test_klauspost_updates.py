"""Archives by klauspost, pgzip, Go 1.27 and miniz: closed, then opened against one another."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from tests.updates import History, as_gzip

SAMPLES = Path(__file__).parents[1] / "unit" / "engine" / "klauspost"
"""Streams of one text."""
MINIZ = SAMPLES.parent / "miniz"
"""Streams of another."""
EARLIER = Path(__file__).parent / "earlier_streams"
"""Streams of the text by earlier releases."""
EDITED = Path(__file__).parent / "edited_streams"
"""Streams of these texts with a line more and 20 bytes less, by some of the encoders."""

BARE_BYTES = 1200
"""Manifest, config and index of a version of one file."""


def archive(path: Path) -> bytes:
    """Return the gzip file that holds a sample."""
    stream = path.read_bytes()
    return as_gzip(stream, zlib.decompress(stream, -15))


@pytest.mark.parametrize("path", sorted(EDITED.iterdir()), ids=lambda path: path.stem)
def test_an_edited_text(path: Path, tmp_path: Path) -> None:
    samples = MINIZ if path.stem.startswith("miniz") else SAMPLES
    old, new = archive(samples / path.name), archive(path)
    history = History(tmp_path)
    assert history.pack({"app.tgz": old}).new_bytes > len(old)
    assert history.opened() == {}
    packed = history.pack({"app.tgz": new})
    assert history.opened() == {"app.tgz": 1}
    assert packed.new_bytes < BARE_BYTES + 500


def test_from_each_sample_to_the_next(tmp_path: Path) -> None:
    """Other levels, releases and programs: the text is the same, its tokens are others."""
    history = History(tmp_path)
    for number, path in enumerate(sorted(SAMPLES.iterdir())):
        packed = history.pack({"app.tgz": archive(path)})
        if number:
            assert history.opened() == {"app.tgz": 1}, path.stem
            assert packed.new_bytes < BARE_BYTES + 800, path.stem
        else:
            assert history.opened() == {}


def test_from_go_1_26_to_1_27_and_back(tmp_path: Path) -> None:
    """Another encoder and another text at once."""
    old = archive(EARLIER / "go-1.26-level-6.deflate")
    new = archive(EDITED / "go-1.27.3-level-6.deflate")
    history = History(tmp_path)
    history.pack({"app.tgz": old})
    for data in (new, old, new):
        packed = history.pack({"app.tgz": data})
        # The old one is there, closed.
        assert history.opened() == ({} if data == old else {"app.tgz": 1})
        assert packed.new_bytes < BARE_BYTES + 500
