"""The safe list: operators whose own PyTorch kernels give the same bits everywhere, each group with the reason why.

A name stands for all overloads of the operator and of its in-place form; with a dot, for that overload only. What a
family serves is ours, whatever stands here. Not here: all that rounds more than once, and minima and maxima of floating
point numbers (which zero wins differs between instruction sets). When in doubt an operator is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch

from diva.kernels.refusal import refused

Guard = Literal["integers", "real", "whole steps"]
Kernel = Callable[..., Any]

SAFE: dict[str, str] = {
    "makes or describes memory": """
        _efficientzerotensor _make_dep_token _reshape_alias as_strided empty empty_strided from_file is_set_to resize set view
        view_as_complex view_as_real
        """,
    "writes constants or counts": """
        _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo eye fill tril_indices triu_indices zero
        """,
    "moves elements": """
        _stack cat channel_shuffle complex flip gather im2col index.Tensor index.Tensor_out index_fill index_select masked_fill
        masked_scatter masked_select narrow_copy native_channel_shuffle pixel_shuffle pixel_unshuffle reflection_pad1d
        reflection_pad2d reflection_pad3d repeat_interleave replication_pad1d replication_pad2d replication_pad3d roll take
        tril triu unfold where
        """,
    "moves elements; of several that go to one place the last wins, since each row is written by one thread in order": """
        index_copy scatter.src scatter.src_out scatter.value scatter.value_out scatter_.src scatter_.value
        """,
    "compares": """
        bucketize eq equal ge gt isin isnan isneginf isposinf le lt ne searchsorted signbit
        """,
    "compares; of equal elements the first wins": """
        _cummax_helper _cummin_helper argmax argmin max.dim max.dim_max min.dim min.dim_min
        """,
    "compares neighbours or sorts by value, and returns one of each": """
        _unique2 unique_consecutive unique_dim unique_dim_consecutive
        """,
    "logic, bits and counts": """
        __ilshift__ __irshift__ __lshift__ __rshift__ all any bitwise_and bitwise_left_shift bitwise_not bitwise_or
        bitwise_right_shift bitwise_xor count_nonzero hash_tensor logical_and logical_not logical_or logical_xor nonzero
        nonzero_static
        """,
    "one IEEE operation, or a choice": """
        ceil copysign floor frac frexp heaviside nan_to_num neg nextafter round sign threshold trunc
        """,
    "looks at a value, computes nothing": """
        _assert_async _functional_assert_async _fused_sdp_choice _local_scalar_dense _validate_compressed_sparse_indices
        """,
    "moves data between processes": """
        c10d::_allgather_base_ c10d::allgather_ c10d::allgather_coalesced_ c10d::allgather_into_tensor_coalesced_
        c10d::alltoall_ c10d::alltoall_base_ c10d::barrier c10d::broadcast_ c10d::check_for_nan c10d::gather_
        c10d::monitored_barrier_ c10d::recv_ c10d::recv_any_source_ c10d::scatter_ c10d::send
        """,
}

# Safe for some arguments only: asked at each call, refused for the others.
GUARDED: dict[tuple[Guard, str], str] = {
    ("integers", "whole numbers: any order of operations gives the same bits"): """
        _aminmax _index_put_impl add addbmm addmm addmv addr amax amin aminmax baddbmm bincount bmm clamp clamp_max clamp_min
        cumprod cumsum dot floor_divide fmax fmin fmod gcd index_add index_reduce lcm max max.unary_out maximum median min
        min.unary_out minimum mm mul nanmedian prod remainder rsub scatter_add scatter_reduce sub sum trace vdot
        """,
    ("real", "one IEEE operation on real numbers"): "abs sgn conj_physical",
    ("whole steps", "whole numbers, which floating point holds exactly"): "arange range",
}

# Composed operators that compute by themselves instead of calling others, so that nothing else would refuse them.
# On a GPU, where one thread of many writes first: what stands above and is not so there. Ours serve these.
NOT_ON_CUDA = """
    index_copy scatter.src scatter.src_out scatter_.src
    """
INTEGERS_ON_CUDA = """
    unique_dim unique_dim_consecutive
    """  # which of several equal rows it returns is seen where -0 equals +0
ON_CUDA: dict[str, str] = {
    "tells the allocator which stream uses the memory": "record_stream",
}

COMPUTE_THEMSELVES = (
    "_grid_sampler_2d_cpu_fallback",
    "_nnpack_spatial_convolution",
    "choose_qparams_optimized",
    "fbgemm_linear_fp16_weight",
    "fbgemm_linear_fp16_weight_fp32_activation",
    "fbgemm_linear_int8_weight",
    "fbgemm_linear_int8_weight_fp32_activation",
    "kaiser_window",
    "kaiser_window.beta",
    "kaiser_window.periodic",
    "mkldnn_convolution",
)

OTHER_LAYOUTS = {
    "SparseCPU": "sparse tensors have no exact kernels; use dense ones",
    "SparseCsrCPU": "sparse tensors have no exact kernels; use dense ones",
    "QuantizedCPU": "quantized tensors have no exact kernels",
    "MkldnnCPU": "oneDNN computes, whose bits depend on the processor",
    "NestedTensorCPU": "nested tensors have no exact kernels; pad them",
    "SparseCUDA": "sparse tensors have no exact kernels; use dense ones",
    "SparseCsrCUDA": "sparse tensors have no exact kernels; use dense ones",
    "QuantizedCUDA": "quantized tensors have no exact kernels",
    "NestedTensorCUDA": "nested tensors have no exact kernels; pad them",
}

_EXCEPT = {"round.decimals", "round.decimals_out", "round_.decimals"}  # they multiply and divide by a power of ten
_REFUSED_FOR: dict[Guard, str] = {
    "integers": "for floating-point numbers",
    "real": "for complex numbers",
    "whole steps": "for steps that are not whole numbers",
}
_KEYS = {
    "CPU": torch._C.DispatchKeySet(torch._C.DispatchKey.CPU),
    "CUDA": torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA),
}
_LARGEST = 2**24  # float32 holds every whole number up to here


def reason(name: str, key: str = "CPU") -> tuple[str, Guard | None] | None:
    """Why "aten::eq.Tensor" is safe and what is asked at each call; None when it is not safe."""
    listed = _listed(key)
    short = name.removeprefix("aten::")
    base = short.partition(".")[0]
    for candidate in (short, base, base.removesuffix("_")):
        if candidate in listed and short not in _EXCEPT:
            return listed[candidate]
    return None


@cache
def _listed(key: str) -> dict[str, tuple[str, Guard | None]]:
    found: dict[str, tuple[str, Guard | None]] = {}
    for why, names in SAFE.items() if key == "CPU" else (SAFE | ON_CUDA).items():
        found |= dict.fromkeys(names.split(), (why, None))
    for (guard, why), names in GUARDED.items():
        found |= dict.fromkeys(names.split(), (f"{why}; refused {_REFUSED_FOR[guard]}", guard))
    if key == "CUDA":
        for name in NOT_ON_CUDA.split():
            del found[name]
        found |= {
            name: (f"{found[name][0]}; refused {_REFUSED_FOR['integers']}", "integers")
            for name in INTEGERS_ON_CUDA.split()
        }
    return found


@cache
def guarded(name: str, guard: Guard, key: str = "CPU") -> Kernel:
    """PyTorch's own kernel of `name`, refused for what the guard does not let pass. Fetched when first asked for."""
    found = None
    if key == "CPU" or torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key):  # else built without CUDA
        found = torch.library.get_kernel(name, key)
    keys, passes = _KEYS[key], _PASSES[guard]

    def call(*args: Any, **kwargs: Any) -> Any:
        if found is None or not all(passes(given) for given in (*args, *kwargs.values())):
            raise refused(name, _REFUSED_FOR[guard])
        return found.call_boxed(keys, *args, **kwargs)

    return call


def _is_integer(given: Any) -> bool:
    if isinstance(given, torch.Tensor | torch.dtype):
        return not (given.is_floating_point if isinstance(given, torch.dtype) else given.is_floating_point()) and not (
            given.is_complex if isinstance(given, torch.dtype) else given.is_complex()
        )
    if isinstance(given, list | tuple):
        return all(_is_integer(one) for one in given)
    return not isinstance(given, float | complex)


def _is_real(given: Any) -> bool:
    return not (isinstance(given, torch.Tensor) and given.is_complex())


def _is_whole_step(given: Any) -> bool:
    return not isinstance(given, float | complex) or (
        isinstance(given, float) and given.is_integer() and abs(given) <= _LARGEST
    )


_PASSES: dict[Guard, Callable[[Any], bool]] = {"integers": _is_integer, "real": _is_real, "whole steps": _is_whole_step}
