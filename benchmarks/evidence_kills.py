"""Kill a writer of evidence again and again: is every folder that is there true to its manifest?

    python -m benchmarks.evidence_kills --turns 50

A process writes one folder of evidence after the other, signed; it is killed (SIGKILL) at a random moment; every
published folder is checked, file by file. At the end the next start sweeps up what was half done. Exit code 1 if a
folder does not match.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from streamguard.delivery.authority import generate
from streamguard.delivery.credentials import SignSettings
from streamguard.delivery.dossier import dossiers, read_manifest
from streamguard.errors import EvidenceError
from tests.exhibits import Kept, exhibits_of
from tests.media import patterns, write_video


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", nargs=3, metavar=("FILM", "FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(*options.write)
    with tempfile.TemporaryDirectory() as folder:
        return kill(Path(folder), options.turns, random.Random(options.seed))


def write(film: str, folder: str, name: str) -> None:
    """Write until somebody ends it."""
    keys = Path(film).parent
    signer = SignSettings(str(keys / "signer.pem"), str(keys / "signer.key"))
    (exhibit,) = exhibits_of(Path(film))
    writer = Kept(Path(folder), sign=signer).keeper._writer
    number = 0
    while True:
        number += 1
        if writer.keep(replace(exhibit, name=f"{name}.{number}")) != "written":
            raise SystemExit("the disk does not take it")


def kill(folder: Path, turns: int, rng: random.Random) -> int:
    """So many writers, one after the other; the exit code."""
    film = write_video(folder / "film.mp4", patterns(175), gop=25, audio=True)
    generate(folder, "kills", "benchmark")
    evidence = folder / "evidence"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    left = wrong = 0
    for turn in range(turns):
        before = sum(1 for _ in dossiers(evidence))
        command = [
            sys.executable,
            "-m",
            "benchmarks.evidence_kills",
            "--write",
            str(film),
            str(evidence),
            f"turn{turn}",
        ]
        with subprocess.Popen(command, env=environment) as writer:
            while sum(1 for _ in dossiers(evidence)) == before and writer.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.3))
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        left += sum(1 for _ in evidence.glob("*/.*"))
    written = list(dossiers(evidence))
    for one in written:
        try:
            read_manifest(one)
        except EvidenceError as error:
            wrong += 1
            print(error)
    with Kept(evidence):
        pass
    hidden = sum(1 for _ in evidence.glob("*/.*"))
    found = f"{len(written)} folders, {wrong} that do not match, {hidden} left over"
    print(f"{turns} kills, {left} in the middle of a folder: {found}")
    return 1 if wrong or hidden or not written else 0


if __name__ == "__main__":
    sys.exit(main())
