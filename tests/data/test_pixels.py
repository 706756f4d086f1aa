"""Decoded images: right for any size and mode, kept once for all processes when they fit, and named when they cannot be read."""

import copy
import multiprocessing
import os
import pickle
import signal

import numpy
import pytest
from PIL import Image
from torch.utils.data import Dataset, Subset

from diva.data import pixels as pixels_module
from diva.data.pixels import Pixels, available_memory, keep_in_memory, padded_width, pixels_of
from diva.errors import DataError, UsageError


@pytest.fixture
def paths(tmp_path):
    """Seven grey images of 6 x 4 pixels, image i filled with i."""
    made = []
    for i in range(7):
        made.append(tmp_path / f"{i}.png")
        Image.fromarray(numpy.full((6, 4), i, numpy.uint8)).save(made[-1])
    return made


class Holder(Dataset):
    """A data set with pixels and nothing else."""

    def __init__(self, pixels):
        self.pixels = pixels


def values(batch):
    return batch[:, 0, 0, 0].tolist()


def kept(paths, mode="L", size=(6, 4)):
    made = Pixels(paths, mode, size)
    made.keep()
    return made


@pytest.mark.parametrize("keep", [False, True])
def test_batches_hold_the_images_asked_for(paths, keep):
    made = kept(paths) if keep else Pixels(paths, "L", (6, 4))
    for indices in ([3, 0, 6], [3], [1, 3, 1, 2], [], [6, 5, 4, 3, 2, 1, 0]):
        batch = made.read(indices)
        assert batch.shape == (len(indices), 6, 4, 1) and batch.dtype == numpy.uint8
        assert values(batch) == indices


@pytest.mark.parametrize("keep", [False, True])
def test_writing_into_a_batch_changes_no_other(paths, keep):
    made = kept(paths) if keep else Pixels(paths, "L", (6, 4))
    for indices in ([2, 5], [2, 5], [4, 5], [4, 5], [4], [4]):
        batch = made.read(indices)
        assert values(batch) == indices
        batch[:] = 77


def test_resizing_and_colour_are_those_of_pillow(tmp_path):
    drawn = numpy.random.Generator(numpy.random.Philox(1)).integers(0, 256, (9, 7, 3), dtype=numpy.uint8)
    Image.fromarray(drawn).save(tmp_path / "a.png")
    expected = numpy.asarray(Image.fromarray(drawn).resize((4, 5), Image.Resampling.BILINEAR))
    assert numpy.array_equal(Pixels([tmp_path / "a.png"], "RGB", (5, 4)).read([0])[0], expected)
    grey = numpy.asarray(Image.fromarray(drawn).convert("L").resize((4, 5), Image.Resampling.BILINEAR))
    assert numpy.array_equal(kept([tmp_path / "a.png"], "L", (5, 4)).read([0])[0, :, :, 0], grey)


@pytest.mark.parametrize(("size", "columns"), [((10, 5), 8), ((5, 10), 2), ((100, 4), 20), ((1, 50), 1), ((9, 4), 9)])
def test_padding_keeps_proportions_and_fills_the_rest_with_the_median(tmp_path, size, columns):
    path = tmp_path / "wide.png"
    image = numpy.full((size[1], size[0], 3), 90, numpy.uint8)
    image[:, -1:] = 10 if size[0] > 1 else 90
    Image.fromarray(image).save(path)
    pixels = Pixels([path], "RGB", (4, 20), pad=True).read([0])[0]
    assert padded_width(path, (4, 20)) == columns and pixels.shape == (4, 20, 3)
    assert (pixels[:, columns:] == 90).all()
    assert numpy.array_equal(
        pixels[:, :columns], numpy.asarray(Image.open(path).resize((columns, 4), Image.Resampling.BILINEAR))
    )


def test_an_image_that_is_kept_is_decoded_once(paths):
    made = kept(paths)
    assert values(made.read([1, 2, 1])) == [1, 2, 1]
    for path in paths[1:3]:
        path.unlink()
    assert values(made.read([2, 4, 1])) == [2, 4, 1]


def test_what_a_forked_process_decodes_the_others_have(paths):
    made = kept(paths)
    child = multiprocessing.get_context("fork").Process(target=made.read, args=([0, 1, 2, 3, 4, 5, 6],))
    child.start()
    child.join()
    for path in paths:
        path.unlink()
    assert values(made.read([6, 0])) == [6, 0]


@pytest.mark.parametrize("keep", [False, True])
def test_threads_change_nothing_and_the_first_bad_file_is_named(paths, keep, monkeypatch):
    monkeypatch.setattr(pixels_module, "WORTH_A_THREAD_S", 0.0)
    monkeypatch.setattr(pixels_module, "_free_cores", lambda: 4)
    made = kept(paths) if keep else Pixels(paths, "L", (6, 4))
    paths[2].write_bytes(b"no image")
    paths[5].write_bytes(b"no image either")
    for indices, bad in (([0, 1, 5, 3, 2, 4], 5), ([6, 2, 5], 2), ([2, 0, 1], 2)):
        with pytest.raises(DataError, match=rf"{bad}\.png: cannot be read"):
            made.read(indices)
    assert values(made.read([6, 1, 0, 3, 4])) == [6, 1, 0, 3, 4]


