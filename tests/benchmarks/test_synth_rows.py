from pathlib import Path

import pytest
from mlverify.benchmarks.synth_rows import (
    COLUMNS,
    FAILED,
    Outcome,
    OutcomeFile,
    Summary,
    Target,
    read_targets,
    select,
    summary_lines,
)
from mlverify.errors import InputError

TARGETS = """network,image,target,object,layers,prototype_size,prototype_seconds
noDef,0_32,2,3,43,1.25,3.0
noDef,0_86,6,8,41,0.5,2.4
LInfDef,0_32,2,3,43,4,2.5
"""


def outcome(network="noDef", image="0_32", size=2.0, seconds=1.0, again="holds", to_reach=1.0) -> Outcome:
    return Outcome(Target(network, image, 2, 3, to_reach), size, seconds, "bounds/certificate", again)


def test_targets_are_read_by_column_name(tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text(TARGETS)
    targets = read_targets(path)
    assert targets[0] == Target("noDef", "0_32", 2, 3, 1.25)
    assert [target.size for target in targets] == [1.25, 0.5, 4.0]


@pytest.mark.parametrize(
    "text",
    [
        "network,image,target,object\nnoDef,0_32,2,3\n",
        "network,image,target,object,prototype_size\nnoDef,0_32,2,3,0\n",
        "network,image,target,object,prototype_size\nnoDef,0_32,2,3,nan\n",
        "network,image,target,object,prototype_size\nnoDef,0_32\n",
        "network,image,target,object,prototype_size\nnoDef,0_32,two,3,1\n",
    ],
)
def test_rows_without_a_usable_size_are_refused(tmp_path, text):
    path = tmp_path / "targets.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"targets\.csv"):
        read_targets(path)


def test_missing_targets_are_refused(tmp_path):
    with pytest.raises(InputError):
        read_targets(tmp_path / "nothing.csv")


def test_select_takes_every_nth_row_of_the_network(tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text(TARGETS)
    targets = read_targets(path)
    assert [target.network for target in select(targets, None, 2)] == ["noDef", "LInfDef"]
    assert [target.image for target in select(targets, "noDef", 1)] == ["0_32", "0_86"]
    assert select(targets, "L0Def", 1) == []


def test_summary_arithmetic():
    rows = [
        outcome(size=0.5, seconds=1),
        outcome(size=3, seconds=9),
        outcome(size=1, seconds=2),
        outcome(size=2, to_reach=0.5),
    ]
    assert Summary.of(rows) == Summary(4, 0.5, 2.0, 1, 1.5, 9)


def test_summary_has_a_line_per_network_and_names_rows_that_were_not_proved_again():
    rows = [outcome(), outcome("LInfDef", again="unknown")]
    lines = summary_lines(rows)
    assert [line.split()[0] for line in lines] == ["noDef", "LInfDef", "all", "NOT"]
    assert "LInfDef 0_32: unknown" in lines[-1]
    assert len(summary_lines(rows[:1])) == 2
    assert summary_lines([]) == ["no rows"]


def written(path: Path, *outcomes: Outcome, timeout: float = 30.0) -> Path:
    file = OutcomeFile(path, timeout)
    for row in outcomes:
        file.add(row)
    file.close()
    return path


def test_file_continues_where_it_ended(tmp_path):
    first, second = outcome(), outcome(image="0_86", size=0.123456789)
    path = written(tmp_path / "rows.csv", first)
    again = OutcomeFile(path, 30.0)
    assert again.done == {first.target.key: first}
    again.add(second)
    again.close()
    assert OutcomeFile(path, 30.0).done == {first.target.key: first, second.target.key: second}
    assert [item.name for item in tmp_path.iterdir()] == ["rows.csv"]


def test_rows_are_on_disk_as_they_come(tmp_path):
    file = OutcomeFile(tmp_path / "rows.csv", 30.0)
    file.add(outcome())
    assert (tmp_path / "rows.csv").read_text().count("\n") == 2
    file.close()


def test_a_row_that_was_cut_off_is_done_again(tmp_path):
    path = written(tmp_path / "rows.csv", outcome(), outcome(image="0_86"))
    whole = path.read_text()
    for length in (len(whole) - 3, len(whole) - 4, len(whole) - 30):
        path.write_text(whole[:length])
        assert len(OutcomeFile(path, 30.0).done) == 1
        assert path.read_text().count("\n") == 2


def test_a_row_that_failed_is_done_again(tmp_path):
    path = written(tmp_path / "rows.csv", outcome(), outcome(image="0_86", again=FAILED))
    assert [key[1] for key in OutcomeFile(path, 30.0).done] == ["0_32"]


def test_rows_of_another_limit_are_not_mixed(tmp_path):
    path = written(tmp_path / "rows.csv", outcome())
    before = path.read_text()
    with pytest.raises(InputError, match="--timeout 30"):
        OutcomeFile(path, 20.0)
    assert path.read_text() == before


@pytest.mark.parametrize("content", [TARGETS.encode(), b"notes", b"\xff\xfe"])
def test_foreign_files_are_not_overwritten(tmp_path, content):
    path = tmp_path / "targets.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"targets\.csv"):
        OutcomeFile(path, 30.0)
    assert path.read_bytes() == content


def test_an_empty_file_is_begun(tmp_path):
    path = tmp_path / "rows.csv"
    path.touch()
    assert OutcomeFile(path, 30.0).done == {}
    assert path.read_text().strip() == ",".join(COLUMNS)
