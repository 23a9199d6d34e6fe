"""Fuzz one target with atheris, coverage-guided: `python -m tests.fuzz.run config --seconds 600`.

Prints what libFuzzer found; exits with 0 if nothing failed. What does fail is written to the folder `--keep`. The same
seed makes the same inputs on the same machine speed alone: libFuzzer counts time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    with atheris.instrument_imports(include=["streamguard", "yaml"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS, every

    options.keep.mkdir(parents=True, exist_ok=True)
    # libFuzzer ends the process without a goodbye: what would be cleaned up after it lies beside what it found.
    tempfile.tempdir = str(options.keep.resolve())
    mixed = [bytes([number]) + seed for number, (_, seeds) in enumerate(TARGETS.values()) for seed in seeds]
    function, seeds = (every, mixed) if options.target == "every" else TARGETS[options.target]
    corpus = tempfile.mkdtemp(prefix="corpus-")
    for number, seed in enumerate(seeds):
        (Path(corpus) / str(number)).write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", f"-seed={options.seed}", "-timeout=10", "-rss_limit_mb=4096"]
    flags = ["-max_len=2048", "-print_final_stats=1", f"-artifact_prefix={options.keep}/{options.target}-"]
    atheris.Setup([sys.argv[0], *limits, *flags, corpus], function)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
