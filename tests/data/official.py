"""Makers of tiny files in the official formats, for the tests of readers and of downloads."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy


def idx(array):
    """An array of bytes as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(numpy.uint8).tobytes()


def random_images(n, *shape, seed=0):
    return numpy.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=numpy.uint8)


def gz(content):
    return gzip.compress(content, mtime=0)


def tar_gz(path, members):
    """A tar.gz of files by name, in the order given."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members):
    """A zip of files by name, in the order given."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def mnist_like(folder, train=12, test=6, classes=10, side=28, seed=0):
    """The four files of MNIST; their paths by name, images and labels by split."""
    folder.mkdir(parents=True, exist_ok=True)
    files, truth = {}, {}
    for split, stem, n in (("train", "train", train), ("test", "t10k", test)):
        images, labels = random_images(n, side, side, seed=seed), numpy.arange(n) % classes
        truth[split] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{stem}-{kind}-ubyte.gz"
            (folder / name).write_bytes(gz(idx(array)))
            files[name] = folder / name
        seed += 1
    return files, truth


class Python2Pickle:
    """CIFAR's pickles as Python 2 wrote them: protocol 2, text as bytes, arrays rebuilt by numpy.core.multiarray."""

    @classmethod
    def dumps(cls, found):
        return b"\x80\x02" + cls._item(found) + b"."

    @classmethod
    def _item(cls, item):
        if isinstance(item, dict):
            return b"}(" + b"".join(cls._item(k) + cls._item(v) for k, v in item.items()) + b"u"
        if isinstance(item, list):
            return b"](" + b"".join(map(cls._item, item)) + b"e"
        if isinstance(item, numpy.ndarray):
            shape = b"".join(map(cls._item, item.shape))
            kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            return made + b"(K\x01(" + shape + b"t" + kind + b"\x89" + cls._item(item.tobytes()) + b"tb"
        if isinstance(item, bytes):
            return b"T" + struct.pack("<i", len(item)) + item
        return b"J" + struct.pack("<i", int(item))


def cifar10(path, per_batch=4, seed=0, binary=False, names=None, protocol=None):
    """An archive like cifar-10-python.tar.gz (or -binary): five batches and a test batch; images and labels by split."""
    names = names or ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    members, truth = {}, {"train": ([], []), "test": ([], [])}
    for k, stem in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        rows = random_images(per_batch, 3072, seed=seed + k)
        labels = (numpy.arange(per_batch) + 3 * k) % 10
        split = "test" if stem == "test_batch" else "train"
        truth[split][0].append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), truth[split][1].append(labels)
        if binary:
            members[f"cifar-10-batches-bin/{stem}.bin"] = (
                numpy.column_stack([labels, rows]).astype(numpy.uint8).tobytes()
            )
        else:
            found = {b"batch_label": stem.encode(), b"labels": labels.tolist(), b"data": rows}
            members[f"cifar-10-batches-py/{stem}"] = _pickled(found, protocol)
    if binary:
        members["cifar-10-batches-bin/batches.meta.txt"] = ("\n".join(names) + "\n\n").encode()
    else:
        members["cifar-10-batches-py/batches.meta"] = _pickled({b"label_names": [n.encode() for n in names]}, protocol)
        members["cifar-10-batches-py/readme.html"] = b"<html>"
    order = [3, 6, 5, 0, 2, 4, 1]  # the official archive is in no order either
    keys = list(members)
    members = {keys[i]: members[keys[i]] for i in order} | members
    tar_gz(path, members)
    return path, {split: (numpy.concatenate(i), numpy.concatenate(n)) for split, (i, n) in truth.items()}


def _pickled(found, protocol):
    return Python2Pickle.dumps(found) if protocol is None else pickle.dumps(found, protocol)


def image_bytes(pixels, form="PNG", **options):
    """Pixels as a file that Pillow writes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def pixels_of(path: Path):
    from PIL import Image

    return numpy.asarray(Image.open(path))
