#!/bin/sh
# Of image.sh, in a mount namespace: run the image, ask for its health, end it.
umount --recursive /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
how="--pull=never --read-only --tmpfs /tmp --cap-drop=all --security-opt=no-new-privileges --network=none --cgroups=disabled
    --no-healthcheck --ulimit nofile=4096:4096 --ulimit nproc=4096:4096"
# shellcheck disable=SC2086,SC2154
run() { podman $storage --cgroup-manager cgroupfs "$@"; }
# shellcheck disable=SC2086,SC2154
container=$(run run --detach $how --volume "$work/streamguard.yaml:/etc/streamguard/streamguard.yaml:ro" "$name")
trap 'run rm --force --time 0 "$container" >/dev/null' EXIT
# The image's own check: the word after CMD is the program, the rest its arguments.
run inspect --format '{{range .Config.Healthcheck.Test}}{{println .}}{{end}}' "$container" >"$work/check"
ask() { run exec "$container" python3 -c "$(sed -n 4p "$work/check" | sed "s|/livez|/$1|")"; }
waited=0
until ask readyz 2>/dev/null && run exec "$container" grep -qs stream.up /var/lib/streamguard/events.jsonl; do
    waited=$((waited + 1))
    if [ $waited -gt 600 ] || [ "$(run inspect --format '{{.State.Running}}' "$container")" != true ]; then
        run logs "$container"
        exit 1
    fi
    sleep 1
done
echo "ready and a stream up after about $waited s"
ask livez
[ "$(run exec "$container" id -u)" = 10001 ]
! run exec "$container" touch /opt/streamguard/x 2>/dev/null
run exec "$container" sh -c 'grep -q "^CapEff:[[:space:]]*0*$" /proc/1/status'
run exec "$container" streamguard engines verify
run stop --time 60 "$container" >/dev/null
[ "$(run inspect --format '{{.State.ExitCode}}' "$container")" = 0 ]
run image inspect --format '{{.Size}} bytes' "$name"
