"""How the calls that name no version of a model are spread over its versions, and when that is taken back. A struct."""

import msgspec


class Traffic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a deployer wishes. Versions are whole ones (`1.2.0`); an empty one stands for none.

    `canary` answers `canary_share` of the calls, the default version the rest. `shadow` gets copies of `shadow_share`
    of the calls; its answers are compared and thrown away. Where `max_error_share` or `max_latency_ratio` is not 0, the
    canary is judged against the default after `least_calls`, and given no more calls where it exceeds one of them; the
    default itself is judged so against `return_to`, and that is made the default again. `ended` says why that was done.
    """

    canary: str = ""
    canary_share: float = 0.0
    shadow: str = ""
    shadow_share: float = 1.0
    return_to: str = ""
    max_error_share: float = 0.0
    max_latency_ratio: float = 0.0
    least_calls: int = 50
    ended: str = ""


TO_THE_DEFAULT = Traffic()
