// How blocks of a launch hand numbers on, for runtime.cpp: cuda_on_cpu.h says what is held back and who finds it.
#pragma once

#include "cuda_on_cpu.h"
#include <unordered_map>

namespace etude_on_cpu {
namespace {

// A moment of a block: what one of its threads did, and how many barriers the block had behind it. What it did before a moment
// counts there if the thread is the same, or a barrier lies between.
struct Moment {
    unsigned thread, barriers;
    uint64_t time;

    bool before(const Moment& other) const { return time < other.time && (thread == other.thread || barriers < other.barriers); }
};

// A word written by __stcg, held back till the launch ends.
struct Word {
    uint32_t bits;
    uint64_t block;
    Moment written;
};

// Who drew a ticket, in order, and the last fence of that thread before.
struct Ticket {
    struct Draw {
        size_t position;
        Moment fence;
    };
    size_t drawn = 0;
    std::unordered_map<uint64_t, Draw> draws; // by block
};

// A fence after a ticket: from then on its thread, and beyond a barrier its block, sees what the draws before that one passed on.
struct Acquired {
    const Ticket* ticket;
    size_t position;
    Moment fence;
};

// Of the launch, but for what is said to be the block's.
struct Handed {
    std::unordered_map<uint32_t*, Word> words;
    std::unordered_map<const void*, Ticket> tickets;
    uint64_t time = 0; // events so far
    uint64_t block = 0;
    unsigned barriers = 0;                       // behind all of the block
    std::unordered_map<unsigned, Moment> fences; // the block's last, by thread
    std::vector<Acquired> drawn;                 // the block's draws, whose fence is their thread's next
    std::vector<Acquired> acquired;              // by the block
};
thread_local Handed handed;

void begin_block(uint64_t number) {
    handed.block = number;
    handed.fences.clear();
    handed.drawn.clear();
    handed.acquired.clear();
}

void end_launch() {
    for (const auto& [to, word] : handed.words) *to = word.bits;
    handed.words.clear();
    handed.tickets.clear();
}

} // namespace

#ifdef ETUDE_ON_CPU_TSAN
// The words are in memory, and the race detector looks at them itself. An atomic operation passes on what came before a fence,
// and a fence takes what came before the atomic operation.
void fence() {
    if (self->drawn) acquire(const_cast<void*>(self->drawn));
    self->drawn = nullptr;
    self->fenced = true;
}

void draw(const void* ticket) {
    if (self->fenced) release(const_cast<void*>(ticket));
    self->drawn = ticket;
}
#else
void fence() {
    const Moment now = {self->number, handed.barriers, ++handed.time};
    handed.fences[self->number] = now;
    for (size_t i = handed.drawn.size(); i-- > 0;) {
        if (handed.drawn[i].fence.thread != self->number) continue;
        handed.acquired.push_back({handed.drawn[i].ticket, handed.drawn[i].position, now});
        handed.drawn.erase(handed.drawn.begin() + static_cast<ptrdiff_t>(i));
    }
}

void draw(const void* address) {
    Ticket& ticket = handed.tickets[address];
    const size_t position = ticket.drawn++;
    const auto fence = handed.fences.find(self->number);
    if (fence != handed.fences.end()) ticket.draws[handed.block] = {position, fence->second};
    handed.drawn.push_back({&ticket, position, {self->number, handed.barriers, handed.time}});
}
#endif

namespace {

// Whether this thread must see the word now.
bool is_seen(const Word& word) {
    const Moment now = {self->number, handed.barriers, handed.time + 1};
    if (word.block == handed.block) return word.written.before(now);
    for (const Acquired& a : handed.acquired) {
        const auto draw = a.ticket->draws.find(word.block);
        if (draw != a.ticket->draws.end() && draw->second.position < a.position && word.written.before(draw->second.fence) &&
            a.fence.before(now)) {
            return true;
        }
    }
    return false;
}

[[noreturn]] void unordered(const char* what, const Word& word, const char* file, int line) {
    give_up(where() + text(": thread %u %s thread %u of block number %llu wrote by __stcg, with no %s between (%s:%d)",
                           self->number, what, word.written.thread, static_cast<unsigned long long>(word.block),
                           word.block == handed.block ? "barrier" : "fence, ticket and fence", file, line));
}

} // namespace

void publish(uint32_t* to, uint32_t bits, const char* file, int line) {
    const auto [at, fresh] = handed.words.try_emplace(to);
    Word& word = at->second;
    if (!fresh && !is_seen(word)) unordered("writes where", word, file, line);
    word = {bits, handed.block, {self->number, handed.barriers, ++handed.time}};
}

uint32_t published(const uint32_t* from, const char* file, int line) {
    if (handed.words.empty()) return *from; // of a launch before
    const auto at = handed.words.find(const_cast<uint32_t*>(from));
    if (at == handed.words.end()) fail("__ldcg of what nobody has written by __stcg in this launch", file, line);
    if (!is_seen(at->second)) unordered("reads by __ldcg what", at->second, file, line);
    return at->second.bits;
}

} // namespace etude_on_cpu
