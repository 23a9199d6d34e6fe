#!/bin/sh
# `make bundle`: all that a box without a network needs, in one file:
#   dist/streamguard-VERSION-ARCH-pyPYTHON.tar: wheels (StreamGuard's has the engines), units, installer, checksums.
# For another machine than this one: ARCH=aarch64, PYTHON_VERSION=3.12; other extras: EXTRAS=sinks,tensorrt-rtx.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${1:-$root/.venv/bin/python}
out=${2:-$root/dist}
extras=${EXTRAS:-sinks,evidence}
here=$("$python" -c 'import platform, sys; print(platform.machine(), "%d.%d" % sys.version_info[:2])')
arch=${ARCH:-${here% *}}
version=${PYTHON_VERSION:-${here#* }}
pip="$python -m pip --quiet --disable-pip-version-check"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
$pip wheel --no-deps --wheel-dir "$work/own" "$root"
own=$(ls "$work"/own/streamguard-*.whl)
release=$(basename "$own" | cut -d- -f2)
name=streamguard-$release-$arch-py$version
mkdir -p "$work/$name/wheels" "$work/$name/edge" "$work/$name/systemd"

# Wheels alone: a box has no compiler. The newest C library that one may ask for is that of Debian 12, 2.36.
abi=cp$(echo "$version" | tr -d .)
set -- --only-binary=:all: --python-version "$version" --implementation cp --abi "$abi" --abi abi3 --abi none
for minor in $(seq 36 -1 17); do set -- "$@" --platform "manylinux_2_${minor}_$arch"; done
set -- "$@" --platform "manylinux2014_$arch"
$pip download "$@" --constraint "$root/constraints.txt" --dest "$work/$name/wheels" "${own}[$extras]"
$pip download --no-deps --dest "$work/$name/wheels" "pip==$("$python" -m pip --version | cut -d' ' -f2)"

cp "$root"/deploy/edge/install.sh "$root"/LICENSE "$root"/NOTICE "$root"/docs/deploy.md "$work/$name/"
for file in heat.py edge.conf streamguard.yaml streamguard-tokens; do
    cp "$root/deploy/edge/$file" "$work/$name/edge/"
done
cp "$root"/deploy/systemd/streamguard.service "$root"/deploy/edge/streamguard-heat.service "$work/$name/systemd/"
printf 'release=%s\narch=%s\npython=%s\nextras=%s\n' "$release" "$arch" "$version" "$extras" >"$work/$name/BUNDLE"
(cd "$work/$name" && find . -type f -printf '%P\n' | LC_ALL=C sort | xargs sha256sum >"$work/SHA256SUMS")
mv "$work/SHA256SUMS" "$work/$name/"

mkdir -p "$out"
tar --create --file "$out/$name.tar" --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@${SOURCE_DATE_EPOCH:-0}" "$name"
(cd "$out" && sha256sum "$name.tar" >"$name.tar.sha256")
echo "$out/$name.tar"
