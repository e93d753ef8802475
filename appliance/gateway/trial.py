"""A new version on trial: what a deploy asks for beside the version itself, and the traffic that comes of it.

Runs in the gateway. Pure but for reading the request's query. With a share the version is a canary, and the default
stays what it is; without one it is the default at once, and only judged.
"""

import re
from typing import NamedTuple

from aiohttp import web

from appliance.core.errors import BadInputError, ConflictError
from appliance.core.models import ModelVersion
from appliance.core.traffic import Traffic
from appliance.gateway.operations import Parameter

_NUMBER = re.compile(r"(0|[1-9]\d{0,8})(\.\d{1,20})?([eE][+-]?\d{1,3})?", re.ASCII)
_MOST = {"canary_share": 1.0, "max_error_share": 1.0, "max_latency_ratio": 1e6, "least_calls": 1e6}
_MEANING = {
    "canary_share": "its share of the calls that name no version; the default stays what it is (0: it becomes that)",
    "max_error_share": "it is taken back where more than this share of its calls fail (0: not looked at)",
    "max_latency_ratio": "it is taken back where its calls take more than this many times those of the version before "
    "(0: not looked at)",
    "least_calls": "how many of its calls are waited for before it is judged (0: 50)",
}

PARAMETERS = tuple(
    Parameter(
        name,
        "query",
        {"type": "integer" if name == "least_calls" else "number", "minimum": 0, "maximum": most},
        _MEANING[name],
    )
    for name, most in _MOST.items()
)


class Trial(NamedTuple):
    """What a deployer wishes of a new version; 0 leaves a thing out."""

    canary_share: float = 0.0
    max_error_share: float = 0.0
    max_latency_ratio: float = 0.0
    least_calls: int = 0

    @property
    def wanted(self) -> bool:
        return bool(self.canary_share or self.max_error_share or self.max_latency_ratio)

    def traffic(self, present: Traffic, made: ModelVersion, default: ModelVersion) -> Traffic:
        """How calls are to be spread, `made` being on trial against what was the default. A shadow that there is stays,
        unless it is the version itself. Raises ConflictError where `made` was the default already."""
        if made.key == default.key:
            raise ConflictError(f"{made} is the default version already: there is nothing to try it against")
        own = str(made.version)
        keeps_shadow = bool(present.shadow) and present.shadow != own
        return Traffic(
            canary=own if self.canary_share else "",
            canary_share=self.canary_share,
            shadow=present.shadow if keeps_shadow else "",
            shadow_share=present.shadow_share if keeps_shadow else 1.0,
            return_to="" if self.canary_share else str(default.version),
            max_error_share=self.max_error_share,
            max_latency_ratio=self.max_latency_ratio,
            least_calls=self.least_calls or Traffic().least_calls,
        )


NONE = Trial()


def asked_trial(request: web.Request) -> Trial:
    """What the query asks for. Raises BadInputError."""
    return Trial(
        _asked(request, "canary_share"),
        _asked(request, "max_error_share"),
        _asked(request, "max_latency_ratio"),
        int(_asked(request, "least_calls")),
    )


def _asked(request: web.Request, name: str) -> float:
    text, most = request.query.get(name, "0"), _MOST[name]
    whole = name == "least_calls"
    number = float(text) if _NUMBER.fullmatch(text) else -1.0
    if not 0 <= number <= most or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise BadInputError(f"{name} is '{text[:40]}': expected {kind} from 0 to {most:g}, such as 0.05")
    return number
