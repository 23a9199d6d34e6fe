#!/bin/sh
# `make nightly`: the bundle for aarch64, installed and run in an empty Debian of that processor, emulated by qemu-user.
#   sh tests/deploy/nightly/arm.sh [PYTHON]     as root; needs Debian's mmdebstrap and arch-test
# PYTHON is one with pip that makes the bundle. Emulation proves instructions, not speed. WORK=FOLDER keeps root and bundle.
#
# The emulator is Debian 13's, 10.0: under Debian 12's, 7.2, ONNX Runtime crashes. A processor that exists is named to it:
# under `max`, which has every extension at its widest, OpenVINO finds no face.
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=${WORK:-$(mktemp -d)}
binfmt=/proc/sys/fs/binfmt_misc
leave() {
    [ ! -e $binfmt/streamguard-aarch64 ] || echo -1 >$binfmt/streamguard-aarch64
    [ -n "${WORK:-}" ] || rm -rf "$work"
}
trap leave EXIT
[ -d "$work/emulator" ] || mmdebstrap --quiet --variant=extract --include=qemu-user trixie "$work/emulator"
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
# The newest entry for a kind of file is the one that is taken. F: it is opened now, and so serves inside of roots too.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":streamguard-aarch64:M::$magic:$mask:$work/emulator/usr/bin/qemu-aarch64:F" >$binfmt/register

[ -d "$work/arm" ] || mmdebstrap --quiet --variant=minbase --arch=arm64 --include=python3 bookworm "$work/arm"
ls "$work"/dist/*-aarch64-*.tar >/dev/null 2>&1 ||
    ARCH=aarch64 PYTHON_VERSION=3.11 sh "$root/deploy/edge/bundle.sh" "${1:-$root/.venv/bin/python}" "$work/dist"
tar --extract --file "$work"/dist/*-aarch64-*.tar --directory "$work/arm/root"
cp "$root/streamguard/ingest/astronaut.webp" "$work/arm/root/"

cat >"$work/arm/root/prove.sh" <<'END'
set -eu
uname -m
cd /root
QEMU_CPU=cortex-a76 streamguard-*/install.sh
mkdir -p /var/lib/streamguard /var/cache/streamguard # which the unit would have made
printf 'detector: {backend: onnxruntime}\nclassifier: {backend: onnxruntime}\n' >onnxruntime.yaml
streamguard=/opt/streamguard/bin/streamguard
QEMU_CPU=cortex-a76 $streamguard config check /etc/streamguard/streamguard.yaml
finds() { # PROCESSOR, options of scan
    processor=$1
    shift
    echo "$processor $*:"
    QEMU_CPU=$processor $streamguard scan --json "$@" astronaut.webp >said
    cat said
    grep -q '"faces": 1,' said || { echo "aarch64: 0 passed, 1 failed: no face in the photograph"; exit 1; }
}
finds cortex-a76
finds cortex-a76 --config onnxruntime.yaml
finds neoverse-n2
finds cortex-a72 --config onnxruntime.yaml
# ARMv8.0 is too old for OpenVINO; whoever tries is told what to do.
! QEMU_CPU=cortex-a72 $streamguard scan astronaut.webp 2>said || exit 1
grep -q "can't compile .*Set .* to onnxruntime" said || { cat said; exit 1; }
END
# No network in it: all comes from the bundle.
# shellcheck disable=SC2016
unshare --mount --net --pid --fork --kill-child -- sh -eu -c '
    mount -t proc proc "$1/proc"; mount -t sysfs -o ro sysfs "$1/sys"; mount --rbind /dev "$1/dev"
    exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /root/prove.sh' - "$work/arm"
echo "aarch64: 5 passed, 0 failed"
