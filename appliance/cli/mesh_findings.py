"""What `ingle doctor mesh` says of what was found out: why two nodes do not meet, as a person wants to be told. Pure.

In the order in which someone would look: this box, its key, its network, who is in sight, and each node that was tried.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from appliance.cli.examination import Finding
from appliance.cli.mesh_facts import Facts, Tried
from appliance.cli.quantities import duration_words
from appliance.core.addresses import Address
from appliance.core.release import VERSION
from federation.faults import CLOCKS_APART_S, copied_to
from federation.messages import Introduction
from federation.multicast_check import Heard

_MAX_NAMED = 8
_AWAITED_S = 4.0  # one attempt to come in has failed by then
_JOIN = "'ingle mesh invite' on the one that stays, then 'ingle mesh join CODE' on the other"


def findings_of(facts: Facts, *, is_asked: bool) -> Iterator[Finding]:
    """`is_asked`: about the one node that was tried, and not about all."""
    if facts.mesh is None:
        yield Finding("mesh", "fail", "it is off on this node (--mesh off): it meets no other")
        return
    yield from _node(facts, facts.mesh)
    yield _key(facts)
    if not is_asked:
        yield from _network(facts)
        yield from _in_sight(facts)
    if facts.twin_at:
        yield Finding("identity", "fail", copied_to(_named(facts.twin_at)))
    yield from _names(facts)
    for tried in facts.tried:
        yield from _tried(tried, facts)
        if is_asked:
            yield from _other_addresses(tried)
    if not is_asked and not facts.tried:
        yield _nobody(facts)


# This box.


def _node(facts: Facts, mesh: Address) -> Iterator[Finding]:
    if facts.told is not None:
        yield Finding("node", "ok", f"it runs, and its mesh listens on {mesh}")
    elif facts.runs:
        yield Finding(
            "node",
            "warn",
            "it is said to run on this box but does not answer, so what it knows is left out: it was killed, or hangs. "
            "'ingle serve' starts it anew",
        )
    elif not facts.port_faults:
        yield Finding("node", "warn", "none runs on this box, so nobody can meet it: start it with 'ingle serve'")
    yield from _awaited(facts, mesh)
    for words, fault in facts.port_faults.items():
        yield Finding(
            "ports",
            "fail",
            f"{words} cannot be had ({fault}): end the program that has it, or give the mesh another with --mesh",
        )
    if not facts.discover and not facts.join:
        yield Finding(
            "discovery",
            "warn",
            "it is off (federation.discover): only who names this node with --join, or knows it, meets it",
        )


def _awaited(facts: Facts, mesh: Address) -> Iterator[Finding]:
    """A port of this box cannot be knocked at from this box: whoever should come there tells of it by staying away."""
    nodes = facts.told.nodes if facts.told else []
    linked = [node for node in nodes if node.link is not None and node.standing in ("alive", "draining")]
    missed = [node.name for node in linked if node.link is not None and node.link.awaited_s >= _AWAITED_S]
    if missed:
        port = f"TCP port {mesh.port + 1} of this box" if mesh.port else "this box's second port of the mesh"
        others = "" if len(missed) == len(linked) else " from there"
        yield Finding(
            "calls and copies",
            "warn",
            f"{_named(missed)} {'does' if len(missed) == 1 else 'do'} not come to {port}, for calls and copies, though "
            f"asked to: a firewall on this box drops what is sent to it{others}, or one on the way. Let it in, or "
            "calls take longer and models are not copied",
        )


def _key(facts: Facts) -> Finding:
    if facts.key is None:
        return Finding("key", "warn", facts.key_fault or "there is none on this box")
    if facts.told is not None and facts.told.key_id and facts.told.key_id != facts.key.id:
        return Finding("key", "warn", f"the running node shows {facts.told.key_id}, and its folder has {facts.key.id}")
    alone = facts.told is not None and facts.told.provisional
    return Finding(
        "key",
        "ok",
        f"this mesh's key is {facts.key.id}" + (": made here, and no other node has it yet" if alone else ""),
    )


# Its network.


def _network(facts: Facts) -> Iterator[Finding]:
    names = {address: one.name for one in facts.interfaces for address in one.addresses}
    names |= {str(one.number): one.name for one in facts.interfaces}
    loopback = {one.name for one in facts.interfaces if one.loopback}
    outward = [heard for heard in facts.heard if names.get(str(heard.place)) not in loopback]
    if not outward:
        yield Finding("network", "warn", "no interface but the loopback is up: only nodes on this box can be met")
    for heard in facts.heard:
        name = names.get(str(heard.place), "?")
        yield _interface(f"multicast: {name} ({'IPv6' if isinstance(heard.place, int) else heard.place})", heard)
    if outward and all(heard.itself for heard in outward):
        yield _neighbours(frozenset[str]().union(*(heard.others for heard in outward)))
    if facts.look_fault:
        yield Finding(
            "mDNS", "fail", f"it cannot be had ({facts.look_fault}): is UDP port 5353 kept by another program?"
        )


def _interface(about: str, heard: Heard) -> Finding:
    if heard.fault:
        return Finding(
            about,
            "fail",
            f"nothing can be asked there ({heard.fault}): a firewall on this box? Let UDP port 5353 out and in, "
            "or join by address, with ingle serve --join HOST:8004",
        )
    if heard.itself:
        return Finding(about, "ok", "a question that was asked there came back")
    return Finding(
        about,
        "fail",
        "a question that was asked there did not come back: a firewall on this box drops it. Let UDP port 5353 in, "
        "for 224.0.0.251 and ff02::fb",
    )


def _neighbours(others: frozenset[str]) -> Finding:
    if others:
        return Finding(
            "neighbours", "ok", f"{_named(sorted(others))} said something by multicast: the network carries it"
        )
    return Finding(
        "neighbours",
        "warn",
        "no other box said anything by multicast. If there are others, the network keeps it from them: Wi-Fi that "
        "isolates its clients, a switch's IGMP snooping, a VLAN or a VPN between. Then name one node: ingle serve "
        "--join HOST:8004",
    )


def _in_sight(facts: Facts) -> Iterator[Finding]:
    others: dict[str, list[Introduction]] = {}
    for told in facts.seen:
        if facts.key is None or told.key_id != facts.key.id:
            others.setdefault(told.key_id, []).append(told)
    for key_id, nodes in list(others.items())[:_MAX_NAMED]:
        yield Finding(
            "another mesh",
            "warn",
            f"{_named(_place(told) for told in nodes)} {'is' if len(nodes) == 1 else 'are'} in sight with another key, "
            f"{key_id}. To make the two one: {_JOIN}",
        )


def _names(facts: Facts) -> Iterator[Finding]:
    """Boxes made of one image are all called the same."""
    own = [node.name for node in facts.told.nodes if node.this] if facts.told else []
    called = Counter([*own, *(tried.name for tried in facts.tried if tried.tcp.is_mesh and not tried.other)])
    for name in sorted(name for name, count in called.items() if count > 1):
        yield Finding(
            "names",
            "warn",
            f"{called[name]} nodes are called '{name}': tables tell them apart by a piece of their ids. Give each its "
            "own: ingle serve --name NAME, or the box another host name",
        )


def _nobody(facts: Facts) -> Finding:
    if facts.seen:
        return Finding("nodes", "warn", "none in sight has this mesh's key, and none is remembered")
    return Finding(
        "nodes", "warn", "none is in sight, and none is remembered: see 'ingle doctor mesh HOST:PORT' for one"
    )


# Each node.


def _tried(tried: Tried, facts: Facts) -> Iterator[Finding]:
    about = tried.name if tried.name == str(tried.address) else f"{tried.name} ({tried.address})"
    other_key = tried.seen is not None and facts.key is not None and tried.seen.key_id != facts.key.id
    known = tried.known
    if tried.other:
        yield Finding(
            about,
            "warn",
            f"it is gone: at its address there is another node now, '{tried.other}'. If that is this box, set up anew: "
            f"'ingle mesh revoke {tried.node_id[:12]}' ends the old one, which is forgotten in a day anyway",
        )
        return
    if known is not None and known.standing in ("alive", "draining"):
        rtt = f", round trip {duration_words(known.link.rtt_s)}" if known.link and known.link.rtt_s else ""
        yield Finding(about, "ok", f"the running node has a link to it ({known.standing}{rtt})")
    elif known is not None:
        yield Finding(about, "fail", f"the running node has no link to it: it counts as {known.standing}")
    yield _mesh_port(about, tried)
    if tried.tcp.is_mesh:
        yield from _introduced(about, tried, other_key=other_key)
    if tried.bulk is not None and tried.bulk.ending != "open":
        yield Finding(
            about,
            "warn",
            f"TCP port {tried.bulk_port} there, for calls and copies, {_ENDINGS[tried.bulk.ending]}: let it through, "
            "or calls take longer and models are not copied",
        )
    if known is not None and known.version and known.version != VERSION:
        yield Finding(about, "warn", f"it runs Ingle {known.version}, and this box {VERSION}: update the older")


_ENDINGS = {
    "closed": "is closed",
    "silent": "is silent: a firewall drops what is sent to it",
    "no way": "cannot be reached",
}


def _mesh_port(about: str, tried: Tried) -> Finding:
    port = tried.address.port
    if tried.tcp.ending == "open":
        if tried.tcp.is_mesh:
            bulk = f", and port {tried.bulk_port} for calls and copies" if tried.bulk and tried.bulk.is_mesh else ""
            return Finding(about, "ok", f"TCP port {port} answers as a mesh does{bulk}")
        return Finding(
            about, "fail", f"TCP port {port} is open but is no mesh's: that is 8004, unless its --mesh says otherwise"
        )
    if tried.tcp.ending == "closed":
        return Finding(
            about, "fail", f"nobody listens on TCP port {port}: does the node run, and with --mesh on that port?"
        )
    if tried.tcp.ending == "silent":
        is_on = tried.seen is not None or (tried.udp is not None and tried.udp.ending in ("open", "closed"))
        what = "the box is on, so" if is_on else "the box is off, or"
        return Finding(
            about,
            "fail",
            f"TCP port {port} is silent: {what} a firewall there or between drops it. Let TCP {port} and {port + 1} "
            f"and UDP {port} in",
        )
    return Finding(
        about, "fail", f"there is no way to it ({tried.tcp.detail}): is it on this network, and the address right?"
    )


def _other_addresses(tried: Tried) -> Iterator[Finding]:
    """What the other addresses of a name gave, where that is not the same at all of them."""
    if all(other.outcome == tried.outcome for other in tried.others):
        return
    each = "; ".join(f"{one.address} {_outcome_words(one)}" for one in (tried, *tried.others))
    yield Finding("addresses", "warn", f"the name has {len(tried.others) + 1}, and they differ: {each}")


def _outcome_words(tried: Tried) -> str:
    if tried.tcp.ending != "open":
        return _ENDINGS[tried.tcp.ending]
    if not tried.tcp.is_mesh:
        return "is open, and no mesh's"
    return "answers as a mesh does" + ("" if tried.name == str(tried.address) else f" ({tried.name})")


def _introduced(about: str, tried: Tried, *, other_key: bool) -> Iterator[Finding]:
    port, udp = tried.address.port, tried.udp
    if other_key and tried.seen is not None:
        yield Finding(about, "fail", f"it has another mesh's key, {tried.seen.key_id}: {_JOIN}")
    elif udp is None:
        yield Finding(about, "warn", "whether it has this mesh's key was not asked, for want of the key")
    elif udp.ending == "open":
        yield Finding(about, "ok", "it has this mesh's key and knows this node's as good")
        yield _clocks(about, udp.ahead_s)
    elif udp.ending == "closed":
        yield Finding(about, "fail", f"nobody listens on UDP port {port}: it is no node of a mesh, or an old one")
    else:
        reasons = f"a firewall drops UDP {port}, or it has revoked this node"
        if tried.seen is None:
            reasons = f"its key is another (compare 'ingle mesh key' on both), {reasons}"
        yield Finding(about, "fail", f"it said nothing on UDP port {port}: {reasons}")


def _clocks(about: str, ahead_s: float) -> Finding:
    words = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this box's"
    if abs(ahead_s) < CLOCKS_APART_S:
        return Finding(about, "ok", f"its clock is {words}")
    return Finding(about, "warn", f"its clock is {words}: set both (NTP), or the older of two aliases may stand")


def _place(told: Introduction) -> str:
    return f"{told.name} ({Address(told.addresses[0], told.mesh_port)})"


def _named(words: Iterable[str]) -> str:
    """All of a few, some of many."""
    listed = list(words)
    more = f" and {len(listed) - _MAX_NAMED} more" if len(listed) > _MAX_NAMED else ""
    return ", ".join(listed[:_MAX_NAMED]) + more
