"""The table of operators: each is exactly one of ours, safe and refused; variants agree with the functional form."""

from collections import Counter

import pytest
import torch

from diva.kernels import safe, table
from diva.kernels.exact import exact
from diva.kernels.variants import variants

STOCK = {name: table.stock(name) for name in ("add.Tensor", "mul.Tensor", "mm", "addmm", "neg", "max.dim", "cumsum")}


def as_tensor(value, like):
    return value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.result_type(like, value))


class Counted:
    """A kernel made of PyTorch's own, which says how it was called."""

    def __init__(self, name, out=True):
        self.name, self.calls = name, []
        if out:
            self.kernel = lambda *args, out=None, **kwargs: self.call(*args, out=out, **kwargs)
        else:
            self.kernel = lambda *args, **kwargs: self.call(*args, **kwargs)

    def call(self, first, *args, out=None, **kwargs):
        self.calls.append("out" if out is not None else "new")
        if isinstance(first, float):  # as _foreach_mul_ gives its number
            first = torch.tensor(first)
        others = [as_tensor(a, first) if isinstance(a, int | float) and self.name == "mul.Tensor" else a for a in args]
        result = STOCK[self.name](first, *others, **kwargs)
        return result if out is None else out.copy_(result)


def forms(name, out=True):
    counted = Counted(name, out)
    return counted, variants(name, counted.kernel)


# The table


def test_every_operator_is_exactly_one_of_ours_safe_and_refused():
    entries = table.entries()
    seen = Counter((entry.operator, entry.key) for entry in entries)
    assert set(seen.values()) == {1}
    for key in table.KEYS:
        registered = set(torch._C._dispatch_get_registrations_for_dispatch_key(key))
        assert registered <= {entry.operator for entry in entries if entry.key == key}
    for entry in entries:
        assert entry.why
        if entry.served in ("ours", "refused"):
            assert entry.kernel is not None
    assert Counter(entry.served for entry in entries)["refused"] > 500


def test_in_the_scope_every_refused_operator_refuses():
    def standing(entry):
        lines = torch._C._dispatch_dump(entry.operator).splitlines()
        return next((line for line in lines if line.startswith((f"{entry.key}:", f"{entry.key} "))), "")

    refused = [entry for entry in table.entries() if entry.served == "refused"]
    before = {(entry.operator, entry.key): standing(entry) for entry in refused}
    with exact():
        assert [e for e in refused if standing(e) == before[e.operator, e.key]] == []
    assert [e for e in refused if standing(e) != before[e.operator, e.key]] == []


def test_every_name_of_the_safe_list_is_an_operator():
    known = {
        name.partition("::")[2] if name.startswith("aten::") else name for name in torch._C._dispatch_get_all_op_names()
    }
    bases = (
        {name.partition(".")[0].removesuffix("_") for name in known}
        | {name.partition(".")[0] for name in known}
        | known
    )
    listed = [name for names in (*safe.SAFE.values(), *safe.GUARDED.values()) for name in names.split()]
    assert [name for name in (*listed, *safe.COMPUTE_THEMSELVES) if name not in bases] == []


def test_no_operator_is_listed_twice():
    listed = Counter(name for names in (*safe.SAFE.values(), *safe.GUARDED.values()) for name in names.split())
    assert [name for name, times in listed.items() if times > 1] == []


@pytest.mark.parametrize(
    ("name", "guard"),
    [("max", "integers"), ("max.unary_out", "integers"), ("max.dim", None), ("max.dim_max", None), ("eq_.Tensor", None),
     ("add_.Tensor", "integers"), ("abs.out", "real"), ("scatter.src", None)],
)  # fmt: skip
def test_names_of_the_safe_list_are_found_by_overload_and_by_operator(name, guard):
    found = safe.reason(f"aten::{name}")
    assert found is not None and found[1] == guard


@pytest.mark.parametrize("name", ["round.decimals", "scatter.reduce", "exp", "mean.dim", "put_", "quantized::add"])
def test_what_is_not_listed_is_not_safe(name):
    assert safe.reason(name if "::" in name else f"aten::{name}") is None


# In-place


@pytest.mark.parametrize("out", [True, False])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.rand(3, 4), torch.rand(3, 4)),
        (torch.rand(3, 4), torch.rand(4)),
        (torch.rand(3, 4), torch.rand(3, 1)),
        (torch.rand(3, 4), 2.0),
        (torch.rand(3, 4), 2),
        (torch.rand(3, 4), torch.rand((), dtype=torch.float64)),
        (torch.rand(3, 4), torch.ones(3, 4, dtype=torch.int64)),
        (torch.rand(3, 4).t(), torch.rand(4, 3)),
        (torch.rand(3, 8)[:, ::2], torch.rand(3, 4)),
        (torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.rand(3, 1, 1)),
        (torch.ones(3, dtype=torch.int64), 1),
        (torch.rand(0, 4), torch.rand(4)),
        (torch.rand(3, 4).double(), torch.rand(3, 4)),
    ],
)
def test_in_place_agrees_with_the_functional_form(a, b, out):
    counted, made = forms("mul.Tensor", out)
    expected = counted.kernel(a, b).to(a.dtype)
    before = a.clone()
    pointer = a.data_ptr()
    assert made["mul_.Tensor"](a, b) is a
    assert torch.equal(a, expected) and a.data_ptr() == pointer
    a.copy_(before)


