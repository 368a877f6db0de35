"""JAX's side, jitted: differentiated by JAX, or the loss with its gradient written by hand."""

import os

from inputs import CHANNELS, DECAY, LR, MARGIN, MOMENTUM, ROWS, loss_inputs, wave

JAX_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Jax:
    wait = None

    def __init__(self, by_hand):
        os.environ["XLA_FLAGS"] = JAX_FLAGS
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self.jax, self.by_hand = jax, by_hand

    def both_ways(self, f, a, b, backward, restore=None):
        """As PyTorch's. `restore` gives a form's output, or a gradient, the axes of the others."""
        jax = self.jax

        def there_and_back(a, b):
            y, pull = jax.vjp(f, a, b)
            return y, pull(y)

        jitted, a, b = jax.jit(there_and_back if backward else lambda a, b: (f(a, b), ())), *map(jax.device_put, (a, b))
        run = lambda: jax.block_until_ready(jitted(a, b))  # noqa: E731
        run.restore = restore
        return run

    def pair_forms(self, kind, n, d, backward=True):
        jnp, rows = self.jax.numpy, wave(2 * n, d)

        def unit(a):
            return a / jnp.maximum(jnp.sqrt((a * a).sum(1, keepdims=True)), 1e-12)

        def gram(a, b):
            return jnp.sqrt(jnp.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T), 1e-12))

        form, f = {
            "dot": ("matmul", lambda a, b: a @ b.T),
            "cosine": ("normalize, matmul", lambda a, b: unit(a) @ unit(b).T),
            "euclidean": ("gram", gram),
        }[kind]
        return {form: self.both_ways(f, rows[:n], rows[n:], backward)}

    def conv_forms(self, batch, cin, cout, t, k, stride, backward=True):
        x, w = wave(batch * cin, t).reshape(batch, cin, 1, t), wave(cout * cin, k).reshape(cout, cin, 1, k)
        # One dimension is two of which one is 1: the values lie alike.
        return self.slide(x, w, stride, 0, backward)

    def conv2d_forms(self, batch, cin, cout, h, k, backward=True):
        x, w = wave(batch * cin, h * h).reshape(batch, cin, h, h), wave(cout * cin, k * k).reshape(cout, cin, k, k)
        return self.slide(x, w, 1, k // 2, backward)

    def slide(self, x, w, stride, pad, backward):
        """Channels first, channels last, and as slices side by side and one matrix product."""
        jnp, lax = self.jax.numpy, self.jax.lax
        (_, _, kh, kw), padding = w.shape, [(pad, pad), (pad, pad)]

        def conv(axes):
            return lambda x, w: lax.conv_general_dilated(x, w, (1, stride), padding, dimension_numbers=axes)

        def slices(x, w):
            x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
            h, t = x.shape[1] - kh + 1, (x.shape[2] - kw) // stride + 1
            taps = [x[:, i : i + h, j : j + stride * (t - 1) + 1 : stride] for i in range(kh) for j in range(kw)]
            return jnp.concatenate(taps, -1) @ w.reshape(-1, w.shape[3])

        def first(array, at):  # the output, the input's gradient, the weight's
            return array.transpose((3, 2, 0, 1) if at == 2 else (0, 3, 1, 2))

        last = x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0)
        return {
            "conv, channels first": self.both_ways(conv(("NCHW", "OIHW", "NCHW")), x, w, backward),
            "conv, channels last": self.both_ways(conv(("NHWC", "HWIO", "NHWC")), *last, backward, first),
            "slices + matmul, channels last": self.both_ways(slices, *last, backward, first),
        }

    def pairs_loss_forms(self, kind, n, d):
        jax, jnp, scale = self.jax, self.jax.numpy, 0.5 / (n * (n - 1))
        z, label = map(jax.device_put, loss_inputs(kind, n, d))

        def block(zi, qi, li, z, sq, label):
            d2 = jnp.maximum(qi[:, None] + sq - 2 * (zi @ z.T), 1e-7)
            w = jnp.abs(li[:, None] - label)
            return jnp.where(w == 0, d2, jnp.maximum(MARGIN * w - jnp.sqrt(d2), 0) ** 2).sum()

        def gram(z, label):
            sq = (z * z).sum(1)
            d2 = sq[:, None] + sq - 2 * (z @ z.T)
            w, near = jnp.abs(label[:, None] - label), d2 < 1e-7
            dist = jnp.where(near, 0.0, jnp.sqrt(jnp.where(near, 1.0, d2)))
            return jnp.where(w == 0, dist * dist, jnp.maximum(MARGIN * w - dist, 0) ** 2).sum() * scale

        def gram_clamped(z, label):
            sq = (z * z).sum(1)
            return block(z, sq, label, z, sq, label) * scale

        def blocked(z, label, rows):  # row blocks, recomputed in the backward pass
            sq = (z * z).sum(1)
            one = jax.checkpoint(lambda a: block(*a, z, sq, label))
            return jax.lax.map(one, split(z, sq, label, rows)).sum() * scale

        def split(z, sq, label, rows):
            return z.reshape(-1, rows, d), sq.reshape(-1, rows), label.reshape(-1, rows)

        def hand(z, label, rows):  # value and gradient of a block together, as Etude's kernel does
            sq = (z * z).sum(1)

            def one(a):
                zi, qi, li = a
                d2 = jnp.maximum(qi[:, None] + sq - 2 * (zi @ z.T), 0)
                w, near = jnp.abs(li[:, None] - label), d2 < 1e-7
                dist = jnp.sqrt(d2)
                hinge = jnp.maximum(MARGIN * w - dist, 0)
                coef = jnp.where(w == 0, 1.0, jnp.where(near, 0.0, -hinge / jnp.where(near, 1.0, dist)))
                value = jnp.where(w == 0, d2, hinge * hinge).sum()
                return value, coef.sum(1)[:, None] * zi - coef @ z

            value, grad = jax.lax.map(one, split(z, sq, label, rows))
            return value.sum() * scale, grad.reshape(n, d) * (4 * scale)

        sizes = [r for r in (32, 128) if n % r == 0] or [n]
        if self.by_hand:
            forms = {f"blocks of {r}": lambda z, l, r=r: hand(z, l, r) for r in sizes}
            forms["whole matrix"] = lambda z, l: hand(z, l, n)
        else:
            forms = {f.__name__: jax.value_and_grad(f) for f in (gram, gram_clamped)}
            for r in sizes:
                forms[f"blocks of {r}"] = jax.value_and_grad(lambda z, l, r=r: blocked(z, l, r))
        jitted = {name: jax.jit(f) for name, f in forms.items()}
        return {name: lambda f=f: jax.block_until_ready(f(z, label)) for name, f in jitted.items()}

    def step_forms(self, b, t):
        import numpy as np

        jax, jnp, lax = self.jax, self.jax.numpy, self.jax.lax
        rng = np.random.default_rng(0)

        def normal(*shape, scale=1.0):
            return jnp.asarray(rng.standard_normal(shape) * scale, jnp.float32)

        batches = [jnp.asarray(rng.integers(0, ROWS, b)) for _ in range(8)]

        def conv_ncw(x, w):
            return lax.conv_general_dilated(x, w, (3,), "VALID", dimension_numbers=("NCH", "OIH", "NCH"))

        def conv_nwc(x, w):
            return lax.conv_general_dilated(x, w, (3,), "VALID", dimension_numbers=("NHC", "HIO", "NHC"))

        def gather_nwc(x, w):  # seven strided slices side by side, then one matrix product
            size = (x.shape[1] - 7) // 3 + 1
            taps = jnp.concatenate([x[:, k : k + 3 * (size - 1) + 1 : 3] for k in range(7)], -1)
            return taps @ w.reshape(-1, w.shape[2])

        def make(conv, time_last, one_pass):
            time_axis, over, wide = (2, (0, 2), (1, -1, 1)) if time_last else (1, (0, 1), (1, 1, -1))
            x = normal(ROWS, CHANNELS[0], t) if time_last else normal(ROWS, t, CHANNELS[0])
            y = jnp.asarray(rng.random(ROWS), jnp.float32)
            p = {"w": [], "gain": [], "shift": []}
            for i, o in zip(CHANNELS, CHANNELS[1:]):
                p["w"].append(normal(*((o, i, 7) if time_last else (7, i, o)), scale=(7 * i) ** -0.5))
                p["gain"].append(jnp.ones(o))
                p["shift"].append(jnp.zeros(o))
            p["hidden"] = (normal(16, 8, scale=0.25), jnp.zeros(8))
            p["out"] = (normal(8, 1, scale=0.35), jnp.zeros(1))
            running = [(jnp.zeros(o), jnp.ones(o)) for o in CHANNELS[1:]]

            def loss(p, running, x, y):
                after = []
                for w, gain, shift, (rm, rv) in zip(p["w"], p["gain"], p["shift"], running):
                    x = conv(x, w)
                    count, mean = x.size // w.shape[0 if time_last else 2], x.mean(over)
                    if one_pass:
                        var = (x * x).mean(over) - mean * mean
                    else:
                        var = ((x - mean.reshape(wide)) ** 2).mean(over)
                    after.append((0.9 * rm + 0.1 * mean, 0.9 * rv + 0.1 * var * (count / (count - 1))))
                    gain = gain * lax.rsqrt(var + 1e-5)
                    x = jax.nn.relu((x - mean.reshape(wide)) * gain.reshape(wide) + shift.reshape(wide))
                h = x.mean(time_axis) @ p["hidden"][0] + p["hidden"][1]
                rating = jax.nn.sigmoid(h @ p["out"][0] + p["out"][1])[:, 0]
                return ((rating - y) ** 2).mean(), after

            def step(p, m, running, x, y, index):
                xb, yb = (a.at[index].get(mode="promise_in_bounds") for a in (x, y))
                (value, running), g = jax.value_and_grad(loss, has_aux=True)(p, running, xb, yb)
                m = jax.tree.map(lambda m, g, p: MOMENTUM * m + g + DECAY * p, m, g, p)
                return jax.tree.map(lambda p, m: p - LR * m, p, m), m, running, value

            jitted = jax.jit(step, donate_argnums=(0, 1, 2))
            state, turn = [p, jax.tree.map(jnp.zeros_like, p), running], iter(range(1 << 60))

            def run():
                *state[:], value = jitted(*state, x, y, batches[next(turn) % 8])
                return float(value), None

            return run

        return {
            "conv NCW": make(conv_ncw, True, False),
            "conv NCW, one-pass variance": make(conv_ncw, True, True),
            "conv NWC, one-pass variance": make(conv_nwc, False, True),
            "slices + matmul NWC": make(gather_nwc, False, False),
            "slices + matmul NWC, one-pass variance": make(gather_nwc, False, True),
        }
