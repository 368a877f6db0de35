// Batch normalisation (Ioffe and Szegedy 2015) over x [B, C, S], S the product of all further dimensions.
//
// Training, over the N = B S values of a channel, with the pivot k = x[0, c, 0]:
//
//   centre = mean (x - k)        var = mean (x - k - centre)^2        rstd = 1 / sqrt(var + eps)
//   xh = (x - k - centre) rstd   y = gamma xh + beta
//   running_mean <- (1 - m) running_mean + m (k + centre)
//   running_var  <- (1 - m) running_var + m var N / (N - 1)
//   dgamma = sum dy xh           dbeta = sum dy           dx = gamma rstd (dy - dbeta / N - xh dgamma / N)
//
// Evaluation: xh = (x - running_mean) / sqrt(running_var + eps), dx = gamma dy / sqrt(running_var + eps).
//
// A channel is cut into splits of L values, which leave two numbers each in part [C, ceil(N / L), 2]:
//
//   stats   their mean (less k), their squares about it; merged without cancelling (Chan, Golub and LeVeque 1979)
//   sums    sum dy xh, sum dy
//
// train_fwd and train_bwd merge them in every block: a few hundred numbers out of the cache, where a launch between would cost
// 2 us. In evaluation dx needs no sums, so one launch does both and its last block merges.
//
// Shapes: x, y, dy, dx [B, C, S], saved [2, C] = centre, rstd; gamma, beta, running_*, dgamma, dbeta [C].
// Threads: a block owns split i of group(p) channels. Runs of LINE values and more: one channel, each thread every 256th
// value (quad, where S and the addresses allow). Shorter runs: as many neighbouring channels as fill a line, so that a warp
// still reads neighbours; a thread keeps to one column of [B, C S].
// Cost: 5 and 4 flops a value forward, 6 and 6 backward; x read twice and y written, x and dy read twice and dx written: 12
// and 20 bytes, 4 and 8 of them often out of the second cache. Bytes bind.
#include "prelude.cuh"

namespace {

struct BatchNormParams {
    unsigned batch;
    unsigned channels;
    unsigned inner;
    float eps;
    float momentum;
    unsigned split;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned WARPS = BLOCK / 32;

// Elements of a line of memory; also the most channels of a block.
constexpr unsigned LINE = 32;

// Values that a thread has in flight at once.
constexpr int AHEAD = 8;

// Channels that a block owns.
__device__ inline unsigned group(BatchNormParams p) { return min((LINE + p.inner - 1) / p.inner, p.channels); }

__device__ inline unsigned splits(BatchNormParams p) { return (p.batch * p.inner - 1) / p.split + 1; }

// Values of split i of a channel.
__device__ inline unsigned split_count(BatchNormParams p, unsigned i) { return min(p.split, p.batch * p.inner - i * p.split); }

// What this block owns, and this thread's walk over values of one channel of it, or over quads of values.
struct Walk {
    unsigned i;        // split
    unsigned first;    // first channel of the block
    unsigned channels; // of the block
    unsigned c;        // the thread's, counted from the first
    unsigned rows;     // threads that share a column where runs are short, else 0
    bool leads;        // one thread of each channel
    unsigned left;     // values or quads still to come
    unsigned at;       // where the next one is
    unsigned s;        // its place in the run
    unsigned run;      // values or quads of a run
    unsigned stride;   // from one to the next, as long as the run lasts
    unsigned over;     // from the end of a run to the next run
    unsigned turn;     // places that a step takes in a run

