"""Tiny valid files for graphs that decode their input themselves: PNG, JPEG, GIF, BMP and WAV."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_JPEG_LUMINANCE = bytes([16] * 64)
#: A Huffman table of one code each: DC category 0..11 need more, so the standard table is written
#: (ITU-T T.81, table K.3).
_DC_COUNTS = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
_DC_VALUES = bytes(range(12))
#: AC: the end of the block alone.
_AC_COUNTS = bytes([1] + [0] * 15)
_AC_VALUES = bytes([0])
_DC_CODES = {0: "00", 1: "010", 2: "011", 3: "100", 4: "101", 5: "110", 6: "1110", 7: "11110"}
_DC_CODES.update({8: "111110", 9: "1111110", 10: "11111110", 11: "111111110"})


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 pixels [height, width, 3]."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpeg(pixels: np.ndarray) -> bytes:
    """A baseline grey JPEG; each block of 8x8 pixels [height, width] has the mean of its block.

    Only the DC coefficients are written: what a decoder needs is a valid file.
    """
    height, width = (size // 8 * 8 for size in pixels.shape)
    grey = pixels[:height, :width].astype(np.float64)
    blocks = grey.reshape(height // 8, 8, width // 8, 8).mean((1, 3)).reshape(-1)
    levels = np.rint((blocks - 128) * 8 / 16).astype(int)
    bits = []
    previous = 0
    for level in levels:
        bits.append(_dc(int(level) - previous) + "0")
        previous = int(level)
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            _segment(0xDB, b"\0" + _JPEG_LUMINANCE),
            _segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            _segment(0xC4, b"\x00" + _DC_COUNTS + _DC_VALUES),
            _segment(0xC4, b"\x10" + _AC_COUNTS + _AC_VALUES),
            _segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0])),
            data.replace(b"\xff", b"\xff\0"),
            b"\xff\xd9",
        ]
    )


def _dc(difference: int) -> str:
    """The Huffman code of a DC difference and its bits."""
    size = abs(difference).bit_length()
    if not size:
        return _DC_CODES[0]
    value = difference if difference > 0 else difference + (1 << size) - 1
    return _DC_CODES[size] + format(value, f"0{size}b")


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def bmp(pixels: np.ndarray) -> bytes:
    """A BMP of uint8 pixels [height, width, 3]."""
    height, width, _ = pixels.shape
    padding = b"\0" * (-width * 3 % 4)
    rows = b"".join(row[:, ::-1].tobytes() + padding for row in pixels[::-1])
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows


def wav(samples: np.ndarray, rate: int = 16000) -> bytes:
    """A WAV of int16 samples [length], one channel."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
