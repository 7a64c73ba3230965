"""Ids of one word by the tokenizer's model, byte-level BPE or WordPiece; twice the word takes twice the time.

BPE by its definition looks for the merge of lowest rank again and again. Here tokens are taken from the left,
the longest first, and a token is right if it stays apart from the one before it: if BPE of the two tokens'
bytes gives these two. A row of tokens of which all neighbours stay apart is what BPE gives, for no merge of
the whole word can be the first that joins two of them: it would have joined them in the bytes of those two
alone as well. Where no token fits, the last one gives way to a shorter.

How each token is put together is known beforehand (`link_merges`), so whether two stay apart is seen from the
merges along the seam: from the last one made back to single bytes, none may join what lies there then.

    merges b+c, a+b:   "abc" -> "ab" is longest, then "c"; but "b" and "c" join before "ab": so "a", "bc"

Pieces lie in a trie as a double array: the child of a node by some byte is the slot at the node's base +
byte, if that slot names the node as its parent.

    link = parent | is it a token << 31 | base << 32

Arrays of a record are taken out of it before a loop: where they are within, numba counts references to all
that the record holds, which took a third of the time.

Shapes: B bytes, C code points, F words of bits, H hash places, N slots of the trie, V tokens, P pieces,
Q queued nodes.
"""

from typing import NamedTuple

import numpy as np

from span_electra.text.compiled import compiled, inlined
from span_electra.text.eight_bytes import mixed
from span_electra.text.pretokenize import character_at

BPE, WORDPIECE = range(2)  # Model.style
MAX_WORD = 1 << 16  # bytes of a word that has its ids found here; longer ones are left to the library
LEAF, UNMADE = -1, -2  # ranks: of a single byte, of what no merges make
NO_MERGE = 1 << 40  # above every rank
RANK, LEFT, RIGHT = range(3)  # columns of made_V3
ROOT = 1  # slot of the trie's root; the next one is the root of pieces that continue a word (##)

_PARENT = np.uint64(0x7FFFFFFF)
_IS_TOKEN = np.uint64(1 << 31)


class Model(NamedTuple):
    """What a tokenizer's model does with one word."""

    style: int
    id_bytes: int  # 2 or 4
    links_N: np.ndarray  # uint64, the trie; 0 is empty
    tokens_N: np.ndarray  # int32, the token at each slot, -1 for none
    lengths_V: np.ndarray  # int32, bytes of a token, without ##
    shorter_V: np.ndarray  # int32; BPE: the longest token that a token begins with, or -1
    byte_ids: np.ndarray  # BPE: the id each of the 256 bytes starts as, -1 if the vocabulary lacks it
    merges_H2: np.ndarray  # BPE: int64, (left id << 32 | right id) + 1, or 0 where empty; its rank
    bits_F: np.ndarray  # BPE: uint64, a bit for the hash of each pair, 32 times as many
    made_V3: np.ndarray  # BPE: int32, RANK of the merge that makes the token; the two it makes it of
    unknown_id: int
    max_chars: int  # WordPiece: a longer word is unknown as a whole
    forms_C: np.ndarray  # WordPiece: uint32, normal form of a code point: place << 4 | length in form_bytes_B
    form_bytes_B: np.ndarray


