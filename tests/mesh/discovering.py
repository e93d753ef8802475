"""A process that is discovered and discovers, for tests that put one on each host of a LAN.

    python -m tests.mesh.discovering FOLDER NAME HOST

FOLDER holds the keyring. It says what happens in lines of JSON: `{"addresses": [...]}` what it tells of itself,
`{"met": NAME, "addresses": [...]}`, `{"trouble": SENTENCE}` where that changes. It ends when its input does.
"""

import asyncio
import json
import sys
from pathlib import Path

from federation.credentials import introduce
from federation.discovery import Discovery
from federation.identity import new_identity
from federation.keyring import Keyring

LOOK_S = 0.02


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def main(folder: Path, name: str, bound_to: str) -> None:
    keyring = Keyring(folder)
    own = introduce(new_identity(), keyring, name=name, addresses=[], mesh_port=8004, bulk_port=8005)
    discovery = Discovery(
        own,
        keyring=keyring,
        on_introduction=lambda told: say(met=told.name, addresses=told.addresses),
        on_addresses=lambda addresses: say(addresses=addresses),
        bound_to=bound_to,
    )
    await discovery.start()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    said = ""
    while not ended.done():
        if discovery.trouble != said:
            said = discovery.trouble
            say(trouble=said)
        await asyncio.wait([ended], timeout=LOOK_S)
    await discovery.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
