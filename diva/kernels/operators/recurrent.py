"""Recurrent layers on a GPU, by the CPU's route: the inputs of all steps in one product, then step by step.

PyTorch multiplies the inputs there step by step, so that the gradient of their weights is another sum, and has fused
cells. Here autograd sees the operators that it sees on the CPU, in the same order, and gradients that meet are added in
that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diva.kernels.table import COMPOSED_ON_CUDA, kernel

Hidden = tuple[Tensor, ...]  # (h) or, of an LSTM, (h, c)
_linear: Callable[..., Tensor] = torch._C._nn.linear


class _Weights(NamedTuple):
    """Of one layer in one direction."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None  # the projection


Step = Callable[[Tensor, Hidden, _Weights], Hidden]  # of the inputs' product, what was hidden before, and the weights


def _lstm_step(gates_of_input: Tensor, hidden: Hidden, w: _Weights) -> Hidden:
    h, c = hidden
    gates = _linear(h, w.w_hh, w.b_hh).add_(gates_of_input)
    ingate, forget, cell, out = torch.unsafe_chunk(gates, 4, 1)
    ingate, forget, cell, out = ingate.sigmoid_(), forget.sigmoid_(), cell.tanh_(), out.sigmoid_()
    c = (forget * c).add_(ingate * cell)
    h = out * c.tanh()
    return (h if w.w_hr is None else torch.matmul(h, w.w_hr.t())), c


def _gru_step(gates_of_input: Tensor, hidden: Hidden, w: _Weights) -> Hidden:
    (h,) = hidden
    of_input = torch.unsafe_chunk(gates_of_input, 3, 1)
    of_hidden = torch.unsafe_chunk(_linear(h, w.w_hh, w.b_hh), 3, 1)
    reset = of_hidden[0].add_(of_input[0]).sigmoid_()
    update = of_hidden[1].add_(of_input[1]).sigmoid_()
    new = of_input[2].add(of_hidden[2].mul_(reset)).tanh_()
    return ((h - new).mul_(update).add_(new),)


def _tanh_step(gates_of_input: Tensor, hidden: Hidden, w: _Weights) -> Hidden:
    return (torch.tanh(_linear(hidden[0], w.w_hh, w.b_hh).add_(gates_of_input)),)


def _relu_step(gates_of_input: Tensor, hidden: Hidden, w: _Weights) -> Hidden:
    return (torch.relu(_linear(hidden[0], w.w_hh, w.b_hh).add_(gates_of_input)),)


def _weights(params: Sequence[Tensor], has_biases: bool, has_projections: bool) -> list[_Weights]:
    n = 2 + 2 * has_biases + has_projections
    if len(params) % n:
        raise RuntimeError("got an incorrect number of RNN parameters")
    found = []
    for at in range(0, len(params), n):
        w_ih, w_hh, *rest = params[at : at + n]
        b_ih, b_hh = rest[:2] if has_biases else (None, None)
        found.append(_Weights(w_ih, w_hh, b_ih, b_hh, rest[-1] if has_projections else None))
    return found


def _in_order(step: Step, x: Tensor, hidden: Hidden, w: _Weights, backwards: bool) -> tuple[Tensor, Hidden]:
    """One direction over (time, batch, features); the outputs, and what is hidden at the end."""
    inputs = list(_linear(x, w.w_ih, w.b_ih).unbind(0))
    if not inputs:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    outputs = []
    for gates in inputs[::-1] if backwards else inputs:
        hidden = step(gates, hidden, w)
        outputs.append(hidden[0])
    return torch.stack(outputs[::-1] if backwards else outputs, 0), hidden


def _packed(sizes: Sequence[int]) -> Callable[..., tuple[Tensor, Hidden]]:
    """`_in_order` over a packed sequence, whose batch is sizes[t] at time t, descending."""

    def forwards(step: Step, x: Tensor, hidden: Hidden, w: _Weights) -> tuple[Tensor, Hidden]:
        gates, start, last = _linear(x, w.w_ih, w.b_ih), 0, sizes[0]
        outputs, ended = [], []
        for size in sizes:
            now = gates.narrow(0, start, size)
            start += size
            if size < last:
                ended.append(tuple(part.narrow(0, size, last - size) for part in hidden))
                hidden = tuple(part.narrow(0, 0, size) for part in hidden)
            last = size
            hidden = step(now, hidden, w)
            outputs.append(hidden[0])
        ended.append(hidden)
        return torch.cat(outputs, 0), tuple(torch.cat(parts, 0) for parts in zip(*ended[::-1], strict=True))

    def reversed_(step: Step, x: Tensor, first: Hidden, w: _Weights) -> tuple[Tensor, Hidden]:
        gates, end, last = _linear(x, w.w_ih, w.b_ih), x.shape[0], sizes[-1]
        hidden = tuple(part.narrow(0, 0, last) for part in first)
        outputs = []
        for size in sizes[::-1]:
            if size > last:
                more = tuple(part.narrow(0, last, size - last) for part in first)
                hidden = tuple(torch.cat(parts, 0) for parts in zip(hidden, more, strict=True))
            now = gates.narrow(0, end - size, size)
            end -= size
            last = size
            hidden = step(now, hidden, w)
            outputs.append(hidden[0])
        return torch.cat(outputs[::-1], 0), hidden

    def in_order(step: Step, x: Tensor, hidden: Hidden, w: _Weights, backwards: bool) -> tuple[Tensor, Hidden]:
        return (reversed_ if backwards else forwards)(step, x, hidden, w)

    return in_order


