// From one step to the next without the host: the step's loss is kept, and the inputs of the step after it are laid out.
//
//   losses[step] = loss    step <- (step + 1) mod steps    reals = real_table[step]    words = word_table[step]
//
// Shapes: loss [1], real_table [steps, reals], word_table [steps, words], step [1], losses [steps], reals, words.
// Threads: one block does all, since every thread must have read `step` before it changes; neighbours copy neighbours.
// Cost: no flops, some kilobytes copied: the latency of two loads in a row, a fraction of the launch's own.
#include "prelude.cuh"

namespace {

constexpr unsigned BLOCK = 1024;

struct FeedParams {
    unsigned steps;
    unsigned reals;
    unsigned words;
};

template <typename T> __device__ inline void copy(const T* __restrict__ from, T* __restrict__ to, unsigned n) {
    for (unsigned i = threadIdx.x; i < n; i += BLOCK) to[i] = from[i];
}

} // namespace

extern "C" __global__ void __launch_bounds__(BLOCK)
    feed_next(const float* __restrict__ loss, const float* __restrict__ real_table, const unsigned* __restrict__ word_table,
              unsigned* step, float* __restrict__ losses, float* __restrict__ reals, unsigned* __restrict__ words, FeedParams p) {
    const unsigned at = *step % p.steps, next = at + 1 == p.steps ? 0 : at + 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        losses[at] = loss[0];
        *step = next;
    }
    copy(real_table + size_t(next) * p.reals, reals, p.reals);
    copy(word_table + size_t(next) * p.words, words, p.words);
}
