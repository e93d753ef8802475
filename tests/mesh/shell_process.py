"""A node's shell of the mesh as a process of its own, to be killed and frozen; its argument is a folder.

Says its port once it listens, and answers each INVOKE with what it was given.
"""

import asyncio
import sys
from pathlib import Path

import uvloop

from federation.mesh import Mesh
from federation.messages import MeshInvoke, MeshReply
from tests.mesh.meshed import shells


async def _run(folder: Path) -> None:
    async with shells(folder) as nodes:
        mesh: Mesh = await nodes.start("process")

        def answer(node_id: str, head: object, body: list[bytes]) -> None:
            if isinstance(head, MeshInvoke):
                mesh.send(node_id, MeshReply(head.call, [], 0, 0, 0, 0, 0, 1, 1), body)

        mesh.on_call = answer  # type: ignore[assignment]
        sys.stdout.write(f"{mesh.introduction.mesh_port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1])))
