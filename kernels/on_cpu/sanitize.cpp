// Runs launches that launches.rs wrote, or one planted kernel, in a program that sanitizers see whole.
//
//   sanitize launches FILE SEED   each launch once, in the order that the seed gives; what is written must be, bit for bit, what
//   was
//                                 written before
//   sanitize planted NAME         the planted kernel NAME once
//
// Buffers are as long as the launch says and no longer, each in an allocation of its own, so that a sanitizer guards both their
// ends.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

extern "C" int etude_on_cpu_launch(const char* name, const unsigned* grid, unsigned threads, unsigned shared, void** arguments,
                                   const unsigned* sizes, unsigned count, const uint64_t* chosen, uint64_t chosen_count,
                                   uint64_t seed, char* message, size_t capacity);

namespace {

struct Free {
    void operator()(void* p) const { free(p); }
};

// Memory between guards.
struct Buffer {
    std::unique_ptr<void, Free> memory;
    char* bytes = nullptr;

    Buffer(size_t length, size_t past_a_line) {
        void* p = nullptr;
        if (posix_memalign(&p, 64, past_a_line + length + (length == 0))) abort();
        memory.reset(p);
        bytes = static_cast<char*>(p) + past_a_line;
    }
};

struct Reader {
    FILE* file;
    bool at_end() {
        const int c = fgetc(file);
        return c == EOF || (ungetc(c, file), false);
    }
    void read(void* to, size_t bytes) {
        if (bytes && fread(to, 1, bytes, file) != bytes) {
            fprintf(stderr, "the file of launches is cut short\n");
            exit(1);
        }
    }
    uint32_t number() {
        uint32_t v;
        read(&v, 4);
        return v;
    }
    std::string text() {
        std::string out(number(), ' ');
        read(out.data(), out.size());
        return out;
    }
};

struct Arguments {
    std::vector<uint64_t> addresses;
    std::vector<void*> places;
    std::vector<unsigned> sizes;

    void add(void* place, size_t size) {
        places.push_back(place);
        sizes.push_back(static_cast<unsigned>(size));
    }
};

void run(const char* name, const unsigned grid[3], unsigned block, unsigned shared, Arguments& a, uint64_t seed,
         const char* where) {
    char message[4096];
    if (grid[0] && grid[1] && grid[2] &&
        etude_on_cpu_launch(name, grid, block, shared, a.places.data(), a.sizes.data(), static_cast<unsigned>(a.sizes.size()),
                            nullptr, 0, seed, message, sizeof message)) {
        fprintf(stderr, "%s: %s\n", where, message);
        exit(1);
    }
}

bool is_nan(uint32_t v) { return (v & 0x7fffffffu) > 0x7f800000u; }

int launches(const char* path, uint64_t seed) {
    const auto start = std::chrono::steady_clock::now();
    Reader in{fopen(path, "rb")};
    if (!in.file) return perror(path), 1;
    std::map<std::string, int> kernels;
    std::set<std::string> cases;
    int count = 0;
    while (!in.at_end()) {
        const std::string place = in.text(), name = in.text();
        unsigned grid[3];
        for (unsigned& side : grid) side = in.number();
        const unsigned block = in.number(), shared = in.number();
        const std::string params = in.text();
        std::vector<uint32_t> tickets(in.number());
        uint32_t* ticket_address = tickets.data();
        std::vector<Buffer> buffers;
        std::vector<std::string> expected;
        for (unsigned i = in.number(); i > 0; i--) {
            const uint32_t past_a_line = in.number(), length = in.number();
            buffers.emplace_back(length, past_a_line);
            in.read(buffers.back().bytes, length);
            expected.push_back(in.text());
        }
        Arguments a;
        for (Buffer& b : buffers) a.add(&b.bytes, 8);
        if (!params.empty()) a.add(const_cast<char*>(params.data()), params.size());
        if (!tickets.empty()) a.add(&ticket_address, 8);
        run(name.c_str(), grid, block, shared, a, seed, place.c_str());
        if (std::count(tickets.begin(), tickets.end(), 0u) != static_cast<long>(tickets.size()))
            return fprintf(stderr, "%s: %s: tickets drawn and not given back\n", place.c_str(), name.c_str()), 1;
        for (size_t b = 0; b < buffers.size(); b++) {
            for (size_t i = 0; i + 4 <= expected[b].size(); i += 4) { // what is written is f32
                uint32_t got, want;
                memcpy(&got, buffers[b].bytes + i, 4);
                memcpy(&want, expected[b].data() + i, 4);
                if (got == want || (is_nan(got) && is_nan(want))) continue;
                fprintf(stderr, "%s: %s: buffer %zu, element %zu: %08x, was %08x\n", place.c_str(), name.c_str(), b, i / 4, got,
                        want);
                return 1;
            }
        }
        count++;
        kernels[name]++;
        cases.insert(place);
    }
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    printf("%d launches of %zu kernels in %zu cases, seed %llu, %.0f s\n", count, kernels.size(), cases.size(),
           static_cast<unsigned long long>(seed), time.count());
    return 0;
}

int planted(const char* name) {
    constexpr unsigned N = 64;
    Buffer x(4 * N, 0), y(4 * N, 0);
    memset(x.bytes, 0, 4 * N);
    memset(y.bytes, 0xff, 4 * N);
    unsigned n = N;
    Arguments a;
    a.add(&x.bytes, 8);
    a.add(&y.bytes, 8);
    a.add(&n, 4);
    const bool tickets = strstr(name, "ticket") != nullptr;
    unsigned ticket = 0, *ticket_address = &ticket;
    if (tickets) a.add(&ticket_address, 8);
    const unsigned grid[3] = {tickets ? 4u : 1u, 1, 1};
    run(name, grid, N, 4 * N, a, 0, "planted");
    return 0;
}

} // namespace

int main(int count, char** arguments) {
    setvbuf(stdout, nullptr, _IOLBF, 0);
    if (count == 4 && !strcmp(arguments[1], "launches")) return launches(arguments[2], strtoull(arguments[3], nullptr, 10));
    if (count == 3 && !strcmp(arguments[1], "planted")) return planted(arguments[2]);
    fprintf(stderr, "usage: sanitize launches FILE SEED | sanitize planted NAME\n");
    return 2;
}
