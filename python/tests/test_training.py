"""The modules where models are trained: copied, saved, checkpointed, on several processes, in every mode."""

import copy
import io
import pathlib
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import etude  # noqa: E402
import etude.nn  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


class Grader(torch.nn.Module):
    """All modules in one, with a loss of its own."""

    def __init__(self):
        super().__init__()
        self.conv2d = etude.nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular")
        self.conv1d = etude.nn.Conv1d(4, 5, 3, stride=2, groups=1)
        self.similarity = etude.nn.PairwiseSimilarity("cosine")
        self.loss = etude.nn.ContrastiveLoss(metric="cosine", margin=0.75, tau=0.125)

    def embed(self, x):
        return self.conv1d(self.conv2d(x).relu().mean(2)).mean(2)

    def forward(self, x, labels):
        z = self.embed(x)
        return self.loss(z, labels) + 0.1 * self.similarity(z, z).square().mean()


def batch(device="cpu", n=12):
    return torch.randn(n, 2, 6, 7, device=device), torch.arange(n, device=device) % 4 / 4


def gradients(model, *inputs):
    model.zero_grad()
    loss = model(*inputs)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def by_state(model):
    fresh = Grader()
    fresh.load_state_dict(model.state_dict())
    return fresh


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, by_pickle, by_file, by_state])
def test_copies_train_the_same(copied):
    model, inputs = Grader(), batch()
    want = gradients(model, *inputs)
    got = gradients(copied(model), *inputs)
    assert all(map(torch.equal, got, want))
    assert repr(copied(model)) == repr(model)
    assert isinstance(copied(model).conv1d, etude.nn.Conv1d)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(device, reentrant):
    model, (x, labels) = Grader().to(device), batch(device)
    x.requires_grad_()
    want = gradients(model, x, labels)
    model.zero_grad()
    loss = checkpoint(model, x, labels, use_reentrant=reentrant)
    loss.backward()
    assert all(map(torch.equal, [loss, *(p.grad for p in model.parameters())], want))


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_that_are_kept_elsewhere(device):
    """Hooks of saved tensors see everything that is kept, as for offloading."""
    model, inputs = Grader().to(device), batch(device)
    want = gradients(model, *inputs)
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.clone().cpu()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t.to(device)):
        got = gradients(model, *inputs)
    assert all(map(torch.equal, got, want))
    assert packed.count((12, 5)) >= 3  # embeddings, their gradient, a side of the matrix


@pytest.mark.parametrize("device", DEVICES)
def test_channels_last(device):
    model, (x, labels) = Grader().to(device), batch(device)
    want = gradients(model, x, labels)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    assert last.conv2d.weight.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    assert all(map(torch.equal, gradients(last, x, labels), want))


@pytest.mark.parametrize("device", DEVICES)
def test_deterministic_mode(device):
    model, inputs = Grader().to(device), batch(device)
    # PyTorch's own circular padding is not deterministic on a card.
    model.conv2d.padding_mode = "zeros"
    want = gradients(model, *inputs)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            assert all(map(torch.equal, gradients(model, *inputs), want))
    finally:
        torch.use_deterministic_algorithms(False)


def test_anomaly_mode_and_inference_mode():
    model, inputs = Grader(), batch()
    want = gradients(model, *inputs)
    with torch.autograd.detect_anomaly(check_nan=True):
        assert all(map(torch.equal, gradients(model, *inputs), want))
    with torch.inference_mode():
        loss = model(*inputs)
    assert loss.is_inference() and loss == want[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_under_autocast(device, dtype):
    model, (x, labels) = Grader().to(device), batch(device)
    encoder = torch.nn.Linear(7, 7).to(device)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    parameters = [*model.parameters(), *encoder.parameters()]
    optimizer, losses = torch.optim.Adam(parameters, 0.01), []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast(device, dtype):
            half = encoder(x)
            assert half.dtype == dtype
            loss = model(half, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0] and all(p.dtype == torch.float32 for p in parameters)


EXAMPLE = pathlib.Path(__file__).parents[2] / "examples/grade_with_lightning.py"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the tests lie elsewhere than the examples")
def test_the_example_in_lightning(child):
    pytest.importorskip("lightning")
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, env=child)
    assert done.returncode == 0, done.stderr
    # 0.89; other processors round otherwise, over 390 steps.
    assert float(done.stdout.split("never heard: ")[1]) > 0.8, done.stdout


def trained(rank=None):
    """The parameters after some steps, on a part of the samples on each of two processes or on both parts."""
    torch.manual_seed(0)
    inputs = batch(n=24)
    parts = [[t[i::2] for t in inputs] for i in range(2)]
    model = Grader() if rank is None else torch.nn.parallel.DistributedDataParallel(Grader())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(model(*part) for part in parts) / 2 if rank is None else model(*parts[rank])
        loss.backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="needs gloo"
)
def test_two_processes(on_two_processes):
    """Gradients are the mean of both: those of the two losses on one process."""
    want = trained()
    for got in on_two_processes(trained):
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=1e-6)
