#!/bin/sh
# The wheel, installed in a clean environment, runs the demo from an empty folder: it carries engines and data.
set -eu
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/.venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" "$root"
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" "$work"/dist/*.whl
mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/streamguard" engines verify
"$work/venv/bin/python" -c "from streamguard.server.assets import read_assets; assert {'index.html', 'main.js'} <= read_assets().keys()"
"$work/venv/bin/streamguard" demo --seed 1 --duration 12 --listen 127.0.0.1:0 --events events.jsonl --truth truth.json
grep -q '"streamguard.stream.up.v1"' events.jsonl
grep -q '"forged"' truth.json
echo "wheel: 1 passed, 0 failed"
