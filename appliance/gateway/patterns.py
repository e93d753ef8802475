"""The grammar of names as regular expressions, for JSON Schema in the OpenAPI document. Pure strings.

core/names.py and core/versions.py decide; these say the same to those who read the document.
"""

from appliance.core.names import RESERVED

WORD = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
# Ahead of a word: none of those that V2's paths use, whole.
_FREE = f"(?!(?:{'|'.join(sorted(RESERVED))})(?:[:/]|$))"
NAME = _FREE + WORD
ANY_VERSION = "[A-Za-z0-9][A-Za-z0-9.*_-]{0,79}"
WHOLE_VERSION = r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){2}(-[0-9A-Za-z-]{1,32})?"
SCOPE = rf"(call|deploy|admin)(:(\*|{NAME}/(\*|{NAME})))?"
ALIAS = r"(?!latest$)[A-Za-z][A-Za-z0-9._-]{0,63}"
ID = "[A-Za-z0-9_-]{1,64}"


def whole(pattern: str) -> str:
    """The pattern for the whole of a string."""
    return f"^{pattern}$"
