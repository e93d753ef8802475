"""`ingle pack`: one file of a model and what belongs to it, signed on request; nothing is sent anywhere."""

import tempfile
import zipfile
from pathlib import Path

import click

from appliance.cli.paths import EXISTING_FILE, EXISTING_PATH
from appliance.core.errors import BadInputError


@click.command("pack", short_help="Make one file of a model, signed on request.")
@click.argument("source", metavar="[SOURCE]", required=False, type=EXISTING_PATH)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The bundle (default: NAME.ingle).",
)
@click.option("--manifest", type=EXISTING_FILE, help="What the model wants and is, in TOML.")
@click.option("--labels", type=EXISTING_FILE, help="Its labels, one a line.")
@click.option("--sign", type=EXISTING_FILE, metavar="KEYFILE", help="Sign it with this private key (PEM, Ed25519).")
@click.option(
    "--new-key", type=click.Path(path_type=Path), metavar="KEYFILE", help="Make a key pair; show the public key."
)
def command(
    source: Path | None,
    output: Path | None,
    manifest: Path | None,
    labels: Path | None,
    sign: Path | None,
    new_key: Path | None,
) -> None:
    """Make NAME.ingle of SOURCE: an ONNX file, a folder with model.onnx, manifest.toml and labels.txt, or a bundle, to
    sign it.

    A signature says who vouches for every file in the bundle: `ingle deploy --require-signature`.
    """
    from appliance.security.signatures import new_key as make_key

    try:
        if new_key:
            click.echo(make_key(new_key))
        if source is None:
            if not new_key:
                raise BadInputError("expected a SOURCE, or --new-key")
            return
        target = output or Path(f"{source.resolve().stem}.ingle")
        if source.is_file() and zipfile.is_zipfile(source):
            if manifest or labels:
                raise BadInputError(f"{source} is a bundle with its own manifest and labels: unpack it to change them")
            _sign_again(source, target, sign)
        else:
            _pack(source, target, manifest, labels, sign)
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    click.echo(f"{target} is written{', signed' if sign else ''}.")


def _pack(source: Path, target: Path, manifest: Path | None, labels: Path | None, sign: Path | None) -> None:
    from appliance.catalogue.bundle import MODEL
    from appliance.catalogue.packing import find_package

    package = find_package(source, manifest, labels)
    members = dict(package.members) or {MODEL: package.source}
    record = source / "parity.json" if source.is_dir() else None
    if record is not None and record.is_file():
        members["parity.json"] = record
    _write(target, members, sign)


def _sign_again(bundle: Path, target: Path, sign: Path | None) -> None:
    """A bundle's members as they are, with another signature or none."""
    from appliance.catalogue.archive import extract, listed_files, open_archive
    from appliance.security.signatures import SIGNATURE

    with tempfile.TemporaryDirectory(prefix="ingle-pack-", dir=target.resolve().parent) as folder:
        members = {}
        with open_archive(bundle) as archive:
            for name, entry in listed_files(archive).items():
                if name != SIGNATURE:
                    members[name] = Path(folder, name)
                    extract(archive, entry, members[name])
        _write(target, members, sign)


def _write(target: Path, members: dict[str, Path], sign: Path | None) -> None:
    from appliance.catalogue.bundle_file import member_digests, write_bundle
    from appliance.security import signatures

    signature = signatures.sign(member_digests(members), signatures.read_key(sign)) if sign else None
    write_bundle(target, members, signature)
