"""Outputs that callers want in memory of their own: a place for each in the worker's region, and from there onwards.

Runs in the gateway's event loop, for one call at a time. The worker writes into its own region alone, since it may
write no file; what it says of places and sizes is checked here against what it was given.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from appliance.core.client_memory import MemorySpan
from appliance.core.errors import WorkerFailedError
from appliance.core.frames import Answer, OutputWish, SharedPlace
from appliance.workers.region import SharedRegion


class Region(Protocol):
    def take(self, size: int, /) -> int | None:
        """A place of so many bytes, or None where there is no room."""


class NoRegion:
    """Of a worker that shares no memory with this node: its outputs come in the answer's body."""

    def take(self, _size: int, /) -> None:
        return None


class PlacedOutput(NamedTuple):
    """Where the worker was told to put an output (-1: into the body), and where that goes."""

    start: int
    span: MemorySpan


def place(
    wishes: Sequence[OutputWish], spans: Mapping[str, MemorySpan], region: Region
) -> tuple[list[OutputWish], dict[str, PlacedOutput]]:
    """The wishes with a place in the region for each output of `spans`, as far as there is room; and those places."""
    told, placed = [], {}
    for wish in wishes:
        span = spans.get(wish.name)
        if span is not None and wish.shared is not None:
            start = region.take(len(span))
            placed[wish.name] = PlacedOutput(-1 if start is None else start, span)
            shared = SharedPlace(wish.shared.region, wish.shared.offset, len(span), placed[wish.name].start)
            wish = OutputWish(wish.name, wish.binary, wish.class_count, shared)
        told.append(wish)
    return told, placed


def deliver(answer: Answer, body: bytes, placed: Mapping[str, PlacedOutput], region: SharedRegion | None) -> bytes:
    """Moves the outputs into their callers' memory; what is left of the body.

    Raises BadInputError where that memory was cut short, WorkerFailedError where the worker's answer makes no sense.
    """
    end = len(body)
    for head in reversed(answer.tensors):
        if head.shared is None:
            continue
        output, size = placed.get(head.name), head.size_bytes
        if output is None or not 0 <= size <= len(output.span) or (output.start < 0 and size > end):
            raise WorkerFailedError("the worker's answer does not fit the shared memory that it was to go to")
        if output.start >= 0 and region is not None:
            with region.view(output.start, size) as content:
                output.span.write(content)
        else:
            with memoryview(body)[end - size : end] as content:
                output.span.write(content)
            end -= size
    return body[:end] if end < len(body) else body
