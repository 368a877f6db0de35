"""PyTorch's sides: eager, compiled, with Etude's operators, and with pytorch-metric-learning."""

import math

from cases import CONVS, FORWARD, PAIRS
from inputs import CHANNELS, DECAY, LR, MARGIN, MOMENTUM, ROWS, loss_inputs, wave


class Torch:
    def __init__(self, compiled, device="cpu", mode=None, tf32=False):
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        torch.set_default_device(device)
        # Etude computes in f32; cuDNN would not, unless told.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self.torch, self.compiled, self.device, self.mode = torch, compiled, device, mode
        self.wait = torch.cuda.synchronize if device == "cuda" else None
        if compiled:
            import logging

            logging.getLogger("torch").setLevel(logging.ERROR)

    def tensor(self, array, wide=False):
        tensor = self.torch.from_numpy(array).to(self.device)
        return tensor.double() if wide else tensor

    def compile(self, f, **options):
        return self.torch.compile(f, dynamic=False, mode=self.mode, **options)

    def begin(self):
        """What a run of a graph gave before may be overwritten."""
        if self.mode:
            self.torch.compiler.cudagraph_mark_step_begin()

    def forget(self):
        """Gives memory back, and what was compiled: PyTorch stops compiling a function that it has seen at eight sizes."""
        import gc

        self.torch._dynamo.reset()
        gc.collect()
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def value_and_gradient(self, f, z):
        def run():
            zi = z.detach().requires_grad_(True)
            loss = f(zi)
            loss.backward()
            return loss.detach(), zi.grad

        return run

    def array(self, tensor):
        return tensor.detach().float().cpu().numpy()

    def norm(self, tensor):
        return float(self.torch.linalg.vector_norm(tensor.detach(), dtype=self.torch.float64))

    def both_ways(self, f, a, b, backward=True):
        """Forward, and backward with the output itself as the gradient from above."""
        torch, f = self.torch, self.compile(f) if self.compiled else f
        a, b = a.requires_grad_(backward), b.requires_grad_(backward)

        def run():
            self.begin()
            y = f(a, b)
            return y.detach(), torch.autograd.grad(y, (a, b), y.detach()) if backward else ()

        return run

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True, wide=False):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, t).reshape(batch, cin, t), wide)
        w = self.tensor(wave(cout * cin, k).reshape(cout, cin, k), wide)
        forms = {"conv1d": self.both_ways(lambda x, w: F.conv1d(x, w, stride=stride), x, w, backward)}
        if self.device == "cpu":
            last = [v.detach()[:, :, None].contiguous(memory_format=self.torch.channels_last) for v in (x, w)]
            forms["channels last"] = self.both_ways(lambda x, w: F.conv2d(x, w, stride=(1, stride)), *last, backward)
        return forms

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True, wide=False):
        F = self.torch.nn.functional
        x = self.tensor(wave(batch * cin, h * h).reshape(batch, cin, h, h), wide)
        w = self.tensor(wave(cout * cin, k * k).reshape(cout, cin, k, k), wide)
        last = [v.detach().contiguous(memory_format=self.torch.channels_last) for v in (x, w)]
        f = lambda x, w: F.conv2d(x, w, padding=k // 2)  # noqa: E731
        return {"conv2d": self.both_ways(f, x, w, backward), "channels last": self.both_ways(f, *last, backward)}

    def reference(self, op, *sizes):
        """What the values should be, in float64."""
        torch = self.torch
        op, backward = op.removesuffix(FORWARD), not op.endswith(FORWARD)
        if op in (*CONVS, *PAIRS):
            make = getattr(self, op + "_forms") if op in CONVS else lambda *more, **options: self.pair_forms(op, *more, **options)
            forms = make(*sizes, backward=backward, wide=True)
            y, grads = forms.get("gram", next(iter(forms.values())))()
            return [y, *grads]
        n, d = sizes
        z, label = map(self.tensor, loss_inputs(op, n, d))
        z = (z.bfloat16() if op == "loss16" else z).double()
        sq, label, pairs, total, grad = (z * z).sum(1), label.double(), n * (n - 1) / 2, 0.0, torch.empty_like(z)
        for rows in torch.arange(n).split(1024):
            zi = z[rows]
            dist = (sq[rows, None] + sq - 2 * (zi @ z.T)).clamp(min=0).sqrt()
            dist[torch.arange(len(rows)), rows] = 0
            w = (label[rows, None] - label).abs()
            hinge = (MARGIN * w - dist).clamp(min=0)
            total += torch.where(w == 0, dist * dist, hinge * hinge).sum()
            coef = torch.where(w == 0, 1.0, -hinge / torch.where(dist > 0, dist, math.inf))
            grad[rows] = coef.sum(1, keepdim=True) * zi - coef @ z
        return [total / 4 / pairs, grad / pairs]

    def pair_forms(self, kind, n, d, backward=True, wide=False):
        torch, F = self.torch, self.torch.nn.functional
        rows = wave(2 * n, d)
        a, b = self.tensor(rows[:n], wide), self.tensor(rows[n:], wide)

        def gram_euclidean(a, b):
            return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)).clamp(min=1e-12).sqrt()

        forms = {
            "dot": {"matmul": lambda a, b: a @ b.T},
            "cosine": {"normalize, matmul": lambda a, b: F.normalize(a, dim=1) @ F.normalize(b, dim=1).T},
            "euclidean": {"cdist": torch.cdist, "gram": gram_euclidean},
        }[kind]
        return {n: self.both_ways(f, a, b, backward) for n, f in forms.items() if not (self.compiled and n == "cdist")}

    def pairs_loss_forms(self, kind, n, d):
        torch, scale, stored = self.torch, 0.5 / (n * (n - 1)), "bf16" if kind == "loss16" else "f32"
        z, label = map(self.tensor, loss_inputs(kind, n, d))

        def weights(label):
            return (label[:, None] - label).abs()

        def cdist(z, label):  # N x N, every pair twice
            w, dist = weights(label), torch.cdist(z, z)
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * scale

        def gram(z, label):
            sq = (z * z).sum(1)
            d2 = sq[:, None] + sq - 2 * (z @ z.T)
            w, near = weights(label), d2 < 1e-7
            dist = torch.where(near, 0.0, torch.where(near, 1.0, d2).sqrt())
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * scale

        def gram_clamped(z, label):  # fewer passes: clamp under the root, no root for positives
            sq = (z * z).sum(1)
            d2 = torch.addmm(sq[:, None] + sq, z, z.T, alpha=-2).clamp(min=1e-7)
            w = weights(label)
            return torch.where(w == 0, d2, (MARGIN * w - d2.sqrt()).clamp(min=0) ** 2).sum() * scale

        def pdist(z, label):  # i < j alone
            w, dist = torch.pdist(label[:, None], p=1), torch.pdist(z)
            return torch.where(w == 0, dist * dist, (MARGIN * w - dist).clamp(min=0) ** 2).sum() * (2 * scale)

        def by_hand(zi, qi, li, z, sq, label, product=torch.matmul):  # value and gradient of some rows, as Etude's kernel
            d2 = (qi[:, None] + sq - 2 * product(zi, z.T)).clamp(min=0)
            w, near = (li[:, None] - label).abs(), d2 < 1e-7
            dist = d2.sqrt()
            hinge = (MARGIN * w - dist).clamp(min=0)
            coef = torch.where(w == 0, 1.0, torch.where(near, 0.0, -hinge / torch.where(near, 1.0, dist)))
            value = torch.where(w == 0, d2, hinge * hinge).sum() * scale
            return value, (coef.sum(1)[:, None] * zi.float() - product(coef.to(z.dtype), z)) * (4 * scale)

        def whole(z, label, **options):
            sq = (z.float() * z.float()).sum(1)
            return by_hand(z, sq, label, z, sq, label, **options)

        def blocked(f):  # what a large N takes: a block of rows at a time
            def run():
                sq = (z.float() * z.float()).sum(1)
                value, grads = 0.0, []
                for rows in zip(z.split(4096), sq.split(4096), label.split(4096)):
                    self.begin()
                    block, grad = f(*rows, z, sq, label)
                    value = value + block
                    grads.append(grad.clone() if self.mode else grad)  # a graph's next run overwrites it
                return value, torch.cat(grads)

            return run

        def direct(f):
            def run():
                self.begin()
                return f(z, label)

            return run

        def in_f32(f):
            return lambda z, label: f(z.float(), label)

        def bf16(a, b):  # bf16 factors, an f32 sum
            return torch.mm(a, b, out_dtype=torch.float32)

        if stored == "bf16":
            z = z.bfloat16()
        make = self.compile if self.compiled else lambda f: f

        def backward(f):
            def run():
                self.begin()
                zi = z.detach().requires_grad_(True)
                loss = f(zi, label)
                loss.backward()
                return loss.detach(), zi.grad

            return run

        forms = {}
        if stored == "bf16":
            forms["gram_clamped of rows in f32"] = backward(make(in_f32(gram_clamped)))
            forms["by hand, rows in f32"] = direct(make(in_f32(whole)))
            forms["by hand, bf16 products"] = direct(make(lambda z, label: whole(z, label, product=bf16)))
            if n >= 16384:
                forms["by hand, bf16 products, blocks of 4096"] = blocked(make(lambda *rows: by_hand(*rows, product=bf16)))
            return forms
        if not self.compiled:
            # pdist's derivative is not written for pairs beyond 32 bits.
            forms = {f.__name__: backward(f) for f in (cdist, gram, gram_clamped, *([pdist] if n < 16384 else []))}
        else:
            # On a card the two differ by what one kernel does between two products, and compiling takes its time.
            for f in (gram, gram_clamped) if self.device == "cpu" else (gram_clamped,):
                forms[f.__name__] = backward(self.compile(f))
                one = self.compile(torch.func.grad_and_value(f), fullgraph=True)
                forms[f.__name__ + ", one graph"] = lambda run=direct(one): run()[::-1]
        if self.device == "cuda":
            forms["by hand"] = direct(make(whole))
            if n >= 16384:
                forms["by hand, blocks of 4096"] = blocked(make(by_hand))
        return forms

    def step_forms(self, b, t):
        torch, F = self.torch, self.torch.nn.functional
        x, y = torch.randn(ROWS, CHANNELS[0], t), torch.rand(ROWS)
        batches = [torch.randint(0, ROWS, (b,)) for _ in range(8)]

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                pairs = list(zip(CHANNELS, CHANNELS[1:]))
                self.conv = torch.nn.ModuleList(torch.nn.Conv1d(i, o, 7, 3, bias=False) for i, o in pairs)
                self.bn = torch.nn.ModuleList(torch.nn.BatchNorm1d(o) for _, o in pairs)
                for bn in self.bn:
                    bn.num_batches_tracked = None  # momentum is fixed: nothing reads the count
                self.hidden, self.out = torch.nn.Linear(16, 8), torch.nn.Linear(8, 1)

            def forward(self, x):
                for conv, bn in zip(self.conv, self.bn):
                    x = F.relu(bn(conv(x)))
                return torch.sigmoid(self.out(self.hidden(x.mean(2))))[:, 0]

        def capture(opt, loss, turn):  # gather, forward, backward and update as one CUDA graph, by PyTorch's own recipe
            index, value = batches[0].clone(), None

            def once():
                opt.zero_grad(set_to_none=True)
                value = loss(index)
                value.backward()
                opt.step()
                return value

            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    once()
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                value = once()

            def run():
                index.copy_(batches[next(turn) % 8])
                graph.replay()
                return value.item(), None

            return run

        def make(compile_step, captured=False, compiled_loss=False, **options):
            net, turn = Net(), iter(range(1 << 60))
            opt = torch.optim.SGD(net.parameters(), LR, MOMENTUM, weight_decay=DECAY, **options)

            def loss(index):
                return F.mse_loss(net(x.index_select(0, index)), y.index_select(0, index))

            def update():
                opt.step()

            if captured:
                return capture(opt, torch.compile(loss, dynamic=False) if compiled_loss else loss, turn)
            if self.compiled:
                loss = self.compile(loss)
                update = torch.compile(update) if compile_step else update

            def run():
                self.begin()
                opt.zero_grad(set_to_none=True)
                value = loss(batches[next(turn) % 8])
                value.backward()
                update()
                return value.item(), None

            return run

        def make_whole():  # forward, backward and update as one graph
            net, turn = Net(), iter(range(1 << 60))
            params = {k: v.detach().clone() for k, v in net.named_parameters()}
            stats = {k: v.clone() for k, v in net.named_buffers()}
            momentum = {k: torch.zeros_like(v) for k, v in params.items()}

            def loss(params, stats, index):
                after = {k: v.clone() for k, v in stats.items()}
                rating = torch.func.functional_call(net, (params, after), (x.index_select(0, index),))
                return F.mse_loss(rating, y.index_select(0, index)), after

            def step(params, momentum, stats, index):
                g, (value, after) = torch.func.grad_and_value(loss, has_aux=True)(params, stats, index)
                for k, v in stats.items():
                    v.copy_(after[k])
                for k, p in params.items():
                    momentum[k].mul_(MOMENTUM).add_(g[k] + DECAY * p)
                    p.sub_(momentum[k], alpha=LR)
                return value

            step = self.compile(step, fullgraph=True)
            return lambda: (step(params, momentum, stats, batches[next(turn) % 8]).item(), None)

        # Made when first run: what one of them cannot do here must not take the others along.
        def later(make, *args, **options):
            made = []

            def run():
                if not made:
                    made.append(make(*args, **options))
                return made[0]()

            return run

        if not self.compiled:
            return {"fused SGD": make(False, fused=True), "foreach SGD": make(False, foreach=True)}
        forms = {
            "fused SGD": later(make, False, fused=True),
            "compiled foreach SGD": later(make, True, foreach=True),
            "one graph": later(make_whole),
        }
        if self.mode and self.device == "cuda":
            forms["eager, captured whole"] = later(make, False, True, fused=True)
            forms["compiled, captured whole"] = later(make, False, True, True, fused=True)
        return forms


