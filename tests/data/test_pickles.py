"""A pickle of a few bytes takes neither time nor memory, whatever it says; what it holds is texts, numbers, lists and arrays."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from diva.data.formats.pickles import load, text
from diva.errors import DataError

DOUBLED = b"K\x01" + b"2\x86" * 40  # (1, 1), then a tuple of two of these, 40 times: 2 ** 40 values to hash or to show
NUMPY = b"cnumpy\ndtype\n"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R"

HOSTILE = {
    "a long number as a key": b"}I" + b"9" * 4000 + b"\nK\x01s.",
    "a longer number as a key": b"}\x8b\x10\x27\x00\x00" + b"\x7f" * 10_000 + b"K\x01s.",
    "a doubled key": b"}" + DOUBLED + b"K\x01s.",
    "doubled keys": b"}(" + DOUBLED + b"K\x01u.",
    "a doubled key of a whole dictionary": b"(" + DOUBLED + b"K\x01d.",
    "a doubled member of a set": b"\x8f(" + DOUBLED + b"\x90.",
    "a doubled member of a fixed set": b"(" + DOUBLED + b"\x91.",
    "a doubled shape": b"}U\x01a" + ARRAY + b"(K\x01" + DOUBLED + NUMPY + b"U\x02u1\x85RK\x00U\x00tbs.",
    "a doubled type": b"}U\x01a" + ARRAY + b"(K\x01K\x01\x85" + NUMPY + DOUBLED + b"\x85RK\x00U\x00tbs.",
    "a type that was never made": b"}U\x01a" + ARRAY + b"(K\x01K\x01\x85" + NUMPY + b")\x81K\x00U\x00tbs.",
    "an array that was never filled": b"}U\x01ac_codecs\nencode\n}U\x01ak\x01bs.",
    "a list whose items are set": b"]K\x00K\x01s.",
    "a key without a value": b"}(U\x01au.",
    "a state for a function": b"c_codecs\nencode\n}U\x0c__defaults__)sb.",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_small_pickle_is_refused_at_once(what):
    program = (
        "import resource, sys; from diva.data.formats.pickles import load; from diva.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10)); resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
        "try:\n    load(sys.stdin.buffer.read(), 'batch')\n"
        "except DataError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=HOSTILE[what],
        capture_output=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert said.startswith("batch: ") and len(said) < 300


def test_what_is_plain_is_read():
    found = load(
        pickle.dumps({"a": [1, "b", b"c", None, 2.5, (True,)], b"d": numpy.ones((2, 3), numpy.uint8)}, 2), "batch"
    )
    assert found["a"] == [1, "b", b"c", None, 2.5, (True,)]
    assert numpy.array_equal(found["d"], numpy.ones((2, 3), numpy.uint8))


def test_only_a_text_is_taken_for_a_text():
    assert (text(b"a", "batch"), text("b", "batch")) == ("a", "b")
    with pytest.raises(DataError, match="batch: holds a tuple where a text must be"):
        text((1,), "batch")
