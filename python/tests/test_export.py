"""Models that leave the process: saved, compiled ahead of time, as ONNX."""

import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import etude  # noqa: E402
import etude.nn  # noqa: E402
from etude._torch import contrastive, convolution, info_nce, pairs, rank_n_contrast, similarity  # noqa: E402

BATCH = torch.export.Dim("batch", min=2, max=64)
DYNAMIC = {"x": {0: BATCH}, "labels": {0: BATCH}}


class Model(torch.nn.Module):
    """Every operator that a model calls, over convolutions of both kinds."""

    def __init__(self):
        super().__init__()
        self.conv1d = etude.nn.Conv1d(3, 4, 4, padding="same", padding_mode="reflect")
        self.conv2d = etude.nn.Conv2d(2, 4, (3, 2), stride=2, padding=1, groups=2)

    def forward(self, x, labels):
        z = self.conv1d(x).mean(2)
        image = self.conv2d(x.unsqueeze(1).expand(-1, 2, -1, -1)).mean((2, 3))
        others = {"others": image, "other_labels": labels, "weights": labels + 1}
        return (
            etude.pairwise_similarity(z, image, "euclidean"),
            etude.pairwise_similarity(z.unsqueeze(1), image.unsqueeze(1)),
            etude.contrastive_loss(z, labels, metric="cosine"),
            etude.contrastive_loss(z, labels, margin=2.0, **others),
            etude.rank_n_contrast_loss(z, labels, temperature=0.5),
            etude.contrastive_loss(z, labels, labels, reduction="none", tau=0.25, margin=2.0),
            etude.contrastive_loss(z, x, label_distance=_apart, pair_weights=_before, margin=2.0),
            etude.rank_n_contrast_loss(z, labels, temperature=0.5, reduction="none"),
            etude.info_nce_loss(z, labels, sigma=0.5, reduction="none"),
            etude.info_nce_loss(z, labels, sigma=0.5),
            etude.info_nce_loss(z, labels, sigma=0.5, others=image, other_labels=labels),
        )


def _apart(x, others):
    """How far what the first numbers say is apart."""
    return (x[:, None, 0, :4] - others[:, 0, :4]).abs().sum(-1)


def _before(i, j):
    return i[:, None] < j


def inputs(batch):
    return torch.randn(batch, 3, 9), torch.arange(batch) % 4 / 4


def exported(model, x, labels):
    return torch.export.export(model, (x, labels), dynamic_shapes=DYNAMIC)


def in_a_fresh_process(code, *arguments):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LOADS = {
    "etude first": "import etude, torch",
    "torch first": "import torch, etude",
    "torch is looked for": "import importlib.util, etude; importlib.util.find_spec('torch'); import torch",
    "torch by another name": "import etude, torch.nn.functional, torch",
    "torch in a thread": (
        "import etude, threading, importlib\nt = threading.Thread(target=importlib.import_module, args=('torch',))\n"
        "t.start(); t.join(); import torch"
    ),
}


@pytest.mark.parametrize("order", LOADS)
def test_an_exported_model_loads_after_importing_etude(order, tmp_path):
    model, (x, labels) = Model(), inputs(5)
    torch.export.save(exported(model, x, labels), tmp_path / "model.pt2")
    torch.save((x, labels, *model(x, labels)), tmp_path / "numbers.pt")
    in_a_fresh_process(
        f"{LOADS[order]}; import sys\nmodel = torch.export.load(sys.argv[1]).module()\n"
        "x, labels, *want = torch.load(sys.argv[2])\n"
        "for g, w in zip(model(x, labels), want, strict=True):\n"
        # Eager mode goes another way to the loss of each row.
        "    torch.testing.assert_close(g, w, rtol=1e-6, atol=1e-6)\n"
        "assert type(torch.__spec__.loader).__name__ == 'SourceFileLoader', torch.__spec__.loader\n"
        "assert 'exec_module' not in vars(torch.__spec__.loader)",
        tmp_path / "model.pt2",
        tmp_path / "numbers.pt",
    )


@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")
def test_a_model_compiled_ahead_of_time_loads_after_importing_etude(tmp_path, monkeypatch):
    monkeypatch.setenv("CI", "true")  # where PyTorch's compiler refuses what it lets pass elsewhere
    model, path = Model(), tmp_path / "model.pt2"
    torch._inductor.aoti_compile_and_package(exported(model, *inputs(5)), package_path=str(path))
    for batch in (5, 8):
        x, labels = inputs(batch)
        torch.save((x, labels, *model(x, labels)), tmp_path / f"{batch}.pt")
    in_a_fresh_process(
        "import etude, torch, sys\nmodel = torch._inductor.aoti_load_package(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    x, labels, *want = torch.load(path)\n"
        "    for g, w in zip(model(x, labels), want, strict=True):\n"
        "        torch.testing.assert_close(g, w, rtol=1e-6, atol=1e-6)",  # its own operations are fused
        path,
        *(tmp_path / f"{batch}.pt" for batch in (5, 8)),
    )