class EtudePython(Torch):
    """Etude's own ops on PyTorch's tensors, through autograd."""

    def __init__(self):
        super().__init__(False)
        import etude

        self.etude = etude

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True):
        x, w = self.tensor(wave(batch * cin, t).reshape(batch, cin, t)), self.tensor(wave(cout * cin, k).reshape(cout, cin, k))
        return {"etude": self.both_ways(lambda x, w: self.etude.conv1d(x, w, stride=stride), x, w, backward)}

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True):
        x = self.tensor(wave(batch * cin, h * h).reshape(batch, cin, h, h))
        w = self.tensor(wave(cout * cin, k * k).reshape(cout, cin, k, k))
        return {"etude": self.both_ways(lambda x, w: self.etude.conv2d(x, w, padding=k // 2), x, w, backward)}

    def pair_forms(self, kind, n, d, backward=True):
        rows = self.tensor(wave(2 * n, d))
        f = lambda a, b: self.etude.pairwise_similarity(a, b, kind)  # noqa: E731
        return {"etude": self.both_ways(f, rows[:n].clone(), rows[n:].clone(), backward)}

    def pairs_loss_forms(self, kind, n, d):
        z, label = map(self.tensor, loss_inputs(kind, n, d))
        return {"etude": self.value_and_gradient(lambda z: self.etude.contrastive_loss(z, label, margin=MARGIN), z)}


class MetricLearning(Torch):
    """pytorch-metric-learning's loss of that name: a mean over other pairs, here for scale."""

    def pairs_loss_forms(self, kind, n, d):
        from pytorch_metric_learning.losses import ContrastiveLoss

        z, label = map(self.tensor, loss_inputs(kind, n, d))
        loss, label = ContrastiveLoss(pos_margin=0, neg_margin=MARGIN), label.long()
        return {"ContrastiveLoss": self.value_and_gradient(lambda z: loss(z, label), z)}
