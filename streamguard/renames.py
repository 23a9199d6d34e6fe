"""Keys of ``streamguard.yaml`` that an earlier release called otherwise: its configuration starts in this one.

What was renamed is read under its new name, and what is gone is left out; each is said with its line and what to do.
A rename stays in the table until the release after the next: long enough for a fleet to be upgraded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamguard.errors import ConfigError
from streamguard.yaml_file import Origins, Place, dotted

_EACH: Final = "[]"


@dataclass(frozen=True, slots=True)
class Rename:
    """``old`` and ``new`` are dotted keys, with ``[]`` for each item of a list: ``streams[].address``. Both have the
    same lists. ``new`` None: the key is gone, and ``instead`` says what to do. ``since``: the release."""

    old: str
    new: str | None
    since: str
    instead: str = ""


RENAMES: Final[tuple[Rename, ...]] = ()
"""Of the releases up to this one. 0.1.0 is the first."""


def brought_up(
    data: dict[str, Any], origins: Origins, renames: Sequence[Rename] = RENAMES
) -> tuple[dict[str, Any], list[str]]:
    """``data`` with what stands under an old key where it belongs now, ``origins`` too; and what was done, a line each.

    Raises:
        ConfigError: a value stands under the old key and under the new one.
    """
    said: list[str] = []
    data = _apart(data) if renames else data
    for rename in renames:
        for place in list(_places(data, (), _parts(rename.old))):
            where = f"{origins.of(place)}: '{dotted(place)}'"
            value = _taken(data, place)
            if rename.new is None:
                said.append(f"{where} is gone since {rename.since}, and is not read. {rename.instead}".rstrip())
                continue
            target = _aimed(_parts(rename.new), place)
            if target in origins.lines:
                raise ConfigError(
                    f"{where} is '{dotted(target)}' since {rename.since}, which is set too. Keep that one."
                )
            _put(data, target, value)
            _move(origins, place, target)
            said.append(f"{where} is '{dotted(target)}' since {rename.since}; it is read as that. Rename it.")
    return data, said


def _apart(value: Any) -> Any:
    """``value`` with a list or mapping of its own at each place: YAML's aliases name one that is shared."""
    if isinstance(value, dict):
        return {key: _apart(below) for key, below in value.items()}
    return [_apart(below) for below in value] if isinstance(value, list) else value


def _parts(key: str) -> tuple[str, ...]:
    """``streams[].uri`` as ``("streams", "[]", "uri")``."""
    return tuple(key.replace(_EACH, f".{_EACH}").split("."))


def _places(value: Any, above: Place, parts: Sequence[str]) -> Iterator[Place]:
    """Where ``parts`` are found in ``value``."""
    if not parts:
        yield above
    elif parts[0] == _EACH and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, (*above, index), parts[1:])
    elif isinstance(value, dict) and parts[0] in value:
        yield from _places(value[parts[0]], (*above, parts[0]), parts[1:])


def _aimed(parts: Sequence[str], place: Place) -> Place:
    """The new place: the same items of the same lists."""
    indices = iter([key for key in place if isinstance(key, int)])
    return tuple(next(indices) if part == _EACH else part for part in parts)


def _taken(data: Any, place: Place) -> Any:
    """Take the value out, and what held it alone."""
    holders = [data]
    for key in place[:-1]:
        holders.append(holders[-1][key])
    value = holders[-1].pop(place[-1])
    for holder, key, held in zip(reversed(holders[:-1]), reversed(place[:-1]), reversed(holders[1:]), strict=True):
        if held or not isinstance(holder, dict):
            break
        del holder[key]
    return value


def _put(data: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        data = data[key] if isinstance(key, int) else data.setdefault(key, {})
    data[place[-1]] = value


def _move(origins: Origins, old: Place, new: Place) -> None:
    """The value, and what is in it, stands where it stood."""
    for place, line in list(origins.lines.items()):
        if place[: len(old)] == old:
            origins.lines[(*new, *place[len(old) :])] = line
