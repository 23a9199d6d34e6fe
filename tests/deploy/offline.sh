#!/bin/sh
# What tests/deploy/test_edge.py does on a box (tests/deploy/box.sh): install a bundle, and run it as the unit does.
#   box.sh offline.sh BUNDLE PYTHON RESULTS
bundle=$1 python=$2 results=$3

ip link show 2>/dev/null | grep -q 'state UP' && { echo "there is a network"; exit 1; }
mkdir /box && tar --extract --file "$bundle" --directory /box
cd /box/streamguard-*/ || exit

# A damaged one is refused, and nothing is installed.
printf x >>LICENSE
./install.sh --python "$python" >"$results/damaged" 2>&1 && exit 1
[ ! -e /opt/streamguard ]
truncate -s -1 LICENSE

./install.sh --python "$python" >"$results/installed"
/opt/streamguard/bin/streamguard --version >"$results/version"
/opt/streamguard/bin/streamguard config schema >/dev/null

# The service, by hand: a user without rights, everything read-only but its state, as unit and container have it.
cat >>/etc/streamguard/streamguard.yaml <<END
streams: [{name: made, uri: "demo:?seed=6&duration=3600"}]
END
mkdir -p /var/lib/streamguard
mount -t tmpfs -o uid=10001,mode=0700 tmpfs /var/lib/streamguard
mount -t tmpfs -o uid=10001,mode=0700 tmpfs /var/cache
mount -o remount,ro /
ip link set lo up
export STATE_DIRECTORY=/var/lib/streamguard HOME=/var/cache
setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
    /opt/streamguard/bin/streamguard --log-format json serve --config /etc/streamguard/streamguard.yaml &
served=$!
health() { "$python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/$1', timeout=4)" 2>/dev/null; }
tries=0
until health readyz && grep -qs stream.up /var/lib/streamguard/events.jsonl; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "it does not become ready"; exit 1; }
    kill -0 $served
    sleep 0.2
done
health livez
! touch /opt/streamguard/x 2>/dev/null
kill -TERM $served
wait $served
