// Packed rounds to a network's input, in whatever format the network takes.
//
// Every element of the input is a bit of the window or a constant, as the table says: entries >= 0
// are numbers of bits, others constants, values[~entry]. Bits become values[0] and values[1]. A thread
// has four neighbouring elements of each window.
// Tiles take them in an order in which those of a tile need few of the window's bytes (`tiles`:
// the first, and how many), because these may have to come over a bus.
//
// Reads per window: its bytes, little more than once; per 8 windows: 20 bytes per four elements.
// Writes: the tensor, once, whole sectors per warp.
#include "common.cuh"

namespace qdec {

template <typename Element>
__device__ void unpack(const unsigned char* arena, const long long* offsets, int windows,
                       int windows_each, const int4* table, const int* order, const int2* tiles,
                       int quads, const unsigned* values, Element* out) {
    DYNAMIC_SHARED(unsigned, staged);
    const Group group = group_of(windows, windows_each);
    const int2 need = tiles[blockIdx.x];
    stage(arena, offsets, group, need.x, need.y, staged);
    __syncthreads();
    const int mine = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
    if (mine >= quads) return;
    const int4 four = table[mine];
    const int entries[4] = {four.x, four.y, four.z, four.w};
    const size_t place = order[mine];
    const unsigned zero = values[0], one = values[1];
    unsigned constants[4];
    for (int k = 0; k < 4; ++k) constants[k] = entries[k] < 0 ? values[~entries[k]] : 0u;
    for (int g = 0; g < group.count; ++g) {
        const long long offset = offsets[group.first + g];
        const unsigned* words = staged + g * words_for(need.y);
        const int shift = (offset < 0 ? 0 : skew_of(arena + offset + need.x)) - 8 * need.x;
        Quad<Element> quad;
        for (int k = 0; k < 4; ++k) {
            unsigned value = constants[k];
            if (entries[k] >= 0) value = bit_at(words, entries[k] + shift) ? one : zero;
            quad.at[k] = static_cast<Element>(value);
        }
        const size_t window = group.first + g;
        reinterpret_cast<Quad<Element>*>(out)[window * quads + place] = quad;
    }
}

}  // namespace qdec

// Elements of 1, 2 and 4 bytes; `values` has them as the network's format does.
#define UNPACK(name, Element)                                                                     \
    extern "C" __global__ void __launch_bounds__(qdec::kThreads)                                  \
        name(const unsigned char* arena, const long long* offsets, int windows, int windows_each, \
             const int4* table, const int* order, const int2* tiles, int quads,                   \
             const unsigned* values, Element* out) {                                              \
        qdec::unpack(arena, offsets, windows, windows_each, table, order, tiles, quads, values,   \
                     out);                                                                        \
    }

UNPACK(unpack_8, unsigned char)
UNPACK(unpack_16, unsigned short)
UNPACK(unpack_32, unsigned int)
