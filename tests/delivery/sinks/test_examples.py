"""The examples of docs/sinks.md load, and make sinks."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamguard.config import load_config, sink_secrets

BLOCKS = [
    block.partition("```")[0]
    for block in (Path(__file__).parents[3] / "docs" / "sinks.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
]


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.partition("type: ")[2].partition("\n")[0])
def test_an_example_makes_its_sink(tmp_path: Path, text: str) -> None:
    path = tmp_path / "streamguard.yaml"
    path.write_text(text, encoding="utf-8")
    (settings,) = load_config(path, {}).sinks
    secrets = {name: "made up, long enough" for name in text.replace(":", " ").split() if name.isupper()}
    sink = settings.make(sink_secrets(settings, secrets))
    assert sink.name == settings.name
    assert sink.batch >= 1


def test_every_transport_has_an_example() -> None:
    types = [text.partition("type: ")[2].partition("\n")[0] for text in BLOCKS]
    assert types == ["jsonl", "webhook", "mqtt", "nats", "redis", "kafka", "postgres"]
