"""Whose program `ingle update --from NODE` and `--from-mesh` take: decided from what the nodes of a mesh say. Pure."""

from collections.abc import Sequence

from appliance.client_answers import MeshNode, Program
from appliance.core.errors import BadInputError, IngleError, NotFoundError, RefusedError, UnavailableError
from appliance.core.release import Build
from appliance.core.versions import Version, parse_version

_GIVING = ("alive", "suspect")  # standings of peers that artifacts are fetched from


def age(version: str, built_s: int) -> tuple[Version, int]:
    """Of two releases the later has the greater one: by its version, else by the time of its commit. Raises
    BadInputError where the version is none."""
    return parse_version(version), built_s


def check_newer(old: Build, version: str, built_s: int, *, allow_downgrade: bool) -> None:
    """Raises RefusedError where the new one is older, BadInputError where its version is none."""
    if age(version, built_s) < age(old.version, old.built_s) and not allow_downgrade:
        raise RefusedError(
            f"{version} is older than {old.version}, which is here: 'ingle update --allow-downgrade' takes it all "
            "the same; its node may not know the catalogue's form, and is taken back then"
        )


def is_newer(old: Build, version: str, built_s: int) -> bool:
    """Whether it is later than what is here; never where its version is none."""
    try:
        return age(version, built_s) > age(old.version, old.built_s)
    except BadInputError:
        return False


def newest(own: Build, nodes: Sequence[MeshNode]) -> list[MeshNode]:
    """The peers that can give what is newer than this program, the newest first, of equal ones the nearest; one for
    each program. Empty: nobody has anything newer."""
    found: dict[str, tuple[tuple[Version, int], MeshNode]] = {}
    for node in sorted(nodes, key=lambda node: node.link.rtt_s if node.link else 0.0):
        program = node.program
        if program and not why_not(own, node, program) and is_newer(own, program.version, program.built_s):
            found.setdefault(program.digest, (age(program.version, program.built_s), node))
    return [node for _, node in sorted(found.values(), key=lambda aged: aged[0], reverse=True)]


def behind(nodes: Sequence[MeshNode]) -> list[tuple[str, str, list[str]]]:
    """For each runtime the newest program that a node in reach runs from, whose that is, and by name the nodes whose
    own is older; nothing where there are none of those."""
    found = []
    giving = [node for node in nodes if node.program and not node.program.fault and node.standing in _GIVING]
    for runtime in sorted({node.program.runtime for node in giving if node.program}):
        own = [(node.name, _build(node.program)) for node in giving if node.program and node.program.runtime == runtime]
        name, best = own[0]
        for other, build in own:
            if is_newer(best, build.version, build.built_s):
                name, best = other, build
        if older := [other for other, build in own if is_newer(build, best.version, best.built_s)]:
            found.append((best.version, name, older))
    return found


def _build(program: Program) -> Build:
    return Build(program.version, program.built_s)


def named(own: Build, nodes: Sequence[MeshNode], wanted: str, *, allow_downgrade: bool) -> MeshNode:
    """The peer of this name or id. Raises the IngleError that says why its program is not to be had."""
    peers = [node for node in nodes if not node.outside]
    node = next((node for node in peers if wanted in (node.name, node.node_id)), None)
    if node is None:
        names = ", ".join(sorted(peer.name for peer in peers if not peer.this)) or "no other node"
        raise NotFoundError(f"this mesh has no node '{wanted[:100]}'; it has {names}")
    if node.this:
        raise BadInputError(f"this node itself is {node.name}: name another, or use --from-mesh")
    if node.program is None:
        raise NotFoundError(
            f"no one file can be had of {node.name}: it runs Ingle {node.version} as an installed Python package, or "
            "from a file that nobody signed"
        )
    if error := why_not(own, node, node.program):
        raise error
    check_newer(own, node.program.version, node.program.built_s, allow_downgrade=allow_downgrade)
    return node


def why_not(own: Build, node: MeshNode, program: Program) -> IngleError | None:
    """Why a peer's program cannot be had, or can never be this one's update, whatever its version."""
    if node.this or node.outside:
        return BadInputError(f"this node itself is {node.name}, or it is no node")
    if node.standing not in _GIVING:
        return UnavailableError(f"nothing can be had now of {node.name}, which is {node.standing}")
    if program.fault:
        return RefusedError(f"the one file of {node.name} {program.fault}")
    if program.runtime != own.runtime:
        return RefusedError(
            f"the one file of {node.name} was built with RUNTIME={program.runtime}, and this one with "
            f"RUNTIME={own.runtime}: where you mean to change that, copy its file and use 'ingle update FILE'"
        )
    return None
