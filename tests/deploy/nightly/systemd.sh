#!/bin/sh
# `make nightly`: the README's deployment section, word by word, in empty roots.
#   sh tests/deploy/nightly/systemd.sh     as root; needs Debian's mmdebstrap, systemd-container and a network
# "Where there is a network": an empty Debian with make and Python, in which the bundle is made. "On the box": another empty
# one that boots under a real systemd without a network, and does what the section says; then what it promises is tried.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=${WORK:-$(mktemp -d)}
suite=bookworm
python=$(command -v python3)

# The commands of the section: what stands in its fences, in order.
"$python" - "$root/README.md" "$work" <<'END'
import re, sys
from pathlib import Path

section = re.search(r"^## Deployment\n(.*?)^## ", Path(sys.argv[1]).read_text(), re.MULTILINE | re.DOTALL)[1]
first, *rest = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
Path(sys.argv[2], "network.sh").write_text(first)
Path(sys.argv[2], "box.sh").write_text("".join(rest))
END

# An empty root each; what pip and apt need of this machine to reach their registries comes with it.
empty() {
    mmdebstrap --quiet --variant=minbase --include="$2" "$suite" "$1"
}
[ -d "$work/network" ] || empty "$work/network" make,python3,python3-venv,ca-certificates
[ -d "$work/box" ] || empty "$work/box" systemd,systemd-sysv,dbus,python3,iproute2,procps

mkdir -p "$work/network/src"
git -C "$root" archive HEAD | tar --extract --directory "$work/network/src"
cp /etc/resolv.conf "$work/network/etc/"
if [ -n "${PIP_CERT:-}" ]; then cp "$PIP_CERT" "$work/network/etc/ssl/pip.pem"; fi
cp "$work/network.sh" "$work/network/src/network.sh"
# shellcheck disable=SC2016
unshare --mount --pid --fork --kill-child -- sh -eu -c '
    mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"
    exec chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin ${PIP_CERT:+PIP_CERT=/etc/ssl/pip.pem} \
        sh -eux -c "cd /src; . ./network.sh"' - "$work/network"

# The box does the rest as a service of its own, writes down how it went, and turns itself off.
mkdir -p "$work/box/root/proof"
cp "$work"/network/src/dist/*.tar "$work/box/root/"
cp "$work/box.sh" "$work/box/root/proof/readme.sh"
cp "$here/proof.sh" "$work/box/root/proof/"
rm -f "$work/box/root/proof/passed"
cat >"$work/box/etc/systemd/system/proof.service" <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/root
ExecStart=/bin/sh -eux /root/proof/proof.sh
ExecStopPost=/bin/systemctl poweroff --no-block
StandardOutput=file:/root/proof/log
StandardError=inherit
TimeoutStartSec=1800
END
mkdir -p "$work/box/etc/systemd/system/default.target.wants"
ln -sf ../proof.service "$work/box/etc/systemd/system/default.target.wants/proof.service"
# shellcheck disable=SC2016
unshare --mount -- sh -eu -c '
    umount --recursive /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec systemd-nspawn --quiet --directory="$1" --boot --private-network --register=no --keep-unit' - "$work/box" \
    </dev/null >"$work/console" 2>&1 || true
cat "$work/box/root/proof/log"
[ -e "$work/box/root/proof/passed" ] || { tail -40 "$work/console"; echo "systemd: 0 passed, 1 failed"; exit 1; }
echo "systemd: 1 passed, 0 failed"
[ -n "${WORK:-}" ] || rm -rf "$work"
