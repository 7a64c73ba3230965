"""The table of words met so far, and compiled loops that look words up in it.

Open addressing over slots of 32 bytes, half a cache line each:

    slot = [bytes 0-7 of the word, bytes 8-15, meta, ids]     meta = length | number of ids << 8 | uses << 16

A word of up to 16 bytes is its own key. A longer one keeps a 64-bit hash and the place of its bytes in
`keys_B`, and those are compared: no hash is ever trusted. Up to 8 bytes of ids lie in the slot, more in
`ids_B`. Ids are bytes in these loops (2 or 4 for each), so that one compilation serves both widths.
`model` and `scratch` are records of word_ids.py, which finds the ids of new words. What is longer than
MAX_KEPT bytes is not kept: little of text without blanks comes again. Uses are of words that are counted.

Shapes: B bytes, S slots of 4 numbers, W words, N lines.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from span_electra.text.compiled import compiled, inlined
from span_electra.text.eight_bytes import MIX, load8, mixed, store8
from span_electra.text.word_ids import BPE, MAX_WORD, bpe_ids, wordpiece_ids

DONE, TABLE_FULL, ASK_LIBRARY, OUTPUT_FULL = range(4)  # why look_up stopped
WORD, LINE, OUT_BYTES = range(3)  # places of its progress vector
MAX_KEPT = 255  # a length and a number of ids have one byte each in a slot; what is longer is not kept
PADDING = 24  # bytes after a text or a key, because eight are read at a time
FIRST_SLOTS = 1 << 15  # the table doubles as words come in
FIRST_BYTES = 1 << 17  # of keys, and of ids; one word's are far fewer
MAX_OUTSIDE_BYTES = 48  # per word of max_words, of keys and ids that do not fit their slots

_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)  # odd and with well spread bits, as MIX is
# _KEEP_LOW[n] keeps the bytes of an n-byte word among the first eight, _KEEP_HIGH[n] among the next eight.
_KEEP_LOW = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_KEEP_HIGH = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(17)], np.uint64)


# ---- the table


class Table(NamedTuple):
    slots_S: np.ndarray  # uint64; a power of two of them
    keys_B: np.ndarray
    ids_B: np.ndarray
    fill: np.ndarray  # int64: words, bytes used of keys_B, bytes used of ids_B


@inlined
def _home(low, high):
    return np.int64(mixed(low ^ high * _MIX_B))


@compiled
def _hash_long(text_B, p, length):
    bits = _MIX_B
    for done in range(0, length, 8):
        bits = (bits ^ load8(text_B, p + done) & _KEEP_LOW[min(length - done, 8)]) * MIX
        bits ^= bits >> np.uint64(29)
    return bits


@inlined
def _find(text_B, p, length, slots_S, keys_B):
    """(place in slots_S of the word or of where it would be, whether it is there, its two keys)."""
    if length <= 16:
        low = load8(text_B, p) & _KEEP_LOW[length]
        high = load8(text_B, p + 8) & _KEEP_HIGH[length]
    else:
        low, high = _hash_long(text_B, p, length), np.uint64(0)
    # A power of two: the remainder is one operation, where a division would take twenty times as long.
    mask = len(slots_S) - 1
    at = _home(low, high) * 4 & mask
    while True:
        meta = slots_S[at + 2]
        if slots_S[at] == low and meta & np.uint64(255) == np.uint64(length):
            same = slots_S[at + 1] == high
            if length > 16:
                kept, same = np.int64(slots_S[at + 1]), True
                for i in range(length):
                    same &= keys_B[kept + i] == text_B[p + i]
            if same:
                break
        if meta == 0:
            break
        at = (at + 4) & mask
    return at, slots_S[at + 2] != 0, low, high


@compiled
def _insert(text_B, p, length, found, ids, table):
    """Fill the empty slot of `_find`; ids: (bytes, bytes of one, how many). False if there is no room."""
    at, _, low, high = found
    ids_B, id_size, id_count = ids
    size, fill = id_count * id_size, table.fill
    if (
        fill[0] * 8 >= len(table.slots_S)  # half of the slots stay empty: short searches
        or fill[1] + length + PADDING > len(table.keys_B)
        or fill[2] + size + PADDING > len(table.ids_B)
    ):
        return False
    if length > 16:
        high = np.uint64(fill[1])
        for i in range(length):
            table.keys_B[fill[1] + i] = text_B[p + i]
        fill[1] += length
    inside = load8(ids_B, 0)
    if size > 8:
        inside = np.uint64(fill[2])
        for i in range(size):
            table.ids_B[fill[2] + i] = ids_B[i]
        fill[2] += size
    fill[0] += 1
    table.slots_S[at], table.slots_S[at + 1], table.slots_S[at + 3] = low, high, inside
    table.slots_S[at + 2] = np.uint64(length | id_count << 8)
    return True


@compiled
def insert_word(word_B, length, ids, table):
    """Keep a word whose ids the library gave (padded arrays); False if the table has no room."""
    found = _find(word_B, 0, length, table.slots_S, table.keys_B)
    return found[1] or _insert(word_B, 0, length, found, ids, table=table)


@compiled
def _ids_of(text_B, p, length, odd, model, scratch):
    """Ids of a new word as bytes in scratch.ids_B; their number, or -1 where the library has to be asked."""
    if odd or length > MAX_WORD:
        return -1
    if model.style == BPE:
        count = bpe_ids(text_B, p, length, model, scratch)
    else:
        count = wordpiece_ids(text_B, p, length, model, scratch)
    for i in range(count):
        for j in range(model.id_bytes):
            scratch.ids_B[i * model.id_bytes + j] = scratch.ids[i] >> 8 * j & 255
    return count if count <= MAX_KEPT or length > MAX_KEPT else -1


@compiled
def look_up(text_B, words_W, line_words_N, model, table, scratch, progress, out_B, line_ends_N):
    """Write each word's ids to out_B and each line's end to line_ends_N, from progress on; why it stopped."""
    id_bytes, slots_S, keys_B, kept_B = model.id_bytes, table.slots_S, table.keys_B, table.ids_B
    word, line, out = progress[WORD], progress[LINE], progress[OUT_BYTES]
    status = DONE
    while line < len(line_words_N):
        while word < line_words_N[line]:
            packed = words_W[word]
            p, length = packed >> 30, packed >> 1 & 0x1FFFFFFF
            if length > MAX_KEPT:
                count = _ids_of(text_B, p, length, odd=packed & 1, model=model, scratch=scratch)
                if count < 0 or out + count * id_bytes + 8 > len(out_B):
                    status = ASK_LIBRARY if count < 0 else OUTPUT_FULL
                    break
                for i in range(0, count * id_bytes, 8):
                    store8(out_B, out + i, load8(scratch.ids_B, i))
                out += count * id_bytes
                word += 1
                continue
            found = _find(text_B, p, length, slots_S, keys_B)
            at = found[0]
            if not found[1]:
                count = _ids_of(text_B, p, length, odd=packed & 1, model=model, scratch=scratch)
                if count < 0:
                    status = ASK_LIBRARY
                    break
                ids = scratch.ids_B, id_bytes, count
                if not _insert(text_B, p, length, found, ids, table=table):
                    status = TABLE_FULL
                    break
            size = (np.int64(slots_S[at + 2]) >> 8 & 255) * id_bytes
            if out + size + 8 > len(out_B):
                status = OUTPUT_FULL
                break
            inside = slots_S[at + 3]
            if size <= 8:
                store8(out_B, out, inside)
            else:
                for i in range(0, size, 8):  # both arrays are padded
                    store8(out_B, out + i, load8(kept_B, np.int64(inside) + i))
            out += size
            word += 1
        if status != DONE:
            break
        line_ends_N[line] = out // id_bytes
        line += 1
    progress[WORD], progress[LINE], progress[OUT_BYTES] = word, line, out
    return status


@compiled
def count_uses(text_B, words_W, uses_W, table, done):
    """Add to the uses of words, from the number `done` on; where it stopped, for the table may be full."""
    no_ids = np.zeros(PADDING, np.uint8), 1, 0
    for word in range(done, len(words_W)):
        p, length = words_W[word] >> 30, words_W[word] >> 1 & 0x1FFFFFFF
        found = _find(text_B, p, length, table.slots_S, table.keys_B)
        if not found[1] and not _insert(text_B, p, length, found, no_ids, table=table):
            return word
        table.slots_S[found[0] + 2] += np.uint64(uses_W[word] << 16)
    return len(words_W)


@compiled
def move_slots(old_S, new_S):
    """Copy the words of some slots to more slots, all of which are empty."""
    mask = len(new_S) - 1
    for at in range(0, len(old_S), 4):
        meta = old_S[at + 2]
        if meta == 0:
            continue
        # A long word is found by its hash alone: its second number says where its bytes lie.
        high = old_S[at + 1] if meta & np.uint64(255) <= np.uint64(16) else np.uint64(0)
        to = _home(old_S[at], high) * 4 & mask
        while new_S[to + 2] != 0:
            to = (to + 4) & mask
        for i in range(4):
            new_S[to + i] = old_S[at + i]


@compiled
def export_words(table):
    """(bytes of all words of the table, one after another; where each ends; how often each was used)."""
    words_B = np.empty(16 * table.fill[0] + table.fill[1], np.uint8)
    ends_W, uses_W = np.empty(table.fill[0], np.int64), np.empty(table.fill[0], np.int64)
    word = end = 0
    for at in range(0, len(table.slots_S), 4):
        meta = np.int64(table.slots_S[at + 2])
        length = meta & 255
        for i in range(length):
            if length > 16:
                words_B[end + i] = table.keys_B[np.int64(table.slots_S[at + 1]) + i]
            else:
                words_B[end + i] = table.slots_S[at + i // 8] >> np.uint64(8 * (i % 8)) & np.uint64(255)
        if length:
            end += length
            ends_W[word], uses_W[word] = end, meta >> 16
            word += 1
    return words_B, ends_W, uses_W


class WordTable:
    """A table that grows, and begins anew where it would grow beyond some max_words."""

    def __init__(self, max_words: int, id_bytes: int):
        self._max_words = max_words
        self._id_bytes = id_bytes
        self.table = Table(
            slots_S=np.zeros(4 * FIRST_SLOTS, np.uint64),
            keys_B=np.empty(FIRST_BYTES, np.uint8),
            ids_B=np.empty(FIRST_BYTES, np.uint8),
            fill=np.zeros(3, np.int64),
        )

    def insert(self, word: bytes, ids_B: np.ndarray, id_count: int) -> None:
        """Keep a word whose ids the library gave."""
        word_B = np.frombuffer(word + bytes(PADDING), np.uint8)
        ids = np.concatenate([ids_B, np.zeros(PADDING, np.uint8)]), self._id_bytes, id_count
        while not insert_word(word_B, len(word), ids, self.table):
            self.make_room()

    def make_room(self) -> None:
        """Grow where half is used, or forget all words when the bounds are reached."""
        slots_S, keys_B, ids_B, fill = self.table
        words, key_bytes, id_bytes = fill.tolist()
        if words >= self._max_words or key_bytes + id_bytes > MAX_OUTSIDE_BYTES * self._max_words:
            # Those in use are soon learned anew: to keep them, uses would have to be counted and sorted.
            slots_S[:], fill[:] = 0, 0
            return
        if 8 * words >= len(slots_S):
            old_S, slots_S = slots_S, np.zeros(2 * len(slots_S), np.uint64)
            move_slots(old_S, slots_S)
        if 2 * key_bytes > len(keys_B):
            keys_B = np.concatenate([keys_B, np.empty_like(keys_B)])
        if 2 * id_bytes > len(ids_B):
            ids_B = np.concatenate([ids_B, np.empty_like(ids_B)])
        self.table = Table(slots_S, keys_B, ids_B, fill)

    def words(self) -> tuple[list[bytes], np.ndarray]:
        """All words, in no order, and how often each was used (int64)."""
        words_B, ends_W, uses_W = export_words(self.table)
        raw = words_B.tobytes()
        return [raw[start:end] for start, end in pairwise([0, *ends_W.tolist()])], uses_W
