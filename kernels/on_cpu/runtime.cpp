// The machine behind cuda_on_cpu.h: fibers, their order, barriers and warp operations. Compiled without sanitizers always; it
// tells them about its fibers itself.

#include "cuda_on_cpu.h"
#include <algorithm>
#include <cfloat>
#include <cstdarg>
#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif
#if defined(ETUDE_ON_CPU_ASAN)
#include <sanitizer/common_interface_defs.h>
#elif defined(ETUDE_ON_CPU_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace etude_on_cpu {

__thread Fiber* self;
__thread uint3 block;
__thread dim3 grid, block_size;
__thread uint64_t block_serial;
__thread void* dynamic_memory;
#ifdef ETUDE_ON_CPU_TSAN
__thread unsigned set;
#endif

namespace {

constexpr size_t STACK = 256 * 1024;
constexpr unsigned MAX_THREADS = 1024;

struct Warp {
    unsigned there, waiting; // lanes that exist, and that wait at a warp operation
    unsigned syncs;          // to tell one __syncwarp from the next
};

// Fibers that can go on, in order. No container of the library's: its allocations would look shared to race detectors.
struct Ready {
    Fiber* ring[MAX_THREADS];
    unsigned first = 0, length = 0; // `first` may wrap round: MAX_THREADS divides 2^32

    Fiber* pop() {
        Fiber* fiber = ring[first % MAX_THREADS];
        first++;
        length--;
        return fiber;
    }
    void push_front(Fiber* fiber) {
        ring[--first % MAX_THREADS] = fiber;
        length++;
    }
    void push_back(Fiber* fiber) { ring[(first + length++) % MAX_THREADS] = fiber; }
};

// What one thread of the machine needs to run launches.
struct Machine {
    std::vector<Fiber*> sets[SETS];
    Fiber** fibers = nullptr; // of the block
    void* memory[SETS] = {};  // dynamic and shared
    std::vector<Warp> warps;
    Ready ready;
    Fiber main{};
    const Entry* entry = nullptr;
    void** arguments = nullptr;
    bool newest_first = false; // whether a warp that was woken goes before the others
    unsigned threads = 0, at_barrier = 0, done = 0;
    int votes = 0, vote_result = 0;
    std::string fault;
#ifdef ETUDE_ON_CPU_ASAN
    bool from_main = false; // whether the last switch left the main stack
#endif

    ~Machine() {
        for (const auto& set : sets) {
            for (Fiber* fiber : set) {
                munmap(fiber->stack - getpagesize(), STACK + static_cast<size_t>(getpagesize()));
                delete fiber;
            }
        }
    }
};
thread_local Machine machine;

// ---- switching

#ifdef __x86_64__
// Saves what a call must preserve, changes stacks, and jumps: `ret` would miss the processor's return stack on every switch.
extern "C" void etude_on_cpu_switch(void** save, void* to);
asm(R"(
    .text
    .p2align 4
    .type etude_on_cpu_switch, @function
etude_on_cpu_switch:
    popq %rdx
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdx
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %rdx
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    jmpq *%rdx
    .size etude_on_cpu_switch, .-etude_on_cpu_switch
)");

void start_on(Fiber* fiber, char* top, void (*f)()) {
    // As `etude_on_cpu_switch` leaves a stack; the function finds it as after a call, 8 bytes off a multiple of 16.
    void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15}) - 1;
    *sp = nullptr;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    *--sp = reinterpret_cast<void*>(f);
    fiber->stack_pointer = sp;
}
void change(Fiber* from, Fiber* to) { etude_on_cpu_switch(&from->stack_pointer, to->stack_pointer); }
#else
void start_on(Fiber* fiber, char* top, void (*f)()) {
    if (!fiber->stack_pointer) fiber->stack_pointer = new ucontext_t;
    auto* context = static_cast<ucontext_t*>(fiber->stack_pointer);
    getcontext(context);
    context->uc_stack.ss_sp = fiber->stack;
    context->uc_stack.ss_size = static_cast<size_t>(top - fiber->stack);
    context->uc_link = nullptr;
    makecontext(context, f, 0);
}
void change(Fiber* from, Fiber* to) {
    if (!from->stack_pointer) from->stack_pointer = new ucontext_t;
    swapcontext(static_cast<ucontext_t*>(from->stack_pointer), static_cast<ucontext_t*>(to->stack_pointer));
}
#endif

