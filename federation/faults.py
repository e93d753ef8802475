"""What an owner should be told about the nodes of the mesh, as sentences: what is wrong and what to do. Pure."""

from federation.messages import PROTOCOL, Hello, Introduction

CLOCKS_APART_S = 60.0


def _place(introduction: Introduction) -> str:
    return f"{introduction.addresses[0] if introduction.addresses else '?'}:{introduction.mesh_port}"


_ANEW = "On one of the two end the node, delete mesh.identity in its data folder, and start it again"


def copied_to(host: str) -> str:
    """What anybody can say by multicast DNS, and a copy does."""
    return f"a box at {host} says that it is this node: its data folder was copied, it seems. {_ANEW}"


def twins(one: Introduction, other: Introduction) -> str:
    return (
        f"two nodes have the id of {one.name} ({one.node_id[:8]}), at {_place(one)} and at {_place(other)}: a data "
        f"folder was copied. {_ANEW}"
    )


def own_twin(told: Introduction) -> str:
    return (
        f"a node with this node's id is told of at {_place(told)}: if that is not where this node was before, its data "
        f"folder was copied. {_ANEW}"
    )


def there_twice() -> str:
    return f"is there twice: two nodes have one identity, since a data folder was copied. {_ANEW}"


def other_protocol(hello: Hello) -> str:
    return (
        f"{hello.introduction.name} (release {hello.release[:40]}) speaks version {hello.protocol} of the mesh's "
        f"protocol and this node version {PROTOCOL}: run releases that go together on both"
    )


def clocks_apart(hello: Hello, unix_s: float) -> str:
    """Empty where they are not. What the message took on its way is not known and taken for nothing."""
    ahead_s = hello.unix_s - unix_s
    if not hello.unix_s or abs(ahead_s) < CLOCKS_APART_S:
        return ""
    return (
        f"the clock of {hello.introduction.name} is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} "
        "this node's: of two aliases that are set on both at once the older may stand; set both clocks (NTP)"
    )
