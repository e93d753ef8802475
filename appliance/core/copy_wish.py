"""What is wished of a model's copies in the mesh: how many nodes are to have it on their disks, and which. A struct."""

import msgspec

from appliance.core.errors import BadInputError

MAX_REPLICAS = 1000
_MAX_PLACES = 64
_MAX_CHARACTERS = 128


class CopyWish(msgspec.Struct, frozen=True, forbid_unknown_fields=False, omit_defaults=True):
    """`replicas`: copies of each version; 0: one on each node that `on` means. `on`: names or ids of nodes, and tags
    (`tag:WORD`); empty: any node. Copies that are elsewhere stay while there is room."""

    replicas: int = 0
    on: tuple[str, ...] = ()


NO_WISH = CopyWish()


def read_wish(value: str) -> CopyWish:
    """A wish as its register keeps it; none where it is empty or says what is not understood here."""
    try:
        wish = msgspec.json.decode(value, type=CopyWish) if value else NO_WISH
    except (msgspec.MsgspecError, UnicodeError):
        return NO_WISH
    return wish if 0 <= wish.replicas <= MAX_REPLICAS and len(wish.on) <= _MAX_PLACES else NO_WISH


def parse_places(text: str) -> tuple[str, ...]:
    """`box1,tag:gpu` as `on` has it. Raises BadInputError."""
    places = tuple(dict.fromkeys(place for word in text.split(",") if (place := word.strip())))
    if len(places) > _MAX_PLACES:
        raise BadInputError(f"{len(places)} places are named: at most {_MAX_PLACES} are taken; give nodes a tag")
    for place in places:
        word = place.removeprefix("tag:").strip()
        if not word or len(word) > _MAX_CHARACTERS or not word.isprintable():
            raise BadInputError(f"'{place[:100]}' is no place for a copy: expected a node's name, or tag:WORD")
    return places