// Goes on as `to`; comes back when somebody goes on as the caller.
void go(Fiber* to) {
    Fiber* from = self;
    self = to;
#if defined(ETUDE_ON_CPU_ASAN)
    void* fake = nullptr;
    machine.from_main = from == &machine.main;
    __sanitizer_start_switch_fiber(&fake, to->stack, static_cast<size_t>(to->stack_end - to->stack));
    change(from, to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#elif defined(ETUDE_ON_CPU_TSAN)
    __tsan_switch_to_fiber(to->sanitizer, __tsan_switch_to_fiber_no_sync);
    change(from, to);
#else
    change(from, to);
#endif
}

// Order between threads as race detectors see it: what came before `release(x)` is before what comes after a later `acquire(x)`.
#ifdef ETUDE_ON_CPU_TSAN
void release(void* x) { __tsan_release(x); }
void acquire(void* x) { __tsan_acquire(x); }
#else
void release(void*) {}
void acquire(void*) {}
#endif
// Only their addresses matter. Blocks of one set follow each other: a block's end comes before the start of the set's next.
char launch_starts, block_ends[2 * SETS];
char* end_of(uint64_t serial) { return &block_ends[serial % (2 * SETS)]; }
char barrier_tokens[SETS][2], warp_tokens[SETS][2][32];

// ---- faults

std::string text(const char* format, ...) {
    char out[512];
    va_list list;
    va_start(list, format);
    vsnprintf(out, sizeof out, format, list);
    va_end(list);
    return out;
}

const char* name_of(Wait wait) {
    switch (wait) {
    case Wait::barrier: return "__syncthreads";
    case Wait::syncwarp: return "__syncwarp";
    case Wait::shuffle: return "a shuffle";
    case Wait::vote: return "a vote";
    case Wait::none: return "nothing";
    default: return "a matrix instruction";
    }
}

bool same_place(const Fiber& a, const Fiber& b) {
    if (a.done || b.done) return a.done == b.done;
    return a.wait == b.wait && a.line == b.line && a.mask == b.mask && (a.file == b.file || !strcmp(a.file, b.file));
}

std::string where() { return text("%s, block (%u, %u, %u)", machine.entry->name, block.x, block.y, block.z); }

// Nobody can go on: says who waits where.
std::string deadlock() {
    std::string out = where() + ": divergent barrier:";
    std::vector<bool> told(machine.threads);
    for (unsigned i = 0; i < machine.threads; i++) {
        if (told[i]) continue;
        const Fiber& first = *machine.fibers[i];
        out += out.back() == ':' ? " threads" : "; threads";
        for (unsigned j = i; j < machine.threads; j++) {
            if (told[j] || !same_place(first, *machine.fibers[j])) continue;
            unsigned end = j;
            while (end < machine.threads && !told[end] && same_place(first, *machine.fibers[end])) told[end++] = true;
            out += j + 1 == end ? text(" %u", j) : text(" %u-%u", j, end - 1);
        }
        if (first.done) {
            out += " have returned";
        } else {
            out += text(" wait at %s (%s:%d", name_of(first.wait), first.file, first.line);
            out += first.wait == Wait::barrier ? ")" : text(", lanes %08x)", first.mask);
        }
    }
    return out;
}

// The stacks of all fibers are abandoned.
[[noreturn]] void give_up(std::string fault) {
    machine.fault = std::move(fault);
    release(end_of(block_serial));
    go(&machine.main);
    __builtin_unreachable();
}

} // namespace
} // namespace etude_on_cpu

#include "handed_on.h"

