"""Reads TFRecord files without TensorFlow.

A TFRecord is its length and a checksum of that, the contents, and a checksum of them.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from etils import epath

HEADER = struct.Struct("<QI")
LENGTH_BYTES = 8
FOOTER_BYTES = 4


def read_record(file: BinaryIO, path: epath.Path, most: int) -> bytes | None:
    """Returns the contents of the record at the file's position, None at its end.

    Their checksum is left out: in Python it would take a hundred times as long as all the rest.

    Args:
        file: open, at the record.
        path: of the file, for the message.
        most: bytes that it can have; None is returned of one that claims more.

    Raises:
        ValueError: no whole record is there; names the path.
    """
    offset = file.tell()
    header = file.read(HEADER.size)
    if not header:
        return None
    if len(header) == HEADER.size:
        size, checksum = HEADER.unpack(header)
        if checksum == _masked_crc32c(header[:LENGTH_BYTES]):
            if size > most:
                return None
            payload, footer = file.read(size), file.read(FOOTER_BYTES)
            if len(payload) + len(footer) == size + FOOTER_BYTES:
                return payload
    raise _damaged(path, offset)


def read_records(path: epath.Path) -> Iterator[tuple[int, bytes]]:
    """Yields the (offset, contents) of all records of a file."""
    offset, end = 0, path.stat().length
    with path.open("rb") as file:
        while (payload := read_record(file, path, end - offset)) is not None:
            yield offset, payload
            offset = file.tell()
    if offset != end:
        raise _damaged(path, offset)


def _damaged(path: epath.Path, offset: int) -> ValueError:
    return ValueError(
        f"{path}: no whole record at byte {offset}; the file is damaged or cut short. Copy it from "
        "where the data set was prepared, or prepare the data set again."
    )


def _masked_crc32c(data: bytes) -> int:
    """Returns TFRecord's checksum: CRC-32C, rotated and shifted by a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
