#!/bin/sh
# On the box of systemd.sh, under its systemd: the README's words, then what they promise.
value() { systemctl show --property="$1" --value streamguard; }
get() { python3 -c "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/$1', timeout=9).read().decode())"; }
ip link set lo up
[ "$(ls /sys/class/net)" = lo ]

# shellcheck disable=SC1091
. /root/proof/readme.sh

# It runs, as nobody in particular, with nothing writable but its folders, and says that it is ready.
[ "$(value ActiveState)" = active ]
[ "$(value NRestarts)" = 0 ]
get readyz
pid=$(value MainPID)
uid=$(stat -c %u "/proc/$pid")
[ "$uid" -ge 61184 ] && [ "$uid" -le 65519 ] # the range of dynamic users, systemd.exec(5)
grep -q '^CapEff:\s*0*$' "/proc/$pid/status"
grep -q '^NoNewPrivs:\s*1' "/proc/$pid/status"
[ "$(stat -c %a /var/lib/private/streamguard)" = 700 ]
get metrics | grep -q '^streamguard_stream_up{stream="door"} 0'
streamguard-tokens list | grep otto
# What was measured of this machine is kept where the service may write.
grep -qz '^HOME=/var/cache/streamguard$' "/proc/$pid/environ"

# A stuck process is restarted by the watchdog; a killed one as well.
kill -STOP "$pid"
waited=0
until [ "$(value NRestarts)" -ge 1 ] && [ "$(value ActiveState)" = active ]; do
    waited=$((waited + 1)); [ $waited -lt 240 ]; sleep 1
done
echo "watchdog: restarted after $waited s"
kill -KILL "$(value MainPID)"
waited=0
until [ "$(value NRestarts)" -ge 2 ] && [ "$(value ActiveState)" = active ]; do
    waited=$((waited + 1)); [ $waited -lt 120 ]; sleep 1
done

# A stream by SIGHUP, and its events on the disk.
sed -i 's|^streams:.*|streams: [{name: made, uri: "demo:?seed=6\&duration=3600"}]|' /etc/streamguard/streamguard.yaml
systemctl reload streamguard
waited=0
until grep -qs '"/streamguard/.*/made"' /var/lib/streamguard/events.jsonl; do
    waited=$((waited + 1)); [ $waited -lt 120 ]; sleep 1
done

# Heat: what heat.py tells systemd, systemd does.
/opt/streamguard/bin/python3 -I -c '
import importlib.util as u
source = u.spec_from_file_location("heat", "/opt/streamguard/edge/heat.py")
heat = u.module_from_spec(source); import sys; sys.modules["heat"] = heat; source.loader.exec_module(heat)
heat.apply(0.5)'
[ "$(value CPUQuotaPerSecUSec)" != infinity ]

# An upgrade that does not start is taken back; a configuration that is wrong stops one before it begins.
cp -r streamguard-*/ /root/again && cd /root/again || exit
./install.sh
[ "$(readlink /opt/streamguard)" = "streamguard-$(sed -n 's/^release=//p' BUNDLE)-again" ]
echo 'nod: x' >>/etc/streamguard/streamguard.yaml
! ./install.sh
sed -i '/^nod:/d' /etc/streamguard/streamguard.yaml
sed -i 's|serve --config|serve --confog|' systemd/streamguard.service
sed -i '/SHA256SUMS/d' SHA256SUMS && find . -type f ! -name SHA256SUMS -printf '%P\n' | xargs sha256sum >/root/sums && mv /root/sums SHA256SUMS
! ./install.sh
systemctl --no-pager --lines 3 status streamguard || true

systemd-analyze security --no-pager streamguard.service | tail -1
./install.sh --remove
[ ! -e /opt/streamguard ]
[ -e /var/lib/streamguard/events.jsonl ]
touch /root/proof/passed