namespace etude_on_cpu {
namespace {

// ---- the order of things

void next() {
    Machine& m = machine;
    if (m.ready.length == 0) give_up(deadlock());
    go(m.ready.pop());
}

void wake(Fiber* fiber) {
    Machine& m = machine;
    fiber->wait = Wait::none;
    if (m.newest_first) {
        m.ready.push_front(fiber);
    } else {
        m.ready.push_back(fiber);
    }
}

uint64_t random(uint64_t& state) { // SplitMix64 (Steele, Lea, Flood 2014)
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// 0..n, shuffled but for seed 0.
template <typename T> void order(T* out, T n, uint64_t seed) {
    for (T i = 0; i < n; i++) out[i] = i;
    for (T i = n; seed && i > 1; i--) std::swap(out[i - 1], out[random(seed) % i]);
}

void fiber_main() {
#ifdef ETUDE_ON_CPU_ASAN
    const void* from = nullptr;
    size_t bytes = 0;
    __sanitizer_finish_switch_fiber(nullptr, &from, &bytes);
    if (machine.from_main) {
        machine.main.stack = static_cast<char*>(const_cast<void*>(from));
        machine.main.stack_end = machine.main.stack + bytes;
    }
#endif
    acquire(&launch_starts);
    acquire(end_of(block_serial - SETS));
    machine.entry->run(machine.arguments);
    release(end_of(block_serial));
    self->done = true;
    if (++machine.done == machine.threads) {
        go(&machine.main);
    } else {
        next();
    }
    __builtin_unreachable();
}

Fiber* new_fiber(unsigned number) {
    const size_t page = static_cast<size_t>(getpagesize());
    // The page below the stack stays forbidden: an overflow is a crash, not a surprise.
    void* memory = mmap(nullptr, STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) return nullptr;
    auto* fiber = new Fiber{};
    fiber->stack = static_cast<char*>(memory) + page;
    // Stacks that all began at the same address of a page would fight for the same cache lines.
    fiber->stack_end = fiber->stack + STACK - number * 1088 % 65536;
#ifdef ETUDE_ON_CPU_TSAN
    fiber->sanitizer = __tsan_create_fiber(0);
#endif
    return fiber;
}

// Runs one block; machine.fault says if it could not.
void run_block(unsigned threads, uint64_t seed) {
    Machine& m = machine;
    const unsigned warps = (threads + 31) / 32;
    block_serial++;
    m.threads = threads;
    m.done = m.at_barrier = 0;
    m.votes = 0;
    m.newest_first = seed & 1;
    m.ready.first = m.ready.length = 0;
    m.warps.assign(warps, Warp{});
    unsigned warp_order[MAX_THREADS / 32], lane_order[32];
    order(warp_order, warps, seed);
    for (unsigned i = 0; i < warps; i++) {
        const unsigned warp = warp_order[i], lanes = threads - 32 * warp < 32 ? threads - 32 * warp : 32;
        m.warps[warp].there = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
        order(lane_order, lanes, seed ? random(seed) : 0);
        for (unsigned j = 0; j < lanes; j++) {
            Fiber& fiber = *m.fibers[32 * warp + lane_order[j]];
            fiber.number = 32 * warp + lane_order[j];
            fiber.thread = {fiber.number, 0, 0};
            fiber.wait = Wait::none;
            fiber.done = false;
            fiber.group = 0;
            fiber.copies.clear();
            fiber.drawn = nullptr;
            fiber.fenced = false;
            start_on(&fiber, fiber.stack_end, fiber_main);
            m.ready.push_back(&fiber);
        }
    }
    self = &m.main;
    go(m.ready.pop());
    self = nullptr;
}

// ---- warp operations, done for all lanes by the last to come

// Cards add a product's terms to the accumulator exactly enough and then cut off what does not fit, towards zero. The depth is
// known to the compiler, and nothing branches: half of some tests' time goes by here.
template <unsigned depth> void add_products(const float (&a)[16][16], const float (&b)[16][8], float (&d)[16][8]) {
    for (unsigned i = 0; i < 16; i++) {
        double sum[8];
        for (unsigned j = 0; j < 8; j++) sum[j] = d[i][j];
        for (unsigned k = 0; k < depth; k++) {
            for (unsigned j = 0; j < 8; j++) sum[j] += static_cast<double>(a[i][k]) * b[k][j];
        }
        for (unsigned j = 0; j < 8; j++) {
            const float near = static_cast<float>(sum[j]);
            const unsigned beyond = (std::fabs(near) > std::fabs(sum[j])) & (std::fabs(near) <= FLT_MAX);
            d[i][j] = as_float(as_bits(near) - beyond); // the next float towards zero
        }
    }
}

void multiply(Wait kind, Fiber** lanes) {
    float a[16][16], b[16][8], d[16][8];
    const auto decode = [kind](unsigned word, unsigned half) {
        if (kind == Wait::mma_tf32) return as_float(word & ~0x1fffu);
        const auto bits = static_cast<uint16_t>(word >> 16 * half);
        return kind == Wait::mma_f16 ? half_to_float(bits) : bfloat_to_float(bits);
    };
    const unsigned wide = kind == Wait::mma_tf32 ? 1 : 2; // values to a register
    for (unsigned lane = 0; lane < 32; lane++) {
        const Offer& o = *lanes[lane]->offer;
        const unsigned group = lane / 4, in = lane % 4;
        for (unsigned h = 0; h < wide; h++) {
            for (unsigned i = 0; i < 4; i++) a[group + 8 * (i & 1)][in * wide + h + 4 * wide * (i >> 1)] = decode(o.a[i], h);
            for (unsigned i = 0; i < 2; i++) b[in * wide + h + 4 * wide * i][group] = decode(o.b[i], h);
        }
        for (unsigned i = 0; i < 4; i++) d[group + 8 * (i >> 1)][2 * in + (i & 1)] = o.d[i];
    }
    kind == Wait::mma_tf32 ? add_products<8>(a, b, d) : add_products<16>(a, b, d);
    for (unsigned lane = 0; lane < 32; lane++) {
        const Offer& o = *lanes[lane]->offer;
        for (unsigned i = 0; i < 4; i++) o.d[i] = d[lane / 4 + 8 * (i >> 1)][2 * (lane % 4) + (i & 1)];
    }
}

void perform(Wait kind, unsigned mask, Fiber** lanes) {
    uint64_t results[32] = {};
    switch (kind) {
    case Wait::shuffle:
        for (unsigned l = 0; l < 32; l++) {
            if (!(mask >> l & 1)) continue;
            const unsigned from = lanes[l]->offer->from;
            if (!(mask >> from & 1)) {
                give_up(where() + text(": thread %u reads lane %u by a shuffle (%s:%d) that lane has no part in",
                                       lanes[l]->number, from, lanes[l]->file, lanes[l]->line));
            }
            results[l] = lanes[from]->offer->value;
        }
        for (unsigned l = 0; l < 32; l++) {
            if (mask >> l & 1) lanes[l]->offer->value = results[l];
        }
        break;
    case Wait::vote:
        for (unsigned l = 0; l < 32; l++) {
            if (mask >> l & 1) results[0] |= lanes[l]->offer->value << l;
        }
        for (unsigned l = 0; l < 32; l++) {
            if (mask >> l & 1) lanes[l]->offer->value = results[0];
        }
        break;
    case Wait::mma_tf32:
    case Wait::mma_f16:
    case Wait::mma_bf16:
        if (mask != 0xffffffffu) give_up(where() + ": a matrix instruction in a warp of fewer than 32 lanes");
        multiply(kind, lanes);
        break;
    default: break;
    }
}

} // namespace

void fail(const char* what, const char* file, int line) {
    give_up(where() + text(": thread %u: %s (%s:%d)", self->number, what, file, line));
}

int barrier(int vote, const char* file, int line) {
    Machine& m = machine;
    Fiber* me = self;
    char* token = &barrier_tokens[set][handed.barriers % 2];
    me->fenced = false;
    release(token);
    me->wait = Wait::barrier;
    me->mask = 0;
    me->file = file;
    me->line = line;
    me->vote = vote;
    m.votes += vote;
    if (++m.at_barrier == m.threads) {
        for (unsigned i = 0; i < m.threads; i++) {
            if (!same_place(*me, *m.fibers[i])) give_up(deadlock());
        }
        m.at_barrier = 0;
        handed.barriers++;
        m.vote_result = m.votes;
        m.votes = 0;
        if (m.newest_first) {
            for (unsigned i = m.threads; i-- > 0;) {
                if (m.fibers[i] != me) wake(m.fibers[i]);
            }
        } else {
            for (unsigned i = 0; i < m.threads; i++) {
                if (m.fibers[i] != me) wake(m.fibers[i]);
            }
        }
        me->wait = Wait::none;
    } else {
        next();
    }
    acquire(token);
    return m.vote_result;
}

void warp(Wait wait, unsigned mask, Offer& offer, const char* file, int line) {
    Machine& m = machine;
    Fiber* me = self;
    const unsigned number = me->number / 32, lane = me->number % 32;
    Warp& warp = m.warps[number];
    mask &= warp.there;
    if (!(mask >> lane & 1)) fail("a warp operation's mask leaves its own lane out", file, line);
    char* token = &warp_tokens[set][warp.syncs % 2][number];
    if (wait == Wait::syncwarp) release(token);
    me->wait = wait;
    me->mask = mask;
    me->file = file;
    me->line = line;
    me->offer = &offer;
    warp.waiting |= 1u << lane;
    Fiber** lanes = &m.fibers[32 * number];
    bool complete = (warp.waiting & mask) == mask;
    for (unsigned l = 0; complete && l < 32; l++) {
        if (mask >> l & 1) complete = same_place(*me, *lanes[l]);
    }
    if (complete) {
        perform(wait, mask, lanes);
        warp.waiting &= ~mask;
        if (wait == Wait::syncwarp) warp.syncs++;
        for (unsigned l = 32; l-- > 0;) {
            if ((mask >> l & 1) && l != lane) wake(lanes[l]);
        }
        me->wait = Wait::none;
    } else {
        next();
    }
    if (wait == Wait::syncwarp) acquire(token);
}

void poison(void* memory, size_t bytes) {
#ifdef ETUDE_ON_CPU_TSAN
    // memset would be taken for the calling thread's writing.
    volatile unsigned char* at = static_cast<unsigned char*>(memory);
    for (size_t i = 0; i < bytes; i++) at[i] = 0xff;
#else
    memset(memory, 0xff, bytes);
#endif
}

extern const Entry* const registry[]; // tables that end with an entry without a name, and a null

namespace {

const Entry* find(const char* name) {
    for (const Entry* const* table = registry; *table; table++) {
        for (const Entry* entry = *table; entry->name; entry++) {
            if (!strcmp(entry->name, name)) return entry;
        }
    }
    return nullptr;
}

// `chosen` are the numbers of the blocks to run, x fastest; null runs all.
std::string launch(const Entry* entry, const unsigned sides[3], unsigned threads, unsigned shared, void** arguments,
                   const uint64_t* chosen, uint64_t count, uint64_t seed) {
    Machine& m = machine;
    m.entry = entry;
    m.arguments = arguments;
    m.fault.clear();
    for (auto& fibers : m.sets) {
        while (fibers.size() < threads) {
            Fiber* fiber = new_fiber(static_cast<unsigned>(fibers.size()));
            if (!fiber) return "no memory for the stacks of a block's threads";
            fibers.push_back(fiber);
        }
    }
#ifdef ETUDE_ON_CPU_TSAN
    m.main.sanitizer = __tsan_get_current_fiber();
#endif
    grid = {sides[0], sides[1], sides[2]};
    block_size = {threads, 1, 1};
    const uint64_t blocks = chosen ? count : static_cast<uint64_t>(sides[0]) * sides[1] * sides[2];
    std::vector<uint64_t> blocks_in_order(blocks);
    order(blocks_in_order.data(), blocks, seed);
    // Exactly as long as asked for, so that sanitizers see what is beyond.
    for (void*& memory : m.memory) {
        memory = nullptr;
        if (shared && posix_memalign(&memory, 128, shared)) return "no memory for a block's shared memory";
    }
    release(&launch_starts);
    for (uint64_t place : blocks_in_order) {
        const uint64_t number = chosen ? chosen[place] : place;
        block = {static_cast<unsigned>(number % sides[0]), static_cast<unsigned>(number / sides[0] % sides[1]),
                 static_cast<unsigned>(number / sides[0] / sides[1])};
#ifdef ETUDE_ON_CPU_TSAN
        set = static_cast<unsigned>(block_serial % SETS);
#endif
        begin_block(number);
        m.fibers = m.sets[set].data();
        dynamic_memory = m.memory[set];
        if (shared) poison(dynamic_memory, shared);
        uint64_t state = seed + number;
        run_block(threads, seed ? random(state) : 0);
        if (!m.fault.empty()) break;
    }
    for (char& end : block_ends) acquire(&end);
    for (void* memory : m.memory) free(memory);
    end_launch();
    return m.fault;
}

} // namespace

} // namespace etude_on_cpu

// Runs a launch, `sizes` being the bytes of each argument; where `chosen` is not null, no more of its blocks than those many of
// these numbers. Returns 0, or 1 with a message.
extern "C" int etude_on_cpu_launch(const char* name, const unsigned* grid, unsigned threads, unsigned shared, void** arguments,
                                   const unsigned* sizes, unsigned count, const uint64_t* chosen, uint64_t chosen_count,
                                   uint64_t seed, char* message, size_t capacity) {
    using namespace etude_on_cpu;
    std::string fault;
    const Entry* entry = find(name);
    if (!entry) {
        fault = text("no entry point %s among the CUDA sources", name);
    } else if (count != entry->count || !std::equal(sizes, sizes + count, entry->sizes)) {
        fault = text("%s: the row and the source disagree about the arguments: bytes", name);
        for (unsigned i = 0; i < count; i++) fault += text(" %u", sizes[i]);
        fault += " in the row,";
        for (unsigned i = 0; i < entry->count; i++) fault += text(" %u", entry->sizes[i]);
        fault += " in the source";
    } else if (threads == 0 || threads > MAX_THREADS) {
        fault = text("%s: a block of %u threads", name, threads);
    } else {
        fault = launch(entry, grid, threads, shared, arguments, chosen, chosen_count, seed);
    }
    snprintf(message, capacity, "%s", fault.c_str());
    return !fault.empty();
}

// Whether the sources have such an entry point.
extern "C" int etude_on_cpu_has(const char* name) { return etude_on_cpu::find(name) != nullptr; }
