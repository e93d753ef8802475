"""Looks at new versions while they take calls, and takes them back where they exceed what their deployer set.

Runs in the gateway's event loop, once a second over the models that have such wishes. What is judged how is
routing/traffic.py's; every step is written to the log and kept with the wish, so that the owner finds out why.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from appliance.catalogue.catalogue import Catalogue
from appliance.core.errors import IngleError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.traffic import Traffic
from appliance.routing.traffic import Tally, judge

LOOK_S = 1.0

_log = logging.getLogger("ingle.traffic")


class TrafficWatch:
    """`tally_of` tells what became of a version's calls since the start; `set_alias` moves an alias without a gap."""

    def __init__(
        self,
        catalogue: Catalogue,
        tally_of: Callable[[ModelVersion], Tally],
        set_alias: Callable[[ModelName, str, str], Awaitable[ModelVersion]],
    ) -> None:
        self._catalogue = catalogue
        self._tally_of = tally_of
        self._set_alias = set_alias
        # What each version had when the wish was first seen: what came before says nothing of this trial.
        self._began: dict[ModelName, tuple[Traffic, dict[str, Tally]]] = {}

    async def watch_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            wishes = [name for name in self._catalogue.traffics() if self._catalogue.has_model(name)]
            self._began = {name: began for name, began in self._began.items() if name in wishes}
            for name in wishes:
                try:
                    await self.look(name, self._catalogue.traffic(name))
                except IngleError as error:
                    _log.warning("the traffic of %s was not looked at: %s", name, error.sentence)

    def tally(self, name: ModelName, version: str) -> Tally:
        """What became of the version's calls since the present wish was first seen."""
        found = self._tally_of(self._catalogue.resolve(str(name), version))
        wish_and_before = self._began.get(name)
        return found.since(wish_and_before[1].get(version, Tally())) if wish_and_before else found

    async def look(self, name: ModelName, wish: Traffic) -> None:
        """Judges one model's new version, and takes it back where it must be."""
        default = str(self._catalogue.entry(name).default.version)
        began = self._began.get(name)
        if began is None or began[0] != wish:
            versions = {default, *(version for version in (wish.canary, wish.return_to) if version)}
            tallies = {version: self._tally_of(self._catalogue.resolve(str(name), version)) for version in versions}
            self._began[name] = (wish, tallies)
            return
        if wish.canary and wish.canary_share:
            reason = judge(self.tally(name, wish.canary), self.tally(name, default), wish)
            if reason:
                await self._end(name, wish, f"{wish.canary} is given no more calls, since {reason}")
        elif wish.return_to and wish.return_to != default:
            # The version before had its calls before this trial began.
            steady = self._tally_of(self._catalogue.resolve(str(name), wish.return_to))
            reason = judge(self.tally(name, default), steady, wish)
            if reason:
                await self._set_alias(name, "default", wish.return_to)
                await self._end(name, wish, f"{wish.return_to} is the default again, since of {default} {reason}")

    async def _end(self, name: ModelName, wish: Traffic, sentence: str) -> None:
        _log.warning("%s: %s", name, sentence)
        ended = msgspec.structs.replace(wish, canary_share=0.0, return_to="", ended=sentence)
        await asyncio.to_thread(self._catalogue.set_traffic, name, ended)
