"""What `import streamguard` promises, and what it costs."""

import subprocess
import sys

import streamguard


def test_every_name_is_there():
    for name in streamguard.__all__:
        assert getattr(streamguard, name) is not None
    assert {"Guard", "open_source", "scan"} <= set(streamguard.__all__)


def test_unknown_names_are_attribute_errors():
    assert not hasattr(streamguard, "Gard")


def test_importing_loads_no_runtime():
    code = "import sys, streamguard; print(sorted({'cv2', 'av', 'openvino', 'torch', 'aiohttp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_runtime_never_loads_the_lab():
    code = (
        "import sys, streamguard.scan, streamguard.bench, streamguard.cli, streamguard.server.app;"
        "print(sorted({'torch', 'ultralytics', 'timm', 'optuna', 'streamguard.lab'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
