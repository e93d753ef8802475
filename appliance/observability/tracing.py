"""Traces of calls: which are taken, and their way into files.

Runs in the gateway's event loop; files are written in a thread, a moment after the calls. What is buffered is bounded,
and what finds no room is not traced, which is logged once.
"""

import asyncio
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from appliance.core.errors import BusyError
from appliance.observability import trace_file
from appliance.observability.trace_settings import TraceSettings, read_changes

FLUSH_S = 0.2
_MAX_BUFFERED = 5000
_MAX_MODELS = 1000

_log = logging.getLogger("ingle.traces")
_encode = msgspec.json.Encoder().encode

Stamps = list[tuple[str, int]]  # (event, nanoseconds on the clock of time.perf_counter_ns)


class Tracer:
    """`active` is whether any call may have to be traced: the only thing that calls ask while none is."""

    def __init__(self, folder: Path) -> None:
        self.active = False
        self._folder = folder
        self._global: dict[str, Any] = {}  # fields that differ from the defaults
        self._models: dict[str, dict[str, Any]] = {}  # fields that differ from the node's, by model
        self._seen: dict[str, int] = {}  # calls since one was traced, by model; "" is the node's
        self._numbers = itertools.count(1)
        self._buffered: dict[str, list[bytes]] = {}
        self._flush: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()  # one at a time: a file has one end
        self._full = False

    def settings(self, model: str = "") -> TraceSettings:
        """Those of the model, or of the node."""
        return TraceSettings(**{**self._global, **self._models.get(model, {})})

    async def update(self, asked: Mapping[str, object], model: str = "") -> TraceSettings:
        """Changes those of the model, or of the node; what was traced before is in its file afterwards.

        Raises BadInputError, and changes nothing, where a setting cannot be, and BusyError where too many models have
        settings of their own.
        """
        changes = read_changes(asked)
        if model and model not in self._models and len(self._models) >= _MAX_MODELS:
            raise BusyError(f"{_MAX_MODELS} models have trace settings of their own already: clear some with null")
        own = dict(self._models.get(model, {}) if model else self._global)
        for field, value in changes.items():
            own.pop(field, None)
            if value is not None:
                own[field] = value
        if not model:
            self._global = own
        elif own:
            self._models[model] = own
        else:
            self._models.pop(model, None)
        self._full = False
        self._seen.pop(model, None)
        self.active = any(fields.get("on") for fields in (self._global, *self._models.values()))
        await self.flush()
        return self.settings(model)

    def record(self, model: str, ordinal: int, call: str, stamps: Stamps) -> None:
        """A call has ended: traces it if its turn has come."""
        settings = self.settings(model)
        if not settings.on or not settings.count or self._full:
            return
        own = self._models.get(model, {})
        scope = model if own.keys() & {"on", "rate", "count"} else ""
        seen = self._seen[scope] = self._seen.get(scope, 0) + 1
        if seen < settings.rate:
            return
        self._seen[scope] = 0
        if settings.count > 0:
            (own if "count" in own else self._global)["count"] = settings.count - 1
        number = next(self._numbers)
        objects = self._buffered.setdefault(settings.file, [])
        if len(objects) >= _MAX_BUFFERED:
            return
        objects.append(_encode({"id": number, "model_name": model, "model_version": ordinal, "request_id": call}))
        objects.append(_encode({"id": number, "timestamps": [{"name": name, "ns": ns} for name, ns in stamps]}))
        if self._flush is None:
            self._flush = asyncio.get_running_loop().create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_S)
        self._flush = None
        await self.flush()

    async def flush(self) -> None:
        """Writes what is buffered."""
        async with self._writing:
            buffered, self._buffered = self._buffered, {}
            for name, objects in buffered.items():
                try:
                    written = await asyncio.to_thread(trace_file.append, self._folder, name, objects)
                    reason = "the file, or the folder of traces, is full"
                except OSError as error:
                    written, reason = False, str(error)
                if not written and not self._full:
                    self._full = True
                    _log.warning("no more traces are written: %s; delete some and set a trace setting anew", reason)

    async def stop(self) -> None:
        """Writes what is buffered, once and for all."""
        self.active = False
        if self._flush is not None:
            self._flush.cancel()
            await asyncio.gather(self._flush, return_exceptions=True)
        await self.flush()
