"""Attention of rows end to end, as torch documents its kernel, for machines that lack one."""

import itertools

import torch
import torch.nn.functional as F


def written_out(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size):
    """What torch's documentation says of `varlen_attn`, a row at a time."""
    assert torch.equal(cu_seq_q, cu_seq_k) and cu_seq_q.dtype == torch.int32
    ends, out, (left, right) = cu_seq_q.tolist(), [], window_size
    assert ends[0] == 0 and ends[-1] == len(query)
    for begin, end in itertools.pairwise(ends):
        assert 0 <= end - begin <= max_q == max_k
        place = torch.arange(end - begin)
        distance = place[:, None] - place
        seen = ((distance <= left) | (left < 0)) & ((-distance <= right) | (right < 0))
        parts = (part[begin:end].transpose(0, 1) for part in (query, key, value))
        out.append(F.scaled_dot_product_attention(*parts, seen).transpose(0, 1))
    return torch.cat(out)
