"""Docker's credential helpers: programs asked through their standard input, within bounds.

Secrets are never in arguments, and never in errors: neither output of a helper is shown, as it may
hold the secret.

Source: docker/docker-credential-helpers README and ``credentials/error.go``.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time

from packer.errors import HelperFailed, TransportError
from packer.stores.cancelling import POLL_SECONDS

HELPER_SECONDS = 60
"""Seconds that a helper may take; one that unlocks a keychain waits for a person."""
MAX_HELPER_BYTES = 1 << 20
"""Bound on the output of a helper, which is held in memory."""
"""Bound on the output of a helper, which is held in memory."""

_READ_BYTES = 1 << 16
_NOT_FOUND = b"credentials not found in native keychain"
"""Output of a helper that works but has no entry, by the helpers' protocol."""


def program_of(name: str) -> str:
    """Return the name of a helper's program."""
    return f"docker-credential-{name}"


def call_helper(
    name: str, verb: str, text: str, registry: str, halted: threading.Event | None = None
) -> bytes | None:
    """Run a helper and return its output.

    A helper that is late, prints too much or is no longer waited for is killed with all processes
    that it started. When a helper ends, its output is complete, even if a process that it left
    behind keeps the pipe open.

    Args:
        name: of the helper, checked by the caller: part of a program's name.
        verb: get, store or erase.
        text: for its standard input.
        registry: host whose login is asked for, for errors.
        halted: set once nobody waits for the answer any more.

    Returns:
        The output, None if the helper says that it has no such entry.

    Raises:
        HelperFailed: it is not installed, fails, does not end in time or prints too much.
        TransportError: `halted` is set.
    """
    program = program_of(name)
    about = f"{program} {verb} for {registry}"
    halted = halted or threading.Event()
    if halted.is_set():
        raise TransportError(f"{about}: interrupted")
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell; secrets go through its stdin
            [program, verb],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise HelperFailed(
            f"{program} is not installed, and keeps the login of {registry}"
        ) from None
    except OSError as error:
        raise HelperFailed(
            f"{program}, which keeps the login of {registry}, cannot be run ({error.strerror})"
        ) from None
    try:
        printed = _converse(process, text.encode(), about, halted)
    finally:
        _end(process)
    if process.returncode == 0:
        return printed
    if printed.strip() == _NOT_FOUND:
        return None
    raise HelperFailed(f"{about} failed (exit {process.returncode})")


def _converse(
    process: subprocess.Popen[bytes], text: bytes, about: str, halted: threading.Event
) -> bytes:
    """Give a process its input and return its output, when it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout, rest = process.stdin, process.stdout, memoryview(text)
    deadline = time.monotonic() + HELPER_SECONDS
    out = bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, event in ((stdin, selectors.EVENT_WRITE), (stdout, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, event)
        while stdout in selector.get_map():
            ended = process.poll() is not None  # before the pipe is read: it holds all then
            _check(deadline, about, halted)
            ready = [key.fileobj for key, _ in selector.select(0 if ended else POLL_SECONDS)]
            if stdin in ready:
                with contextlib.suppress(BlockingIOError):
                    rest = _feed(stdin.fileno(), rest)
                if not rest:
                    selector.unregister(stdin)
                    stdin.close()
            if stdout in ready:
                part = os.read(stdout.fileno(), _READ_BYTES)
                out += part
                if len(out) > MAX_HELPER_BYTES:
                    raise HelperFailed(f"{about} printed more than {MAX_HELPER_BYTES} bytes")
                if not part:
                    selector.unregister(stdout)
            elif ended:
                break  # who holds the pipe now is a program that it left behind
    while process.poll() is None:
        _check(deadline, about, halted)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
    return bytes(out)


def _feed(fd: int, rest: memoryview) -> memoryview:
    """Write what a pipe takes, and return what is left."""
    try:
        return rest[os.write(fd, rest) :]
    except BrokenPipeError:
        return rest[:0]  # nobody wants to know


def _check(deadline: float, about: str, halted: threading.Event) -> None:
    if halted.is_set():
        raise TransportError(f"{about}: interrupted")
    if time.monotonic() > deadline:
        raise HelperFailed(f"{about} did not end within {HELPER_SECONDS} seconds")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, and kill what has not ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    if process.returncode is not None:
        return  # the number of its group may be another's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)  # not longer: one of another user's cannot be killed
