"""The shipped OpenAPI file against the real server, by schemathesis: made requests, right and wrong, seeded.

`EXAMPLES=1000 pytest tests/server/test_description.py` tries more; `make nightly` does.
"""

import copy
import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from streamguard.access import LimitSettings
from streamguard.config import Config
from streamguard.ingest.allowed import AllowedSources
from streamguard.pipeline import Guard
from streamguard.server.api import openapi
from tests.serving import flagged, serving

EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
pytestmark = pytest.mark.timeout(300 + 3 * EXAMPLES)
WIDE = LimitSettings(rate=1e6, burst=10**6, failures=10**6)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    evidence = folder / "evidence" / "door" / "r1.s1"
    evidence.mkdir(parents=True)
    (evidence / "scores.json").write_text("{}")
    allowed = AllowedSources(schemes=("demo", "file", "http", "rtsp"), hosts=("*.invalid",))
    with (
        Guard(Config()) as guard,
        serving(
            folder,
            guard=lambda: guard,
            evidence=folder / "evidence",
            labels=str(folder / "labels.jsonl"),
            allow_sources=allowed,
            most_streams=4,
            limits=WIDE,
        ) as running,
    ):
        for number in range(5):
            running.api.take(flagged(number, ended=9.0 if number % 2 else None))
        yield running


# A feed does not end: tests/server/test_api.py listens to it.
# Pictures neither: tests/server/test_wall.py and test_pictures.py watch them.
ENDLESS = ["/api/v1/events", "/preview", "/preview/{stream}"]
schema = schemathesis.openapi.from_dict(copy.deepcopy(openapi())).exclude(path=ENDLESS)


@schema.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_described(case, served):
    # What fits the description can still be refused: an unknown segment, a source that is not allowed.
    case.call_and_validate(
        base_url=served.server.url,
        headers={"Authorization": f"Bearer {served.operator}"},
        excluded_checks=[positive_data_acceptance],
    )