@pytest.mark.parametrize(
    ("b", "how"), [(torch.rand(3, 4), "out"), (torch.rand(4), "out"), (2.0, "out"), (torch.rand(3, 4).double(), "new")]
)
def test_in_place_writes_straight_where_types_and_shapes_allow(b, how):
    counted, made = forms("mul.Tensor")
    made["mul_.Tensor"](torch.rand(3, 4), b)
    assert counted.calls == [how]


def test_in_place_with_a_part_of_itself_reads_before_it_writes():
    counted, made = forms("mul.Tensor")
    x = torch.tensor([[2.0, 3.0], [5.0, 7.0]])
    made["mul_.Tensor"](x, x[0])
    assert x.tolist() == [[4, 9], [10, 21]] and counted.calls == ["new"]
    made["mul_.Tensor"](x, x)
    assert x.tolist() == [[16, 81], [100, 441]] and counted.calls[-1] == "out"


def test_in_place_may_not_change_the_kind_of_number_or_the_shape():
    _, made = forms("mul.Tensor")
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        made["mul_.Tensor"](torch.ones(3, dtype=torch.int64), 1.5)
    with pytest.raises(RuntimeError, match=r"output with shape \[3\] doesn't match the broadcast shape \[2, 3\]"):
        made["mul_.Tensor"](torch.ones(3), torch.ones(2, 3))


def test_in_place_into_one_memory_location_twice_is_refused_as_by_pytorch():
    _, made = forms("mul.Tensor")
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        made["mul_.Tensor"](torch.ones(1).expand(3), 2.0)


def test_operators_with_their_own_rule_of_shapes_keep_it():
    _, made = forms("addmm")
    c, a, b = torch.rand(4), torch.rand(3, 2), torch.rand(2, 4)
    with pytest.raises(RuntimeError, match="doesn't match"):
        made["addmm_"](c, a, b)
    into = torch.rand(3, 4)
    expected = torch.addmm(into, a, b)
    made["addmm_"](into, a, b)
    assert torch.equal(into, expected)


def test_a_result_type_asked_for_is_honoured():
    _, made = forms("cumsum")
    x = torch.rand(5)
    expected = torch.cumsum(x, 0, dtype=torch.float64).float()
    made["cumsum_"](x, 0, dtype=torch.float64)
    assert torch.equal(x, expected)


# out=


def test_out_writes_straight_or_through_a_copy_with_the_same_numbers():
    counted, made = forms("mul.Tensor")
    a, b = torch.rand(3, 4), torch.rand(3, 4)
    for out in (
        torch.empty(3, 4),
        torch.empty(4, 3).t(),
        torch.empty(3, 8)[:, ::2],
        torch.empty(3, 4).double(),
        torch.empty(0),
    ):
        assert made["mul.out"](a, b, out=out) is out
        assert torch.equal(out, (a * b).to(out.dtype))
    assert counted.calls == ["out", "new", "new", "new", "new"]
    product = a * b
    made["mul.out"](a, b, out=a)
    assert torch.equal(a, product)


def test_out_of_another_shape_is_resized_with_pytorchs_warning():
    _, made = forms("mul.Tensor")
    out = torch.empty(5)
    with pytest.warns(UserWarning, match="An output with one or more elements was resized"):
        made["mul.out"](torch.ones(2, 3), torch.ones(3), out=out)
    assert out.shape == (2, 3)


def test_out_of_a_lesser_kind_is_refused():
    _, made = forms("mul.Tensor")
    with pytest.raises(RuntimeError, match="result type Float can't be cast to the desired output type Long"):
        made["mul.out"](torch.ones(2), torch.ones(2), out=torch.empty(2, dtype=torch.int64))


def test_products_write_into_out_where_its_shape_is_theirs():
    counted, made = forms("mm")
    a, b = torch.rand(3, 2), torch.rand(2, 4)
    out = torch.empty(3, 4)
    made["mm.out"](a, b, out=out)
    assert torch.equal(out, a @ b) and counted.calls == ["out"]
    square = torch.rand(3, 3)
    expected = square @ square
    made["mm.out"](square, square, out=square)
    assert torch.equal(square, expected) and counted.calls[-1] == "new"


def test_several_results_go_to_several_outs():
    _, made = forms("max.dim", out=False)
    values, indices = torch.empty(0), torch.empty(0, dtype=torch.int64)
    x = torch.rand(3, 4)
    found = made["max.dim_max"](x, 1, max=values, max_values=indices)
    assert found[0] is values and found[1] is indices
    assert torch.equal(values, x.max(1).values) and torch.equal(indices, x.max(1).indices)


def test_compositions_are_not_overridden():
    assert variants("linear", lambda *a: None) == {}
    assert "aten::linear" not in {entry.operator for entry in table.entries() if entry.key == "CPU"}


# foreach


@pytest.mark.parametrize(
    "call",
    [
        "_foreach_mul([a], [b])",
        "_foreach_mul_([a], [b])",
        "_foreach_mul_([a], 2.0)",
        "_foreach_mul([a], [2.0])",
        "_foreach_mul_([a], torch.tensor(2.0))",
    ],
)
def test_foreach_forms_reach_the_kernel(call, monkeypatch):
    monkeypatch.setattr(table, "_declared", {})
    monkeypatch.setattr(table, "_registered", {})
    counted = Counted("mul.Tensor")
    table.register("mul.Tensor", counted.kernel)
    a, b = torch.rand(3), torch.rand(3)
    with exact():
        eval(f"torch.{call}", {"torch": torch, "a": a, "b": b})
    assert len(counted.calls) == 1
