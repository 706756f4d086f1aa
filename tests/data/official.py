"""Makers of tiny files in the official formats, for the tests of readers and of downloads."""

import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy

from diva.data import formats
from diva.data.download import conversion


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
    members: dict[str, bytes] = {}
    truth: dict[str, Any] = {"train": ([], []), "test": ([], [])}
    for k, stem in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        rows = random_images(per_batch, 3072, seed=seed + k)
        labels = (numpy.arange(per_batch) + 3 * k) % 10
        split = "test" if stem == "test_batch" else "train"
        truth[split][0].append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        truth[split][1].append(labels)
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


def cifar100(path, train=6, test=4, names=None):
    """An archive like cifar-100-python.tar.gz with these class names (fine ones; the coarse are not looked at)."""
    members, truth = {}, {}
    for split, n in (("train", train), ("test", test)):
        rows, labels = random_images(n, 3072, seed=n), numpy.arange(n) * 17 % 100
        truth[split] = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
        found = {b"fine_labels": labels.tolist(), b"coarse_labels": [0] * n, b"data": rows}
        members[f"cifar-100-python/{split}"] = Python2Pickle.dumps(found)
    members["cifar-100-python/meta"] = Python2Pickle.dumps({b"fine_label_names": [name.encode() for name in names]})
    return tar_gz(path, members), truth


def emnist_zip(path, part="letters", first_label=1, n=8, names=None):
    """An archive like EMNIST's gzip.zip: gzip within zip, images on their side, labels of letters from 1."""
    members, truth = {"gzip/emnist-balanced-mapping.txt": b"0 48\n"}, {}
    for seed, split in enumerate(("train", "test")):
        upright, labels = random_images(n, 28, 28, seed=seed), numpy.arange(n) % 5
        truth[split] = upright, labels
        members[f"gzip/emnist-{part}-{split}-images-idx3-ubyte.gz"] = gz(idx(upright.transpose(0, 2, 1)))
        members[f"gzip/emnist-{part}-{split}-labels-idx1-ubyte.gz"] = gz(idx(labels + first_label))
    return zipped(path, members), truth


def svhn_mat(path, n=12, seed=0, labels=None):
    """A file like train_32x32.mat; its images (N, 32, 32, 3) and the digits shown."""
    from scipy.io import savemat

    images, digits = random_images(n, 32, 32, 3, seed=seed), numpy.arange(n) % 10
    stored = numpy.where(digits == 0, 10, digits).reshape(-1, 1) if labels is None else labels
    savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": stored.astype(numpy.uint8)}, do_compression=True)
    return path, images, digits