    __device__ void step() {
        --left;
        at += stride;
        s += turn;
        if (s >= run) {
            s -= run;
            at += over;
        }
    }
};

// V is 1 or, for quads, 4: then S is a multiple of 4 and no less than LINE.
template <int V> __device__ inline Walk walk(BatchNormParams p) {
    Walk w;
    const unsigned thread = threadIdx.x, all = splits(p), row = p.channels * p.inner;
    w.i = blockIdx.x % all;
    w.first = blockIdx.x / all * group(p);
    w.channels = min(group(p), p.channels - w.first);
    const unsigned begin = w.i * p.split, count = split_count(p, w.i);
    if (p.inner < LINE) {
        const unsigned width = group(p) * p.inner, column = thread % width, lane = thread / width, rows = count / p.inner;
        w.rows = BLOCK / width;
        const bool idle = lane >= w.rows || column >= w.channels * p.inner;
        w.c = idle ? 0 : column / p.inner;
        w.leads = !idle && lane == 0 && column % p.inner == 0;
        w.left = idle || lane >= rows ? 0 : (rows - lane - 1) / w.rows + 1;
        w.at = (begin / p.inner + lane) * row + w.first * p.inner + column;
        w.s = 0, w.run = 1, w.turn = 0, w.over = 0;
        w.stride = w.rows * row;
    } else {
        w.run = p.inner / V;
        const unsigned place = begin / V + thread, values = count / V;
        w.rows = 0;
        w.c = 0;
        w.leads = thread == 0;
        w.left = thread < values ? (values - thread - 1) / BLOCK + 1 : 0;
        w.s = place % w.run;
        w.at = place / w.run * row + w.first * p.inner + w.s * V;
        w.turn = BLOCK % w.run;
        w.stride = BLOCK / w.run * row + w.turn * V;
        w.over = row - p.inner;
    }
    return w;
}

// Whether quads are read: by all of a launch or by none.
template <class... T> __device__ inline bool by_quads(BatchNormParams p, const T*... buffers) {
    return p.inner >= LINE && p.inner % 4 == 0 && is_aligned<16>(buffers...);
}

template <int V> __device__ inline void load(float* v, const float* from) {
    if constexpr (V == 4) {
        const float4 q = at4(from, 0);
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else {
        v[0] = *from;
    }
}

template <int V> __device__ inline void store(float* to, const float* v) {
    if constexpr (V == 4) {
        at4(to, 0) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
        *to = v[0];
    }
}

// The sum over all threads of a channel, for each of them; all threads of the block must come here.
__device__ inline float channel_sum(const Walk& w, BatchNormParams p, float v) {
    if (w.rows == 0) return block_sum(v);
    __shared__ float values[BLOCK];
    __shared__ float totals[LINE];
    __syncthreads(); // whoever still reads the sums before
    values[threadIdx.x] = v;
    __syncthreads();
    const unsigned width = group(p) * p.inner, lane = threadIdx.x % 32, terms = w.rows * p.inner;
    for (unsigned c = threadIdx.x / 32; c < w.channels; c += WARPS) {
        float sum = 0.0f;
        for (unsigned k = lane; k < terms; k += 32) sum += values[k / p.inner * width + c * p.inner + k % p.inner];
        sum = warp_sum(sum);
        if (lane == 0) totals[c] = sum;
    }
    __syncthreads();
    return totals[w.c];
}

// What `part` holds of a channel, added up by a warp: sum over the splits of `term(its values, first number, second)`.
template <class F> __device__ inline float merge(const float* part, unsigned channel, BatchNormParams p, F term) {
    const unsigned all = splits(p);
    float sum = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < all; i += 32) {
        const float* split = part + 2 * (static_cast<size_t>(channel) * all + i);
        sum += term(static_cast<float>(split_count(p, i)), __ldcg(split), __ldcg(split + 1));
    }
    return warp_sum(sum);
}

// Two numbers of each channel of a block, found by a warp, for the threads that read its values.
struct Shared {
    float a[LINE];
    float b[LINE];
};

// Mean and squares of `count` values, which merge with those of others.
struct Stats {
    float count = 0.0f;
    float mean = 0.0f;
    float squares = 0.0f;

