// A hard network's logits to what is committed and what is left to match.
//
// A correction is made where its logit is >= 0. The record of a window is its head, then `words`
// words of bits: the residual (the window's bits, each flipped by its at most six sources among the
// corrections), padded to a word, and the answer (bit 0: the parity of the frame's sources; others:
// a source of their own, or none). `sources` has six planes of 32 * words entries, -1 for none.
//
// If any logit of a window is not finite, nothing is corrected: the residual is the window. That
// is known when the last block of a group finishes, and it mends what the others wrote.
//
// Reads per window: logits once from memory (again from the caches, in the order of the nodes), the
// packed bytes once. Writes: the record.
#include "common.cuh"

namespace qdec {

constexpr int kSources = 6;
constexpr int kTileBytes = kThreads / 8;

template <typename Real>
__device__ unsigned corrected(const Real* logits, int source) {
    return as_float(logits[source]) >= 0.0f;
}

// Sums over this tile's slice of the logits; `counted` has four bits per quad: which ones matter.
template <typename Real>
__device__ Head look(const Real* logits, int elements, const unsigned char* counted) {
    Head head = nothing();
    const Slice slice = slice_of(elements / 4);
    for (int i = slice.begin + static_cast<int>(threadIdx.x); i < slice.end; i += kThreads) {
        const Quad<Real> quad = reinterpret_cast<const Quad<Real>*>(logits)[i];
        const unsigned which = counted[i];
        for (int k = 0; k < 4; ++k) {
            const float logit = as_float(quad.at[k]);
            if (!isfinite(logit)) head.flags |= kSick;
            if (which >> k & 1u) see(head, logit);
        }
    }
    return head;
}

template <typename Real>
__device__ void residual(const unsigned char* arena, const long long* offsets, int windows,
                         int windows_each, int window_bytes, const Real* logits, int elements,
                         const int* sources, int residual_words, int words,
                         const unsigned char* counted, const int* frame, int frames,
                         unsigned char* results, const long long* result_offsets, Head* partials,
                         unsigned* counters) {
    __shared__ unsigned staged[kMostWindows * ((kTileBytes + 6) / 4)];
    __shared__ Head parts[kMostWindows][kWarps];
    const Group group = group_of(windows, windows_each);
    const int warp = static_cast<int>(threadIdx.x) / kLanes;
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    const int from_byte = static_cast<int>(blockIdx.x) * kTileBytes;
    const int bytes = max(0, min(kTileBytes, window_bytes - from_byte));
    const int node = 8 * from_byte + static_cast<int>(threadIdx.x), word = node / kLanes;
    stage(arena, offsets, group, from_byte, bytes, staged);
    int from[kSources];
    for (int k = 0; k < kSources; ++k)
        from[k] = word < words ? sources[k * kLanes * words + node] : -1;
    const Slice of_frame = slice_of(frames);
    __syncthreads();

    for (int g = 0; g < group.count; ++g) {
        const int window = group.first + g;
        const long long offset = offsets[window];
        Head head = nothing();
        if (offset >= 0) {
            const Real* said = logits + static_cast<size_t>(window) * elements;
            unsigned bit = 0;
            if (node < 8 * window_bytes)
                bit = bit_at(staged + g * words_for(bytes),
                             static_cast<int>(threadIdx.x) + skew_of(arena + offset + from_byte));
            for (int k = 0; k < kSources; ++k)
                if (from[k] >= 0) bit ^= corrected(said, from[k]);
            const unsigned ballot = __ballot_sync(kAllLanes, bit);
            // The answer's first word waits for the frame's parity.
            if (lane == 0 && word < words && word != residual_words) {
                unsigned char* record = results + result_offsets[window] + sizeof(Head);
                reinterpret_cast<unsigned*>(record)[word] = ballot;
            }
            head = look(said, elements, counted);
            if (word < residual_words) head.count = bit;
            for (int i = of_frame.begin + static_cast<int>(threadIdx.x); i < of_frame.end;
                 i += kThreads)
                head.flags ^= corrected(said, frame[i]) * kParity;
        }
        head = over_warp(head);
        if (lane == 0) parts[g][warp] = head;
    }
    if (!finished(parts, group, partials, counters)) return;

    const int window = group.first + warp;
    if (warp >= group.count || offsets[window] < 0) return;
    const Head sum = over_tiles(partials, window);
    const bool sick = sum.flags & kSick;
    unsigned char* record = results + result_offsets[window];
    unsigned* row = reinterpret_cast<unsigned*>(record + sizeof(Head));
    const Real* said = logits + static_cast<size_t>(window) * elements;
    const int answer = sources[kLanes * residual_words + lane];
    const unsigned bit = !sick && answer >= 0 ? corrected(said, answer) : 0u;
    const unsigned parity = sum.flags & kParity ? 1u : 0u;
    const unsigned ballot = __ballot_sync(kAllLanes, bit) ^ (sick ? 0u : parity);
    if (lane == 0) row[residual_words] = ballot;
    Head whole = nothing();
    if (sick) {
        const unsigned char* packed = arena + offsets[window];
        for (int i = lane; i < words; i += kLanes) {
            unsigned value = 0;
            for (int k = 0; k < 4 && 4 * i + k < window_bytes; ++k)
                value |= static_cast<unsigned>(packed[4 * i + k]) << 8 * k;
            if (i != residual_words) row[i] = value;
            whole.count += __popc(value);
        }
    }
    whole = over_warp(whole);
    if (lane == 0)
        *reinterpret_cast<Head*>(record) =
            sick ? sick_head(whole.count) : Head{sum.doubt, sum.margin, sum.count, 0u};
}

}  // namespace qdec

#define RESIDUAL(name, Real)                                                                      \
    extern "C" __global__ void __launch_bounds__(qdec::kThreads)                                  \
        name(const unsigned char* arena, const long long* offsets, int windows, int windows_each, \
             int window_bytes, const Real* logits, int elements, const int* sources,              \
             int residual_words, int words, const unsigned char* counted, const int* frame,       \
             int frames, unsigned char* results, const long long* result_offsets,                 \
             qdec::Head* partials, unsigned* counters) {                                          \
        qdec::residual(arena, offsets, windows, windows_each, window_bytes, logits, elements,     \
                       sources, residual_words, words, counted, frame, frames, results,           \
                       result_offsets, partials, counters);                                       \
    }

RESIDUAL(residual_f16, __half)
RESIDUAL(residual_f32, float)
