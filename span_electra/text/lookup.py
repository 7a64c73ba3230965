"""Compiled loops that look words up in the table of words met so far, and work out the ids of new ones.

Open addressing over slots of 32 bytes, half a cache line each:

    slot = [bytes 0-7 of the word, bytes 8-15, meta, ids]     meta = length | number of ids << 8 | uses << 16

A word of up to 16 bytes is its own key. A longer one keeps a 64-bit hash and the place of its bytes in
`keys_B`, and those are compared: no hash is ever trusted. Up to 8 bytes of ids lie in the slot, more in
`ids_B`. Ids are bytes in these loops (2 or 4 for each), so that one compilation serves both widths.
`model`, `table` and `scratch` are the records of word_table.py.

Shapes: B bytes, S slots of 4 numbers, W words, N lines, H hash places, V pieces of the vocabulary.
"""

import numpy as np

from span_electra.text.compiled import compiled, inlined
from span_electra.text.eight_bytes import load8, store8

BPE, WORDPIECE, COUNTING = range(3)  # Model.style; COUNTING gives no ids, only uses
DONE, TABLE_FULL, ASK_LIBRARY, OUTPUT_FULL = range(4)  # why look_up stopped
WORD, LINE, OUT_BYTES = range(3)  # places of its progress vector
MAX_KEPT = 255  # a length and a number of ids have one byte each in a slot; what is longer is not kept
NO_MERGE = 1 << 62  # above every rank
PADDING = 24  # bytes after a text or a key, because eight are read at a time

_MIX_A = np.uint64(0x9E3779B97F4A7C15)  # odd numbers with well spread bits
_MIX_B = np.uint64(0xC2B2AE3D27D4EB4F)
# _KEEP_LOW[n] keeps the bytes of an n-byte word among the first eight, _KEEP_HIGH[n] among the next eight.
_KEEP_LOW = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(17)], np.uint64)
_KEEP_HIGH = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(17)], np.uint64)


# ---- ids of a new word


@inlined
def _pair_at(hashed_H, key):
    """Place of `key` in a hash, or of the empty place where it would be."""
    mixed = key * _MIX_A
    at = np.int64(mixed ^ mixed >> np.uint64(32)) & (len(hashed_H) - 1)
    while hashed_H[at] != key and hashed_H[at] != 0:
        at = (at + 1) & (len(hashed_H) - 1)
    return at


@inlined
def _merge_of(hashed_H, values_H, left, right):
    """rank << 32 | new id of a merge, or NO_MERGE."""
    at = _pair_at(hashed_H, np.uint64(left << 32 | right) + np.uint64(1))  # 0 is kept for empty
    return values_H[at] | NO_MERGE * (hashed_H[at] == 0)


@compiled
def _bpe_ids(word_B, start, length, byte_ids, hashed_H, values_H, ids, merges):
    """Byte-level BPE: always the merge of lowest rank, leftmost of equals. Fills ids; their number."""
    count = 0
    for i in range(start, start + length):
        ids[count] = byte_ids[word_B[i]]
        count += byte_ids[word_B[i]] >= 0  # the library too drops bytes that it has no token for
    for i in range(count - 1):
        merges[i] = _merge_of(hashed_H, values_H, ids[i], ids[i + 1])
    while count > 1:
        best = 0
        for i in range(1, count - 1):
            if merges[i] < merges[best]:
                best = i
        if merges[best] >= NO_MERGE:
            break
        ids[best] = merges[best] & 0xFFFFFFFF
        count -= 1
        for i in range(best + 1, count):
            ids[i] = ids[i + 1]
            merges[i - 1] = merges[i]
        if best > 0:
            merges[best - 1] = _merge_of(hashed_H, values_H, ids[best - 1], ids[best])
        if best < count - 1:
            merges[best] = _merge_of(hashed_H, values_H, ids[best], ids[best + 1])
    return count


@compiled
def normalize(word_B, start, length, forms_C, form_bytes_B, normal_B, at):
    """Write the normal form of a word to normal_B from `at` on; (bytes, characters)."""
    size = chars = 0
    p = start
    while p < start + length:
        code_point = np.int64(word_B[p])
        bytes_left = 0 if code_point < 0x80 else 1 if code_point < 0xE0 else 2 if code_point < 0xF0 else 3
        if bytes_left:
            code_point &= 0x3F >> bytes_left
        for i in range(1, bytes_left + 1):
            code_point = code_point << 6 | np.int64(word_B[p + i]) & 63
        p += 1 + bytes_left
        form = np.int64(forms_C[code_point])
        for i in range(form >> 4, (form >> 4) + (form & 15)):
            normal_B[at + size] = form_bytes_B[i]
            size += 1
            chars += form_bytes_B[i] & 0xC0 != 0x80
    return size, chars