    // Takes in the first n of these.
    __device__ void add(const float (&v)[AHEAD], int n) {
        float sum = 0.0f;
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) sum += k < n ? v[k] : 0.0f;
        const float added = static_cast<float>(n), own = sum / added;
        float about = 0.0f;
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) {
            const float d = v[k] - own;
            about += k < n ? d * d : 0.0f;
        }
        const float d = own - mean, share = added / (count + added);
        squares += about + d * d * count * share;
        mean += d * share;
        count += added;
    }
};

template <int V> __device__ void stats(const float* __restrict__ x, float* __restrict__ part, BatchNormParams p) {
    Walk w = walk<V>(p);
    const float pivot = x[(w.first + w.c) * p.inner];

    // 1. Each thread its own mean and squares.
    Stats mine;
    while (w.left > 0) {
        float v[AHEAD] = {};
        int n = 0;
#pragma unroll
        for (int k = 0; k < AHEAD; k += V) {
            if (w.left > 0) {
                load<V>(v + k, x + w.at);
                w.step();
                n += V;
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) v[k] -= pivot;
        mine.add(v, n);
    }

    // 2. Merged over the threads of the channel.
    const float mean = channel_sum(w, p, mine.count * mine.mean) / static_cast<float>(split_count(p, w.i));
    const float d = mine.mean - mean;
    const float squares = channel_sum(w, p, mine.squares + mine.count * d * d);
    if (w.leads) {
        float* to = part + 2 * (static_cast<size_t>(w.first + w.c) * splits(p) + w.i);
        to[0] = mean;
        to[1] = squares;
    }
}

// Calls `f(at, x values, dy values)` for each value or quad, several of them loaded ahead.
template <int V, class F> __device__ inline void each(Walk w, const float* __restrict__ x, const float* __restrict__ dy, F f) {
    while (w.left > 0) {
        float xs[AHEAD], dys[AHEAD];
        unsigned places[AHEAD / V];
        int n = 0;
#pragma unroll
        for (int k = 0; k < AHEAD; k += V) {
            if (w.left > 0) {
                places[k / V] = w.at;
                load<V>(xs + k, x + w.at);
                if (dy) load<V>(dys + k, dy + w.at);
                w.step();
                n += V;
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k += V) {
            if (k < n) f(places[k / V], xs + k, dys + k);
        }
    }
}

template <int V>
__device__ void train_fwd(const float* __restrict__ x, const float* __restrict__ part, const float* __restrict__ gamma,
                          const float* __restrict__ beta, float* __restrict__ running_mean, float* __restrict__ running_var,
                          float* __restrict__ y, float* __restrict__ saved, BatchNormParams p) {
    __shared__ Shared found;
    const Walk w = walk<V>(p);
    const float n = static_cast<float>(p.batch * p.inner);

    // 1. A warp merges a channel: centre and variance.
    for (unsigned g = threadIdx.x / 32; g < w.channels; g += WARPS) {
        const auto weighted = [](float count, float mean, float) { return count * mean; };
        const float centre = merge(part, w.first + g, p, weighted) / n;
        const auto about = [centre](float count, float mean, float squares) {
            const float d = mean - centre;
            return squares + count * d * d;
        };
        const float variance = merge(part, w.first + g, p, about) / n;
        if (threadIdx.x % 32 == 0) found.a[g] = centre, found.b[g] = variance;
    }
    __syncthreads();

    // 2. y, and once what is kept.
    const unsigned c = w.first + w.c;
    const float pivot = x[c * p.inner], centre = found.a[w.c], variance = found.b[w.c];
    const float rstd = 1.0f / sqrtf(variance + p.eps);
    if (w.i == 0 && w.leads) {
        saved[c] = centre;
        saved[p.channels + c] = rstd;
        running_mean[c] = (1.0f - p.momentum) * running_mean[c] + p.momentum * (pivot + centre);
        running_var[c] = (1.0f - p.momentum) * running_var[c] + p.momentum * (variance * (n / (n - 1.0f)));
    }
    const float scale = gamma[c] * rstd, shift = beta[c];
    each<V>(w, x, nullptr, [=](unsigned at, const float* v, const float*) {
        float out[V];
#pragma unroll
        for (int k = 0; k < V; ++k) out[k] = ((v[k] - pivot) - centre) * scale + shift;
        store<V>(y + at, out);
    });
}

// Sums dy xh and dy into `part`; writes dx = slope dy on the way where there is a dx.
template <int V>
__device__ void sums(const Walk& w, const float* __restrict__ x, const float* __restrict__ dy, float* part, float* dx,
                     BatchNormParams p, float pivot, float centre, float rstd, float slope) {
    float with_x = 0.0f, alone = 0.0f;
    each<V>(w, x, dy, [&](unsigned at, const float* v, const float* d) {
        float out[V];
#pragma unroll
        for (int k = 0; k < V; ++k) {
            with_x += d[k] * (((v[k] - pivot) - centre) * rstd);
            alone += d[k];
            out[k] = slope * d[k];
        }
        if (dx) store<V>(dx + at, out);
    });
    with_x = channel_sum(w, p, with_x);
    alone = channel_sum(w, p, alone);
    if (w.leads) {
        float* to = part + 2 * (static_cast<size_t>(w.first + w.c) * splits(p) + w.i);
        __stcg(to, with_x);
        __stcg(to + 1, alone);
    }
}

template <int V>
__device__ void train_sums(const float* __restrict__ x, const float* __restrict__ saved, const float* __restrict__ dy,
                           float* __restrict__ part, BatchNormParams p) {
    const Walk w = walk<V>(p);
    const unsigned c = w.first + w.c;
    sums<V>(w, x, dy, part, nullptr, p, x[c * p.inner], saved[c], saved[p.channels + c], 0.0f);
}

__device__ inline float first_of(float, float a, float) { return a; }

__device__ inline float second_of(float, float, float b) { return b; }

template <int V>
__device__ void train_bwd(const float* __restrict__ x, const float* __restrict__ part, const float* __restrict__ gamma,
                          const float* __restrict__ saved, const float* __restrict__ dy, float* __restrict__ dx,
                          float* __restrict__ dgamma, float* __restrict__ dbeta, BatchNormParams p) {
    __shared__ Shared found;
    const Walk w = walk<V>(p);

    // 1. A warp merges a channel.
    for (unsigned g = threadIdx.x / 32; g < w.channels; g += WARPS) {
        const float with_x = merge(part, w.first + g, p, first_of), alone = merge(part, w.first + g, p, second_of);
        if (threadIdx.x % 32 == 0) found.a[g] = with_x, found.b[g] = alone;
    }
    __syncthreads();

    // 2. dx, and once the sums.
    const unsigned c = w.first + w.c;
    const float n = static_cast<float>(p.batch * p.inner), with_x = found.a[w.c], alone = found.b[w.c];
    if (w.i == 0 && w.leads) {
        dgamma[c] = with_x;
        dbeta[c] = alone;
    }
    const float pivot = x[c * p.inner], centre = saved[c], rstd = saved[p.channels + c];
    const float scale = gamma[c] * rstd, mean = alone / n, slope = rstd * with_x / n;
    each<V>(w, x, dy, [=](unsigned at, const float* v, const float* d) {
        float out[V];
#pragma unroll
        for (int k = 0; k < V; ++k) out[k] = scale * (d[k] - mean - ((v[k] - pivot) - centre) * slope);
        store<V>(dx + at, out);
    });
}

template <int V>
__device__ void eval_fwd(const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta,
                         const float* __restrict__ running_mean, const float* __restrict__ running_var, float* __restrict__ y,
                         BatchNormParams p) {
    const Walk w = walk<V>(p);
    const unsigned c = w.first + w.c;
    const float mean = running_mean[c], scale = gamma[c] / sqrtf(running_var[c] + p.eps), shift = beta[c];
    each<V>(w, x, nullptr, [=](unsigned at, const float* v, const float*) {
        float out[V];
#pragma unroll
        for (int k = 0; k < V; ++k) out[k] = (v[k] - mean) * scale + shift;
        store<V>(y + at, out);
    });
}

template <int V>
__device__ void eval_bwd(const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ running_mean,
                         const float* __restrict__ running_var, const float* __restrict__ dy, float* part, float* dx,
                         BatchNormParams p) {
    const Walk w = walk<V>(p);
    const unsigned c = w.first + w.c;
    const float rstd = 1.0f / sqrtf(running_var[c] + p.eps);
    sums<V>(w, x, dy, part, dx, p, running_mean[c], 0.0f, rstd, gamma[c] * rstd);
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_stats(const float* __restrict__ x, float* __restrict__ part, BatchNormParams p) {
    if (by_quads(p, x)) {
        stats<4>(x, part, p);
    } else {
        stats<1>(x, part, p);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_train_fwd(const float* __restrict__ x, const float* __restrict__ part, const float* __restrict__ gamma,
                         const float* __restrict__ beta, float* __restrict__ running_mean, float* __restrict__ running_var,
                         float* __restrict__ y, float* __restrict__ saved, BatchNormParams p) {
    if (by_quads(p, x, y)) {
        train_fwd<4>(x, part, gamma, beta, running_mean, running_var, y, saved, p);
    } else {
        train_fwd<1>(x, part, gamma, beta, running_mean, running_var, y, saved, p);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_sums(const float* __restrict__ x, const float* __restrict__ saved, const float* __restrict__ dy,
                    float* __restrict__ part, BatchNormParams p) {
    if (by_quads(p, x, dy)) {
        train_sums<4>(x, saved, dy, part, p);
    } else {
        train_sums<1>(x, saved, dy, part, p);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_train_bwd(const float* __restrict__ x, const float* __restrict__ part, const float* __restrict__ gamma,
                         const float* __restrict__ saved, const float* __restrict__ dy, float* __restrict__ dx,
                         float* __restrict__ dgamma, float* __restrict__ dbeta, BatchNormParams p) {
    if (by_quads(p, x, dy, dx)) {
        train_bwd<4>(x, part, gamma, saved, dy, dx, dgamma, dbeta, p);
    } else {
        train_bwd<1>(x, part, gamma, saved, dy, dx, dgamma, dbeta, p);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_eval_fwd(const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ beta,
                        const float* __restrict__ running_mean, const float* __restrict__ running_var, float* __restrict__ y,
                        BatchNormParams p) {
    if (by_quads(p, x, y)) {
        eval_fwd<4>(x, gamma, beta, running_mean, running_var, y, p);
    } else {
        eval_fwd<1>(x, gamma, beta, running_mean, running_var, y, p);
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    batch_norm_eval_bwd(const float* __restrict__ x, const float* __restrict__ gamma, const float* __restrict__ running_mean,
                        const float* __restrict__ running_var, const float* __restrict__ dy, float* __restrict__ part,
                        float* __restrict__ dx, float* __restrict__ dgamma, float* __restrict__ dbeta, BatchNormParams p,
                        unsigned* ticket) {
    if (by_quads(p, x, dy, dx)) {
        eval_bwd<4>(x, gamma, running_mean, running_var, dy, part, dx, p);
    } else {
        eval_bwd<1>(x, gamma, running_mean, running_var, dy, part, dx, p);
    }
    if (!last_block(ticket)) return;
    for (unsigned c = threadIdx.x / 32; c < p.channels; c += WARPS) {
        const float with_x = merge(part, c, p, first_of), alone = merge(part, c, p, second_of);
        if (threadIdx.x % 32 == 0) dgamma[c] = with_x, dbeta[c] = alone;
    }
}
