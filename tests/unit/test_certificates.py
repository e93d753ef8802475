"""Certificates: what a node makes for itself, what it keeps, and how files that will not do are named."""

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from appliance.core.errors import BadInputError, NotFoundError
from appliance.security.certificates import make_certificate, own_addresses, own_names, self_made
from appliance.security.tls import read_tls

NOW = datetime.datetime.now(datetime.UTC)


def test_a_node_keeps_the_certificate_it_made_and_nobody_else_may_read_its_key(tmp_path: Path) -> None:
    bundle = self_made(tmp_path)
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    first = read_tls(bundle, bundle).fingerprint
    assert read_tls(self_made(tmp_path), bundle).fingerprint == first
    assert b"PRIVATE" not in (tmp_path / "tls.crt").read_bytes()


def test_it_is_for_this_box_by_every_name_and_address(tmp_path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(self_made(tmp_path).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == own_names()
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} == set(own_addresses())
    assert "localhost" in own_names()
    assert {"127.0.0.1", "::1"} <= set(own_addresses())


@pytest.mark.parametrize(
    ("made_days_ago", "mode", "kept"),
    [(10, 0o600, True), (3300, 0o600, False), (4000, 0o600, False), (10, 0o644, False)],
)
def test_a_certificate_in_its_last_year_or_open_to_others_is_made_anew(
    tmp_path: Path, made_days_ago: int, mode: int, kept: bool
) -> None:
    _, content = make_certificate(["box"], ["127.0.0.1"], NOW - datetime.timedelta(days=made_days_ago))
    bundle = tmp_path / "tls.pem"
    bundle.write_bytes(content)
    bundle.chmod(mode)
    self_made(tmp_path)
    assert (bundle.read_bytes() == content) == kept


def test_a_broken_certificate_file_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "tls.pem").chmod(0o600)
    bundle = self_made(tmp_path)
    assert read_tls(bundle, bundle).fingerprint


def test_files_that_will_not_do_are_named_with_the_reason(tmp_path: Path) -> None:
    good, other = tmp_path / "good.pem", tmp_path / "other.pem"
    for file in (good, other):
        file.write_bytes(make_certificate(["box"], [], NOW)[1])
    garbage = tmp_path / "garbage.pem"
    garbage.write_bytes(b"garbage")
    for chain, key, words in (
        (good, tmp_path, "key .* cannot be read: Is a directory"),
        (garbage, good, "garbage.pem is no certificate"),
        (good, garbage, "garbage.pem is no private key"),
        (good, other, "other.pem is not that of the certificate .*good.pem"),
    ):
        with pytest.raises(BadInputError, match=words):
            read_tls(chain, key)
    with pytest.raises(NotFoundError, match=r"certificate .*none\.pem is not there"):
        read_tls(tmp_path / "none.pem", good)


def test_a_key_behind_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    _, content = make_certificate(["box"], [], NOW)
    key = serialization.load_pem_private_key(content, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )
    (tmp_path / "cert.pem").write_bytes(content)
    (tmp_path / "key.pem").write_bytes(locked)
    with pytest.raises(BadInputError, match="has a passphrase"):
        read_tls(tmp_path / "cert.pem", tmp_path / "key.pem")
