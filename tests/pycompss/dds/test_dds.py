"""Data sets give what the same functions give for a list, as plain calls and as tasks on a cluster."""

from __future__ import annotations

import operator
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runmem import session, task
from runmem.pycompss.dds import DDS
from runmem.pycompss.dds.partitions import portable_hash

NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
PAIRS = [(word, number) for number, word in enumerate(["the", "cat", "and", "the", "dog", "and", "the", "bird"])]


@pytest.fixture(scope="module", params=["plain", "tasks"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the tests of the module twice: without a program, and in one run on a cluster."""
    if request.param == "plain":
        yield request.param
        return
    with session(workers=1, summary=False, run_folder=tmp_path_factory.mktemp("dds")):
        yield request.param


@task(returns=1)
def fragment(start: int) -> list[tuple[int, str]]:
    return [(number % 17, str(number)) for number in range(start, start + 30)]


@pytest.mark.parametrize("parts", [1, 3, 20])
def test_elements_are_in_order_and_in_so_many_partitions(program: str, parts: int) -> None:
    data = DDS().load(NUMBERS, parts)
    assert data.num_of_partitions() == parts
    assert data.collect() == NUMBERS
    kept = data.collect(keep_partitions=True)
    assert [number for part in kept for number in part] == NUMBERS
    assert max(map(len, kept)) - min(map(len, kept)) <= 1
    assert data.take(4) == NUMBERS[:4]
    assert data.take(100) == NUMBERS


@pytest.mark.parametrize(
    ("loaded", "elements"),
    [
        (range(7), list(range(7))),
        (map(int, "0123456"), list(range(7))),
        ({"b": 1, "a": 2}, [("a", 2), ("b", 1)]),
        ("words", list("words")),
        ([], []),
        ({4, 5}, [4, 5]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_whatever_can_be_iterated_can_be_loaded(program: str, loaded: Any, elements: list[Any]) -> None:
    iterable = iter(list(elements)) if isinstance(loaded, map) else loaded
    assert sorted(DDS(iterable, 3).collect()) == sorted(elements)


def test_functions_are_applied_when_elements_are_asked_for_and_leave_the_data_set(program: str) -> None:
    data = DDS().load(NUMBERS, 4)
    doubled = data.map(operator.mul, 2)
    assert doubled.filter(lambda number: number > 6).map(lambda number: -number).collect() == [
        -2 * number for number in NUMBERS if 2 * number > 6
    ]
    assert doubled.flat_map(range).collect() == [item for number in NUMBERS for item in range(2 * number)]
    assert doubled.map_partitions(lambda part: (item for item in [sum(part)])).sum() == 2 * sum(NUMBERS)
    assert (doubled.collect(), doubled.collect()) == ([2 * number for number in NUMBERS],) * 2
    assert data.collect() == NUMBERS


def test_a_mistake_in_a_function_shows_where_elements_are_asked_for(program: str) -> None:
    data = DDS().load([1, 0], 2).map(lambda number: 1 // number)
    with pytest.raises(ZeroDivisionError):
        data.collect()


@pytest.mark.parametrize("arity", [-1, 2, 3])
def test_a_reduction_is_that_of_the_list(program: str, arity: int) -> None:
    data = DDS().load([str(number) for number in range(10)], 5)
    assert data.reduce(operator.add, arity=arity) == "0123456789"
    assert data.reduce(operator.add, "end", arity) == "0123456789end"
    assert DDS().load([1, 2], 8).reduce(operator.add) == 3
    assert DDS().reduce(operator.add, 5) == 5
    with pytest.raises(TypeError, match="no elements, and there is no initial value"):
        DDS().reduce(operator.add)


def test_counts_and_sums(program: str) -> None:
    data = DDS().load(NUMBERS, 4)
    assert (data.sum(), data.count()) == (sum(NUMBERS), len(NUMBERS))
    assert data.count_by_value() == Counter(NUMBERS)
    pairs = data.count_by_value(as_dict=False)
    assert pairs.num_of_partitions() == 4
    assert pairs.collect() == sorted(Counter(NUMBERS).items())
    assert sorted(data.distinct().collect()) == sorted(set(NUMBERS))
    assert DDS().count_by_value() == {}


def test_pairs_by_their_keys(program: str) -> None:
    data = DDS().load(PAIRS, 3)
    assert sorted(data.reduce_by_key(operator.add).collect()) == [
        ("and", 7), ("bird", 7), ("cat", 1), ("dog", 4), ("the", 9),
    ]  # fmt: skip
    grouped = {key: sorted(values) for key, values in data.group_by_key(2).collect()}
    assert grouped == {"the": [0, 3, 6], "cat": [1], "and": [2, 5], "dog": [4], "bird": [7]}
    assert data.group_by_key(2).num_of_partitions() == 2
    assert data.count_by_key(as_dict=True) == Counter(data.keys().collect())
    assert data.values().collect() == list(range(8))
    assert data.map_values(str).collect_as_dict()["bird"] == "7"
    assert data.flatten_by_key(range).count() == sum(range(8))
    assert DDS([1, 2]).key_by(str).collect() == [("1", 1), ("2", 2)]


def test_a_join_has_each_two_values_of_a_key(program: str) -> None:
    left, right = DDS([("a", 1), ("b", 3), ("a", 5), ("c", 0)], 2), DDS([("a", 2), ("b", 4), ("d", 0)], 3)
    assert sorted(left.join(right).collect()) == [("a", (1, 2)), ("a", (5, 2)), ("b", (3, 4))]


def test_pairs_can_be_distributed_by_a_function(program: str) -> None:
    data = DDS().load(range(6), 2).map(lambda number: (number, number))
    by_default = data.partition_by(num_of_partitions=3)
    assert by_default.collect(True) == [[(0, 0), (3, 3)], [(1, 1), (4, 4)], [(2, 2), (5, 5)]]
    assert data.partition_by(lambda key: key // 3, 2).map_partitions(lambda part: [len(part)]).collect() == [3, 3]
    assert data.partition_by(num_of_partitions=1).count() == 6


@pytest.mark.parametrize("ascending", [True, False])
def test_sorted_partitions_of_futures(program: str, ascending: bool) -> None:
    data = DDS().load([fragment(start) for start in range(0, 90, 30)], -1)
    keys = [key for key, _ in data.sort_by_key(ascending).collect()]
    assert keys == sorted((number % 17 for number in range(90)), reverse=not ascending)
    by_text = data.sort_by_key(ascending, 2, str)
    assert by_text.num_of_partitions() == 2
    assert [str(key) for key, _ in by_text.collect()] == sorted(map(str, keys), reverse=not ascending)


def test_a_union_has_the_partitions_of_all(program: str) -> None:
    first, second = DDS([0, 1, 2], 2), DDS([3, 4], 3).map(str)
    both = first.union(second, first)
    assert (both.num_of_partitions(), both.collect()) == (7, [0, 1, 2, "3", "4", 0, 1, 2])


def test_files(program: str, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    (tmp_path / "in").mkdir()
    file = tmp_path / "in" / "a.txt"
    file.write_text(text)
    for worker_read in (False, True):
        data = DDS().load_file(str(file), 300, worker_read)
        assert (data.num_of_partitions(), "".join(data.collect())) == (3, text)
    lines = DDS().load_text_file(str(file), 30, in_bytes=False)
    assert (lines.num_of_partitions(), lines.collect()) == (4, text.splitlines())
    assert DDS().load_text_file(str(file), strip=False).collect() == text.splitlines(keepends=True)
    (tmp_path / "in" / "b.txt").write_text("other")
    data = DDS().load_files_from_dir(str(tmp_path / "in"))
    assert data.collect() == [(str(file), text), (str(tmp_path / "in" / "b.txt"), "other")]
    assert DDS().load_files_from_dir(str(tmp_path / "in"), 1).num_of_partitions() == 1

    lines.map(str.upper).save_as_pickle(str(tmp_path / "pickles"))
    again = DDS().load_pickle_files(str(tmp_path / "pickles"))
    assert (again.num_of_partitions(), again.collect()) == (4, text.upper().splitlines())
    lines.save_as_text_file(str(tmp_path / "texts"))
    assert [path.name for path in sorted((tmp_path / "texts").iterdir())] == ["00000", "00001", "00002", "00003"]
    assert "".join(path.read_text() for path in sorted((tmp_path / "texts").iterdir())) == text


def test_a_function_can_be_called_for_each_element(program: str, tmp_path: Path) -> None:
    def note(number: int) -> None:
        (tmp_path / str(number)).touch()

    DDS().load(NUMBERS, 3).foreach(note)
    assert {int(path.name) for path in tmp_path.iterdir()} == set(NUMBERS)


def test_the_hash_is_that_of_every_process() -> None:
    values = ["text", "é", b"bytes", None, 5, -5, 2.5, 1e300, (1, "a"), frozenset([1]), ("a", ("b", None))]
    assert portable_hash(2) == portable_hash(2.0) == portable_hash(True + 1) == 2
    code = f"from runmem.pycompss.dds.partitions import portable_hash as h; print([h(v) for v in {values!r}])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr([portable_hash(value) for value in values])
