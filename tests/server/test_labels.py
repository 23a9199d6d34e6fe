"""The file of labels: kept, listed, found again, and never more than it may hold."""

import json

import pytest

from streamguard.errors import UsageError
from streamguard.server.labels import FORMAT, LabelFile, LabelLost


def label(number, segment="s1"):
    return {"id": f"l{number}", "segment_id": segment, "label": "authentic", "note": "ä"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


def test_labels_are_lines_that_stand_alone(path):
    kept = LabelFile(path)
    kept.append(label(1))
    kept.append(label(2, "s2"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"format": FORMAT, **label(1)}, {"format": FORMAT, **label(2, "s2")}]


def test_the_newest_come_first_and_in_pages(path):
    kept = LabelFile(path)
    for number in range(5):
        kept.append(label(number, f"s{number % 2}"))
    first, following = kept.newest(2)
    assert [each["id"] for each in first] == ["l4", "l3"]
    rest, end = kept.newest(5, following)
    assert ([each["id"] for each in rest], end) == (["l2", "l1", "l0"], None)
    assert [each["id"] for each in kept.newest(9, segment="s1")[0]] == ["l3", "l1"]
    assert kept.newest(9, "gone") == ([], None)


def test_an_earlier_run_is_found_again_and_what_is_no_label_passed_over(path, caplog):
    LabelFile(path).append(label(1))
    with path.open("ab") as file:
        file.write(b'{"format": "streamguard.label.v2", "id": "x", "segment_id": "y"}\n[]\n\xff\n{"cut')
    again = LabelFile(path)
    assert [each["id"] for each in again.newest(9)[0]] == ["l1"]
    assert "4 lines are no labels" in caplog.text
    again.append(label(2))
    assert [each["id"] for each in LabelFile(path).newest(9)[0]] == ["l2", "l1"]


def test_the_list_is_bounded_and_the_file_has_all(path):
    kept = LabelFile(path, bound=3)
    for number in range(5):
        kept.append(label(number))
    assert len(kept.newest(9)[0]) == len(LabelFile(path, bound=3).newest(9)[0]) == 3
    assert len(path.read_text().splitlines()) == 5


def test_a_full_file_takes_no_more_and_says_so(path):
    kept = LabelFile(path, most_bytes=250)
    kept.append(label(1))
    kept.append(label(2))
    with pytest.raises(LabelLost, match="takes no more than 250"):
        kept.append(label(3))
    assert path.stat().st_size <= 250
    assert len(kept.newest(9)[0]) == len(path.read_text().splitlines())


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UsageError, match=r"api\.labels: '.*' can't take labels"):
        LabelFile(tmp_path)
