#!/bin/sh
# Install StreamGuard from an offline bundle, or upgrade to it. Needs root, Python and systemd; no network.
#   ./install.sh [--python PYTHON]
#   ./install.sh --remove       stop it and take the program away; configuration and state stay
# An upgrade takes place when the new release finds the configuration right, and is taken back when it does not start.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
say() { echo "streamguard: $*"; }
fail() { echo "streamguard: $*" >&2; exit 1; }

wanted='' remove=''
while [ $# -gt 0 ]; do
    case $1 in
    --python) wanted=${2:?--python needs a command}; shift 2 ;;
    --remove) remove=yes; shift ;;
    *) fail "'$1' is not known. Use --python PYTHON or --remove." ;;
    esac
done
units=/etc/systemd/system
settings=/etc/streamguard/streamguard.yaml
managed() { [ -d /run/systemd/system ]; }
[ "$(id -u)" = 0 ] || fail "needs root: sudo $0"

if [ -n "$remove" ]; then
    if managed; then systemctl disable --quiet --now streamguard-heat.service streamguard.service; fi
    rm -rf $units/streamguard.service $units/streamguard.service.d/edge.conf $units/streamguard-heat.service \
        /usr/local/sbin/streamguard-tokens /opt/streamguard /opt/streamguard-[0-9]*
    if managed; then systemctl daemon-reload; fi
    say "removed; /etc/streamguard and /var/lib/streamguard are left"
    exit 0
fi

# Does the bundle fit this machine?
cd "$here"
sha256sum --check --strict --quiet SHA256SUMS || fail "the bundle is damaged: copy it here again"
release=$(sed -n 's/^release=//p' BUNDLE) arch=$(sed -n 's/^arch=//p' BUNDLE)
version=$(sed -n 's/^python=//p' BUNDLE) extras=$(sed -n 's/^extras=//p' BUNDLE)
[ "$(uname -m)" = "$arch" ] || fail "this bundle is for $arch, this machine is $(uname -m): make bundle ARCH=$(uname -m)"
interpreter='' found=''
for candidate in ${wanted:-"python$version" python3}; do
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if [ "$found" = "$version" ]; then interpreter=$(command -v "$candidate"); break; fi
done
[ -n "$interpreter" ] || fail "this bundle is for Python $version, here is ${found:-none}. \
Install that one, or make a bundle for another: make bundle PYTHON_VERSION=3.12"

# Is there room? The program takes about a gigabyte; its state what streamguard.yaml allows, about 6 GiB as shipped.
mkdir -p /opt /var/lib /etc/streamguard $units/streamguard.service.d
free() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'; }
[ "$(free /opt)" -ge 1200 ] || fail "/opt has $(free /opt) MiB free, 1200 are needed"
[ "$(free /var/lib)" -ge 8192 ] || say "/var/lib has $(free /var/lib) MiB free: \
lower outbox.max_bytes and evidence.max_bytes in $settings"

# The new release beside the one that runs. Without ensurepip, which Debian has in a package of its own: pip runs out of
# its wheel.
before=$(readlink /opt/streamguard || true)
new=streamguard-$release
if [ "$before" = "$new" ]; then new=$new-again; fi
rm -rf "/opt/$new"
trap 'rm -rf "/opt/$new"' EXIT
"$interpreter" -m venv --without-pip "/opt/$new"
set -- wheels/pip-*.whl
"/opt/$new/bin/python3" "$1/pip" install --quiet --disable-pip-version-check --no-index --find-links wheels \
    --no-warn-script-location "streamguard[$extras]==$release"
"/opt/$new/bin/streamguard" engines verify >/dev/null || fail "the engines are damaged: copy the bundle here again"
cp -r edge deploy.md systemd "/opt/$new/"

# Would it start with the configuration there is? The unit's environment: NAME=value lines, as systemd reads them.
if [ -e $settings ]; then
    "/opt/$new/bin/python3" -I - "/opt/$new/bin/streamguard" $settings <<'END' || fail "$settings: see above; nothing was changed"
import os, sys
from pathlib import Path

command, settings = sys.argv[1:]
environment = {"STATE_DIRECTORY": "/var/lib/streamguard"} | dict(os.environ)
file = Path("/etc/streamguard/environment")
for line in file.read_text().splitlines() if file.exists() else ():
    name, equals, value = line.strip().partition("=")
    if equals and not name.startswith(("#", ";")):
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        environment[name] = value[1:-1] if quoted else value
os.execve(command, [command, "config", "check", settings], environment)
END
else
    install -m 0644 edge/streamguard.yaml $settings
fi

# The change: one symbolic link, and the units of that release.
turn_to() {
    for unit in streamguard streamguard-heat; do install -m 0644 "/opt/$1/systemd/$unit.service" $units/; done
    install -m 0644 "/opt/$1/edge/edge.conf" $units/streamguard.service.d/
    install -D -m 0755 "/opt/$1/edge/streamguard-tokens" /usr/local/sbin/streamguard-tokens
    ln -sfn "$1" /opt/streamguard.new && mv -T /opt/streamguard.new /opt/streamguard
    if managed; then systemctl daemon-reload; fi
}
turn_to "$new"
trap - EXIT
if ! managed; then
    say "$release is installed; no systemd runs here to start it"
    exit 0
fi
systemctl enable --quiet streamguard.service streamguard-heat.service
if ! systemctl restart streamguard.service; then
    journalctl --unit streamguard.service --lines 5 --no-pager --output cat >&2 || true
    [ -n "$before" ] || fail "$release does not start: journalctl -u streamguard"
    turn_to "$before"
    rm -rf "/opt/$new"
    systemctl restart streamguard.service
    fail "$release does not start; $before runs again"
fi
systemctl restart streamguard-heat.service
# The release before stays, to go back to; older ones go.
for old in /opt/streamguard-[0-9]*; do
    case ${old##*/} in "$new" | "$before") ;; *) rm -rf "$old" ;; esac
done
say "$release runs: systemctl status streamguard"
