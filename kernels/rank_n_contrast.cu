// Rank-N-Contrast's loss (Zha et al., NeurIPS 2023) over rows in the order of their labels.
//
// Of anchor i, with s_k = -distance_ik / t, and delta_k how far the label of k is from its own:
//
//   S(delta) = sum of exp(s_k) over k != i with delta_k >= delta      the negatives of a row that is so far
//   loss_i   = mean over j != i of log S(delta_j) - s_j
//   d/ds_k   = exp(s_k) Q(delta_k) - 1, over n (n - 1)                Q(delta) = sum of 1 / S(delta_j) over delta_j <= delta
//
// Among the sorted labels the rows of S are a run of the first and a run of the last, those of Q what is between: two running
// sums from the ends towards the anchor, and two back. All are logarithms, with their largest term apart.
//
//   order   labels [n] -> order [n], the row with the q-th least label; ranks [n], its inverse; sorted [n]
//           A thread owns a row and counts those before it, over tiles of labels in shared memory; n^2 comparisons.
//   rows    order, ranks, sorted [n], distances [rows, n] of anchors first + (0..rows) -> losses [rows]; where asked for, the
//           gradient of the loss by the distances in their place, or of each times upstream [rows]; sums [rows, 2, n]
//           A block owns an anchor, a thread every 256th of its rows; in a running sum a run of neighbours, whose sum it leaves
//           to the others before it goes through them again. Which rows count is found by bisection.
//           Cost: some 60 flops a pair, 24 bytes from the second cache and four searches of log n labels, which bind it.
//   sum     losses [n] -> loss [1], their mean. One block.
#include "prelude.cuh"

