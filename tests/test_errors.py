"""Errors: one tree, its drawing true, secrets cut out."""

import inspect
import re

import pytest

from streamguard import errors
from streamguard.errors import InputError, StreamGuardError, UsageError, redact


def all_errors():
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StreamGuardError)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://bob:hunter2@cam:554/1", "rtsp://***@cam:554/1"),
        ("rtsp://bob@cam/1 and http://al:x@y/2", "rtsp://***@cam/1 and http://***@y/2"),
        ("https://cam/live?token=abc&width=3", "https://cam/live?token=***&width=3"),
        ("https://cam/live?user=a&PASSWORD=b", "https://cam/live?user=***&PASSWORD=***"),
        ("https://cam/live?api_key=abc'", "https://cam/live?api_key=***'"),
        ("'rtsp://bob:p@ss/1@cam/2' and 'rtsp://cam/3'", "'rtsp://***@cam/2' and 'rtsp://cam/3'"),
        ("rtsp://cam/user=admin_password=abc_channel=1", "rtsp://cam/user=***_password=***_channel=1"),
        ("/videos/me@home.mp4", "/videos/me@home.mp4"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_redaction(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_redacts_its_message(kind):
    assert "hunter2" not in str(kind("'rtsp://bob:hunter2@cam/1' is gone"))


def test_the_drawing_shows_the_whole_tree():
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(drawn) == sorted(kind.__name__ for kind in all_errors() if kind is not StreamGuardError)


@pytest.mark.parametrize("kind", all_errors())
def test_exit_codes(kind):
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


def test_inputs_and_usage_are_apart():
    assert not issubclass(InputError, UsageError)
