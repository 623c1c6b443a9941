// Enough of CUDA for g++ to compile kernels as they are, and to run their blocks one by one.
//
// Every thread of a block is a fibre. It runs until it has to wait for others (a barrier, or a vote
// of its warp), then the next one runs. If none can go on, they wait for each other in different
// places, which on a GPU is undefined: the launch fails.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(emulation::dynamic_shared())

struct int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct Index {
    unsigned x, y, z;
};

inline Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr unsigned kLanes = 32;
constexpr std::size_t kStack = 64 << 10;

struct Rendezvous {
    unsigned arrived = 0;
    unsigned generation = 0;
};

struct Fibre {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
    const Rendezvous* waits = nullptr;  // until its generation is another one
    unsigned generation = 0;
};

struct Warp {
    Rendezvous meeting;
    std::uint32_t slots[kLanes];
};

struct Block {
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    Rendezvous barrier;
    ucontext_t scheduler;
    void* shared = nullptr;
    void (*body)(void*) = nullptr;
    void* arguments = nullptr;
    unsigned current = 0;
    bool progress = false;  // since the scheduler last looked
    bool illegal = false;
};

inline Block block;

inline void* dynamic_shared() { return block.shared; }

inline void wait(Rendezvous& meeting, unsigned parties) {
    const unsigned generation = meeting.generation;
    if (++meeting.arrived == parties) {
        meeting.arrived = 0;
        ++meeting.generation;
        block.progress = true;
        return;
    }
    Fibre& fibre = block.fibres[block.current];
    fibre.waits = &meeting;
    fibre.generation = generation;
    swapcontext(&fibre.context, &block.scheduler);
    fibre.waits = nullptr;
}

// What each lane of the warp brought, handed to `see`.
template <typename Value, typename See>
auto exchange(unsigned mask, Value value, See see) {
    static_assert(sizeof(Value) == 4, "lanes exchange 32 bits");
    if (mask != 0xffffffffu) block.illegal = true;
    Warp& warp = block.warps[block.current / kLanes];
    std::memcpy(&warp.slots[block.current % kLanes], &value, 4);
    wait(warp.meeting, kLanes);
    auto result = see(warp.slots);
    wait(warp.meeting, kLanes);  // nobody overwrites what another has yet to read
    return result;
}

inline void run_fibre() {
    block.body(block.arguments);
    block.fibres[block.current].done = true;
    block.progress = true;
    swapcontext(&block.fibres[block.current].context, &block.scheduler);
}

// False if threads wait for each other for ever. Every other block runs its threads backwards, so
// that a missing barrier shows whichever way what it should keep apart flows.
inline bool run_block(unsigned threads) {
    const bool backwards = (blockIdx.x ^ blockIdx.y) & 1;
    block.warps.assign(threads / kLanes, Warp{});
    block.barrier = Rendezvous{};
    block.fibres.resize(threads);
    for (Fibre& fibre : block.fibres) {
        fibre.stack.resize(kStack);
        fibre.done = false;
        fibre.waits = nullptr;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data();
        fibre.context.uc_stack.ss_size = fibre.stack.size();
        makecontext(&fibre.context, run_fibre, 0);
    }
    for (bool all = false; !all;) {
        all = true;
        block.progress = false;
        for (unsigned step = 0; step < threads; ++step) {
            const unsigned i = backwards ? threads - 1 - step : step;
            if (block.fibres[i].done) continue;
            all = false;
            const Rendezvous* waits = block.fibres[i].waits;
            if (waits && waits->generation == block.fibres[i].generation) continue;
            block.current = i;
            threadIdx = {i, 0, 0};
            swapcontext(&block.scheduler, &block.fibres[i].context);
        }
        if (!all && !block.progress) return false;
    }
    return true;
}

enum Result { kDone, kStuck, kIllegal };

