#!/bin/sh
# `make nightly`: the bundle for aarch64, installed and run in an empty Debian of that processor, emulated by qemu-user.
#   sh tests/deploy/nightly/arm.sh [PYTHON]     as root; needs Debian's mmdebstrap, arch-test and qemu-user-static
# PYTHON is one with pip that makes the bundle. Emulation proves instructions, not speed. WORK=FOLDER keeps root and bundle.
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=${WORK:-$(mktemp -d)}
if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    # Debian's own entry (qemu-user-static), which its start scripts would have made. F: also inside of roots.
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
fi
[ -d "$work/arm" ] || mmdebstrap --quiet --variant=minbase --arch=arm64 --include=python3 bookworm "$work/arm"
ls "$work"/dist/*-aarch64-*.tar >/dev/null 2>&1 ||
    ARCH=aarch64 PYTHON_VERSION=3.11 sh "$root/deploy/edge/bundle.sh" "${1:-$root/.venv/bin/python}" "$work/dist"
tar --extract --file "$work"/dist/*-aarch64-*.tar --directory "$work/arm/root"
cp "$root/streamguard/ingest/astronaut.webp" "$work/arm/root/"
# No network in it: all comes from the bundle.
# shellcheck disable=SC2016
unshare --mount --net --pid --fork --kill-child -- sh -eu -c '
    mount -t proc proc "$1/proc"; mount -t sysfs -o ro sysfs "$1/sys"; mount --rbind /dev "$1/dev"
    exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -eu -c "
        uname -m; cd /root; streamguard-*/install.sh; cd /
        streamguard=/opt/streamguard/bin/streamguard
        mkdir -p /var/lib/streamguard /var/cache/streamguard # which the unit would have made
        \$streamguard --version; \$streamguard config check /etc/streamguard/streamguard.yaml
        \$streamguard scan --json /root/astronaut.webp >/root/said; cat /root/said"' - "$work/arm"
grep -q '"faces": 1,' "$work/arm/root/said" || { echo "aarch64: 0 passed, 1 failed: no face in the photograph"; exit 1; }
echo "aarch64: 1 passed, 0 failed"
[ -n "${WORK:-}" ] || rm -rf "$work"
