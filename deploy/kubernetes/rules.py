"""Write the alerts of deploy/prometheus/rules.yml as a PrometheusRule: `python deploy/kubernetes/rules.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
RULES: Final = HERE.parent / "prometheus" / "rules.yml"
RESOURCE: Final = HERE / "components" / "monitoring" / "prometheusrule.yaml"
HEAD: Final = """\
# deploy/prometheus/rules.yml for the Prometheus operator. Not to be edited: python deploy/kubernetes/rules.py
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: streamguard
  labels: {app.kubernetes.io/name: streamguard}
spec:
"""


def resource() -> str:
    """The text of the resource: the rules two columns further in, without the comments in front."""
    text = RULES.read_text(encoding="utf-8")
    groups = text[text.index("groups:") :].splitlines()
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in groups)


if __name__ == "__main__":
    RESOURCE.write_text(resource(), encoding="utf-8")