@compiled
def _step(hashed, byte):
    """Hash of a piece one byte longer."""
    mixed = (hashed ^ np.uint64(byte)) * _MIX_A
    return mixed ^ mixed >> np.uint64(32)


@compiled
def _piece_at(model, hashed, word_B, start, length, continues):
    """Number of the piece whose bytes are word_B[start:start+length], or -1."""
    at = np.int64(hashed) & (len(model.hashed_H) - 1)
    while model.hashed_H[at] != 0:
        if model.hashed_H[at] == hashed:
            number = model.values_H[at]
            first = model.piece_ends_V[number - 1] if number > 0 else 0
            if model.piece_ends_V[number] - first == length and (model.piece_ids_V[number] < 0) == continues:
                same = True
                for i in range(length):
                    same &= word_B[start + i] == model.pieces_B[first + i]
                if same:
                    return number
        at = (at + 1) & (len(model.hashed_H) - 1)
    return -1


@compiled
def _wordpiece_ids(normal_B, size, model, ids):
    """WordPiece: from the left always the longest piece there is; unknown as a whole if one is missing."""
    count = start = 0
    while start < size:
        hashed, longest, found = _MIX_B + np.uint64(start > 0), 0, 0
        for end in range(start, min(size, start + model.longest_piece)):
            hashed = _step(hashed, normal_B[end])
            number = _piece_at(model, hashed, normal_B, start, end + 1 - start, start > 0)
            if number >= 0:
                longest, found = end + 1 - start, model.piece_ids_V[number]
        if longest == 0:
            ids[0] = model.unknown_id
            return 1
        ids[count] = found if found >= 0 else -1 - found
        count += 1
        start += longest
    return count


@compiled
def hash_pieces(model):
    """Fill the hash of a WordPiece vocabulary."""
    for number in range(len(model.piece_ends_V)):
        hashed = _MIX_B + np.uint64(model.piece_ids_V[number] < 0)
        for i in range(model.piece_ends_V[number - 1] if number > 0 else 0, model.piece_ends_V[number]):
            hashed = _step(hashed, model.pieces_B[i])
        at = np.int64(hashed) & (len(model.hashed_H) - 1)
        while model.hashed_H[at] != 0:
            at = (at + 1) & (len(model.hashed_H) - 1)
        model.hashed_H[at], model.values_H[at] = hashed, number


@compiled
def hash_merges(model, lefts, rights, news):
    """Fill the hash of BPE merges, lowest rank first; of a pair given twice the library keeps the last."""
    for rank in range(len(lefts)):
        key = np.uint64(lefts[rank] << 32 | rights[rank]) + np.uint64(1)
        at = _pair_at(model.hashed_H, key)
        model.hashed_H[at], model.values_H[at] = key, rank << 32 | news[rank]


# ---- the table


@inlined
def _home(low, high):
    mixed = (low ^ high * _MIX_B) * _MIX_A
    return np.int64(mixed ^ mixed >> np.uint64(32))


@compiled
def _hash_long(text_B, p, length):
    mixed = _MIX_B
    for done in range(0, length, 8):
        mixed = (mixed ^ load8(text_B, p + done) & _KEEP_LOW[min(length - done, 8)]) * _MIX_A
        mixed ^= mixed >> np.uint64(29)
    return mixed


