#!/bin/sh
# `make nightly`: the container files, built and run.
#   sh tests/deploy/nightly/image.sh [Containerfile [ARCH [BUILD-ARGUMENT]...]]      as root
# Needs Debian's mmdebstrap, buildah, podman, crun, and for another ARCH than this machine's qemu-user-static. No registry of
# base images: the base is made by mmdebstrap, as Debian's own images are (debuerreotype); all else is the file's own steps.
# WORK=FOLDER keeps base, storage and layers for the next time.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
file=${1:-Containerfile}
arch=${2:-$(dpkg --print-architecture)}
[ $# -lt 2 ] || shift
[ $# -lt 1 ] || shift
arguments=''
for argument in "$@"; do arguments="$arguments --build-arg $argument"; done
work=${WORK:-$(mktemp -d)}
storage="--root $work/storage --runroot $work/run --storage-driver overlay"
name=localhost/streamguard:$(echo "$file" | tr '[:upper:]' '[:lower:]')-$arch

if [ "$arch" != "$(dpkg --print-architecture)" ] && [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    # Debian's own entry (qemu-user-static), which its start scripts would have made. F: also inside of roots.
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
fi

[ -e "$work/base-$arch.tar" ] || mmdebstrap --quiet --variant=minbase --arch="$arch" bookworm "$work/base-$arch.tar"
# shellcheck disable=SC2086
if ! buildah $storage inspect --type image "localhost/base:$arch" >/dev/null 2>&1; then
    container=$(buildah $storage from --arch "$arch" scratch)
    buildah $storage add --quiet "$container" "$work/base-$arch.tar" /
    buildah $storage commit --quiet --rm "$container" "localhost/base:$arch" >/dev/null
fi

# What pip needs of this machine to reach its registry is there while it builds, and not in the image.
printf '[global]\n' >"$work/pip.conf"
volumes="--volume $work/pip.conf:/etc/pip.conf:ro"
if [ -n "${PIP_CERT:-}" ]; then
    echo 'cert = /run/certificates.pem' >>"$work/pip.conf"
    volumes="$volumes --volume $PIP_CERT:/run/certificates.pem:ro"
fi
# shellcheck disable=SC2086
buildah $storage bud --isolation chroot --pull-never --layers --format docker --arch "$arch" \
    --build-arg "BASE=localhost/base:$arch" $arguments $volumes --tag "$name" \
    --file "$root/deploy/container/$file" "$root" >"$work/build.log" 2>&1 || { tail -30 "$work/build.log"; exit 1; }

# Run as docs/deploy.md says: read-only, no rights, no network. podman wants version 2 of control groups alone.
cat >"$work/streamguard.yaml" <<'END'
streams: [{name: made, uri: "demo:?seed=6&duration=3600"}]
sinks: [{name: archive, type: jsonl, path: /var/lib/streamguard/events.jsonl}]
END
export work storage name
unshare --mount -- sh -eu "$here/run.sh"
echo "image $file $arch: 1 passed, 0 failed"
[ -n "${WORK:-}" ] || rm -rf "$work"
