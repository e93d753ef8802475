"""Whether a bundle is signed by somebody this node trusts, where it asks for that or the deployer does.

Runs in the gateway process, in a thread: it reads the whole upload.
"""

from pathlib import Path
from typing import NamedTuple

from appliance.catalogue.bundle_file import bundle_digests
from appliance.catalogue.formats import is_zip
from appliance.core.errors import BadInputError, RefusedError
from appliance.security.signatures import check_trusted, read_trusted, signer

_UNREADABLE = (OSError, UnicodeDecodeError, BadInputError)


def _unreadable(error: Exception) -> str:
    return f"this node cannot read its trusted keys ({error}), so it takes no model"


class Vouching(NamedTuple):
    """`trusted_keys` is the file of public keys; where there is one, every deploy must be signed by one of them."""

    trusted_keys: Path | None = None

    def fault(self) -> str:
        """Why the file of keys is of no use as it is now; empty where it is, or where there is none."""
        try:
            if self.trusted_keys is not None:
                read_trusted(self.trusted_keys)
        except _UNREADABLE as error:
            return _unreadable(error)
        return ""

    def check(self, upload: Path, *, required: bool) -> None:
        """Raises RefusedError where a signature is asked for and there is none, it is not of these files, or not of a
        key that is trusted. The file of keys is read each time, so a change of it needs no restart."""
        if self.trusted_keys is None:
            if required:
                raise RefusedError(
                    "this node trusts no keys, so no signature says anything: name a file of public keys with "
                    "--gateway-trusted-keys"
                )
            return
        with upload.open("rb") as file:
            if not is_zip(file.read(4)):
                raise RefusedError("this node takes signed bundles alone, and a bare file has no signature: "
                                   "'ingle pack --sign KEYFILE' makes one")  # fmt: skip
        try:
            trusted = read_trusted(self.trusted_keys)
        except _UNREADABLE as error:
            raise RefusedError(_unreadable(error)) from None
        digests, signature = bundle_digests(upload)
        check_trusted(signer(signature, digests), trusted)
