"""What remains of a wish for a model's traffic when its versions or its default have changed. Pure.

A call must never be sent to a version that is no more, nor a version be tried against itself.
"""

import msgspec

from appliance.catalogue.index import ModelEntry
from appliance.core.traffic import Traffic


def settled(traffic: Traffic, entry: ModelEntry) -> Traffic:
    """The wish without versions that are no more, and without a trial or a shadow of what is the default by now."""
    there = {str(version.version) for version in entry.versions}
    others = there - {str(entry.default.version)}
    canary = traffic.canary if traffic.canary in others else ""
    shadow = traffic.shadow if traffic.shadow in others else ""
    return_to = traffic.return_to if traffic.return_to in there else ""
    kept = Traffic(
        canary=canary,
        canary_share=traffic.canary_share if canary else 0.0,
        shadow=shadow,
        shadow_share=traffic.shadow_share if shadow else 1.0,
        return_to=return_to,
        ended=traffic.ended if canary == traffic.canary else "",
    )
    if not (canary or return_to):
        return kept
    limits = {word: getattr(traffic, word) for word in ("max_error_share", "max_latency_ratio", "least_calls")}
    return msgspec.structs.replace(kept, **limits)
