"""A message's body cut into its tensors' buffers, as ZeroMQ's parts brought it. Pure; any process."""

from collections.abc import Sequence

from appliance.core.requests import Buffer


def cut(pieces: Sequence[Buffer], sizes: Sequence[int]) -> list[Buffer]:
    """One buffer for each of `sizes`, which add up to those of `pieces`; no piece is empty.

    Where the sender cut between tensors, the pieces are handed on as they are, without a copy.
    """
    if list(map(len, pieces)) == [size for size in sizes if size]:
        whole_ones = iter(pieces)
        return [next(whole_ones) if size else b"" for size in sizes]
    whole = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    bodies: list[Buffer] = []
    position = 0
    for size in sizes:
        bodies.append(whole[position : position + size])
        position += size
    return bodies
