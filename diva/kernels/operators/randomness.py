"""Random fillers, dropout and sampling, D7: a nonce from PyTorch's generator is the key, the element's index the counter."""

from __future__ import annotations

import ctypes
import threading
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels import capture
from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel, stock

_stock_random_ = stock("random_")
_MASK = (1 << 62) - 1
_FLOATING = (torch.float32, torch.float64)


class _Draw(threading.local):
    """One integer per thread for PyTorch's generator to write into, and to be read without a call into PyTorch."""

    def __init__(self) -> None:
        self.word = torch.empty((), dtype=torch.int64, device="cpu")
        self.value = ctypes.c_int64.from_address(self.word.data_ptr())


_draw = _Draw()


def nonce(generator: torch.Generator | None = None, on: Tensor | None = None) -> int:
    """62 bits drawn from the generator given, or from the CPU's default one: integers, the same on every machine.

    Tensors on a GPU are filled by the CPU's generator too, and so by the same numbers. While a CUDA graph is captured, what
    fills the tensor `on` takes its nonce from memory, and gets a code for the place.
    """
    if on is not None and on.is_cuda:
        code = capture.code()
        if code is not None and generator is not None:
            raise RuntimeError("a draw from a generator of its own cannot be captured: a replay would not advance it")
        if code is not None:
            return code
    if generator is not None and generator.device.type != "cpu":
        generator = _as_on_cpu(generator)
    _stock_random_(_draw.word, generator=generator)
    return int(_draw.value.value) & _MASK


class _Replayed(NamedTuple):
    """A CPU generator in the place of a GPU's: its seed, and how many numbers it has given."""

    generator: torch.Generator
    seed: int
    drawn: int


_replayed: WeakKeyDictionary[Any, _Replayed] = WeakKeyDictionary()
_OFFSET = 4  # a GPU's generator counts in multiples of 4


def _as_on_cpu(generator: Any) -> torch.Generator:
    """The CPU generator that gives what one of this GPU generator's seed would give next, had it been made on the CPU.

    The place in its sequence is the GPU generator's own offset, which get_state and set_state keep and manual_seed clears.
    """
    seed, drawn = generator.initial_seed(), generator.get_offset() // _OFFSET
    found = _replayed.get(generator)
    if found is None or found.seed != seed or found.drawn > drawn:
        found = _Replayed(torch.Generator("cpu").manual_seed(seed), seed, 0)
    if found.drawn < drawn:
        _stock_random_(torch.empty(drawn - found.drawn, dtype=torch.int64, device="cpu"), generator=found.generator)
    _replayed[generator] = found._replace(drawn=drawn + 1)
    generator.set_offset(_OFFSET * (drawn + 1))
    return found.generator


def fill(tensor: Tensor, function: Any, *arguments: Any) -> Tensor:
    """function(pointer, n, *arguments) fills `tensor`, whatever its strides, in row-major order of its elements."""
    if tensor.is_contiguous():
        status = function(tensor.data_ptr(), tensor.numel(), *arguments)
    else:
        dense = tensor.new_empty(tensor.shape)
        status = function(dense.data_ptr(), dense.numel(), *arguments)
        tensor.copy_(dense)
    if status:
        raise failed(status, "a random filler")
    return tensor


def fill_as(tensor: Tensor, made: torch.dtype, function: Any, *arguments: Any) -> Tensor:
    """As `fill`, with numbers made in the type `made` and converted."""
    if tensor.dtype == made:
        return fill(tensor, function, *arguments)
    dense = fill(tensor.new_empty(tensor.shape, dtype=made), function, *arguments)
    return tensor.copy_(dense)


@kernel("uniform_")
def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """fma(u, high - low, low), u in (0, 1) exclusive; a bound is reached only by that rounding."""
    if not low <= high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low} > to={high}")
    function = native.of(self).uniform
    if high - low > torch.finfo(self.dtype).max:
        raise RuntimeError(f"uniform_ expects to-from <= {torch.finfo(self.dtype).max}, but found {low} and {high}")
    return fill(self, function, nonce(generator, self), low, high)


@kernel("normal_")
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: torch.Generator | None = None) -> Tensor:
    """fma(z, std, mean), z by inverse CDF."""
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return fill(self, native.of(self).normal, nonce(generator, self), mean, std)


@kernel("bernoulli_.float")
def bernoulli_(self: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    """1 where the element's word is below round(p 2^32), else 0; never for p = 0, always for p = 1."""
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p}")
    if self.dtype in _FLOATING:
        return fill(self, native.of(self).bernoulli, nonce(generator, self), p)
    if self.dtype in (torch.bool, torch.uint8):
        return fill(self, native.on(self).bernoulli_u8, nonce(generator, self), p)
    return fill_as(self, torch.uint8, native.on(self).bernoulli_u8, nonce(generator, self), p)


