"""Each pass between matrix products: its gradient is autograd's, its rows are those of `quantize_rows`."""

import pytest
import torch
from torch.nn import functional

from trainer.model.block import passes
from trainer.model.block.passes import Affine, Compilation, InRows, Pass, Turn
from trainer.model.frozen.weights import quantize_rows

B, L, HEADS, WIDTH = 2, 5, 2, 32
EPSILON = 1e-6


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def affine():
    return Affine(1 + drawn(B, 1, WIDTH, seed=1) / 4, drawn(B, 1, WIDTH, seed=2), EPSILON)


def turn():
    angles = drawn(L, 1, WIDTH // HEADS // 2, seed=3).repeat_interleave(2, -1)
    signs = torch.tensor([-1.0, 1.0]).repeat(WIDTH // HEADS // 2)
    return Turn(angles.cos(), angles.sin() * signs)


def gradient_of(function, x, grad):
    """By autograd."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(x), x, grad)
    return found


def assert_near(given, expected):
    # Passes compute in float32, whatever they are given.
    torch.testing.assert_close(given.double(), expected.double(), rtol=1e-4, atol=2e-5)


def test_norm_and_its_gradient():
    x, grad, others = drawn(B, L, WIDTH) * 3 + 1, drawn(B, L, WIDTH, seed=4), drawn(B, L, WIDTH, seed=5)
    weight, bias, _ = affine()

    def plain(x):
        return functional.layer_norm(x, (WIDTH,), eps=EPSILON) * weight + bias

    assert_near(passes.norm(x, affine(), None)[0], plain(x))
    given = passes.norm_gradient(grad, x, affine(), others)
    assert_near(given, others + gradient_of(plain, x, grad))


@pytest.mark.parametrize("gate", [None, drawn(B, 1, WIDTH, seed=6)])
def test_sums_and_the_gradient_of_what_is_added(gate):
    x, y, grad = drawn(B, L, WIDTH), drawn(B, L, WIDTH, seed=7), drawn(B, L, WIDTH, seed=8)

    def plain(y):
        return x + (y if gate is None else y * gate)

    assert_near(passes.gated_sum(x, y, gate), plain(y))
    total, normed, *_ = passes.sum_and_norm(x, y, gate, affine(), None)
    assert_near(total, plain(y))
    assert_near(normed, passes.norm(plain(y), affine(), None)[0])
    assert_near(passes.gated(grad, gate, None)[0], gradient_of(plain, y, grad))


def test_gelu_and_its_gradient():
    x, grad = drawn(B, L, WIDTH) * 4, drawn(B, L, WIDTH, seed=1)

    def plain(x):
        return functional.gelu(x, approximate="tanh")

    assert_near(passes.gelu(x, None)[0], plain(x))
    assert_near(passes.gelu_gradient(grad, x, None)[0], gradient_of(plain, x, grad))


def plain_query(x, weight, positions):
    """As the model's own code has it: RMS norm over all heads, then each pair of channels is turned."""
    x = (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight).unflatten(-1, (HEADS, -1))
    if positions is None:
        return x
    cos, sin = positions.cos[..., 0::2], positions.sin[..., 1::2]
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


def test_queries_without_positions_and_their_gradient():
    x, weight = drawn(B, L, WIDTH), 1 + drawn(WIDTH, seed=1) / 4
    grad = drawn(B, L, HEADS, WIDTH // HEADS, seed=2)
    assert_near(passes.query(x, weight, HEADS, EPSILON), plain_query(x, weight, None))
    given, *_ = passes.query_gradient(grad, x, weight, EPSILON, None)
    assert_near(given, gradient_of(lambda x: plain_query(x, weight, None), x, grad))


def test_queries_and_keys_with_positions_and_the_gradient_of_all_three():
    qkv, weights = drawn(B, L, 3 * WIDTH), (1 + drawn(WIDTH, seed=1) / 4, 1 + drawn(WIDTH, seed=2) / 4)
    gradients = tuple(drawn(B, L, HEADS, WIDTH // HEADS, seed=seed) for seed in (3, 4, 5))

    def plain(qkv):
        q, k, v = qkv.chunk(3, -1)
        return torch.stack(
            [
                plain_query(q, weights[0], turn()),
                plain_query(k, weights[1], turn()),
                v.unflatten(-1, (HEADS, -1)),
            ]
        )

    queries, keys = passes.turned_queries(qkv, weights, turn(), HEADS, EPSILON)
    assert_near(torch.stack([queries, keys]), plain(qkv)[:2])
    given, *_ = passes.turned_queries_gradient(qkv, gradients, weights, turn(), EPSILON, None)
    assert_near(given, gradient_of(plain, qkv, torch.stack(gradients)))


def rows_of_each_pass(x, column_scale):
    """What each pass gives as a tensor and in rows, by name."""
    wish, gate = InRows(column_scale), drawn(B, 1, WIDTH, seed=6).float()
    weight, positions = 1 + drawn(WIDTH, seed=1).float() / 4, Turn(*(one.float() for one in turn()))
    wide = Affine(*(one.float() for one in affine()[:2]), EPSILON)
    heads = x.unflatten(-1, (HEADS, -1))
    qkv = torch.cat([x, -x, x / 2], -1)
    wide_wish = InRows(None if column_scale is None else column_scale.repeat(3))
    return {
        "norm": passes.norm(x, wide, wish),
        "sum_and_norm": passes.sum_and_norm(x, x, gate, wide, wish)[1:],
        "gated": passes.gated(x, gate, wish),
        "gelu": passes.gelu(x, wish),
        "gelu_gradient": passes.gelu_gradient(x, x, wish),
        "query_gradient": passes.query_gradient(heads, x, weight, EPSILON, wish),
        "in_rows": (x, *passes.in_rows(x, wish)),
        "turned_queries_gradient": passes.turned_queries_gradient(
            qkv, (heads, heads, heads), (weight, weight), positions, EPSILON, wide_wish
        ),
    }


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_are_the_passes_own_output_rounded_row_by_row(scaled):
    x = drawn(B, L, WIDTH, dtype=torch.bfloat16)
    scale = drawn(WIDTH, seed=9).abs().float() + 0.1 if scaled else None
    for name, (out, values, row_scale) in rows_of_each_pass(x, scale).items():
        columns = out.shape[-1]
        expected = quantize_rows(
            out.reshape(-1, columns), None if scale is None else scale.repeat(columns // WIDTH)
        )
        assert torch.equal(values.float(), expected.values_NI.float()), name
        assert torch.equal(row_scale, expected.scale_N1), name
        assert values.shape == (B * L, columns)


def test_without_a_wish_there_are_no_rows():
    x = drawn(B, L, WIDTH).float()
    assert passes.gelu(x, None)[1:] == (None, None)


def test_joined_halves_of_several_loras_are_those_of_each_apart():
    downs = [drawn(rank, WIDTH, seed=rank).float() for rank in (2, 3)]
    ups = [drawn(outputs, rank, seed=rank).float() for outputs, rank in ((4, 2), (6, 3))]
    x = drawn(L, WIDTH).float()
    down = passes.joined_down(downs[0], (downs[1],), torch.float32)
    up = passes.joined_up(ups[0], (ups[1],), (2.0, 0.5), torch.float32)
    expected = [x @ downs[0].T @ ups[0].T * 2.0, x @ downs[1].T @ ups[1].T * 0.5]
    torch.testing.assert_close(x @ down.T @ up.T, torch.cat(expected, -1))


def test_a_float8_matrix_is_transposed_in_memory():
    values, _ = quantize_rows(drawn(3, 8).float())
    turned = passes.transposed(values)
    assert turned.is_contiguous()
    assert torch.equal(turned.float(), values.float().T)


# ---- Compilation ------------------------------------------------------------------------------


class OnGpu(torch.Tensor):
    """Says that it lies on a GPU."""

    is_cuda = True


@pytest.fixture
def compilation(monkeypatch):
    own = Compilation()
    monkeypatch.setattr(passes, "compilation", own)
    monkeypatch.setattr(torch, "compile", lambda function, **_: broken)
    return own


def broken(*arguments):
    raise RuntimeError("no compiler here\nand a long story")


def test_a_pass_that_cannot_be_compiled_runs_as_it_is_written_and_says_so_once(compilation):
    told = []
    compilation.wish(told.append)
    twice = Pass(lambda x: x * 2)
    x = torch.ones(2).as_subclass(OnGpu)
    for _ in range(2):
        assert torch.equal(twice(x), torch.full((2,), 2.0))
    assert told == ["Passes are not compiled, so steps take longer: no compiler here"]
    assert not compilation.wanted


def test_running_out_of_memory_is_no_reason_to_do_without_compiling(compilation, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "compile", lambda function, **_: full)
    compilation.wish(lambda sentence: None)
    with pytest.raises(torch.OutOfMemoryError):
        Pass(lambda x: x)(torch.ones(2).as_subclass(OnGpu))
    assert compilation.wanted


def test_nothing_is_compiled_unless_it_is_wished_for_or_on_a_cpu(compilation):
    twice = Pass(lambda x: x * 2)
    assert torch.equal(twice(torch.ones(1).as_subclass(OnGpu)), torch.full((1,), 2.0))
    compilation.wish(lambda sentence: pytest.fail(sentence))
    assert torch.equal(twice(torch.ones(1)), torch.full((1,), 2.0))
    assert compilation.wanted


def test_every_thread_is_allowed_as_many_shapes_as_data_sets_have(monkeypatch):
    import threading

    found = []

    def look():
        Compilation().prepare_thread()
        found.append(torch._dynamo.config.recompile_limit)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [passes.SHAPES_COMPILED]