def stl10(path, train=20, test=10, unlabelled=3):
    """An archive like stl10_binary.tar.gz: planes column by column, labels from 1."""
    members, truth = {}, {}
    for split, n in (("test", test), ("train", train), ("unlabeled", unlabelled)):
        images, labels = random_images(n, 96, 96, 3, seed=n), numpy.arange(n) % 10
        truth[split] = images, labels
        members[f"stl10_binary/{split}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()
        if split != "unlabeled":
            members[f"stl10_binary/{split}_y.bin"] = (labels + 1).astype(numpy.uint8).tobytes()
    names = "airplane bird car cat deer dog horse monkey ship truck"
    return tar_gz(path, {"stl10_binary/class_names.txt": names.replace(" ", "\n").encode(), **members}), truth


def caltech101(path, classes=("Faces", "accordion", "BACKGROUND_Google"), n=5):
    """An archive like caltech-101.zip: a tar.gz of class folders inside a zip."""
    images = {
        f"101_ObjectCategories/{label}/image_{i:04}.jpg": image_bytes(random_images(1, 6, 5, 3, seed=i)[0], "JPEG")
        for label in classes
        for i in range(1, n + 1)
    }
    inner = tar_gz(path.with_suffix(".inner"), images)
    content = inner.read_bytes()
    inner.unlink()
    zipped(path, {"caltech-101/101_ObjectCategories.tar.gz": content, "caltech-101/Annotations.tar": b"outlines"})
    return path, images


def pets(folder, breeds=("Abyssinian", "beagle"), trainval=5, test=2):
    """The two archives of Oxford-IIIT Pet: photographs, and trimaps with the lists of the splits."""
    images, trimaps = {}, {}
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for kind, breed in enumerate(breeds, 1):
        for i in range(trainval + test):
            name = f"{breed}_{i}"
            images[f"images/{name}.jpg"] = image_bytes(random_images(1, 9, 8, 3, seed=i)[0], "JPEG")
            trimap = random_images(1, 9, 8, seed=i)[0] % 3 + 1
            trimaps[f"annotations/trimaps/{name}.png"] = image_bytes(trimap)
            trimaps[f"annotations/trimaps/._{name}.png"] = b"left by a Mac"
            lists["trainval" if i < trainval else "test"].append(f"{name} {kind} 1 1")
    texts = {f"annotations/{key}.txt": ("\n".join(lines) + "\n").encode() for key, lines in lists.items()}
    texts["annotations/list.txt"] = b"#Image CLASS-ID SPECIES BREED ID\n"
    return {
        "images.tar.gz": tar_gz(folder / "images.tar.gz", images),
        "annotations.tar.gz": tar_gz(folder / "annotations.tar.gz", trimaps | texts),
    }


def hisdb(path, manuscripts=("CB55", "CS18"), pages=2):
    """An archive like DIVA-HisDB's all.zip: per manuscript a zip of pages and a zip of ground truth."""
    outer = {}
    for manuscript in manuscripts:
        for kind, form in (("img", "JPEG"), ("pixel-level-gt", "PNG")):
            inner = {}
            for split in ("public-test", "training", "validation"):
                for page in range(pages):
                    name = f"e-codices_{manuscript}_{split}_{page}r_max"
                    suffix = ".jpg" if kind == "img" else ".png"
                    inner[f"{kind}/{split}/{name}{suffix}"] = image_bytes(random_images(1, 7, 6, 3, seed=page)[0], form)
            zipped(path, inner)
            outer[f"{kind}-{manuscript}.zip"] = path.read_bytes()
    return zipped(path, outer)


def clamm(folder, n=6):
    """The two archives of ICDAR2017-CLaMM, whose tables have other column names each."""
    found = {}
    for name, table, header in (
        ("ICDAR2017_CLaMM_Training", "@ICDAR2017_CLaMM_Training.csv", "FILENAME;SCRIPT_TYPE;DATE_TYPE"),
        ("ICDAR2017_CLaMM_task1_task3", "@task1_task3.csv", "Number;FILE_NAME;Script_type_ICDAR2017;DATE_ICDAR"),
    ):
        pages = {f"{name}/page_{i}.tif": image_bytes(random_images(1, 6, 5, seed=i)[0], "TIFF") for i in range(n)}
        lead = ";" if header.startswith("FILE") else "{0};"
        rows = [lead.format(i).lstrip(";") + f"page_{i}.tif;{i % 2 + 1};{i % 3 + 1}" for i in range(n)]
        if "task1" in name:  # the official archive has these gaps
            rows.append("9;IRHT_P_009783.tif;1;1")
            pages[f"{name}/IRHT_P_009793.tif"] = b"a page without a line"
        content = "\r\n".join([header, *rows, ""]).encode()
        found[f"{name}.zip"] = zipped(
            folder / f"{name}.zip", {f"{name}/{table}": content, f"{name}/Thumbs.db": b"x", **pages}
        )
    return found


def historical_wi(folder, train=5, test=3):
    """The two archives of Historical-WI: the writer is what comes before the first dash."""
    found = {}
    for name, inside, first, n in (
        ("icdar17-historicalwi-training-color.zip", "icdar2017-training-color", 0, train),
        ("ScriptNet-HistoricalWI-2017-color.zip", "ScriptNet-HistoricalWI-2017-color", 1000, test),
    ):
        pages = {
            f"{inside}/{first + writer}-IMG_MAX_{page}.jpg": image_bytes(
                random_images(1, 5, 6, 3, seed=page)[0], "JPEG"
            )
            for writer in range(n)
            for page in range(3)
        }
        found[name] = zipped(folder / name, pages)
    return found


def miml(folder, n=10):
    """The folder that unpacking MIML's archives makes; the labels (classes, images)."""
    from scipy.io import savemat

    (folder / "original").mkdir(parents=True)
    for i in range(1, n + 1):
        (folder / "original" / f"{i}.jpg").write_bytes(image_bytes(random_images(1, 5, 6, 3, seed=i)[0], "JPEG"))
    targets = numpy.where(numpy.random.default_rng(0).random((5, n)) < 0.4, 1, -1)
    names = numpy.array(["desert", "mountains", "sea", "sunset", "trees"], dtype=object).reshape(5, 1)
    savemat(folder / "miml data.mat", {"targets": targets.astype(float), "class_name": names})
    return folder, targets


def glas(path, patients=4, test=2):
    """An archive like GlaS's: pictures, masks that number the glands, and who is the patient."""
    members, rows = {}, ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    names = [f"train_{i}" for i in range(1, 2 * patients + 1)] + [
        f"test{p}_{i}" for p in "AB" for i in range(1, test + 1)
    ]
    top = "Warwick QU Dataset (Released 2016_07_08)"
    for i, name in enumerate(names):
        members[f"{top}/{name}.bmp"] = image_bytes(random_images(1, 8, 10, 3, seed=i)[0], "BMP")
        members[f"{top}/{name}_anno.bmp"] = image_bytes(random_images(1, 8, 10, seed=i)[0] % 4, "BMP")
        rows.append(f"{name}, {i // 2}, benign, adenomatous")
    members[f"{top}/Grade.csv"] = "\n".join(rows).encode()
    return zipped(path, members)


def decoded(content):
    from PIL import Image

    return Image.open(io.BytesIO(content))


def written(tmp_path, files, card):
    """The folder that a data set's official files become."""
    conversion.write(formats.reader_of(card)(files, card), tmp_path / "out", card)
    return tmp_path / "out"


def paths(folder):
    """Every file of a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