namespace {

struct RankNContrastParams {
    unsigned n, first, rows, gradient;
    float temperature;
};

constexpr unsigned BLOCK = 256;
constexpr unsigned EACH = 2;
// Threads that share a sum of sums.
constexpr unsigned GROUP = 16;
// Less than any logarithm here, and far from the end of the range.
constexpr float LOWEST = -1e38f;

// Orders labels as whole numbers; those that are none come last, -0 and 0 are one.
__device__ inline unsigned key_of(float label) {
    const unsigned bits = __float_as_uint(label == 0.0f ? 0.0f : label);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0xffffffffu;
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// A sum of exponentials: sum exp(largest).
struct Running {
    float largest = LOWEST, sum = 0.0f;

    __device__ void add(float v) {
        if (v > largest) {
            sum = fmaf(sum, expf(largest - v), 1.0f);
            largest = v;
        } else {
            sum += expf(v - largest);
        }
    }

    __device__ float log() const { return sum == 0.0f ? LOWEST : largest + logf(sum); }
};

// The logarithm of exp(a) + exp(b).
__device__ inline float log_sum(float a, float b) {
    Running of_both;
    of_both.add(a);
    of_both.add(b);
    return of_both.log();
}

// Some values of `sums` one after another, towards the last or towards the first.
struct Run {
    float* first;
    unsigned count;
    bool backwards;

    __device__ float* at(unsigned k) const { return backwards ? first - k : first + k; }
};

// Each value becomes the logarithm of the sum of the exponentials up to it. All threads must come here.
__device__ inline void run_up(const Run& run, float (&totals)[BLOCK], float (&of_groups)[GROUP]) {
    const unsigned thread = threadIdx.x, share = (run.count + BLOCK - 1) / BLOCK;
    const unsigned begin = min(thread * share, run.count), end = min(begin + share, run.count);
    Running own;
    for (unsigned k = begin; k < end; k++) own.add(__ldcg(run.at(k)));
    totals[thread] = own.log();
    __syncthreads();
    if (thread < GROUP) {
        Running group;
        for (unsigned k = 0; k < BLOCK / GROUP; k++) group.add(totals[thread * (BLOCK / GROUP) + k]);
        of_groups[thread] = group.log();
    }
    __syncthreads();
    Running before;
    const unsigned group = thread / (BLOCK / GROUP);
    for (unsigned k = 0; k < group; k++) before.add(of_groups[k]);
    for (unsigned k = group * (BLOCK / GROUP); k < thread; k++) before.add(totals[k]);
    for (unsigned k = begin; k < end; k++) {
        before.add(__ldcg(run.at(k)));
        __stcg(run.at(k), before.log());
    }
    __syncthreads();
}

// An anchor among the sorted labels.
struct Anchor {
    const float* sorted;
    unsigned n, at;
    float label;

    __device__ float apart(unsigned q) const { return q > at ? sorted[q] - label : label - sorted[q]; }

    // How many of the rows before it are as far as `delta`, or farther: the first ones.
    __device__ unsigned before(float delta, bool farther) const {
        unsigned low = 0, high = at;
        while (low < high) {
            const unsigned middle = low + (high - low) / 2;
            const float far = apart(middle);
            if (farther ? far > delta : far >= delta)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    // The first of the rows behind it that is as far as `delta`, or farther; n where none is.
    __device__ unsigned behind(float delta, bool farther) const {
        unsigned low = at + 1, high = n;
        while (low < high) {
            const unsigned middle = low + (high - low) / 2;
            const float far = apart(middle);
            if (farther ? far > delta : far >= delta)
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
};

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    rank_n_contrast_order(const float* __restrict__ labels, unsigned* __restrict__ order, unsigned* __restrict__ ranks,
                          float* __restrict__ sorted, RankNContrastParams p) {
    __shared__ unsigned keys[BLOCK];
    const unsigned i = blockIdx.x * BLOCK + threadIdx.x;
    const unsigned own = i < p.n ? key_of(labels[i]) : 0;
    unsigned rank = 0;
    for (unsigned first = 0; first < p.n; first += BLOCK) {
        __syncthreads(); // whoever still reads the tile before
        if (threadIdx.x < p.n - first) keys[threadIdx.x] = key_of(labels[first + threadIdx.x]);
        __syncthreads();
        for (unsigned k = 0; k < min(BLOCK, p.n - first); k++) {
            rank += keys[k] < own || (keys[k] == own && first + k < i);
        }
    }
    if (i < p.n) {
        order[rank] = i;
        ranks[i] = rank;
        sorted[rank] = labels[i];
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    rank_n_contrast_rows(const unsigned* __restrict__ order, const unsigned* __restrict__ ranks, const float* __restrict__ sorted,
                         const float* __restrict__ upstream, float* __restrict__ distances, float* __restrict__ losses,
                         float* sums, RankNContrastParams p) {
    __shared__ float totals[BLOCK];
    __shared__ float of_groups[GROUP];
    const unsigned row = blockIdx.x, n = p.n, c = ranks[p.first + row];
    const Anchor anchor = {sorted, n, c, sorted[c]};
    float* const distance = distances + static_cast<size_t>(row) * n;
    float* const inwards = sums + static_cast<size_t>(row) * 2 * n;
    float* const outwards = inwards + n;
    bool bad = !is_finite(sorted[n - 1] - sorted[0]);
    for (unsigned q = threadIdx.x; q < n; q += BLOCK) {
        const float far = distance[order[q]];
        bad |= q != c && !is_finite(far);
        __stcg(inwards + q, -far / p.temperature);
    }
    __syncthreads();
    run_up({inwards, c, false}, totals, of_groups);
    run_up({inwards + n - 1, n - 1 - c, true}, totals, of_groups);
    float loss = 0.0f;
    for (unsigned q = threadIdx.x; q < n; q += BLOCK) {
        if (q == c) continue;
        const float delta = anchor.apart(q);
        const unsigned before = anchor.before(delta, false), behind = anchor.behind(delta, false);
        const float log =
            log_sum(before > 0 ? __ldcg(inwards + before - 1) : LOWEST, behind < n ? __ldcg(inwards + behind) : LOWEST);
        loss += log + distance[order[q]] / p.temperature;
        __stcg(outwards + q, -log);
    }
    if (bad) loss = __uint_as_float(0x7fc00000u);
    // Its barriers let all threads see what is outwards, too.
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[row] = loss / static_cast<float>(n - 1);
    if (p.gradient == 0) return;
    run_up({outwards + c - 1, c, true}, totals, of_groups);
    run_up({outwards + c + 1, n - 1 - c, false}, totals, of_groups);
    const float others = static_cast<float>(n - 1);
    const float scale =
        p.gradient == EACH ? upstream[row] / (others * p.temperature) : 1.0f / (static_cast<float>(n) * others * p.temperature);
    for (unsigned q = threadIdx.x; q < n; q += BLOCK) {
        float slope = 0.0f;
        if (q != c) {
            const float delta = anchor.apart(q);
            const unsigned before = anchor.before(delta, true), behind = anchor.behind(delta, true);
            const float log =
                log_sum(before < c ? __ldcg(outwards + before) : LOWEST, behind > c + 1 ? __ldcg(outwards + behind - 1) : LOWEST);
            slope = scale * (1.0f - expf(log - distance[order[q]] / p.temperature));
        }
        distance[order[q]] = slope;
    }
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    rank_n_contrast_sum(const float* __restrict__ losses, float* __restrict__ loss, RankNContrastParams p) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < p.n; i += BLOCK) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) loss[0] = sum / static_cast<float>(p.n);
}
