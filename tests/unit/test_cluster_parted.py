"""What is read on the disk in place of loads that a cluster hasn't got: each flow once, or said to be lost."""

from collector.cluster.parted import Load, split
from collector.store.models import DAY, LOADED, SegmentFile


def load(number: int, rows: int = 10) -> Load:
    return Load(number, 1, rows, 100 * number, 100 * number + 99, f"sha {number}", number - 1, number)


def segment(number: int, rows: int, first: int, last: int, sha256: str = "later") -> SegmentFile:
    times = (100 * first, 100 * last + 99)
    return SegmentFile(
        "a", rows, 0, sha256, *times, *times, None, None, {}, b"", DAY, first - 1, last, id=number, state=LOADED
    )


LOADS = [load(number) for number in range(1, 7)]


def asked(there: set[int], *copies: SegmentFile) -> tuple[list[int], set[int], list[int]]:
    found = split(LOADS[:4], there, copies, LOADS)
    return [one.load for one in found.counted], set(found.here), [one.load for one in found.lost]


def test_all_there_needs_no_copy() -> None:
    assert asked({1, 2, 3, 4}, segment(7, 30, 1, 3)) == ([1, 2, 3, 4], set(), [])


def test_the_segment_itself_is_read() -> None:
    assert asked({1, 3, 4}, segment(7, 10, 2, 2, "sha 2"), segment(8, 20, 3, 4)) == ([1, 3, 4], {7}, [])


def test_a_compacted_one_is_read_with_all_that_it_has() -> None:
    """Also with what is of another time than is asked for."""
    assert asked({1, 2, 4}, segment(7, 40, 3, 6)) == ([1, 2], {7}, [])
    assert asked({1, 2, 4}, segment(7, 25, 3, 6), segment(8, 15, 3, 6)) == ([1, 2], {7, 8}, [])


def test_one_that_may_have_less_is_not_trusted() -> None:
    assert asked({1, 2, 4}, segment(7, 30, 3, 6)) == ([1, 2, 4], set(), [3])
    assert asked({1, 2, 4}, segment(7, 25, 3, 6)) == ([1, 2, 4], set(), [3])


def test_without_a_copy_it_is_lost() -> None:
    assert asked({1, 2}, segment(7, 10, 3, 3, "sha 3")) == ([1, 2], {7}, [4])
