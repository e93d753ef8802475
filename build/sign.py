"""Signs a one file, so that others take it as an update: `python build/sign.py FILE KEYFILE`.

KEYFILE is a private key as `ingle pack --new-key` makes one. The file is started once, to say what it is. SHA256SUMS
beside it is written anew.
"""

import json
import subprocess
import sys
from pathlib import Path

import sums

from appliance.security.releases import sign
from appliance.security.signatures import public_key, read_key


def main() -> None:
    file, key = Path(sys.argv[1]).resolve(), read_key(Path(sys.argv[2]))
    about = json.loads(subprocess.run([file, "version", "--json"], capture_output=True, check=True).stdout)
    sign(file, key, about["version"], about["built_s"], about["runtime"])
    sums.write(file.parent)
    print(f"{file}: {about['version']}, signed with {public_key(key)}")


if __name__ == "__main__":
    main()