def test_a_forked_process_starts_threads_of_its_own(paths, monkeypatch):
    monkeypatch.setattr(pixels_module, "WORTH_A_THREAD_S", 0.0)
    monkeypatch.setattr(pixels_module, "_free_cores", lambda: 2)
    made = kept(paths)
    made.read([0, 1, 2])
    child = multiprocessing.get_context("fork").Process(target=made.read, args=([3, 4, 5, 6],), daemon=True)
    child.start()
    child.join(60)  # for ever, were it to wait for threads that stayed behind
    assert child.exitcode == 0


def test_copies_begin_without_memory(paths):
    made = kept(paths)
    made.read([1])
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert not again.is_kept and values(again.read([1])) == [1]


# --- Whether they are kept --------------------------------------------------------------------------------------------


def test_auto_keeps_what_fits_into_a_quarter_of_the_memory(paths, monkeypatch):
    needed = 2 * 7 * (6 * 4 + 1)
    for available, fits in ((4 * needed, True), (4 * needed - 1, False)):
        monkeypatch.setattr(pixels_module, "available_memory", lambda available=available: available)
        sets = [Holder(Pixels(paths, "L", (6, 4))) for _ in range(2)]
        line = keep_in_memory(sets, "auto")
        assert [one.pixels.is_kept for one in sets] == [fits, fits]
        assert line == (
            "cache: 14 images are decoded once and kept in memory, 0 kB" if fits else
            "cache: off, 14 decoded images take 0 kB, more than a quarter of what is there: 1 kB of memory are available"
        )  # fmt: skip


def test_on_takes_more_than_a_quarter_but_not_more_than_there_is(paths, monkeypatch):
    needed = 7 * (6 * 4 + 1)
    monkeypatch.setattr(pixels_module, "available_memory", lambda: needed)
    one = Holder(Pixels(paths, "L", (6, 4)))
    keep_in_memory([one], "on")
    assert one.pixels.is_kept
    monkeypatch.setattr(pixels_module, "available_memory", lambda: needed - 1)
    with pytest.raises(
        UsageError, match="--cache on: 7 decoded images take 0 kB, and 0 kB of memory are available; use"
    ):
        keep_in_memory([Holder(Pixels(paths, "L", (6, 4)))], "on")


def test_off_keeps_nothing_and_says_nothing(paths):
    one = Holder(Pixels(paths, "L", (6, 4)))
    assert keep_in_memory([one], "off") == "" and not one.pixels.is_kept


def test_memory_that_cannot_be_had_is_an_error_only_where_it_was_asked_for(paths, monkeypatch):
    def refuse(self):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(Pixels, "keep", refuse)
    one = Holder(Pixels(paths, "L", (6, 4)))
    assert "cannot be had (Cannot allocate memory)" in keep_in_memory([one], "auto")
    with pytest.raises(UsageError, match="cannot be had"):
        keep_in_memory([one], "on")


def test_a_task_without_images_cannot_keep_any(paths):
    assert keep_in_memory([[1, 2]], "auto") == ""
    with pytest.raises(UsageError, match="reads no images"):
        keep_in_memory([[1, 2]], "on")


def test_a_subset_has_the_pixels_of_the_whole_and_they_count_once(paths, monkeypatch):
    whole = Holder(Pixels(paths, "L", (6, 4)))
    part: Subset = Subset(Subset(whole, [0, 1, 2]), [1])
    assert pixels_of(part) is whole.pixels
    monkeypatch.setattr(pixels_module, "available_memory", lambda: 4 * 7 * (6 * 4 + 1))
    assert keep_in_memory([part, whole, part], "auto").startswith("cache: 7 images")


# --- How much memory there is -----------------------------------------------------------------------------------------


def machine(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return available_memory(root)


MEMINFO = "MemTotal:       16000 kB\nMemAvailable:    8000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8_192_000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}, 8_192_000),
        (  # a container: the files it has read can be given back
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5000000\n", "sys/fs/cgroup/memory.current": "4000000\n",
             "sys/fs/cgroup/memory.stat": "anon 100\ninactive_file 500000\nactive_file 500000\n"},
            2_000_000,
        ),
        (  # a limit on a group above
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "3000000\n", "sys/fs/cgroup/a/memory.current": "1000000\n",
             "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "7\n"},
            2_000_000,
        ),
        (  # control groups, version 1
            {"proc/self/cgroup": "7:cpu:/x\n4:memory:/x\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "900000\n",
             "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n"},
            0,
        ),
    ],
)  # fmt: skip
def test_available_memory_respects_the_limits_of_a_container(tmp_path, files, expected):
    assert machine(tmp_path, {"proc/meminfo": MEMINFO, **files}) == expected


def test_available_memory_here_is_some_of_what_the_machine_has():
    assert 0 < available_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Deadly:
    """Flags whose setting ends the process, as the system does when memory runs out."""

    def __init__(self, flags):
        self.flags = flags

    def __getitem__(self, places):
        return self.flags[places]

    def __setitem__(self, places, value):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_on_the_way_holds_up_no_other(paths):
    made = kept(paths)

    def read(deadly):
        if deadly:
            made._kept.flags = Deadly(made._kept.flags)
        made.read([0, 1])

    context = multiprocessing.get_context("fork")
    codes = []
    for deadly in (True, False):
        child = context.Process(target=read, args=(deadly,))
        child.start()
        child.join(20)
        codes.append(child.exitcode)
        child.kill()
    assert codes == [-signal.SIGKILL, 0]
    paths[0].unlink()
    assert values(made.read([1, 0])) == [1, 0]