@inlined
def _find(text_B, p, length, slots_S, keys_B):
    """(place in slots_S of the word or of where it would be, whether it is there, its two keys)."""
    if length <= 16:
        low = load8(text_B, p) & _KEEP_LOW[length]
        high = load8(text_B, p + 8) & _KEEP_HIGH[length]
    else:
        low, high = _hash_long(text_B, p, length), np.uint64(0)
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
def _insert(text_B, p, length, found, table, ids_B, id_size, id_count, max_words):
    """Fill the empty slot that _find gave; False if there is no room."""
    at, _, low, high = found
    size, fill = id_count * id_size, table.fill
    if (
        fill[0] >= max_words
        or fill[0] * 8 >= len(table.slots_S)  # half of the slots stay empty: short searches
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
def insert_word(word_B, length, ids_B, id_count, id_size, table, max_words):
    """Keep a word whose ids the library gave (padded arrays); False if the table has no room."""
    found = _find(word_B, 0, length, table.slots_S, table.keys_B)
    return found[1] or _insert(word_B, 0, length, found, table, ids_B, id_size, id_count, max_words)


@compiled
def _ids_of(text_B, p, length, model, scratch):
    """Ids of a new word as bytes in scratch.ids_B; their number, or -1 where the library has to be asked."""
    count = 0
    if model.style == BPE:
        count = _bpe_ids(
            text_B, p, length, model.byte_ids, model.hashed_H, model.values_H, scratch.ids, scratch.merges
        )
    elif model.style == WORDPIECE:
        size, chars = normalize(
            text_B,
            p,
            length=length,
            forms_C=model.forms_C,
            form_bytes_B=model.form_bytes_B,
            normal_B=scratch.normal_B,
            at=0,
        )
        count = 1
        scratch.ids[0] = model.unknown_id
        if chars <= model.max_chars:
            count = _wordpiece_ids(scratch.normal_B, size, model, scratch.ids)
    for i in range(count):
        for j in range(model.id_bytes):
            scratch.ids_B[i * model.id_bytes + j] = scratch.ids[i] >> 8 * j & 255
    return count if count <= MAX_KEPT else -1


@compiled
def look_up(text_B, words_W, line_words_N, model, table, max_words, scratch, progress, out_B, line_ends_N):
    """Write each word's ids to out_B and each line's end to line_ends_N, from progress on; why it stopped."""
    id_bytes, slots_S, keys_B, kept_B = model.id_bytes, table.slots_S, table.keys_B, table.ids_B
    word, line, out = progress[WORD], progress[LINE], progress[OUT_BYTES]
    status = DONE
    while line < len(line_words_N):
        while word < line_words_N[line]:
            packed = words_W[word]
            p, length = packed >> 30, packed >> 1 & 0x1FFFFFFF
            if length > MAX_KEPT:
                status = ASK_LIBRARY
                break
            found = _find(text_B, p, length, slots_S, keys_B)
            at = found[0]
            if not found[1]:
                count = -1 if packed & 1 else _ids_of(text_B, p, length, model, scratch)
                if count < 0:
                    status = ASK_LIBRARY
                    break
                if not _insert(text_B, p, length, found, table, scratch.ids_B, id_bytes, count, max_words):
                    status = TABLE_FULL
                    break
            meta = slots_S[at + 2]
            size = (np.int64(meta) >> 8 & 255) * id_bytes
            if out + size + 8 > len(out_B):
                status = OUTPUT_FULL
                break
            slots_S[at + 2] = meta + np.uint64(1 << 16)
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
def move_words(old, new, least_uses, equal, spare, id_size, halve):
    """Copy words used more than least_uses times to an empty table, and of the `equal` used as often `spare`.

    Those are taken evenly from the whole table. Were they its first, one end would fill up from time to time
    until searches there hardly ended.
    """
    mask, met = len(new.slots_S) - 1, 0
    for at in range(0, len(old.slots_S), 4):
        low, high, meta, inside = (
            old.slots_S[at],
            old.slots_S[at + 1],
            old.slots_S[at + 2],
            old.slots_S[at + 3],
        )
        uses = np.int64(meta >> np.uint64(16))
        if meta == 0 or uses < least_uses:
            continue
        if uses == least_uses:
            met += 1
            if met * spare // equal == (met - 1) * spare // equal:
                continue
        length, size = np.int64(meta) & 255, (np.int64(meta) >> 8 & 255) * id_size
        to = _home(low, high if length <= 16 else np.uint64(0)) * 4 & mask
        while new.slots_S[to + 2] != 0:
            to = (to + 4) & mask
        if length > 16:
            for i in range(length):
                new.keys_B[new.fill[1] + i] = old.keys_B[np.int64(high) + i]
            high = np.uint64(new.fill[1])
            new.fill[1] += length
        if size > 8:
            for i in range(size):
                new.ids_B[new.fill[2] + i] = old.ids_B[np.int64(inside) + i]
            inside = np.uint64(new.fill[2])
            new.fill[2] += size
        if halve:  # old fame fades, so that words of a new subject can win their places
            uses = (uses + 1) // 2
        new.slots_S[to], new.slots_S[to + 1], new.slots_S[to + 3] = low, high, inside
        new.slots_S[to + 2] = np.uint64((np.int64(meta) & 0xFFFF) | uses << 16)
        new.fill[0] += 1


@compiled
def export_words(table, words_B, ends_W, uses_W):
    """Write the bytes, end and number of uses of every word of the table, one after another."""
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


@compiled
def normalize_words(words_B, ends_W, forms_C, form_bytes_B, normal_B, normal_ends_W):
    """Write the normal forms of words, one after another, from words_B[0] on."""
    start = end = 0
    for word in range(len(ends_W)):
        size, _ = normalize(
            words_B,
            start,
            length=ends_W[word] - start,
            forms_C=forms_C,
            form_bytes_B=form_bytes_B,
            normal_B=normal_B,
            at=end,
        )
        start, end = ends_W[word], end + size
        normal_ends_W[word] = end