def _layers(
    layer: Callable[..., tuple[Tensor, Hidden]], step: Step, x: Tensor, hidden: Sequence[Tensor], weights: list[_Weights],
    n_layers: int, dropout: float, train: bool, bidirectional: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(outputs, the last h of all layers and directions, and c)."""
    first = list(zip(*(part.unbind(0) for part in hidden), strict=True))
    n = 2 if bidirectional else 1
    if len(first) != n * n_layers or len(weights) != n * n_layers:
        raise RuntimeError("Expected as many hidden states and weights as layers and directions in stacked_rnn")
    last: list[Hidden] = []
    for k in range(n_layers):
        both = []
        for d in range(n):
            outputs, end = layer(step, x, first[n * k + d], weights[n * k + d], bool(d))
            both.append(outputs)
            last.append(end)
        x = torch.cat(both, both[0].dim() - 1) if bidirectional else both[0]
        if dropout != 0 and train and k < n_layers - 1:
            x = torch.dropout(x, dropout, True)
    return (x, *(torch.stack(parts, 0) for parts in zip(*last, strict=True)))


def _run(
    step: Step, x: Tensor, hidden: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool, n_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    weights = _weights(params, has_biases, len(hidden) == 2 and hidden[0].shape[2] != hidden[1].shape[2])
    x = x.transpose(0, 1) if batch_first else x
    y, *last = _layers(_in_order, step, x, hidden, weights, n_layers, dropout, train, bidirectional)
    return (y.transpose(0, 1) if batch_first else y, *last)


def _run_packed(
    step: Step, data: Tensor, batch_sizes: Tensor, hidden: Sequence[Tensor], params: Sequence[Tensor], has_biases: bool,
    *how: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    weights = _weights(params, has_biases, len(hidden) == 2 and hidden[0].shape[2] != hidden[1].shape[2])
    layer = _packed(batch_sizes.tolist())  # which lie on the CPU always
    return _layers(layer, step, data, hidden, weights, *how)


def _serve(name: str, step: Step) -> None:
    def layers(x: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        return _run(step, x, (hx,), *rest)

    def packed(data: Tensor, batch_sizes: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        return _run_packed(step, data, batch_sizes, (hx,), *rest)

    layers.__qualname__ = packed.__qualname__ = name
    kernel(f"{name}.input", into=COMPOSED_ON_CUDA)(layers)
    kernel(f"{name}.data", into=COMPOSED_ON_CUDA)(packed)


for _name, _step in {"gru": _gru_step, "rnn_tanh": _tanh_step, "rnn_relu": _relu_step}.items():
    _serve(_name, _step)


@kernel("lstm.input", into=COMPOSED_ON_CUDA)
def lstm(x: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    """(outputs, h, c) of nn.LSTM."""
    return _run(_lstm_step, x, hx, *rest)


@kernel("lstm.data", into=COMPOSED_ON_CUDA)
def lstm_packed(data: Tensor, batch_sizes: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, ...]:
    """The same of a packed sequence."""
    return _run_packed(_lstm_step, data, batch_sizes, hx, *rest)


@kernel("lstm_cell", into=COMPOSED_ON_CUDA)
def lstm_cell(
    x: Tensor, hx: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, ...]:
    """(h, c) of nn.LSTMCell."""
    h, c = hx
    gates = _linear(h, w_hh, b_hh).add_(_linear(x, w_ih, b_ih))
    ingate, forget, cell, out = torch.unsafe_chunk(gates, 4, 1)
    ingate, forget, cell, out = ingate.sigmoid_(), forget.sigmoid_(), cell.tanh_(), out.sigmoid_()
    c = (forget * c).add_(ingate * cell)
    return out * c.tanh(), c


@kernel("gru_cell", into=COMPOSED_ON_CUDA)
def gru_cell(
    x: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """What nn.GRUCell gives."""
    return _gru_step(_linear(x, w_ih, b_ih), (hx,), _Weights(w_ih, w_hh, b_ih, b_hh))[0]
