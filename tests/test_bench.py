"""What the bench makes of its figures, and that it measures what it says."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.cases import Result
from tests.bench.facts import WITHOUT_JOURNAL, describe
from tests.bench.figures import Figure, figure, for_each, ratio
from tests.bench.measure import CommandError, Contestant, Course, Step, alternate, run
from tests.bench.memory import family, family_bytes, parse_parent, parse_proportional
from tests.bench.tables import BEGIN, END, put_between_markers, result_table, to_markdown
from tests.bench.targets import TARGETS, judge
from tests.bench.trees import BIG, MEDIUM, MIX, SMALL, Tree, count, make_tree, sizes_of

SECONDS = st.lists(st.floats(min_value=0.001, max_value=1000), min_size=1)


def contestant(name: str, *programs: tuple[str, ...], exit_code: int = 0) -> Contestant:
    step = Step(programs=programs, directory=Path("/"), exit_code=exit_code)
    return Contestant(name=name, steps=(step,))


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


@given(SECONDS)
def test_the_median_lies_between_the_least_and_the_most(values: list[float]) -> None:
    made = figure(values)
    assert made.least == min(values)
    assert made.most == max(values)
    assert made.least <= made.median <= made.most
    assert sum(value < made.median for value in values) <= len(values) / 2


def test_no_rounds_make_no_figure() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        figure([])


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio([1, 4, 9], [2, 4, 3]) == Figure(median=1, least=0.5, most=3)
    with pytest.raises(ValueError, match="shorter"):
        ratio([1, 2], [1])


def test_seconds_are_shared_among_files() -> None:
    assert for_each([10, 20], 10) == (1, 2)


def test_contestants_run_in_turn_and_the_warm_up_does_not_count(tmp_path: Path) -> None:
    seen: list[str] = []
    course = Course(
        work=tmp_path,
        prepare=lambda: seen.append("prepare"),
        check=lambda name: seen.append(f"check {name}"),
        say=lambda name, number, seconds: seen.append(f"{name}{number}{'' if seconds else '?'}"),
    )
    seconds = alternate([contestant("a", ("true",)), contestant("b", ("true",))], 2, course)
    warm_up = ["a0?", "prepare", "a0", "check a", "b0?", "prepare", "b0", "check b"]
    rounds = [step for n in (1, 2) for c in "ab" for step in (f"{c}{n}?", "prepare", f"{c}{n}")]
    assert seen == warm_up + rounds
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_programs_of_a_step_read_each_other(tmp_path: Path) -> None:
    run(contestant("a", ("echo", "one"), ("cat",), ("tr", "o", "u")), tmp_path)
    assert (tmp_path / "output").read_text() == "une\n"


def test_a_failing_command_is_named_with_what_it_said(tmp_path: Path) -> None:
    failing = python("import sys; sys.exit('no such thing')")
    with pytest.raises(CommandError, match=r"(?s)a: exit code 1 of: .*\nno such thing$"):
        run(contestant("a", failing), tmp_path)
    with pytest.raises(CommandError, match=r"a: exit code 1, 0 of"):
        run(contestant("a", failing, ("cat",)), tmp_path)
    run(contestant("a", failing, exit_code=1), tmp_path)


def test_a_stopped_run_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []

    def sample(process: int) -> int:
        pids.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(contestant("a", ("sleep", "60")), tmp_path, sample)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_family_is_a_process_and_all_below_it() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 3, 5: 1, 6: 6}
    assert family(2, parents) == {2, 3, 4}
    assert family(6, parents) == {6}
    assert family(9, parents) == {9}


def test_proc_is_read_as_the_kernel_writes_it() -> None:
    assert parse_parent("12 (a) b (c) S 7 12 12 0 -1") == 7
    assert (
        parse_proportional(["5-6 [rollup]", "Rss:  9 kB", "Pss:  4 kB", "Pss_Dirty: 1 kB"]) == 4096
    )
    assert parse_proportional([]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="takes /proc")
def test_the_memory_of_children_counts(tmp_path: Path) -> None:
    child = "import time; held = bytes(range(256)) * 400_000; time.sleep(0.4)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    ran = run(contestant("a", python(parent)), tmp_path, family_bytes)
    assert 100_000_000 < ran.peak_bytes < 200_000_000


def test_ext4_without_a_journal_is_told_from_others() -> None:
    assert describe("ext4", "sda1", ["sda1-8", "dm-0-8"]) == "ext4"
    assert describe("ext4", "dm-0", ["sda1-8", "dm-0-8"]) == "ext4"
    assert describe("ext4", "sda", ["sda1-8"]) == WITHOUT_JOURNAL
    assert describe("ext4", "sda", None) == "ext4"
    assert describe("xfs", "sda", []) == "xfs"


def test_trees_are_what_the_suite_promises() -> None:
    assert (len(sizes_of(SMALL)), set(sizes_of(SMALL))) == (100_000, {1024})
    assert 4096 <= min(sizes_of(MEDIUM)) < max(sizes_of(MEDIUM)) <= 61_440
    assert sizes_of(BIG) == (50 << 20,) * 40
    assert (len(sizes_of(MIX)), max(sizes_of(MIX))) == (5000, 50 << 20)
    assert sum(sizes_of(MIX)) == pytest.approx(3 << 30, rel=1e-3)


def test_a_tree_is_made_once_and_the_same_every_time(tmp_path: Path) -> None:
    tree = Tree(name="t", files=7, directories=2, smallest=1, largest=9)
    contents = []
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir()
        made = make_tree(root, tree)
        assert make_tree(root, tree) == made
        assert count(made) == (7, sum(sizes_of(tree)))
        paths = sorted(made.rglob("*.bin"))
        contents.append([(path.relative_to(made), path.read_bytes()) for path in paths])
    assert contents[0] == contents[1]
    assert len({content for _, content in contents[0]}) == 7


def test_every_target_is_judged_once_its_case_was_measured() -> None:
    target = TARGETS[0]
    for ours, word in ((0.65, "met"), (0.66, "missed")):
        verdicts = judge({target.case: {target.ours: [ours], target.peer: [1.0]}})
        assert [verdict.word for verdict in verdicts] == [word, "not measured"]
    assert judge({}) == ()


def test_a_result_becomes_markdown_with_a_line_for_each_contestant() -> None:
    result = Result(
        case="c", title="t", ours=("x",), seconds={"x": [1.0], "y": [2.0]}, absent=("z",)
    )
    assert to_markdown(result_table(result)) == (
        "**c: t**\n\n|  | seconds | x |\n| --- | ---: | ---: |\n"
        "| x | 1.000 (1.000 to 1.000) |  |\n| y | 2.000 (2.000 to 2.000) | 0.50 (0.50 to 0.50) |\n"
        "\nNot installed, so skipped: z.\n"
    )


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nrest\n"
    assert put_between_markers(page, "new\n") == f"# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nrest\n"
    for broken in ("", f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", BEGIN):
        with pytest.raises(ValueError, match="it needs one"):
            put_between_markers(broken, "new")
