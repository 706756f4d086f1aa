"""Retrieval scores equal scikit-learn's, averaged over the orders of ties; distances are exact, whoever multiplies."""

import itertools
import math
import os
import subprocess
import sys

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from diva.learning import retrieval
from diva.learning.retrieval import nearest_neighbours, pairwise_distances, score_retrieval

QUICK = settings(deadline=None, max_examples=40)


def drawn(*shape: int) -> numpy.ndarray:
    return numpy.random.Generator(numpy.random.Philox(5)).normal(size=shape)


@st.composite
def searches(draw):
    """Distances with many ties from one query to up to six items, and which of them are relevant."""
    n = draw(st.integers(1, 6))
    distances = draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, math.inf]), min_size=n, max_size=n))
    return distances, draw(st.lists(st.booleans(), min_size=n, max_size=n))


def scored(distances, relevant, **more):
    """One query's scores, of items at these distances."""
    places = [[math.nan if math.isinf(d) else d] for d in distances]  # what is not finite is infinitely far
    return score_retrieval([[0.0]], [1], places, [int(r) for r in relevant], distance="euclidean", **more)


def orders_of(distances: list[float]) -> list[list[int]]:
    """Every order of the items that falls in with the distances."""
    return [
        list(o) for o in itertools.permutations(range(len(distances))) if sorted(distances) == [distances[i] for i in o]
    ]


@QUICK
@given(searches(), st.integers(1, 7))
def test_scores_are_the_means_over_every_order_of_ties(search, k):
    distances, relevant = search
    found = scored(distances, relevant, k=k, recall_at=(k,))
    if not any(relevant):
        assert all(math.isnan(value) for value in found.metrics().values()) and found.n_queries == 0
        return
    ranked = [[relevant[i] for i in order] for order in orders_of(distances)]
    n_relevant = sum(relevant)

    def at_k(row: list[bool]) -> float:
        return sum(sum(row[: i + 1]) / (i + 1) for i in range(len(row[:k])) if row[i]) / min(k, n_relevant)

    wanted = {
        "mAP": [average_precision_score(row, -numpy.arange(len(row))) for row in ranked],
        f"mAP_at_{k}": [at_k(row) for row in ranked],
        "precision_at_1": [row[0] for row in ranked],
        f"recall_at_{k}": [any(row[:k]) for row in ranked],
    }
    assert found.metrics() == pytest.approx({name: numpy.mean(values) for name, values in wanted.items()}, abs=1e-12)


def test_scores_of_many_queries_are_scikit_learns():
    vectors, labels = drawn(60, 5), numpy.arange(60) % 7
    found = score_retrieval(vectors, labels)
    for query in range(60):
        others = numpy.arange(60) != query
        scores = -cdist(vectors[query : query + 1], vectors, "cosine")[0]
        wanted = average_precision_score(labels[others] == labels[query], scores[others])
        assert found.average_precision[query] == pytest.approx(wanted, abs=1e-12)
    report = found.class_report([str(c) for c in range(8)])
    assert f"| 3 | {found.average_precision[labels == 3].mean():.4f} |" in report and "| 7 | | | 0 |" in report


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_items_to_find_each_other_give_no_score(n):
    found = score_retrieval(numpy.zeros((n, 3)), numpy.zeros(n, int))
    assert found.n_queries == 0 and all(math.isnan(value) for value in found.metrics().values())


def test_a_score_computed_by_hand():
    found = scored([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], k=2, recall_at=(1, 2))
    assert found.metrics() == {
        "mAP": 0.5, "mAP_at_2": 0.25, "precision_at_1": 0.0, "recall_at_1": 0.0, "recall_at_2": 1.0,
    }  # fmt: skip


def test_everything_in_one_place_scores_as_a_guess_does():
    labels = numpy.arange(30) % 3
    found = score_retrieval(numpy.ones((30, 4)), labels).metrics()
    assert found["precision_at_1"] == pytest.approx(9 / 29) and found["mAP"] < 0.42


