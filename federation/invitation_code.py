"""The short-lived code that lets a new node in: what it looks like, how it is made and read. Pure; any process.

`K7M-4QX-T2W`: three characters that anyone may see, the label, by which the inviting node is found on the LAN; and six
that nobody but the two people learns, 30 bits, which are enough where each guess needs an exchange with the inviting
node and five wrong ones end the invitation.
"""

import secrets
from typing import NamedTuple

from appliance.core.errors import BadInputError

# Crockford's base 32: no I, L, O and U, and what looks like a 0 or 1 is read as one.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LABEL_CHARACTERS = 3
SECRET_CHARACTERS = 6
_LOOK_ALIKES = str.maketrans({"O": "0", "I": "1", "L": "1"})
_SEPARATORS = str.maketrans("", "", "-_.")


class Code(NamedTuple):
    """`str()` is how it is shown and typed."""

    label: str
    secret: str

    def __str__(self) -> str:
        return f"{self.label}-{self.secret[:3]}-{self.secret[3:]}"


def new_code() -> Code:
    """A code by chance."""
    return Code(_draw(LABEL_CHARACTERS), _draw(SECRET_CHARACTERS))


def parse_code(text: str) -> Code:
    """The code as a person typed it: case, separators and look-alikes do not matter. Raises BadInputError."""
    plain = "".join(text.split()).upper().translate(_SEPARATORS).translate(_LOOK_ALIKES)
    if len(plain) != LABEL_CHARACTERS + SECRET_CHARACTERS or not set(plain) <= set(ALPHABET):
        raise BadInputError(
            "this is no invitation's code: expected nine letters and digits such as K7M-4QX-T2W, "
            "as `ingle mesh invite` prints them on a node of the mesh"
        )
    return Code(plain[:LABEL_CHARACTERS], plain[LABEL_CHARACTERS:])


def _draw(characters: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(characters))
