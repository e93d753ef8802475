#!/bin/sh
# The one file for boxes whose C library is old: built in a root folder of Debian 11, glibc 2.31. `make binary
# BASE=bullseye`.
#
#     build/bullseye.sh PYTHON ROOT OUT [flags of build/binary.py]
#
# As root, with debootstrap, a network, and PYTHON a Python 3.11 with pip, which fetches the packages outside. Debian 11 has
# no such Python, so Debian 12's source of it is compiled there: ten minutes, once, for ROOT is kept.
set -eu
python=$1 root=$2 out=$3
shift 3
source=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "make binary BASE=bullseye needs root, for debootstrap and chroot." >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap." >&2; exit 1; }

inside() { chroot "$root" env -i PATH=/opt/python/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"; }

if [ ! -e "$root/.debian" ]; then
    rm -rf "$root"
    debootstrap --variant=minbase --include=build-essential,ca-certificates,libbz2-dev,libffi-dev,liblzma-dev,libsqlite3-dev,libssl-dev,libzstd-dev,tcl,uuid-dev,zlib1g-dev \
        bullseye "$root" >/dev/null
    touch "$root/.debian"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc"' EXIT

if [ ! -e "$root/.python" ]; then
    sed -n 's/^deb \([^ ]*\) bullseye main.*/deb-src \1 bookworm main/p' "$root/etc/apt/sources.list" >"$root/etc/apt/sources.list.d/source.list"
    # The package alone is fetched, whatever else of Debian 12 its signature is checked with.
    inside sh -ec '
        apt-get update -qq
        mkdir -p /build && cd /build
        apt-get source -qq -o APT::Sandbox::User=root --download-only python3.11
        # Its SQLite is too old for what the catalogue asks.
        apt-get source -qq -o APT::Sandbox::User=root --download-only sqlite3
        tar -xf sqlite3_*.orig.tar.* && cd sqlite3-*
        ./configure -q --prefix=/opt/python --disable-tcl --disable-readline --disable-static CFLAGS="-O2 -DSQLITE_ENABLE_COLUMN_METADATA"
        make -s -j"$(nproc)" >/dev/null
        make -s install >/dev/null
        cd /build && tar -xf python3.11_*.orig.tar.* && cd Python-3.11.*
        ./configure -q --prefix=/opt/python --enable-shared --without-static-libpython CPPFLAGS=-I/opt/python/include \
            LDFLAGS="-L/opt/python/lib -Wl,-rpath,/opt/python/lib"
        make -s -j"$(nproc)" >/dev/null
        make -s install >/dev/null
        rm -rf /build
    '
    touch "$root/.python"
fi

rm -rf "$root/wheels" "$root/src" "$root/out"
mkdir -p "$root/src"
# Wheels that this C library can load, fetched by whoever knows where packages are.
"$python" -c '
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras[sys.argv[2]], *extras["onnx"], *extras["text"], *extras["build"], sep="\n")
' "$source/pyproject.toml" "${RUNTIME:-cpu}" >"$root/wanted"
platforms=$(for tag in 2_31 2_28 2_27 2_26 2_24 2_17; do echo "--platform manylinux_${tag}_x86_64"; done)
"$python" -m pip download --quiet --dest "$root/wheels" --only-binary=:all: --python-version 3.11 \
    $platforms --platform manylinux2014_x86_64 --requirement "$root/wanted"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$root/wheels" "$source"
(cd "$source" && git ls-files -z | tar -c --null -T -) | tar -x -C "$root/src"
inside sh -ec '
    rm -rf /venv && python3.11 -m venv /venv
    /venv/bin/python -m pip install --quiet --no-index --find-links /wheels /wheels/*.whl
'
epoch_s=${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}
inside SOURCE_DATE_EPOCH="$epoch_s" /venv/bin/python /src/build/binary.py /out --work /work "$@"
mkdir -p "$out"
cp "$root"/out/* "$out"
