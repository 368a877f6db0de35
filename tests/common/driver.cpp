// A driver and an NVRTC that play a card, for tests of what the host does: every function that the device calls, on the host's
// memory. Kernels are loaded, captured and launched, and compute nothing.
//
// What matters for memory is played as the driver does it: a pool keeps what is freed until a wait, then gives back what is
// beyond its threshold, and finds an allocation's place among pieces of exactly its size only, so that what it keeps can be in
// the way.
//
// Calls are written to the file FAKE_LOG, a line each. FAKE_POOLS=0 is a card without pools.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

namespace {

using u64 = uint64_t;
constexpr int OK = 0, INVALID = 1, FULL = 2, UNKNOWN = 500;
constexpr u64 MIB = 1 << 20, MEMORY = 64 * MIB;
constexpr int MEMORY_POOLS = 115, SHARED_OPTIN = 97, MAJOR = 75, MINOR = 76, L2 = 38;

std::mutex guard;
std::map<u64, u64> used;              // what is allocated: address, bytes
std::multimap<u64, u64> kept;         // what the pool keeps: bytes, address
u64 taken = 0, threshold = 0;         // bytes of the card that are taken, used or kept
thread_local void *current = nullptr;
char context[8], other_context[8], things[8];

void log(const char *what, u64 a = 0, u64 b = 0) {
    static FILE *file = [] {
        const char *path = getenv("FAKE_LOG");
        return path ? fopen(path, "a") : nullptr;
    }();
    if (file) fprintf(file, "%s %llu %llu\n", what, (unsigned long long)a, (unsigned long long)b), fflush(file);
}

int take(u64 *address, u64 bytes) {
    if (taken + bytes > MEMORY) return FULL;
    log("card gives", bytes);
    taken += bytes;
    *address = (u64)aligned_alloc(512, (bytes + 511) / 512 * 512);
    memset((void *)*address, 0xff, bytes);
    used[*address] = bytes;
    return OK;
}

void give(u64 address, u64 bytes) {
    taken -= bytes;
    free((void *)address);
}

void trim(u64 most) {
    u64 sum = 0;
    for (auto &piece : kept) sum += piece.first;
    for (auto piece = kept.begin(); piece != kept.end() && sum > most; piece = kept.erase(piece)) {
        sum -= piece->first;
        give(piece->second, piece->first);
    }
}

// Addresses that a test imports, of no memory at all: three pieces of 2 MiB that follow each other and a fourth after a hole,
// memory of a pool, of the host, of the next card, of another context; an answer that is none; reserved without memory.
struct Place {
    u64 base, bytes;
    int kind, ordinal;
    void *of;
    bool has_range, mapped;
};
constexpr u64 AT = 0x100000000000, GIB = 1 << 30;
const Place PLACES[] = {
    {AT, 2 * MIB, 2, 0, nullptr, true, true},
    {AT + 2 * MIB, 2 * MIB, 2, 0, nullptr, true, true},
    {AT + 4 * MIB, 2 * MIB, 2, 0, nullptr, true, true},
    {AT + 8 * MIB, 2 * MIB, 2, 0, nullptr, true, true},
    {AT + 1 * GIB, 2 * MIB, 2, 0, nullptr, false, true},
    {AT + 2 * GIB, 2 * MIB, 1, 0, context, true, true},
    {AT + 3 * GIB, 2 * MIB, 2, 1, nullptr, true, true},
    {AT + 4 * GIB, 2 * MIB, 2, 0, other_context, true, true},
    {AT + 5 * GIB, 0, 2, 0, context, true, true},
    {AT + 6 * GIB, 2 * MIB, 2, 0, nullptr, false, false},
    {AT + 7 * GIB, 2 * MIB, 2, 0, context, true, true},
    {AT + 7 * GIB + 2 * MIB, 2 * MIB, 2, 0, other_context, true, true},
};

bool find(u64 at, Place &place) {
    for (const Place &p : PLACES)
        if (p.base <= at && (at < p.base + p.bytes || at == p.base)) return place = p, true;
    for (auto &u : used)
        if (u.first <= at && at < u.first + u.second) return place = {u.first, u.second, 2, 0, context, true, true}, true;
    return false;
}

}  // namespace