@pytest.mark.filterwarnings("ignore")  # of the exporter's own
@pytest.mark.parametrize("program", [False, True], ids=["a module", "an exported program"])
def test_onnx_in_onnxruntime(program, tmp_path):
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")
    import onnx

    model, path = Model().requires_grad_(False), str(tmp_path / "model.onnx")
    if program:
        program = exported(model, *inputs(5)).run_decompositions(etude.nn.decompositions())
        torch.onnx.export(program, f=path, dynamo=True, verbose=False)
    else:
        torch.onnx.export(model, inputs(5), path, dynamic_shapes=DYNAMIC, dynamo=True, verbose=False)
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} == {""}, "operations of ONNX alone"
    session = runtime.InferenceSession(path)
    for batch in (5, 9):
        x, labels = inputs(batch)
        got = session.run(None, {"x": x.numpy(), "labels": labels.numpy()})
        for g, w in zip(got, model(x, labels), strict=True):
            torch.testing.assert_close(torch.from_numpy(g), w, rtol=1e-5, atol=1e-5)


def samples(dtype):
    make = lambda *shape: torch.randn(shape, dtype=dtype)  # noqa: E731
    real = torch.float64 if dtype == torch.float64 else torch.float32
    z, o = make(6, 3), make(5, 3)
    z[4:] = z[3]
    labels, of_others = torch.arange(6) % 3 / 2, torch.arange(5)
    weights, of_masked = torch.rand(6), torch.tensor([1.0, 0, 0, 0.5, 2])
    for kind in range(4):
        for a, b in ((z, o), (z, z), (make(2, 4, 3), make(2, 5, 3)), (z[:0], o), (0 * z, o)):
            yield similarity._similarity, (a, b, kind)
    for metric in range(2):
        for margin, tau in ((0.5, 0.0), (3.0, 0.5)):
            options = metric, margin, tau
            for n in (6, 1, 0):
                yield contrastive._all, (z[:n], labels[:n], None, *options)
            yield contrastive._all, (z, labels, weights, *options)
            yield contrastive._all, (0 * z, labels, weights, *options)
            yield contrastive._all, (z, labels, 0 * weights, *options)
            nothing = o.clone()
            nothing[1] = torch.nan
            yield contrastive._all, (nothing, labels[:5], of_masked, *options)
            yield contrastive._cross, (z, labels, weights, nothing, of_others, of_masked, *options)
            yield contrastive._cross, (z[:1], labels[:1], None, o, of_others, None, *options)
            yield contrastive._cross, (z, labels, None, o[:0], of_others[:0], None, *options)
    for n in (6, 2, 1, 0):
        for differentiate in (True, False):
            yield rank_n_contrast._operator, (z[:n], labels[:n], 0.5, differentiate)
            yield info_nce._operator, (z[:n], labels[:n], None, None, 0.5, 0.25, differentiate)
            yield info_nce._operator, (z, labels, o[: n - 1], of_others[: n - 1], 0.5, 0.25, differentiate)
            yield info_nce._operator, (0 * z, labels, o, of_others, 0.01, 0.25, differentiate)
            if n > 0:
                d = torch.rand(n, 6, dtype=real)
                yield rank_n_contrast._rows, (d, labels, 6 - n, 0.5, differentiate)
                yield info_nce._rows, (d, labels, labels, 6 - n, True, 0.5, 0.25, differentiate)
                yield info_nce._rows, (d[:, :5], labels, of_others, 6 - n, False, 0.5, 0.25, differentiate)
    similarities, apart, counts = (torch.rand(3, 7, dtype=real) for _ in range(3))
    counts[1, 2], apart[1, 2] = 0, torch.nan
    for metric in range(2):
        for own in (True, False):
            options = 4, own, metric, 1.5, 0.25
            yield pairs._operator, (similarities, apart, counts, *options)
            yield pairs._operator, (similarities, 2 * similarities, None, *options)
    for dims, (forward, _) in convolution._OPERATORS.items():
        x, weight, bias = make(2, 4, *[9, 8][:dims]), make(6, 2, *[3, 2][:dims]), make(6)
        slide = [2, 1][:dims], [1, 0][:dims], [1, 2][:dims], 2
        yield forward, (x, weight, bias, *slide)
        yield forward, (x, weight, None, *slide)
        yield forward, (x[:0], weight, bias, *slide)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_decompositions_are_what_the_operators_compute(dtype):
    seen, table = set(), etude.nn.decompositions()
    # Both sum some hundred products; 16 bits are read, and where they are written, rounded.
    off = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
    for operator, arguments in samples(dtype):
        overload = operator._opoverload
        got, want = table[overload](*arguments), overload(*arguments)
        several = ((of,) if isinstance(of, torch.Tensor) else of for of in (got, want))
        for g, w in zip(*several, strict=True):
            assert g.dtype == w.dtype and g.shape == w.shape
            torch.testing.assert_close(g, w, rtol=off[w.dtype], atol=off[w.dtype], equal_nan=True)
        seen.add(overload)
    assert seen == set(table)
