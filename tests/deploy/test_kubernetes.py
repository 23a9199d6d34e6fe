"""The Kubernetes manifests: built by kubectl, held against the cluster's own schemas and this repository."""

import json
import re
import shutil
from functools import cache
from importlib import import_module, util

import pytest
import yaml

from streamguard.config import load_config
from streamguard.server.doors import PROBES
from tests.deploy.tools import DEPLOY, cluster_tools, missing, run

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in (KUBERNETES / "overlays").glob("*/kustomization.yaml"))
# The oldest and the newest that the manifests are held against; releases between have all fields of the oldest.
RELEASES = ("1.29.0", "1.37.0")
OPERATOR = "monitoring.coreos.com/v1"


@cache
def built(overlay):
    """What an overlay gives to the cluster, as text."""
    return run(cluster_tools() / "kubectl", "kustomize", KUBERNETES / "overlays" / overlay)


def resources(overlay):
    return [resource for resource in yaml.safe_load_all(built(overlay)) if resource]


def the(overlay, kind):
    return [resource for resource in resources(overlay) if resource["kind"] == kind]


def pod(overlay):
    return the(overlay, "StatefulSet")[0]["spec"]["template"]["spec"]


def package(name):
    if util.find_spec(name.partition(".")[0]) is None:
        missing(f"no {name}; it comes with the extra deploy-test")
    return import_module(name)


def test_there_is_an_overlay_for_each_kind_of_processor():
    assert OVERLAYS == ["cpu", "nvidia"]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_cluster_knows_every_field(overlay, release):
    validate = package("kubernetes_validate").validate
    for resource in resources(overlay):
        if resource["apiVersion"] != OPERATOR:
            validate(resource, release, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operator_of_prometheus_knows_every_field(overlay):
    models = package("cloudcoil.models.prometheus_operator.v1")
    found = [resource for resource in resources(overlay) if resource["apiVersion"] == OPERATOR]
    assert sorted(resource["kind"] for resource in found) == ["PrometheusRule", "ServiceMonitor"]
    for resource in found:
        read = getattr(models, resource["kind"]).model_validate(resource)
        # What the model does not know it leaves out.
        assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == resource


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_gets_no_right_that_it_does_not_need(overlay):
    spec = pod(overlay)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    users = {re.search(r"^USER (\d+):", file.read_text(), re.MULTILINE)[1] for file in (DEPLOY / "container").iterdir()}
    assert users == {str(spec["securityContext"]["runAsUser"])}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_for_what_the_server_has(overlay):
    (container,) = pod(overlay)["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/startupz", "readiness": "/readyz", "liveness": "/livez"}
    assert set(asked.values()) <= set(PROBES)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configuration_is_right_and_its_paths_are_mounted(overlay, tmp_path):
    (given,) = the(overlay, "ConfigMap")
    file = tmp_path / "streamguard.yaml"
    file.write_text(given["data"]["streamguard.yaml"], encoding="utf-8")
    config = load_config(file, {})
    spec = pod(overlay)
    (container,) = spec["containers"]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (config.outbox.path, config.api.tokens, *(sink.path for sink in config.sinks)):
        assert any(path.startswith(f"{place}/") for place in mounted), path
    named = [volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume]
    assert named == [given["metadata"]["name"]]
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in the(overlay, "StatefulSet")[0]["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert config.listen == f"0.0.0.0:{container['ports'][0]['containerPort']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_may_come_in_is_named(overlay):
    policies = the(overlay, "NetworkPolicy")
    labels = the(overlay, "StatefulSet")[0]["spec"]["template"]["metadata"]["labels"]
    for policy in policies:
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        assert all(rule["from"] for rule in policy["spec"].get("ingress", ()))
    assert any(set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"} for policy in policies)
    assert "169.254.0.0/16" in built(overlay)
    (names,) = [rule for rule in the(overlay, "NetworkPolicy")[0]["spec"]["egress"] if rule["ports"][0]["port"] == 53]
    assert names["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}, "labels of ours would shut it out"


def test_prometheus_finds_the_service():
    (monitor,), (service,) = the("cpu", "ServiceMonitor"), the("cpu", "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
    # The rules ask for job="streamguard": the value of the label that the monitor names.
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "streamguard"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_alerts_are_those_of_prometheus(overlay):
    (rule,) = the(overlay, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))


def test_the_alerts_were_written_by_the_command_that_they_name():
    source = util.spec_from_file_location("rules", KUBERNETES / "rules.py")
    rules = util.module_from_spec(source)
    source.loader.exec_module(rules)
    assert rules.RESOURCE.read_text(encoding="utf-8") == rules.resource(), "python deploy/kubernetes/rules.py"


def test_the_gpu_is_asked_for_and_nothing_else_changes():
    cpu, gpu = pod("cpu"), pod("nvidia")
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu["containers"][0]["image"] == cpu["containers"][0]["image"] + "-cuda"
    assert gpu["runtimeClassName"] == "nvidia"
    assert gpu["containers"][0]["volumeMounts"] == cpu["containers"][0]["volumeMounts"]
    configs = [the(overlay, "ConfigMap")[0]["data"]["streamguard.yaml"] for overlay in ("cpu", "nvidia")]
    read = [yaml.safe_load(text) for text in configs]
    assert read[1] == read[0] | {"detector": {"backend": "auto"}, "classifier": {"backend": "auto"}}


def test_the_image_has_the_version_of_this_release():
    from streamguard import __version__

    (container,) = pod("cpu")["containers"]
    assert container["image"].endswith(f":{__version__}")


def test_an_overlay_stands_alone(tmp_path):
    """Nothing beyond deploy/kubernetes is needed to build it."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    said = run(cluster_tools() / "kubectl", "kustomize", tmp_path / "kubernetes" / "overlays" / "cpu")
    assert said == built("cpu")