#define CALL extern "C" int
#define LOCK std::lock_guard<std::mutex> lock(guard)
// Of no consequence here.
#define NOTHING(name, ...)                                                                                             \
    CALL name(__VA_ARGS__) {                                                                                           \
        log(#name);                                                                                                    \
        return OK;                                                                                                     \
    }
// Gives a handle.
#define MAKES(name, ...)                                                                                               \
    CALL name(void **made, ##__VA_ARGS__) {                                                                            \
        log(#name);                                                                                                    \
        *made = things;                                                                                                \
        return OK;                                                                                                     \
    }

CALL cuDriverGetVersion(int *version) { return *version = 13000, OK; }
CALL cuInit(unsigned) { return OK; }
CALL cuGetErrorName(int code, const char **name) { return *name = code == FULL ? "OUT_OF_MEMORY" : "SOME_ERROR", OK; }
CALL cuGetProcAddress_v2(const char *, void **, int, u64, void *) { return UNKNOWN; }
CALL cuDeviceGetCount(int *count) { return *count = 1, OK; }
CALL cuDeviceGet(int *card, int ordinal) { return *card = ordinal, OK; }
CALL cuDeviceGetName(char *name, int most, int) { return snprintf(name, most, "Fake"), OK; }
CALL cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = MEMORY, OK; }
CALL cuDeviceGetAttribute(int *value, int attribute, int) {
    const char *pools = getenv("FAKE_POOLS");
    switch (attribute) {
    case MEMORY_POOLS: *value = !(pools && *pools == '0'); break;
    case SHARED_OPTIN: *value = 227 << 10; break;
    case MAJOR: *value = 9; break;
    case MINOR: *value = 0; break;
    case L2: *value = 50 << 20; break;
    default: *value = 1;
    }
    return OK;
}

CALL cuDevicePrimaryCtxRetain(void **made, int) { return *made = context, OK; }
NOTHING(cuDevicePrimaryCtxRelease_v2, int)
CALL cuCtxGetCurrent(void **is) { return *is = current, OK; }
CALL cuCtxSetCurrent(void *is) { return current = is, OK; }
NOTHING(cuCtxSynchronize)
NOTHING(cuCtxDestroy_v2, void *)

MAKES(cuStreamCreate, unsigned)
NOTHING(cuStreamDestroy_v2, void *)
CALL cuStreamSynchronize(void *) {
    LOCK;
    log("cuStreamSynchronize");
    trim(threshold);
    return OK;
}
NOTHING(cuStreamBeginCapture_v2, void *, int)
CALL cuStreamEndCapture(void *, void **graph) { return *graph = things, OK; }
MAKES(cuGraphInstantiateWithFlags, void *, u64)
NOTHING(cuGraphUpload, void *, void *)
NOTHING(cuGraphLaunch, void *, void *)
NOTHING(cuGraphExecDestroy, void *)
NOTHING(cuGraphDestroy, void *)
MAKES(cuEventCreate, unsigned)
NOTHING(cuEventDestroy_v2, void *)
NOTHING(cuEventRecord, void *, void *)
NOTHING(cuEventSynchronize, void *)

MAKES(cuModuleLoad, const char *)
MAKES(cuModuleLoadData, const void *)
NOTHING(cuModuleUnload, void *)
MAKES(cuModuleGetFunction, void *, const char *)
NOTHING(cuFuncSetAttribute, void *, int, int)
CALL cuFuncGetAttribute(int *value, int attribute, void *) {
    log("cuFuncGetAttribute");
    return *value = attribute == 0 ? 1024 : 0, OK;
}
NOTHING(cuLaunchKernel, void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)

CALL cuMemGetInfo_v2(size_t *unused, size_t *all) {
    LOCK;
    return *unused = MEMORY - taken, *all = MEMORY, OK;
}
CALL cuMemAlloc_v2(u64 *address, size_t bytes) {
    LOCK;
    log("cuMemAlloc", bytes);
    return take(address, bytes);
}
CALL cuMemFree_v2(u64 address) {
    LOCK;
    log("cuMemFree");
    give(address, used[address]);
    return used.erase(address), OK;
}
// The default pool, which is not the device's.
CALL cuMemAllocAsync(u64 *, size_t bytes, void *) { return log("cuMemAllocAsync", bytes), UNKNOWN; }
MAKES(cuMemPoolCreate, const void *)
CALL cuMemPoolDestroy(void *) {
    LOCK;
    log("cuMemPoolDestroy", used.size());
    return trim(0), OK;
}
CALL cuMemPoolSetAttribute(void *, int attribute, u64 *value) {
    log("cuMemPoolSetAttribute", attribute, *value);
    return threshold = *value, OK;
}
CALL cuMemPoolTrimTo(void *, size_t most) {
    LOCK;
    log("cuMemPoolTrimTo", most);
    return trim(most), OK;
}
CALL cuMemAllocFromPoolAsync(u64 *address, size_t bytes, void *, void *) {
    LOCK;
    log("cuMemAllocFromPoolAsync", bytes);
    auto piece = kept.find(bytes);
    if (piece == kept.end()) return take(address, bytes);
    used[*address = piece->second] = bytes;
    return kept.erase(piece), OK;
}
CALL cuMemFreeAsync(u64 address, void *) {
    LOCK;
    log("cuMemFreeAsync", used[address]);
    kept.emplace(used[address], address);
    return used.erase(address), OK;
}
CALL cuMemHostAlloc(void **made, size_t bytes, unsigned) { return *made = malloc(bytes), OK; }
CALL cuMemFreeHost(void *pointer) { return free(pointer), OK; }
CALL cuMemsetD8Async(u64 to, unsigned char value, size_t bytes, void *) { return memset((void *)to, value, bytes), OK; }
CALL cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t bytes, void *) { return memcpy((void *)to, from, bytes), OK; }
CALL cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t bytes, void *) { return memcpy(to, (void *)from, bytes), OK; }

