"""Every error StreamGuard raises on purpose.

::

    StreamGuardError
    ├── UsageError                 the call is wrong: exit code 2, nothing started
    │   ├── ConfigError            a configuration file: unknown key, wrong type, two streams of one name
    │   ├── SourceRefused          a URI whose scheme or form is not served
    │   ├── StreamUnknown          no stream of that name is being watched
    │   ├── OutboxRefused          an outbox file that is foreign, newer, in use or not writable
    │   ├── FleetMissing           no cluster of machines, or none of them can be used
    │   └── EngineError            an engine folder
    │       ├── EngineMissing      no such engine, or a file of it is absent
    │       ├── EngineDamaged      a file's SHA-256 is not the manifest's
    │       └── EngineForeign      a manifest that asks for preprocessing this code does not know
    ├── InputError                 one input failed: it is named, the rest goes on, exit code 1
    │   ├── InputMissing           no such file or folder
    │   ├── InputUnreadable        not media, empty, no permission, damaged beyond the first frame
    │   ├── NoVideo                media without a picture in it
    │   └── PictureSize            a picture too small or too large to work on
    ├── SourceLost                 a live source gave up its connection; retried, never fatal
    │   ├── SourceDenied           wrong or missing credentials
    │   └── SourceStalled          no frame for longer than the watchdog allows
    ├── EvidenceError              a folder of evidence, or a file's credentials
    │   ├── EvidenceMissing        no such folder, or a file of it is absent
    │   └── EvidenceDamaged        a file is not what the manifest states, or its signature does not fit it
    ├── FleetError                 machines that share streams
    │   ├── NodeForeign            a node of another version, with other engines, or that lacks what it needs
    │   └── HeadReplaced           the nodes obey a newer head
    └── BackendError               the device refused or lost a batch

Messages name the offender, what was expected and what to do. URLs in them are redacted
(:func:`redact`): secrets never reach a log, a metric label, an event or an exception text.
"""

from __future__ import annotations

import re

# Up to the last @: passwords are often not escaped (rtsp://bob:p@ss/1@cam). Rather too much is hidden than too little.
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s'\"<>]*@")
# Some cameras take credentials in the path: /user=admin_password=abc_channel=1
_PATH_SECRET = re.compile(r"(?P<key>[/?&_](?:user(?:name)?|pass(?:word|wd)?|pwd))=[^&\s'\"/_?]*", re.IGNORECASE)
_QUERY_SECRET = re.compile(
    r"(?P<key>[?&](?:[^=&\s]*(?:pass|pwd|token|secret|key|auth|sig|user)[^=&\s]*))=[^&\s'\"]*", re.IGNORECASE
)


def redact(text: str) -> str:
    """Hide user names, passwords and secret-looking query values in every URL of ``text``.

    >>> redact("rtsp://bob:hunter2@cam/1?token=abc&x=1")
    'rtsp://***@cam/1?token=***&x=1'
    """
    text = _USERINFO.sub(r"\g<scheme>***@", text)
    return _PATH_SECRET.sub(r"\g<key>=***", _QUERY_SECRET.sub(r"\g<key>=***", text))


class StreamGuardError(Exception):
    """The root: whatever StreamGuard raises on purpose is one of these."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class UsageError(StreamGuardError):
    """The call is wrong; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that can't be used as it stands."""


class SourceRefused(UsageError):
    """A source URI that is not served, with what to use instead."""


class StreamUnknown(UsageError):
    """No stream of that name is being watched."""


class OutboxRefused(UsageError):
    """An outbox file that is something else, of a newer StreamGuard, in use by another one, or not writable."""


class FleetMissing(UsageError):
    """No cluster of machines at that address, or none that can be used."""


class EngineError(UsageError):
    """An engine folder that can't be used."""


class EngineMissing(EngineError):
    """No such engine, or one of its files is absent."""


class EngineDamaged(EngineError):
    """A file of an engine does not have the SHA-256 its manifest states."""


class EngineForeign(EngineError):
    """A manifest asks for preprocessing or a layout that this code does not know."""


class InputError(StreamGuardError):
    """One input can't be read; the others go on."""


class InputMissing(InputError):
    """No such file or folder."""


class InputUnreadable(InputError):
    """Not media, empty, not permitted, or damaged."""


class NoVideo(InputError):
    """Media without a picture in it."""


class PictureSize(InputError):
    """A picture too small or too large to work on."""


class SourceLost(StreamGuardError):
    """A live source lost its connection. It is retried."""


class SourceDenied(SourceLost):
    """A live source refused the credentials."""


class SourceStalled(SourceLost):
    """A live source gave no frame for longer than the watchdog allows."""


class EvidenceError(StreamGuardError):
    """A folder of evidence, or a file's credentials, can't be used."""


class EvidenceMissing(EvidenceError):
    """No such folder of evidence, or one of its files is absent."""


class EvidenceDamaged(EvidenceError):
    """A file of the evidence is not what the manifest states."""


class FleetError(StreamGuardError):
    """Machines that share streams."""


class NodeForeign(FleetError):
    """A node of another version, with other engines, or that lacks what it needs. The others go on."""


class HeadReplaced(FleetError):
    """The nodes obey a newer head."""


class BackendError(StreamGuardError):
    """A device refused or lost a batch."""
