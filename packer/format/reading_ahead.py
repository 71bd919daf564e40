"""Fetches parts of a version's layers before they are asked for: several at once, few requests.

A version that was updated often lists dozens of layers of a few hundred bytes each. One request
after the other, a load would wait for the network most of its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

from packer.errors import IntegrityError, NotFound
from packer.forks import Lock, renew_in_children
from packer.oci import Descriptor
from packer.stores.protocols import LocalBlobs, Ranged, Store, read_blob

REQUESTS = 8
"""Requests made at once; registries and proxies take more from one client."""
WHOLE_BYTES = 64 << 10
"""Greatest layer in bytes that is fetched whole: a round trip takes longer than its bytes."""
GAP_BYTES = 16 << 10
"""Greatest gap in bytes between two parts of a layer that one request fetches with both."""
SPAN_BYTES = 512 << 10
"""Greatest part in bytes that is fetched ahead: larger ones keep the network busy by themselves."""
PIECE_BYTES = 64 << 10
"""Bytes read at a time: an end in between is noticed soon."""
AHEAD_BYTES = 8 << 20
"""Bytes that are fetched ahead and not yet used."""


@dataclass(eq=False, slots=True)
class _Span:
    """Bytes `start` to `end` of a layer, and how many parts of them are still to be read."""

    layer: int
    start: int
    end: int
    parts: int
    data: Future[bytes] | None = None

    @property
    def size(self) -> int:
        return self.end - self.start


class ReadingAhead:
    """Fetches what will be asked for.

    Args:
        store: the store that holds the layers, in a registry.
        layers: the version's data layers, in the order of the index.

    Thread safety: threads may share it.
    """

    def __init__(self, store: Store, layers: Sequence[Descriptor]) -> None:
        self._store = store
        self._layers = layers
        self._lock = Lock()
        self._spans: dict[int, list[_Span]] = {}
        self._waiting: deque[_Span] = deque()
        self._held = 0
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: fetch nothing ahead, as the threads are the parent's."""
        self._spans, self._waiting, self._pool = {}, deque(), None

    def expect(self, parts: Iterable[tuple[int, int, int]]) -> None:
        """Begin to fetch parts of layers.

        Args:
            parts: for each its layer's ordinal, its offset and its length in bytes.
        """
        spans = list(self._group(sorted(set(parts))))
        if len(spans) < 2:
            return  # nothing to do at the same time
        with self._lock:
            for span in spans:
                self._spans.setdefault(span.layer, []).append(span)
            self._waiting.extend(spans)
            self._fetch_more()

    def take(self, layer: int, offset: int, length: int) -> bytes | None:
        """Return a part that was fetched ahead.

        Args:
            layer: the layer's ordinal.
            offset: first byte.
            length: number of bytes.

        Returns:
            The bytes; None if they were not fetched, or are damaged. Fewer than `length` if the
            layer is cut off. A failure of the registry is raised: it was tried often enough.
        """
        with self._lock:
            found = self._find(layer, offset, offset + length)
            data = found.data if found is not None else None
        if found is None or data is None:
            return None
        try:
            whole = data.result()
        except (NotFound, IntegrityError, CancelledError):
            return None  # asked for again, by itself: other bytes of the layer may be damaged
        with self._lock:
            found.parts -= 1
            if not found.parts:
                self._drop(found)
        return whole[offset - found.start : offset - found.start + length]

    def close(self) -> None:
        """Fetch no more; what is being fetched is broken off."""
        self._closed = True
        with self._lock:
            pool, self._pool = self._pool, None
            self._spans, self._waiting = {}, deque()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def _group(self, parts: Sequence[tuple[int, int, int]]) -> Iterator[_Span]:
        """Yield spans that hold the parts, which are sorted; large parts are left out."""
        ranged = not (isinstance(self._store, Ranged) and self._store.ignores_ranges)
        last: _Span | None = None
        for layer, offset, length in parts:
            size = self._layers[layer].size
            if length > SPAN_BYTES or (size > WHOLE_BYTES and not ranged):
                continue
            whole = size <= WHOLE_BYTES
            if last is not None and last.layer == layer:
                near = offset - last.end <= GAP_BYTES and offset + length - last.start <= SPAN_BYTES
                if near or whole:
                    last.end = max(last.end, offset + length)
                    last.parts += 1
                    continue
            if last is not None:
                yield last
            last = _Span(layer, 0 if whole else offset, size if whole else offset + length, 1)
        if last is not None:
            yield last

    def _find(self, layer: int, start: int, end: int) -> _Span | None:
        """Return the span that holds bytes of a layer; the lock is held."""
        for span in self._spans.get(layer, ()):
            if span.start <= start and end <= span.end:
                return span
        return None

    def _drop(self, span: _Span) -> None:
        """Release a span that was used; the lock is held."""
        spans = self._spans.get(span.layer, [])
        if span in spans:
            spans.remove(span)
            self._held -= span.size
            self._fetch_more()

    def _fetch_more(self) -> None:
        """Begin to fetch as many spans as may be held; the lock is held."""
        while self._waiting and self._held + self._waiting[0].size <= AHEAD_BYTES:
            span = self._waiting.popleft()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(REQUESTS, "packer-ahead")
            self._held += span.size
            span.data = self._pool.submit(self._fetch, span)

    def _fetch(self, span: _Span) -> bytes:
        """Return the bytes of a span; fewer once nobody waits for them any more."""
        blob = self._layers[span.layer]
        whole = span.size == blob.size
        out = bytearray()
        reader = (
            self._store.fetch(blob) if whole else self._store.fetch(blob, span.start, span.size)
        )
        with reader:
            while not self._closed and (data := reader.read(PIECE_BYTES)):
                out += data
        return bytes(out)


def read_blobs(store: Store, blobs: Sequence[Descriptor], limits: Sequence[int]) -> Iterator[bytes]:
    """Yield whole blobs, verified; small ones in a registry are fetched several at once.

    A missing blob raises `NotFound`, a damaged one `IntegrityError`.

    Args:
        store: the store that holds them.
        blobs: in the order wanted.
        limits: greatest size in bytes of each.

    Yields:
        Their bytes.
    """
    if isinstance(store, LocalBlobs) or len(blobs) < 2:
        yield from map(read_blob, repeat(store), blobs, limits)
        return
    pool = ThreadPoolExecutor(REQUESTS, "packer-ahead")
    try:
        started: deque[Future[bytes] | None] = deque()
        for at, blob in enumerate(blobs):
            while len(started) < min(len(blobs) - at, REQUESTS):
                following = at + len(started)
                small = blobs[following].size <= SPAN_BYTES
                started.append(
                    pool.submit(read_blob, store, blobs[following], limits[following])
                    if small
                    else None
                )
            future = started.popleft()
            yield read_blob(store, blob, limits[at]) if future is None else future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
