// The kernels themselves, compiled for the CPU; each launched through a function of its name.
#include "emulation.h"

#include "components.cu"
#include "edges.cu"
#include "residual.cu"
#include "unpack.cu"

#define EXPORT(kernel)                                                                            \
    extern "C" int emulate_##kernel(unsigned grid_x, unsigned grid_y, unsigned threads,           \
                                    std::size_t shared, void** arguments) {                       \
        return emulation::launch(kernel, grid_x, grid_y, threads, shared, arguments);             \
    }

EXPORT(unpack_8)
EXPORT(unpack_16)
EXPORT(unpack_32)
EXPORT(residual_f16)
EXPORT(residual_f32)
EXPORT(components_f32)
EXPORT(edges_f16_f16)
EXPORT(edges_f16_f32)
EXPORT(edges_f32_f16)
EXPORT(edges_f32_f32)

// For tests of the emulation: what it makes of numbers, and of threads that miss each other.
extern "C" void halves_to_floats(const __half* from, float* to, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) to[i] = __half2float(from[i]);
}
extern "C" void floats_to_halves(const float* from, __half* to, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) to[i] = __float2half_rn(from[i]);
}
void half_of_a_warp_votes(unsigned* out) {
    if (threadIdx.x < 16) *out = __ballot_sync(0xffffffffu, 1);
}
void lanes_vote(unsigned* out) {
    const unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x & 1);
    const unsigned other = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
    __syncthreads();
    out[threadIdx.x] = odd ^ other;
}
EXPORT(half_of_a_warp_votes)
EXPORT(lanes_vote)