def test_a_query_alone_in_its_class_is_left_out_and_does_not_find_itself():
    found = score_retrieval([[0.0], [1.0], [5.0]], [0, 0, 1], distance="euclidean", k=1)
    assert numpy.isnan(found.average_precision).tolist() == [False, False, True]
    assert found.metrics()["mAP"] == 1.0 and found.n_queries == 2
    assert math.isnan(score_retrieval([[1.0]], [0]).metrics()["mAP"])


@pytest.mark.parametrize(
    ("name", "theirs"), [("cosine", "cosine"), ("euclidean", "euclidean"), ("bray_curtis", "braycurtis")]
)
def test_distances_are_those_of_scipy(name, theirs):
    queries, gallery = numpy.abs(drawn(7, 12)) * 1e6, numpy.abs(drawn(9, 12)) * 1e6
    assert pairwise_distances(queries, gallery, name) == pytest.approx(cdist(queries, gallery, theirs), rel=1e-5)


@pytest.mark.parametrize("name", ["euclidean", "bray_curtis"])
def test_the_order_of_coordinates_changes_no_bit(name):
    vectors = numpy.abs(drawn(20, 301))
    mixed = vectors[:, numpy.argsort(drawn(301))]
    assert (pairwise_distances(vectors, None, name) == pairwise_distances(mixed, None, name)).all()


def test_the_length_of_a_vector_changes_no_bit_of_its_direction():
    vectors = drawn(20, 301)
    lengths = 2.0 ** numpy.arange(-100, 100, 10)[:, None]
    assert (pairwise_distances(vectors * lengths) == pairwise_distances(vectors)).all()


def test_threads_and_kinds_of_blas_change_no_bit():
    program = (
        "import hashlib, numpy\nfrom diva.learning.retrieval import pairwise_distances\n"
        "v = numpy.random.Generator(numpy.random.Philox(5)).normal(size=(257, 129))\n"
        "print(hashlib.sha256(pairwise_distances(v).tobytes()).hexdigest())"
    )
    digests = set()
    for threads, kind in (("1", "Haswell"), ("2", "Prescott")):
        said = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": kind}
        done = subprocess.run([sys.executable, "-c", program], env=said, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_the_size_of_a_block_changes_no_bit(monkeypatch):
    vectors, labels = numpy.round(drawn(23, 3)), numpy.arange(23) % 4
    whole, nearest = score_retrieval(vectors, labels), nearest_neighbours(vectors, k=5)
    monkeypatch.setattr(retrieval, "_ENTRIES", 50)
    parts, near = score_retrieval(vectors, labels), nearest_neighbours(vectors, k=5)
    assert (parts.average_precision == whole.average_precision).all() and parts.metrics() == whole.metrics()
    assert (near[0] == nearest[0]).all() and (near[1] == nearest[1]).all()


def test_equals_are_at_distance_zero_and_the_lower_number_comes_first():
    numbers, distances = nearest_neighbours([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0], [-3.0, -4.0]], k=9)
    assert numbers.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert distances[0, :2].tolist() == [0.0, 0.0] and distances[0, 2] == pytest.approx(2.0)


def test_vectors_that_are_not_finite_or_zero_come_last_and_nothing_breaks():
    vectors = [[1.0, 0.0], [math.nan, 0.0], [0.0, 0.0], [1.0, 1e-3], [math.inf, 1.0]]
    distances = pairwise_distances(vectors)
    assert numpy.isinf(distances[1]).all() and numpy.isinf(distances[:, 4]).all() and distances[0, 2] == 1
    assert nearest_neighbours(vectors, k=2)[0][0].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pairwise_distances([[1.0]], [[1.0, 2.0]]), "1 coordinates, the gallery 2"),
        (lambda: pairwise_distances([[-1.0]], None, "bray_curtis"), "negative"),
        (lambda: pairwise_distances([1.0]), r"\(n, D\)"),
        (lambda: score_retrieval([[1.0]], [1], [[1.0], [2.0]], [1, 2, 3]), "3 labels do not fit"),
        (lambda: score_retrieval([[1.0]], [1], [[1.0], [2.0]], [1, 2], k=0), "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
