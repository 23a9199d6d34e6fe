"""The Helm chart gives the cluster what the overlays of kustomize give it, which test_kubernetes judges."""

import shutil

import pytest
import yaml

from streamguard import __version__
from tests.deploy.tools import DEPLOY, cluster_tools, run

CHART = DEPLOY / "helm" / "streamguard"
GPU = ("--set", "gpu.product=NVIDIA-L4")


def without_instance(value):
    """A chart may be installed twice in one namespace: its labels name the release too."""
    if isinstance(value, dict):
        return {key: without_instance(below) for key, below in value.items() if key != "app.kubernetes.io/instance"}
    return [without_instance(below) for below in value] if isinstance(value, list) else value


def plain(text):
    """Resources by kind and name, without what either tool adds of its own."""
    found = {}
    for resource in map(without_instance, yaml.safe_load_all(text)):
        if not resource or resource["kind"] == "Namespace":
            continue
        meta = resource["metadata"]
        resource["metadata"] = {"name": meta["name"]}
        if resource["kind"] == "ConfigMap":
            resource["metadata"] = {"name": "streamguard"}  # kustomize names it after what is in it
            resource["data"] = {name: yaml.safe_load(text) for name, text in resource["data"].items()}
        if resource["kind"] == "StatefulSet":
            template = resource["spec"]["template"]
            template["metadata"].pop("annotations", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"] = {"name": "streamguard"}
            for claim in resource["spec"]["volumeClaimTemplates"]:
                claim["metadata"].pop("labels", None)
            resource["spec"]["volumeClaimTemplates"].sort(key=lambda claim: claim["metadata"]["name"])
        found[resource["kind"], resource["metadata"]["name"]] = resource
    return found


def helm(*arguments):
    return run(cluster_tools() / "helm", *arguments)


@pytest.mark.parametrize(("overlay", "options"), [("cpu", ()), ("nvidia", GPU)])
def test_it_gives_what_kustomize_gives(overlay, options):
    kubectl = cluster_tools() / "kubectl"
    expected = plain(run(kubectl, "kustomize", DEPLOY / "kubernetes" / "overlays" / overlay))
    found = plain(helm("template", "streamguard", CHART, *options))
    assert set(found) == set(expected)
    for key, resource in found.items():
        assert resource == expected[key], key


def test_helm_finds_nothing_wrong():
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


def test_without_the_operator_nothing_of_it_is_asked_for():
    kinds = {kind for kind, _ in plain(helm("template", "a", CHART, "--set", "monitoring.enabled=false"))}
    assert kinds == {"ServiceAccount", "ConfigMap", "Service", "StatefulSet", "NetworkPolicy"}


def test_two_releases_stand_beside_each_other():
    one, other = (list(yaml.safe_load_all(helm("template", name, CHART))) for name in ("hall", "yard"))
    names = [{(resource["kind"], resource["metadata"]["name"]) for resource in found} for found in (one, other)]
    assert not names[0] & names[1]
    for resource in other:
        spec = resource.get("spec", {})
        for selector in (spec.get("selector"), spec.get("podSelector")):
            assert selector is None or selector.get("matchLabels", selector)["app.kubernetes.io/instance"] == "yard"


def test_a_configuration_of_ones_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("config:\n  streams: [{name: door, uri: 'demo:'}]\n")
    found = plain(helm("template", "streamguard", CHART, "--values", tmp_path / "mine.yaml"))
    given = found["ConfigMap", "streamguard"]["data"]["streamguard.yaml"]
    assert given["streams"] == [{"name": "door", "uri": "demo:"}]
    assert given["listen"] == "0.0.0.0:8080"


def test_versions_and_alerts_are_those_of_this_release():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    rules = DEPLOY / "prometheus" / "rules.yml"
    # A chart may hold no link that leads out of it.
    assert (CHART / "rules.yml").read_text() == rules.read_text(), f"cp {rules} {CHART}"


def test_the_chart_can_be_packed(tmp_path):
    shutil.copytree(CHART, tmp_path / "chart")
    helm("package", tmp_path / "chart", "--destination", tmp_path)
    assert (tmp_path / f"streamguard-{__version__}.tgz").exists()
