"""A file of trusted keys that is of no use is known before a deploy needs it."""

from pathlib import Path

from appliance.gateway.vouching import Vouching


def test_a_file_of_keys_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    keys = tmp_path / "trusted"
    assert "No such file" in Vouching(keys).fault()
    keys.write_text("no key\n")
    assert "line 1: expected a public key" in Vouching(keys).fault()
    keys.write_text(f"{'a' * 64}  the owner\n")
    assert Vouching(keys).fault() == Vouching().fault() == ""