CALL cuMemGetAddressRange_v2(u64 *base, size_t *bytes, u64 at) {
    LOCK;
    Place place;
    if (!find(at, place) || !place.has_range) return INVALID;
    return *base = place.base, *bytes = place.bytes, OK;
}
CALL cuPointerGetAttributes(unsigned count, int *attributes, void **data, u64 at) {
    LOCK;
    Place place = {};
    place.ordinal = -2;
    find(at, place);
    for (unsigned i = 0; i < count; ++i) switch (attributes[i]) {
        case 1: *(void **)data[i] = place.of; break;
        case 2: *(unsigned *)data[i] = place.kind; break;
        case 8: *(unsigned *)data[i] = 0; break;
        case 9: *(int *)data[i] = place.ordinal; break;
        case 11: *(u64 *)data[i] = place.base; break;
        case 12: *(u64 *)data[i] = place.bytes; break;
        case 13: *(unsigned *)data[i] = place.mapped; break;
        default: return INVALID;
        }
    return OK;
}

// NVRTC: what it compiles begins as machine code does.
const char CODE[8] = "\x7f" "ELF...";
CALL nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, OK; }
CALL nvrtcCreateProgram(void **made, const char *, const char *name, int, const char **, const char **) {
    log((std::string("compile ") + name).c_str());
    return *made = things, OK;
}
CALL nvrtcDestroyProgram(void **) { return OK; }
CALL nvrtcCompileProgram(void *, int, const char **) { return OK; }
CALL nvrtcGetCUBINSize(void *, size_t *bytes) { return *bytes = sizeof CODE, OK; }
CALL nvrtcGetCUBIN(void *, char *to) { return memcpy(to, CODE, sizeof CODE), OK; }
CALL nvrtcGetProgramLogSize(void *, size_t *bytes) { return *bytes = 0, OK; }
CALL nvrtcGetProgramLog(void *, char *) { return OK; }
CALL nvrtcGetErrorString(int) { return 0; }
