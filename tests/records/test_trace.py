"""The trace is a chain: no entry can change unseen, and where two runs part is found without reading all of it."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.errors import RecordError
from diva.records.trace import ORDER, START, Parting, entry, first_difference, read_trace


def chain(contents):
    entries, previous = [], START
    for content in contents:
        entries.append(entry(previous, content))
        previous = entries[-1]["digest"]
    return entries


def contents(n, **changes):
    """What n epochs computed; `changes` are {name: epoch from which it differs}."""
    return [
        {
            "epoch": epoch,
            "step": 3 * epoch,
            **{name: f"{name} {epoch}{'!' * (epoch >= changes.get(name, n))}" for name in ORDER},
        }
        for epoch in range(n)
    ]


def write(path, entries):
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in entries))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "trace.jsonl", chain(contents(5)))


def broken_at(path, number):
    with pytest.raises(RecordError, match=rf"trace\.jsonl:{number}: the chain is broken here"):
        read_trace(path)


def test_an_entry_is_the_sha256_of_its_content_and_the_digest_before():
    body = {"epoch": 0, "step": 0, "weights": "sha256:1", "previous": START}
    expected = "sha256:" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    assert entry(START, {"epoch": 0, "step": 0, "weights": "sha256:1"}) == {**body, "digest": expected}
    assert START == "sha256:" + 64 * "0"


def test_a_known_head_stays_what_it_was():
    assert chain(contents(3))[-1]["digest"] == "sha256:9af0a676f5a6405b6dd787d0c5120adf1a4c42b97f4356f47725675f93d5edaa"


def test_a_whole_trace_is_read_as_written(path):
    assert read_trace(path) == chain(contents(5))


def test_an_empty_trace_has_no_entries(tmp_path):
    assert read_trace(write(tmp_path / "trace.jsonl", [])) == []


def test_a_missing_trace_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"trace\.jsonl: missing"):
        read_trace(tmp_path / "trace.jsonl")


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("name", ["epoch", "step", "weights", "metrics", "previous", "digest"])
def test_an_edited_value_breaks_the_chain_where_it_stands(path, number, name):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number - 1][name] = 99 if name in ("epoch", "step") else "sha256:" + "f" * 64
    broken_at(write(path, rows), number)


@pytest.mark.parametrize("number", range(1, 5))
def test_a_removed_line_breaks_the_chain(path, number):
    rows = chain(contents(5))
    del rows[number - 1]
    broken_at(write(path, rows), number)


@pytest.mark.parametrize("number", range(1, 5))
def test_reordered_lines_break_the_chain(path, number):
    rows = chain(contents(5))
    rows[number - 1], rows[number] = rows[number], rows[number - 1]
    broken_at(write(path, rows), number)


def test_a_repeated_line_breaks_the_chain(path):
    rows = chain(contents(5))
    broken_at(write(path, [*rows, rows[-1]]), 6)


def test_an_added_or_a_lost_field_breaks_the_chain(path):
    rows = chain(contents(5))
    broken_at(write(path, [rows[0], {**rows[1], "note": "x"}, *rows[2:]]), 2)
    broken_at(write(path, [rows[0], {k: v for k, v in rows[1].items() if k != "order"}, *rows[2:]]), 2)


def test_an_entry_digested_anew_breaks_the_chain_after_it(path):
    rows = chain(contents(5))
    forged = entry(rows[1]["previous"], {**contents(5)[1], "weights": "forged"})
    broken_at(write(path, [rows[0], forged, *rows[2:]]), 3)


def test_a_lost_last_line_changes_the_head():
    """The chain cannot see its own end; the result keeps the head."""
    assert chain(contents(5))[-1]["digest"] != chain(contents(4))[-1]["digest"]


@pytest.mark.parametrize("line", ["", "{", "[]", "3", "null", "{}", '{"previous": 3}', '"digest"'])
def test_a_line_that_is_no_entry_breaks_the_chain(path, line):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    broken_at(path, 2)


def test_a_half_written_last_line_breaks_the_chain(path):
    path.write_text(path.read_text()[:-20])
    broken_at(path, 5)


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(path.read_bytes()[:-40] + b"\xff\xfe\n")
    with pytest.raises(RecordError, match=r"trace\.jsonl"):
        read_trace(path)


# Comparing


def linear(one, two):
    """What `first_difference` finds, one entry after the other."""
    for left, right in zip(one, two, strict=False):
        if left["digest"] != right["digest"]:
            names = tuple(name for name in ORDER if left.get(name) != right.get(name))
            return Parting(left["epoch"], left["step"], names or ("entry",))
    if len(one) == len(two):
        return None
    longer = max(one, two, key=len)[min(len(one), len(two))]
    return Parting(longer["epoch"], longer["step"], ("length",))


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 20),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from(ORDER), st.integers(0, 20), max_size=3),
)
def test_bisection_finds_what_a_linear_scan_finds(n_one, n_two, changes):
    one, two = chain(contents(20)[:n_one]), chain(contents(20, **changes)[:n_two])
    assert first_difference(one, two) == linear(one, two)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.data())
def test_a_difference_that_does_not_last_is_found_too(n, data):
    """Weights that part and, by chance, meet again: the digests after it still differ."""
    place = data.draw(st.integers(0, n - 1))
    name = data.draw(st.sampled_from(ORDER))
    other = contents(n)
    other[place] = {**other[place], name: "other"}
    assert first_difference(chain(contents(n)), chain(other)) == Parting(place, 3 * place, (name,))


def test_bisection_reads_few_entries():
    class Counting(list):
        read = 0

        def __getitem__(self, place):
            Counting.read += 1
            return super().__getitem__(place)

    first_difference(Counting(chain(contents(1000))), chain(contents(1000, weights=777)))
    assert Counting.read <= 12


def test_equal_traces_do_not_part():
    assert first_difference([], []) is None
    assert first_difference(chain(contents(4)), chain(contents(4))) is None


def test_what_differs_is_named_in_the_order_of_computation():
    found = first_difference(chain(contents(5)), chain(contents(5, metrics=2, weights=2, order=2, losses=3)))
    assert found == Parting(2, 6, ("order", "weights", "metrics"))


def test_other_steps_are_a_difference_of_the_entry():
    other = contents(3)
    other[1] = {**other[1], "step": 4}
    assert first_difference(chain(contents(3)), chain(other)) == Parting(1, 3, ("entry",))


def test_a_trace_that_goes_on_parts_where_the_other_ends():
    assert first_difference(chain(contents(2)), chain(contents(5))) == Parting(2, 6, ("length",))
    assert first_difference(chain(contents(1)), []) == Parting(0, 0, ("length",))