// Launches as cuLaunchKernel does: `arguments` points to the value of each.
template <typename... Args>
int launch(void (*kernel)(Args...), unsigned grid_x, unsigned grid_y, unsigned threads,
           std::size_t shared, void** arguments) {
    if (threads == 0 || threads % kLanes) return kIllegal;
    struct Call {
        void (*kernel)(Args...);
        void** arguments;
    } call{kernel, arguments};
    block.body = [](void* raw) {
        const auto& one = *static_cast<Call*>(raw);
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            one.kernel(*static_cast<std::remove_reference_t<Args>*>(one.arguments[I])...);
        }(std::index_sequence_for<Args...>{});
    };
    block.arguments = &call;
    block.illegal = false;
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    // Backwards, so that nothing relies on the order of blocks that a GPU never promised.
    for (unsigned y = grid_y; y-- > 0;)
        for (unsigned x = grid_x; x-- > 0;) {
            std::vector<std::uint32_t> memory((shared + 3) / 4, 0xdeadbeef);
            block.shared = memory.data();
            blockIdx = {x, y, 0};
            if (!run_block(threads)) return kStuck;
        }
    return block.illegal ? kIllegal : kDone;
}

}  // namespace emulation

inline void __syncthreads() {
    emulation::wait(emulation::block.barrier, static_cast<unsigned>(emulation::block.fibres.size()));
}
inline void __threadfence() {}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return emulation::exchange(mask, predicate, [](const std::uint32_t* lanes) {
        unsigned set = 0;
        for (unsigned i = 0; i < emulation::kLanes; ++i) set |= (lanes[i] ? 1u : 0u) << i;
        return set;
    });
}

template <typename Value>
Value __shfl_xor_sync(unsigned mask, Value value, int other) {
    const unsigned from = (emulation::block.current % emulation::kLanes) ^ static_cast<unsigned>(other);
    return emulation::exchange(mask, value, [from](const std::uint32_t* lanes) {
        Value result;
        std::memcpy(&result, &lanes[from], 4);
        return result;
    });
}

template <typename Value>
Value __shfl_sync(unsigned mask, Value value, int from) {
    return emulation::exchange(mask, value, [from](const std::uint32_t* lanes) {
        Value result;
        std::memcpy(&result, &lanes[static_cast<unsigned>(from) % emulation::kLanes], 4);
        return result;
    });
}

template <typename Combine>
unsigned reduced(unsigned mask, unsigned value, Combine combine) {
    return emulation::exchange(mask, value, [combine](const std::uint32_t* lanes) {
        unsigned result = lanes[0];
        for (unsigned i = 1; i < emulation::kLanes; ++i) result = combine(result, lanes[i]);
        return result;
    });
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
    return reduced(mask, value, [](unsigned a, unsigned b) { return a < b ? a : b; });
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    return reduced(mask, value, [](unsigned a, unsigned b) { return a + b; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
    return reduced(mask, value, [](unsigned a, unsigned b) { return a | b; });
}
inline unsigned __reduce_xor_sync(unsigned mask, unsigned value) {
    return reduced(mask, value, [](unsigned a, unsigned b) { return a ^ b; });
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

template <typename Value, typename Change>
Value changed(Value* at, Change change) {
    const Value before = *at;
    *at = change(before);
    return before;
}
inline unsigned atomicAdd(unsigned* at, unsigned more) {
    return changed(at, [more](unsigned value) { return value + more; });
}
inline unsigned atomicOr(unsigned* at, unsigned bits) {
    return changed(at, [bits](unsigned value) { return value | bits; });
}
inline unsigned atomicXor(unsigned* at, unsigned bits) {
    return changed(at, [bits](unsigned value) { return value ^ bits; });
}
inline unsigned atomicExch(unsigned* at, unsigned other) {
    return changed(at, [other](unsigned) { return other; });
}
template <typename Value>
Value atomicMin(Value* at, Value other) {
    return changed(at, [other](Value value) { return other < value ? other : value; });
}
inline uint4 __ldcg(const uint4* at) {
    uint4 value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
using std::isfinite;
