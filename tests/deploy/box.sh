#!/bin/sh
# Run a script on a copy of this machine that is thrown away afterwards, without a network and without a service manager:
#   sh tests/deploy/box.sh SCRIPT [ARGUMENT]...      as root
# The copy is a layer in memory over the root file system, in namespaces of its own (mount, network, processes).
set -eu
if [ "${1:-}" != --inside ]; then
    place=$(mktemp -d)
    trap 'rmdir "$place"' EXIT
    unshare --mount --net --pid --fork --kill-child --propagation private -- sh "$0" --inside "$place" "$@"
    exit
fi
place=$2
shift 2
mount -t tmpfs -o size=6g tmpfs "$place"
mkdir "$place/changes" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=/,upperdir=$place/changes,workdir=$place/work" overlay "$place/root"
mount -t proc proc "$place/root/proc"
mount -t sysfs -o ro sysfs "$place/root/sys"
mount --rbind /dev "$place/root/dev"
mount -t tmpfs tmpfs "$place/root/run"
exec chroot "$place/root" sh -eu "$@"
