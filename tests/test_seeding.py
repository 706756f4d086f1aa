"""One seed, named streams: every number is a function of the seed and a name, and of nothing else."""

import hashlib
import json
import random
import threading

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.errors import UsageError
from diva.seeding import MAX_SEED, STREAMS, Seeds, draw_seed, other_seeds, reseeder

NAMES = st.lists(st.one_of(st.text(max_size=8), st.integers(-9, 10**6)), max_size=4).map(tuple)
WORD = 2**64 - 1


def philox(key, n):
    """The first n words of Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), counter from 1."""
    words = []
    for block in range(1, -(-n // 4) + 1):
        x, low, high = [block, 0, 0, 0], key & WORD, key >> 64
        for _ in range(10):
            first, third = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
            x = [(third >> 64) ^ x[1] ^ low, third & WORD, (first >> 64) ^ x[3] ^ high, first & WORD]
            low, high = (low + 0x9E3779B97F4A7C15) & WORD, (high + 0xBB67AE8584CAA73B) & WORD
        words += x
    return words[:n]


def blake2b_key(*path):
    text = json.dumps(list(path), separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16, person=b"diva-stream").digest(), "little")


def global_draws():
    return random.random(), float(numpy.random.rand()), torch.rand(2).tolist()


def drawn_from(seeds):
    return (
        seeds.order(9, "shuffle", 1).tolist(),
        seeds.keys(4, "step", 1),
        seeds.python("a").random(),
        seeds.numpy("augment", 1, 0).random(5).tolist(),
        torch.rand(3, generator=seeds.torch("init")).tolist(),
    )


def test_known_keys_stay_what_they_were():
    assert Seeds(42).key("init") == 264369149667650822877891347536293711662
    assert Seeds(42).key("augment", 3, 7) == 187433551835646786695758829388869637384
    assert Seeds(0).key() == 293826073013425846874898737095732379249


def test_known_words_and_orders_stay_what_they_were():
    assert Seeds(42).keys(3, "step", 1) == [8144140080908153058, 8926422782719914493, 661827404271407626]
    assert Seeds(42).order(10, "shuffle", 1).tolist() == [6, 1, 8, 3, 2, 9, 5, 4, 0, 7]


@given(st.integers(0, MAX_SEED), NAMES)
def test_key_is_blake2b_of_the_documented_json(seed, name):
    assert Seeds(seed).key(*name) == blake2b_key(seed, *name)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, MAX_SEED), NAMES, st.integers(0, 30))
def test_keys_are_the_words_of_philox_halved(seed, name, n):
    assert Seeds(seed).keys(n, *name) == [word >> 1 for word in philox(blake2b_key(seed, *name), n)]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, MAX_SEED), NAMES, st.integers(0, 30))
def test_order_sorts_the_words_of_philox(seed, name, n):
    words = philox(blake2b_key(seed, *name), n)
    assert Seeds(seed).order(n, *name).tolist() == sorted(range(n), key=lambda i: words[i])


@given(st.integers(0, MAX_SEED), NAMES, st.integers(0, 200))
@settings(deadline=None, max_examples=30)
def test_order_is_a_permutation_of_int64(seed, name, n):
    order = Seeds(seed).order(n, *name)
    assert order.dtype == numpy.int64
    assert sorted(order.tolist()) == list(range(n))


def test_orders_and_keys_begin_alike_however_many_are_drawn():
    assert Seeds(1).keys(1000, "step", 2)[:7] == Seeds(1).keys(7, "step", 2)


@given(NAMES, NAMES)
def test_different_paths_are_different_streams(one, two):
    assert (Seeds(7).key(*one) == Seeds(7).key(*two)) == (one == two)


def test_where_a_path_is_cut_matters():
    names = [("a", 1), ("a1",), ("a", "1"), ("a,1",), ("a", 1, ""), ("", "a", 1), ('a",1',), ()]
    assert len({Seeds(7).key(*name) for name in names}) == len(names)


def test_seed_and_first_part_of_a_path_are_not_confused():
    assert Seeds(1).key(2, "a") != Seeds(12).key("a") != Seeds(2).key(1, "a")


def test_drawing_from_other_streams_moves_none():
    seeds = Seeds(42)
    alone = drawn_from(seeds)
    seeds.reseed("another")
    seeds.keys(99, "new"), seeds.order(99, "renamed"), seeds.numpy("new", 2).random(99)
    assert drawn_from(seeds) == alone


def test_streams_neither_read_nor_move_the_global_generators():
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    untouched = global_draws()
    random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
    drawn = drawn_from(Seeds(3))
    assert global_draws() == untouched
    random.seed(2), numpy.random.seed(2), torch.manual_seed(2)
    assert drawn_from(Seeds(3)) == drawn


def test_each_kind_of_generator_repeats_from_its_name():
    seeds = Seeds(5)
    assert seeds.python("a").random() == seeds.python("a").random() != seeds.python("b").random()
    assert seeds.numpy("a").random() == seeds.numpy("a").random() != seeds.numpy("b").random()
    first, again, other = (torch.rand(4, generator=seeds.torch(name)).tolist() for name in "aab")
    assert first == again != other


