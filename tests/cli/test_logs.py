"""Log lines: text or JSON, on standard error, without secrets."""

from __future__ import annotations

import json
import logging

import pytest

from streamguard.cli.logs import LogFormat, LogLevel, leave_inputs_to_the_verb, set_up

log = logging.getLogger("streamguard.test")


def test_text(capsys):
    set_up(LogFormat.TEXT, LogLevel.WARNING)
    log.info("unheard")
    log.warning("lost %s", "rtsp://bob:hunter2@cam/1")
    assert capsys.readouterr().err.partition(" ")[2] == "WARNING streamguard.test: lost rtsp://***@cam/1\n"


def test_json(capsys):
    set_up(LogFormat.JSON, LogLevel.INFO)
    log.info("lost\n%s", "rtsp://bob:hunter2@cam/1")
    try:
        raise ValueError("at rtsp://bob:hunter2@cam/1")
    except ValueError:
        log.exception("broke")
    lines = capsys.readouterr().err.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "streamguard.test",
        "thread": "MainThread",
        "message": "lost\nrtsp://***@cam/1",
    }
    assert second["level"] == "error"
    assert "ValueError: at rtsp://***@cam/1" in second["exception"]
    assert "hunter2" not in "".join(lines)


def test_setting_up_again_replaces(capsys):
    set_up(LogFormat.JSON, LogLevel.DEBUG)
    set_up(LogFormat.TEXT, LogLevel.ERROR)
    log.warning("unheard")
    log.error("once")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("form", "heard"), [(LogFormat.TEXT, 0), (LogFormat.JSON, 1)])
def test_inputs_are_left_to_the_verb_for_people_alone(capsys, form, heard):
    set_up(form, LogLevel.WARNING)
    leave_inputs_to_the_verb()
    logging.getLogger("streamguard.readers").error("'x.mp4' does not exist")
    assert capsys.readouterr().err.count("does not exist") == heard
    logging.getLogger("streamguard.readers").warning("next attempt in 1.0 s")
    log.error("anything else")
    assert capsys.readouterr().err.count("\n") == 2
