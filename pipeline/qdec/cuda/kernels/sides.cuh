// Whether every other frame weighs more than the answer by so much: the last step of `components`.
#pragma once

#include "window_graph.cuh"

namespace qdec {

__device__ inline float peek(unsigned* at) { return __uint_as_float(atomicOr(at, 0u)); }

// An edge between the sides: what was matched is free.
__device__ inline float fare(const Memory& m, const Graph& graph, int edge) {
    return bit_at(m.flipped, edge) ? 0.0f : weight_of(graph, edge);
}

// What was matched of the closed window weighs; in every thread, always summed in the same order.
__device__ inline float matched_weight(const Memory& m, const Graph& graph) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    float sum = 0.0f;
    for (int edge = static_cast<int>(threadIdx.x); edge < graph.edges; edge += kThreads)
        if (graph.sides[edge] != kCut && bit_at(m.flipped, edge)) sum += weight_of(graph, edge);
    for (int step = kLanes / 2; step; step >>= 1) sum += __shfl_xor_sync(kAllLanes, sum, step);
    if (lane == 0) m.work->sums[threadIdx.x / kLanes] = sum;
    __syncthreads();
    sum = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) sum += m.work->sums[warp];
    return sum;
}

// Whether every other frame weighs more by `apart`: no way between the sides is short enough.
__device__ inline bool sure(const Memory& m, const Graph& graph, float apart) {
    Work& work = *m.work;
    const int me = static_cast<int>(threadIdx.x);
    const float limit = matched_weight(m, graph) + apart + kRounding;
    for (int n = me; n < graph.nodes; n += kThreads) m.at_node[n] = __float_as_uint(INFINITY);
    __syncthreads();
    for (int edge = me; edge < graph.edges; edge += kThreads)
        if (graph.sides[edge] == kSide)
            atomicMin(&m.at_node[graph.ends[edge].x], __float_as_uint(fare(m, graph, edge)));
    for (bool changes = true; changes;) {
        __syncthreads();
        if (me == 0) work.flag = 0;
        __syncthreads();
        for (int edge = me; edge < graph.edges; edge += kThreads) {
            const int2 ends = graph.ends[edge];
            if (graph.sides[edge] == kCut || ends.y < 0) continue;
            const float length = fare(m, graph, edge);
            if (length >= limit) continue;
            const float here = peek(&m.at_node[ends.x]), there = peek(&m.at_node[ends.y]);
            const float nearer = fminf(here, there) + length;
            if (nearer < limit && nearer < fmaxf(here, there)) {
                atomicMin(&m.at_node[here < there ? ends.y : ends.x], __float_as_uint(nearer));
                work.flag = 1;
            }
        }
        __syncthreads();
        changes = work.flag;
    }
    __syncthreads();
    if (me == 0) work.flag = 1;
    __syncthreads();
    for (int edge = me; edge < graph.edges; edge += kThreads)
        if (graph.sides[edge] != kCut && graph.sides[edge] != kSide && graph.ends[edge].y < 0)
            if (peek(&m.at_node[graph.ends[edge].x]) + fare(m, graph, edge) < limit) work.flag = 0;
    __syncthreads();
    return work.flag;
}

}  // namespace qdec
