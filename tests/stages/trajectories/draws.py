"""The counter-based draws of a run: Philox4x32-10, keyed by BLAKE3 of seed and purpose.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3; the BLAKE3 paper,
section 2 (inputs of at most one block). Both are held against their published test vectors.
"""

import math
import struct

IV = (
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, ROOT = 1, 2, 8
WORD = 0xFFFFFFFF


def rotated(x, by):
    return (x >> by | x << (32 - by)) & WORD


def blake3(data):
    """The first 32 bytes of the hash of at most 64 bytes."""
    assert len(data) <= 64, "one block"
    block = list(struct.unpack("<16I", data.ljust(64, b"\0")))
    v = [*IV, *IV[:4], 0, 0, len(data), CHUNK_START | CHUNK_END | ROOT]
    for _ in range(7):
        for at, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            for word, (right, left) in zip(block[2 * at : 2 * at + 2], ((16, 12), (8, 7))):
                v[a] = (v[a] + v[b] + word) & WORD
                v[d] = rotated(v[d] ^ v[a], right)
                v[c] = (v[c] + v[d]) & WORD
                v[b] = rotated(v[b] ^ v[c], left)
        block = [block[at] for at in PERMUTATION]
    return struct.pack("<8I", *(v[at] ^ v[at + 8] for at in range(8)))


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & WORD, a >> 32 ^ c[3] ^ k[1], a & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


assert blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


class Draws:
    """The draws of one seed for one purpose: a number for each (row, step)."""

    def __init__(self, seed, purpose):
        self.key = struct.unpack("<2I", blake3(struct.pack("<Q", seed) + purpose.encode())[:8])

    def bits(self, row, step):
        out = philox((row & WORD, row >> 32, step & WORD, step >> 32), self.key)
        return out[0] << 32 | out[1]

    def uniform(self, row, step):
        return (self.bits(row, step) >> 11) / 2**53

    def shuffled(self, items, row, step=0):
        """Fisher-Yates from the last item on, with the draws of `row` from `step` on."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            other = self.bits(row, step) * (last + 1) >> 64
            items[last], items[other] = items[other], items[last]
            step += 1
        return items

    def normals(self, row, count):
        """Standard normal draws by Box-Muller, two uniform ones each."""
        pairs = ((self.uniform(row, 2 * at), self.uniform(row, 2 * at + 1)) for at in range(count))
        return [math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * w) for u, w in pairs]


def batches(lengths, size, seed, epoch):
    """One epoch: rows shuffled, chunks of 16 batches sorted by length, batches shuffled."""
    draws, rows = Draws(seed, "batches"), len(lengths)
    order, made = draws.shuffled(range(rows), epoch), []
    for start in range(0, rows, 16 * size):
        chunk = sorted(order[start : start + 16 * size], key=lambda row: lengths[row])
        made += [chunk[at : at + size] for at in range(0, len(chunk), size)]
    return draws.shuffled(made, epoch, max(rows - 1, 0))