def test_reseed_sets_the_global_generators_of_python_numpy_and_torch():
    Seeds(5).reseed("epoch", 1)
    first = global_draws()
    random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
    poisoned = global_draws()
    Seeds(5).reseed("epoch", 1)
    assert global_draws() == first
    Seeds(5).reseed("epoch", 2)
    other = global_draws()
    assert all(a != b != c != a for a, b, c in zip(first, other, poisoned, strict=True))


def test_reseed_is_reseed_globals_of_the_upper_63_bits_of_the_key():
    Seeds(5).reseed("step", 3)
    first = global_draws()
    reseeder()(Seeds(5).key("step", 3) >> 65)
    assert global_draws() == first
    assert torch.initial_seed() == Seeds(5).key("step", 3) >> 65


@pytest.mark.parametrize("key", [0, 2**32 - 1, 2**32, MAX_SEED])
def test_reseed_globals_takes_every_key_of_63_bits(key):
    reseeder()(key)
    first = global_draws()
    reseeder()(key)
    assert global_draws() == first


def test_reseed_globals_forgets_a_normal_number_kept_for_later():
    reseeder()(1)
    first = random.gauss(0, 1), numpy.random.standard_normal(), torch.randn(1).item()
    reseeder()(1)
    random.gauss(0, 1), numpy.random.standard_normal(), torch.randn(3)  # each keeps the second number of a pair
    reseeder()(1)
    assert (random.gauss(0, 1), numpy.random.standard_normal(), torch.randn(1).item()) == first


def test_streams_are_the_same_in_another_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(Seeds(9).order(50, "shuffle", 4).tolist()))
    thread.start()
    thread.join()
    assert found == [Seeds(9).order(50, "shuffle", 4).tolist()]


@given(seed=st.integers(0, MAX_SEED), name=NAMES, i=st.integers(-9, 10**18))
def test_a_branch_has_the_keys_of_its_streams(seed, name, i):
    key = Seeds(seed).branch(*name)
    assert [key(i), key(i + 1), key(i)] == [Seeds(seed).key(*name, j) for j in (i, i + 1, i)]


def test_drawn_seeds_are_short_and_differ():
    drawn = {draw_seed() for _ in range(20)}
    assert len(drawn) > 15 and all(0 <= seed < 2**31 for seed in drawn)


@pytest.mark.gpu
def test_reseed_sets_every_cuda_generator(device):
    torch.rand(1, device=device)
    Seeds(5).reseed("epoch", 1)
    first = torch.rand(3, device=device).tolist()
    torch.rand(9, device=device)
    Seeds(5).reseed("epoch", 1)
    assert torch.rand(3, device=device).tolist() == first


def test_a_stream_of_another_seed_is_that_seeds_and_all_others_stay():
    mixed, own, other = Seeds(1, (("init", 2), ("step", 3))), Seeds(1), Seeds(2)
    assert mixed.key("init") == other.key("init") and mixed.key("init", "optimizer", 4) == other.key(
        "init", "optimizer", 4
    )
    assert mixed.keys(5, "step", 1) == Seeds(3).keys(5, "step", 1)
    assert [mixed.key(*name) for name in (("shuffle", 1), ("initial",), ("augment", "init"), ())] == [
        own.key(*name) for name in (("shuffle", 1), ("initial",), ("augment", "init"), ())
    ]
    assert mixed.branch("init", 3)(4) == other.key("init", 3, 4) and mixed.branch("augment", 3)(4) == own.key(
        "augment", 3, 4
    )
    mixed.reseed("init")
    drawn = global_draws()
    other.reseed("init")
    assert global_draws() == drawn


def test_a_stream_goes_by_the_first_word_of_its_name():
    assert Seeds(1, (("shuffle", 2),)).key("shuffle crops", 1, 0) == Seeds(2).key("shuffle crops", 1, 0)


def test_every_stream_from_the_same_other_seed_is_that_seed():
    others = tuple((name, 9) for name in STREAMS)
    assert [Seeds(1, others).key(name, 3) for name in STREAMS] == [Seeds(9).key(name, 3) for name in STREAMS]


def test_other_seeds_are_read_in_any_order():
    assert other_seeds(["step=3", "init=0"]) == (("init", 0), ("step", 3)) == other_seeds(["init=0", "step=3"])
    assert other_seeds(["deal=4"], own=("deal",)) == (("deal", 4),)
    assert other_seeds([]) == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["inti=7"], "no stream is called 'inti'; did you mean init?"),
        (["weather=7"], "no stream is called 'weather'; allowed: augment, balance"),
        (["figures=7"], "no stream is called 'figures'"),
        (["init"], "--stream init: allowed is NAME=SEED"),
        (["init=-1"], "--stream init=-1: allowed is NAME=SEED"),
        (["init=1.5"], "allowed is NAME=SEED"),
        ([f"init={MAX_SEED + 1}"], "allowed is NAME=SEED"),
        (["init=1", "init=1"], "the stream init is there twice"),
    ],
)
def test_a_stream_that_is_unknown_out_of_range_or_there_twice_is_refused(given, words):
    with pytest.raises(UsageError, match=words):
        other_seeds(given)
