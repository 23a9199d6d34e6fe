"""Dashboard and alert rules ask for series that exist, in Prometheus' language; and Prometheus reads ours."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from streamguard.metrics import Metrics
from streamguard.server.app import Address, Health, Server
from tests.rtsp_server import DEBIAN_PACKAGES, free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "streamguard.json").read_text(encoding="utf-8"))

# Of the scrape, of histograms, and of PromQL itself.
FOREIGN = {"instance", "job", "le"}
SELECTOR = re.compile(r"\b(streamguard_\w+)\s*(?:\{(.*?)\})?")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


def series():
    """Every series of StreamGuard by its name in a scrape, with its labels."""
    found = {}
    for metric in vars(Metrics(CollectorRegistry())).values():
        for family in metric.describe() if hasattr(metric, "describe") else ():
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            found |= {family.name + end: set(metric._labelnames) for end in ends}
    return found


def dashboard_queries():
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    }


def rule_queries():
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


QUERIES = dashboard_queries() | rule_queries()


def plain(query):
    """A dashboard's query without Grafana's variables."""
    return query.replace("$__rate_interval", "1m").replace("$stream", ".*")


def require(command):
    """Its path; skip the test where it is not installed, but fail in CI, where it is promised."""
    path = shutil.which(command)
    if path is None:
        reason = f"no {command}; needs Debian's {DEBIAN_PACKAGES}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return path


@pytest.mark.parametrize("where", QUERIES)
def test_every_series_and_label_asked_for_exists(where):
    query, known = QUERIES[where], series()
    asked = SELECTOR.findall(query)
    assert asked or 'up{job="streamguard"}' in query
    labels = set(FOREIGN)
    for name, matchers in asked:
        assert name in known, f"{name} is no series of streamguard/metrics.py"
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= known[name]
        labels |= known[name]
    for names in GROUPING.findall(query):
        assert {name.strip() for name in names.split(",")} <= labels


def test_every_series_has_its_place_on_the_dashboard():
    shown = {name for query in dashboard_queries().values() for name, _ in SELECTOR.findall(query)}
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in series()} - stems == set()


def test_panels_have_room_and_numbers_of_their_own():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_legends_and_alerts_name_labels_that_are_left():
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    targets = [target for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    texts = [(rule["expr"], " ".join(rule["annotations"].values())) for rule in rules]
    texts += [(target["expr"], target["legendFormat"]) for target in targets]
    for query, text in texts:
        grouped = re.search(r"\bby \(([^)]*)\)", query)
        known = set(FOREIGN) | {label for name, _ in SELECTOR.findall(query) for label in series()[name]}
        left = {name.strip() for name in grouped.group(1).split(",")} if grouped else known
        assert set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text)) <= left, text


def test_promtool_accepts_the_rules_and_their_tests():
    promtool = require("promtool")
    for kind, file in (("check", RULES), ("test", RULES.with_name("rules_test.yml"))):
        done = subprocess.run([promtool, kind, "rules", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    config = RULES.with_name("prometheus.yml")
    done = subprocess.run([promtool, "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_out():
    tried = RULES.with_name("rules_test.yml").read_text(encoding="utf-8")
    assert [alert for alert in rule_queries() if alert not in tried] == []


def test_prometheus_scrapes_streamguard_and_understands_every_query(tmp_path):
    binary = require("prometheus")
    metrics = Metrics(CollectorRegistry())
    metrics.stream_up.labels("door").set(1)
    metrics.stream_up.labels("yard").set(0)
    metrics.frames_decoded.labels("door").inc(750)
    metrics.frame_to_score.observe(0.12)
    with Server(metrics, Health(tuple, tuple, tuple), Address("127.0.0.1", 0)) as server:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
        config["rule_files"] = [str(RULES)]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [str(server.address)]}]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with Prometheus(binary, tmp_path) as prometheus:
            up = prometheus.until('streamguard_stream_up{job="streamguard"}', 2)
            assert {row["metric"]["stream"]: row["value"][1] for row in up} == {"door": "1", "yard": "0"}
            (frames,) = prometheus.ask("streamguard_frames_decoded_total")
            assert frames["value"][1] == "750"
            (alert,) = prometheus.until('ALERTS{alertname="StreamGuardStreamDown"}', 1)
            assert (alert["metric"]["stream"], alert["metric"]["alertstate"]) == ("yard", "pending")
            for query in QUERIES.values():
                prometheus.ask(plain(query))


class Prometheus:
    """A real one, on a port and in a folder of its own."""

    def __init__(self, binary, folder):
        self._port = free_port()
        self._log = (folder / "log").open("wb")
        options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        self._command = [binary, *options, f"--web.listen-address=127.0.0.1:{self._port}"]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *exception):
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def ask(self, query):
        """The rows of an instant query."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = json.load(answer)
        assert body["status"] == "success"
        return body["data"]["result"]

    def until(self, query, rows):
        """The answer once it has so many rows; for a minute."""
        rest = 300
        while rest:
            try:
                found = self.ask(query)
            except (ConnectionError, urllib.error.URLError):
                found = []
            if len(found) == rows:
                return found
            assert self._process.poll() is None, "Prometheus has ended"
            rest -= 1
            time.sleep(0.2)
        raise AssertionError(f"{query}: {found}")
