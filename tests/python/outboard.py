"""Checks an outboard with nothing of ours: the format as docs/locate.md has it, BLAKE3's tree as its paper has it (sections
2.1 to 2.5), digests by the `blake3` package.

    outboard.py OUTBOARD FOLDER

FOLDER holds the files that were signed. Prints for each its name and the numbers of groups and of fine groups.
"""

import struct
import sys
from pathlib import Path

import blake3

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF
QUARTERS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
            (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(value, block, counter, length, flags):
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = [*value, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(QUARTERS):
            for word, first, second in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & MASK
                x = v[d] ^ v[a]
                v[d] = (x >> first | x << (32 - first)) & MASK
                v[c] = (v[c] + v[d]) & MASK
                x = v[b] ^ v[c]
                v[b] = (x >> second | x << (32 - second)) & MASK
        words = [words[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def chunk(data, counter):
    """The value of one chunk, below the root."""
    value = IV
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)]
    for i, block in enumerate(blocks):
        flags = CHUNK_START * (i == 0) | CHUNK_END * (i + 1 == len(blocks))
        value = compress(value, block, counter, len(block), flags)
    return struct.pack("<8I", *value)


def parent(left, right, flags=0):
    return struct.pack("<8I", *compress(IV, left + right, 0, 64, PARENT | flags))


def over(values, root=False):
    """The value over neighbours: the left part is the largest power of two that leaves something on the right."""
    if len(values) == 1:
        return values[0]
    half = 1 << (len(values) - 1).bit_length() - 1
    return parent(over(values[:half]), over(values[half:]), ROOT * root)


def main(outboard, folder):
    data = Path(outboard).read_bytes()
    at = 0

    def take(count):
        nonlocal at
        assert at + count <= len(data), "cut"
        at += count
        return data[at - count:at]

    assert take(16) == b"tensorseal/trees"
    version, log, resources = struct.unpack("<IIQ", take(16))
    assert version == 1 and log <= 10
    before = b""
    for _ in range(resources):
        name = take(*struct.unpack("<I", take(4)))
        assert before < name
        before = name
        length, = struct.unpack("<Q", take(8))
        root = take(32)
        fine, = struct.unpack("<Q", take(8))
        content = (Path(folder) / name.decode()).read_bytes()
        assert len(content) == length and blake3.blake3(content).digest() == root, name
        size = 1024 << log
        while size > 1024 and size >= length:
            size //= 2
        starts = range(0, length, size) if length > 1024 else []
        assert fine <= len(starts) and (fine == 0 or size > 1024)
        values = []
        for i, start in enumerate(starts):
            group = content[start:start + size]
            chunks = [chunk(group[at:at + 1024], (start + at) // 1024) for at in range(0, len(group), 1024)]
            if i < fine:
                assert [take(32) for _ in chunks] == chunks, (name, i)
            else:
                assert take(32) == over(chunks), (name, i)
            values.append(over(chunks))
        assert not values or over(values, root=True) == root, name
        print(name.decode(), len(starts), fine)
    assert at == len(data), "something follows"


if __name__ == "__main__":
    main(*sys.argv[1:])