def new_model(style: int, *, tokens: int = 0, merges: int = 0, **settings: int | np.ndarray) -> Model:
    """A model that knows no pieces and no merges yet, but has room for so many; and other fields of Model."""
    # Every field has an array of its type: numba compiles once for all tokenizers.
    nothing = np.empty(0, np.uint8)
    fields = {
        "id_bytes": 2,
        "byte_ids": np.full(256, -1),
        "unknown_id": 0,
        "max_chars": 0,
        "forms_C": nothing.astype(np.uint32),
        "form_bytes_B": nothing,
    }
    return Model(
        style=style,
        links_N=np.zeros(1, np.uint64),
        tokens_N=np.full(1, -1, np.int32),
        lengths_V=np.zeros(tokens, np.int32),
        shorter_V=np.full(tokens, -1, np.int32),
        merges_H2=np.zeros((hash_size(merges), 2), np.int64),
        bits_F=np.zeros(max(1, hash_size(8 * merges) // 64), np.uint64),
        made_V3=np.full((tokens, 3), UNMADE, np.int32),
        **(fields | settings),
    )


def hash_size(entries: int) -> int:
    """A power of two, at least twice the entries."""
    return 1 << (2 * entries).bit_length()


class Scratch(NamedTuple):
    """Room to work out the ids of one word; no character's normal form is longer than 15 bytes."""

    ids: np.ndarray
    bytes_B: np.ndarray
    open_B: np.ndarray
    ids_B: np.ndarray


def new_scratch() -> Scratch:
    """Memory is touched only as long words come."""
    room = 16 * MAX_WORD
    return Scratch(
        np.empty(room, np.int64),
        np.empty(room, np.uint8),
        np.empty(MAX_WORD + 1, np.uint8),
        np.empty(4 * room, np.uint8),
    )


# ---- the trie


@inlined
def _free_base(links_N, bytes_C, children, at):
    """The first place from `at` on where a node's first child, and with it all others, find free slots."""
    while True:
        base, free = at - bytes_C[0], True
        for child in range(children):
            free &= links_N[base + bytes_C[child]] == 0
        if free:
            return at
        at += 1


@compiled
def plant(pieces_B, ends_P, ids_P, continuing, links_N, tokens_N, lengths_V, shorter_V, queue_Q4):
    """Fill the trie with sorted pieces, the last `continuing` of them under the second root; slots used.

    Nodes are laid breadth first: first piece, end of pieces, bytes shared, and the longest token above them
    wait in queue_Q4 for each. Children of one node fill the holes that larger families left.
    """
    bytes_C, firsts_C = np.empty(256, np.int64), np.empty(257, np.int64)
    nodes_Q = np.empty(len(queue_Q4), np.int64)
    split = len(ends_P) - continuing
    queue_Q4[0], queue_Q4[1] = (0, split, 0, -1), (split, len(ends_P), 0, -1)
    nodes_Q[0], nodes_Q[1] = ROOT, ROOT + 1
    links_N[: ROOT + 2] = _PARENT  # taken; no node has this number
    done, queued, hole, end, used = 0, 2, 256, 256, 256  # no base is below 0
    while done < queued:
        first, last, depth, shorter = queue_Q4[done]
        node = nodes_Q[done]
        done += 1
        start = ends_P[first - 1] if first > 0 else 0
        if first < last and depth > 0 and ends_P[first] - start == depth:
            token = ids_P[first]
            tokens_N[node], lengths_V[token], shorter_V[token] = token, depth, shorter
            links_N[node] |= _IS_TOKEN
            shorter, first = token, first + 1
        children = 0
        for piece in range(first, last):
            byte = np.int64(pieces_B[ends_P[piece - 1] + depth if piece > 0 else depth])
            if children == 0 or byte != bytes_C[children - 1]:
                bytes_C[children], firsts_C[children] = byte, piece
                children += 1
        if children == 0:
            continue
        firsts_C[children] = last
        while links_N[hole] != 0:
            hole += 1
        from_ = hole if children == 1 else max(hole, end)
        at = _free_base(links_N, bytes_C, children, from_)
        if children > 1 and at > from_ + 32:  # so that no hole is looked at too often
            end = at
        base = at - bytes_C[0]
        links_N[node] |= np.uint64(base) << np.uint64(32)
        for child in range(children):
            slot = base + bytes_C[child]
            links_N[slot] = np.uint64(node)
            queue_Q4[queued] = (firsts_C[child], firsts_C[child + 1], depth + 1, shorter)
            nodes_Q[queued] = slot
            queued, used = queued + 1, max(used, slot + 1)
    return used + 256  # where any byte may be looked for


@inlined
def _longest(bytes_B, p, size, root, links_N, tokens_N):
    """The longest token that bytes_B[p:size] begins with, or -1."""
    node, longest = np.uint64(root), np.uint64(0)
    link = links_N[node]
    while p < size:
        at = (link >> np.uint64(32)) + np.uint64(bytes_B[p])
        link = links_N[at]
        if link & _PARENT != node:
            break
        node = at
        if link & _IS_TOKEN:
            longest = at
        p += 1
    return np.int64(tokens_N[longest])


# ---- byte-level BPE


@inlined
def _pair(left, right):
    """(key of a pair in the hash, which has 0 for empty; the key's bits well mixed)."""
    key = (left << 32 | right) + 1
    return key, mixed(np.uint64(key))


@inlined
def _pair_at(merges_H2, key, bits):
    """Place of a pair in the hash, or of the empty place where it would be."""
    at = np.int64(bits) & (len(merges_H2) - 1)
    while merges_H2[at, 0] != key and merges_H2[at, 0] != 0:
        at = (at + 1) & (len(merges_H2) - 1)
    return at


@inlined
def _stay_apart(left, right, limit, merges_H2, bits_F, made_V3):
    """Whether BPE of two tokens' bytes is these two; only a merge of rank below `limit` joins them whole.

    Merges happen in the order of their ranks, of equal ones from the left. So the last made of the two is
    taken apart, again and again; what then lies at the seam is joined if its merge comes before that one.
    """
    apart = True
    while True:
        key, bits = _pair(left, right)
        bit = bits & np.uint64(64 * len(bits_F) - 1)
        if bits_F[bit >> np.uint64(6)] >> (bit & np.uint64(63)) & np.uint64(1):
            at = _pair_at(merges_H2, key, bits)
            if merges_H2[at, 0] == key and merges_H2[at, 1] < limit:
                apart = False
                break
        if made_V3[left, RANK] > made_V3[right, RANK]:
            limit, left = np.int64(made_V3[left, RANK]), np.int64(made_V3[left, RIGHT])
        elif made_V3[right, RANK] != LEAF:
            limit, right = np.int64(made_V3[right, RANK]) + 1, np.int64(made_V3[right, LEFT])
        else:
            break
    return apart


@compiled
def link_merges(model, lefts, rights, news):
    """Fill the hash of merges, lowest rank first, and how each token is made; False if they are out of order.

    They are if a token's own merge comes after one that takes the token; no trainer writes such a list.
    """
    merges_H2, bits_F, made_V3 = model.merges_H2, model.bits_F, model.made_V3
    for rank in range(len(lefts)):
        key, bits = _pair(lefts[rank], rights[rank])
        at, bit = _pair_at(merges_H2, key, bits), bits & np.uint64(64 * len(bits_F) - 1)
        merges_H2[at] = key, rank  # of a pair given twice the library keeps the last
        bits_F[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    taken_V = np.zeros(len(made_V3), np.bool_)
    for rank in range(len(lefts)):
        left, right, new = lefts[rank], rights[rank], news[rank]
        taken_V[left] = taken_V[right] = True
        unmade = made_V3[left, RANK] == UNMADE or made_V3[right, RANK] == UNMADE
        if unmade or made_V3[new, RANK] != UNMADE:
            continue
        if merges_H2[_pair_at(merges_H2, *_pair(left, right)), 1] != rank:
            continue
        # But for this merge, which is the last of the token's own.
        if _stay_apart(left, right, limit=0, merges_H2=merges_H2, bits_F=bits_F, made_V3=made_V3):
            if taken_V[new]:
                return False
            made_V3[new] = rank, left, right
    return True


@compiled
def bpe_ids(word_B, start, length, model, scratch):
    """Fill scratch.ids with the ids of a word; their number."""
    bytes_B, open_B, ids, byte_ids = scratch.bytes_B, scratch.open_B, scratch.ids, model.byte_ids
    links_N, tokens_N, lengths_V, shorter_V = model.links_N, model.tokens_N, model.lengths_V, model.shorter_V
    merges_H2, bits_F, made_V3 = model.merges_H2, model.bits_F, model.made_V3
    size = 0
    for i in range(start, start + length):
        bytes_B[size], open_B[size] = word_B[i], 1
        size += byte_ids[word_B[i]] >= 0  # the library too drops bytes that it has no token for
    open_B[size] = 1  # closed: places up to which the word has an encoding that cannot go on
    count = p = 0
    token = _longest(bytes_B, p, size, root=ROOT, links_N=links_N, tokens_N=tokens_N)
    while p < size:
        end = p + lengths_V[token]
        fits = open_B[end] != 0
        if fits and count > 0:
            fits = _stay_apart(
                ids[count - 1], token, limit=NO_MERGE, merges_H2=merges_H2, bits_F=bits_F, made_V3=made_V3
            )
        if fits:
            ids[count] = token
            count += 1
            p = end
            token = _longest(bytes_B, p, size, root=ROOT, links_N=links_N, tokens_N=tokens_N)
        elif shorter_V[token] >= 0:
            token = np.int64(shorter_V[token])
        else:
            open_B[p] = 0
            count -= 1
            token = ids[count]
            p -= lengths_V[token]
    return count


# ---- WordPiece


@compiled
def normalize(word_B, start, length, forms_C, form_bytes_B, normal_B, at, max_chars):
    """Write the normal form of a word to normal_B from `at` on: (bytes, characters); ends above max_chars."""
    size = chars = 0
    p = start
    while p < start + length and chars <= max_chars:
        code_point, bytes_read = character_at(word_B, p)
        p += bytes_read
        form = np.int64(forms_C[code_point])
        for i in range(form >> 4, (form >> 4) + (form & 15)):
            normal_B[at + size] = form_bytes_B[i]
            size += 1
            chars += form_bytes_B[i] & 0xC0 != 0x80
    return size, chars


@compiled
def normalize_words(words_B, ends_W, forms_C, form_bytes_B):
    """(normal forms of words, one after another; where each ends); ends_W: where the words do."""
    # No character's normal form is longer than 15 bytes; what is not written to takes no memory.
    normal_B, normal_ends_W = np.empty(15 * len(words_B), np.uint8), np.empty_like(ends_W)
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
            max_chars=len(normal_B),
        )
        start, end = ends_W[word], end + size
        normal_ends_W[word] = end
    return normal_B[:end], normal_ends_W


@compiled
def wordpiece_ids(word_B, start, length, model, scratch):
    """From the left always the longest piece there is; unknown as a whole if one is missing."""
    size, chars = normalize(
        word_B,
        start,
        length=length,
        forms_C=model.forms_C,
        form_bytes_B=model.form_bytes_B,
        normal_B=scratch.bytes_B,
        at=0,
        max_chars=model.max_chars,
    )
    bytes_B, ids = scratch.bytes_B, scratch.ids
    links_N, tokens_N, lengths_V = model.links_N, model.tokens_N, model.lengths_V
    count = p = 0
    while p < size and chars <= model.max_chars:
        token = _longest(bytes_B, p, size, root=ROOT + (p > 0), links_N=links_N, tokens_N=tokens_N)
        if token < 0:
            break
        ids[count] = token
        count += 1
        p += lengths_V[token]
    if p < size:
        ids[0] = model.unknown_id
        return 1
    return count