@kernel("bernoulli_.Tensor")
def bernoulli_each_(self: Tensor, p: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """As bernoulli_, with a probability per element, broadcast to `self`."""
    function = native.of(p).bernoulli_each
    each = p.expand(self.shape).contiguous()
    drawn = self.new_empty(self.shape, dtype=torch.uint8)
    status = function(drawn.data_ptr(), drawn.numel(), nonce(generator, self), each.data_ptr())
    if status:
        said = "Expected p_in >= 0 && p_in <= 1 to be true: a probability of bernoulli is outside [0, 1]"
        raise failed(status, "bernoulli", RuntimeError(said))
    return self.copy_(drawn)


@kernel("bernoulli.out")
def bernoulli_out(self: Tensor, *, generator: torch.Generator | None = None, out: Tensor) -> Tensor:
    """bernoulli_ with the probabilities `self` into `out`, which takes its shape."""
    drawn: Tensor = bernoulli_each_(out.resize_(self.shape), self, generator=generator)
    return drawn


@kernel("random_")
def random_(self: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Integers from 0 to the largest that the type holds (to 2^24 in float32, 2^53 in float64), inclusive."""
    return fill_as(self, torch.int64, native.on(self).integers, nonce(generator, self), 0, _largest(self.dtype) + 1)


@kernel("random_.to")
def random_to_(self: Tensor, high: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Integers in [0, high)."""
    drawn: Tensor = random_from_(self, 0, high, generator=generator)
    return drawn


@kernel("random_.from")
def random_from_(
    self: Tensor, low: int, high: int | None = None, *, generator: torch.Generator | None = None
) -> Tensor:
    """Integers in [low, high), or from low to the largest of the type: low + high half of (word64 range).

    In a floating type they are rounded to nearest.
    """
    smallest, largest = _smallest(self.dtype), _largest(self.dtype)
    end = largest + 1 if high is None else high
    if low >= end:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={end}")
    if not self.is_floating_point() and not (smallest <= low and end - 1 <= largest):
        raise RuntimeError(f"random_: from={low} or to={end} is out of bounds for {self.dtype}")
    return fill_as(self, torch.int64, native.on(self).integers, nonce(generator, self), low, (end - low) % 2**64)


def _largest(dtype: torch.dtype) -> int:
    if dtype == torch.bool:
        return 1
    if dtype in _FLOATING:
        return 1 << (24 if dtype == torch.float32 else 53)
    if dtype.is_floating_point or dtype.is_complex:
        raise KernelError(f"exact kernels compute in float32 and float64, not in {dtype}; use --backend torch")
    return torch.iinfo(dtype).max


def _smallest(dtype: torch.dtype) -> int:
    return 0 if dtype == torch.bool or dtype.is_floating_point else torch.iinfo(dtype).min


_kept: dict[float, float] = {}  # 1 - p by 1 / (1 - p), from which it cannot be had back for every p


@kernel("native_dropout")
def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """x (mask / (1 - p)) and the mask: what dropout on the CPU computes, which comes here on a GPU; 0 x for p = 1."""
    if input.numel() == 0:
        return input, torch.empty_like(input)
    if train is False:
        return input.clone(), torch.ones_like(input, dtype=torch.bool)
    kept = 1.0 - p
    if p < 1:
        _kept[1.0 / kept] = kept
    mask = bernoulli_(torch.empty_like(input, dtype=torch.bool), kept)
    return torch.mul(input, _noise(mask, kept, input.dtype)), mask


@kernel("native_dropout_backward")
def native_dropout_backward(grad_output: Tensor, mask: Tensor, scale: float) -> Tensor:
    """g (mask / (1 - p)), where scale = 1 / (1 - p), and 0 for p = 1."""
    kept = _kept.get(scale) or (1.0 / scale if scale else 0.0)
    return torch.mul(grad_output, _noise(mask, kept, grad_output.dtype))


def _noise(mask: Tensor, kept: float, dtype: torch.dtype) -> Tensor:
    noise = mask.to(dtype)
    return noise.div_(kept) if kept else noise


@kernel("rrelu_with_noise")
def rrelu_with_noise(
    self: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """x noise, where noise is uniform_(lower, upper) for x <= 0 and 1 elsewhere; not training: leaky_relu by the mean."""
    if not training:
        return torch.nn.functional.leaky_relu(self, (float(lower) + float(upper)) / 2)
    slopes = uniform_(torch.empty_like(self), float(lower), float(upper), generator=generator)
    noise.copy_(torch.where(self <= 0, slopes, 1.0))
    return torch.mul(self, noise)


@kernel("rrelu_with_noise_")
def rrelu_with_noise_(
    self: Tensor, noise: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """The same in place."""
    return self.copy_(rrelu_with_noise(self, noise, lower, upper, training, generator))
