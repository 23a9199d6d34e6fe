#!/bin/sh
# `make nightly`: processors that this machine is not, emulated by qemu-user: does StreamGuard run, and does it say the same?
#   sh tests/deploy/nightly/processors.sh [PYTHON]     needs Debian's qemu-user-static
# PYTHON is one with StreamGuard in it. Each row scans the demo's photograph with both models and shows what the processor has.
# Emulation is slow, and proves instructions, not speed.
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
python=$(realpath "$(command -v "${1:-$root/.venv/bin/python}")")
site=$("${1:-$root/.venv/bin/python}" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
photograph=$root/streamguard/ingest/astronaut.webp
scan='
import json, sys
sys.argv[0] = "streamguard"
import openvino as ov
print(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), file=sys.stderr)
from streamguard.cli import main
main()'
failed=0
row() {
    what=$1
    shift
    if said=$(PYTHONPATH=$root:$site "$@" -c "$scan" scan --json "$photograph" 2>"/tmp/processor.$$"); then
        score=$(echo "$said" | "$python" -c 'import json, sys; d = json.loads(sys.stdin.readline()); print(d["state"], d["score"], d["faces"])')
        echo "$what: $score; $(grep '^\[' "/tmp/processor.$$" | tail -1)"
    else
        failed=$((failed + 1))
        echo "$what: failed: $(tail -1 "/tmp/processor.$$")"
    fi
    rm -f "/tmp/processor.$$"
}
row "this processor" "$python"
# The oldest with AVX2, where int8 has narrower weights; one with AVX-512 and VNNI would need an emulator that knows them, qemu 7.2 does not.
row "x86-64 with AVX2, without VNNI and bf16 (Haswell)" qemu-x86_64-static -cpu Haswell "$python"
row "x86-64 with SSE4.2 alone (Nehalem)" qemu-x86_64-static -cpu Nehalem "$python"
[ $failed = 0 ] && echo "processors: 3 passed, 0 failed"
