"""Members of an archive, as files and as readers."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from packer.errors import IntegrityError, PackerError
from packer.oci import Descriptor
from packer.stores.archive.parts import ArchiveFile
from packer.stores.archive.tar import Member
from packer.stores.protocols import READ_BYTES, VerifyingReader


class MemberFile(io.RawIOBase):
    """A member of an archive as a file; it stays readable when the archive is replaced."""

    def __init__(self, file: ArchiveFile, member: Member) -> None:
        super().__init__()
        self._archive = file
        self._member = member
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._member.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place of the next read."""
        return self._at

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to `length` bytes from `offset`, from any thread."""
        length = max(0, min(length, self._member.size - offset))
        return self._archive.pread(length, self._member.offset + offset) if length else b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, all that remain if negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(READ_BYTES), b""))
        data = self.pread(size, self._at)
        self._at += len(data)
        return data

    def damage(self) -> PackerError | None:
        """Return which part of a split archive is damaged, as far as it holds this member."""
        return self._archive.blame(self._member.offset, self._member.offset + self._member.size)


class BlamingReader(VerifyingReader):
    """Names the damaged part of a split archive in place of the blob.

    The last bytes are given out when all is verified, also to one who does not ask for more.
    """

    def __init__(self, file: MemberFile, blob: Descriptor, what: str) -> None:
        super().__init__(cast(BinaryIO, file), blob, what)
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes; raises as `VerifyingReader.read`, or about a part."""
        try:
            data = super().read(size)
            if self._file.tell() == self._blob.size and size > 0 and data:
                super().read(1)
            return data
        except IntegrityError as error:
            if (damage := self._file.damage()) is not None:
                raise damage from error
            raise
