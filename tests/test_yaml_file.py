"""What is wrong with a value, said by line, where a value may be one of several kinds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamguard.yaml_file import Origins, problem, read


@dataclass(frozen=True)
class Square:
    type: Literal["square"]
    side: float


@dataclass(frozen=True)
class Circle:
    type: Literal["circle"]
    radius: float

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError("radius is under 0")


class Drawing(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    shapes: tuple[Annotated[Square | Circle, Field(discriminator="type")], ...]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shapes:\n- type: circle\n  radios: 2.0\n  radius: 1.0\n", "c.yaml:3: 'shapes[0].radios' is not known; did"),
        ("shapes:\n- type: circle\n", "c.yaml:2: 'shapes[0].radius' is missing."),
        ("shapes:\n- {side: 1.0}\n", "c.yaml:2: 'shapes[0].type' is missing."),
        (
            "shapes:\n- side: 1.0\n  type: star\n",
            "c.yaml:3: 'shapes[0].type' is \"star\": expected one of 'square', 'circle'.",
        ),
        ("shapes:\n- type: square\n  side: big\n", "c.yaml:3: 'shapes[0].side' is \"big\": expected a valid number."),
        ("shapes:\n- type: circle\n  radius: -1.0\n", "c.yaml:2: 'shapes[0]' is"),
        ("shapes:\n- 5\n", "c.yaml:2: 'shapes[0]' is 5: expected"),
    ],
)
def test_the_line_and_the_place_as_the_file_has_them(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    origins = Origins("c.yaml")
    data = read(tmp_path / "c.yaml", origins)
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate_json(json.dumps(data))
    (line,) = [problem(details, origins, Drawing.model_json_schema()) for details in caught.value.errors()]
    assert line.startswith(message)
