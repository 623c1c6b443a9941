// The events that a window's likely edges leave, and the ways between them: steps 1 and 2 of
// `components`.
#pragma once

#include "window_graph.cuh"

namespace qdec {

// The window's bits, or those of them that are measured, and no edge flipped.
__device__ inline void begin(const Memory& m, const unsigned char* arena, const long long* offsets,
                             int window, int window_bytes, const unsigned* only) {
    const int me = static_cast<int>(threadIdx.x), words = words_for(window_bytes);
    const int skew = skew_of(arena + offsets[window]);
    stage(arena, offsets, {window, 1}, 0, window_bytes, m.at_node);
    for (int word = me; word < m.flipped_words; word += kThreads) m.flipped[word] = 0;
    __syncthreads();
    for (int word = me; word < m.residual_words; word += kThreads) {
        unsigned bits = m.at_node[word] >> skew;
        if (skew && word + 1 < words) bits |= m.at_node[word + 1] << (32 - skew);
        const int bytes = window_bytes - 4 * word;
        if (bytes < 4) bits &= (1u << 8 * bytes) - 1;
        m.residual[word] = only ? bits & only[word] : bits;
    }
    __syncthreads();
}

// Takes the likely edges: events of `residual` become those that are left. False for NaN.
__device__ inline bool take_likely(const Memory& m, const Graph& graph, bool closed) {
    if (threadIdx.x == 0) m.work->flag = 1;
    __syncthreads();
    for (int edge = static_cast<int>(threadIdx.x); edge < graph.edges; edge += kThreads) {
        const float odds = graph.odds[edge];
        if (!(odds <= 0.0f) && usable(graph, edge, closed)) {
            if (!(odds > 0.0f)) m.work->flag = 0;
            const int2 ends = graph.ends[edge];
            flip_bit(m.residual, ends.x);
            if (ends.y >= 0) flip_bit(m.residual, ends.y);
            if (!closed) flip_answer(m, graph, edge);
        }
    }
    __syncthreads();
    const bool sound = m.work->flag;
    __syncthreads();
    return sound;
}

// Lists the events in the order of their nodes: how many there are.
__device__ inline int list_events(const Memory& m) {
    int all = 0;
    for (int word = 0; word < m.residual_words; ++word) all += __popc(m.residual[word]);
    if (all <= kEvents)
        for (int word = static_cast<int>(threadIdx.x); word < m.residual_words; word += kThreads) {
            unsigned bits = m.residual[word];
            if (!bits) continue;
            int at = 0;
            for (int before = 0; before < word; ++before) at += __popc(m.residual[before]);
            for (; bits; bits &= bits - 1, ++at) {
                m.work->event[at] = kLanes * word + __ffs(static_cast<int>(bits)) - 1;
                m.work->grow[at] = 1;
            }
        }
    __syncthreads();
    return all;
}

// Dijkstra by a warp, a node to each lane, the event's in the first.
__device__ inline void grow_ball(Work& work, const Graph& graph, bool closed, int i, float radius) {
    const int lane = static_cast<int>(threadIdx.x) % kLanes;
    int node = lane ? -1 : work.event[i];
    float far = lane ? INFINITY : 0.0f;
    bool open = !lane;  // seen, and not yet in the ball
    unsigned by = 0;
    int seen = 1;
    float reach = INFINITY, exit = INFINITY;
    unsigned exit_by = 0;
    for (;;) {
        // Floats that are not negative are ordered as their bits are.
        const unsigned key = open ? __float_as_uint(far) : ~0u;
        const unsigned least = __reduce_min_sync(kAllLanes, key);
        if (least == ~0u || __uint_as_float(least) >= reach) break;
        const int first = __ffs(static_cast<int>(__ballot_sync(kAllLanes, key == least))) - 1;
        const int here = __shfl_sync(kAllLanes, node, first);
        if (lane == first) open = false;
        const int end = graph.node_ptr[here + 1];
        for (int begin = graph.node_ptr[here]; begin < end; begin += kLanes) {
            int2 link = {-1, -2};
            float length = INFINITY;
            if (begin + lane < end) {
                link = graph.links[begin + lane];
                if (usable(graph, link.x, closed))
                    length = __uint_as_float(least) + weight_of(graph, link.x);
                else
                    link.y = -2;
            }
            const unsigned out = __float_as_uint(link.y == -1 ? length : INFINITY);
            const unsigned cheapest = __reduce_min_sync(kAllLanes, out);
            const int over = __ffs(static_cast<int>(__ballot_sync(kAllLanes, out == cheapest))) - 1;
            const int last = __shfl_sync(kAllLanes, link.x, over);
            if (__uint_as_float(cheapest) < exit) {
                exit = __uint_as_float(cheapest);
                exit_by = static_cast<unsigned>(kLanes * last + first);
            }
            for (int k = 0; k < min(kLanes, end - begin); ++k) {
                const int other = __shfl_sync(kAllLanes, link.y, k);
                if (other < 0) continue;
                const float to = __shfl_sync(kAllLanes, length, k);
                const int edge = __shfl_sync(kAllLanes, link.x, k);
                if (__ballot_sync(kAllLanes, node == other)) {
                    if (node == other && open && to < far) {
                        far = to;
                        by = static_cast<unsigned>(kLanes * edge + first);
                    }
                } else if (to > radius || seen == kLanes) {
                    reach = fminf(reach, to);
                } else {
                    if (lane == seen) {
                        node = other;
                        far = to;
                        by = static_cast<unsigned>(kLanes * edge + first);
                        open = true;
                    }
                    ++seen;
                }
            }
        }
    }
    const int slot = kLanes * i + lane;
    work.node[slot] = open ? -1 : node;
    work.far[slot] = far;
    work.by[slot] = by;
    if (lane == 0) {
        work.reach[i] = reach;
        work.exit[i] = exit;
        work.exit_by[i] = exit_by;
    }
}

// The shortest ways between events over an edge between their balls.
__device__ inline void find_ways(const Memory& m, const Graph& graph, bool closed, int events) {
    Work& work = *m.work;
    const int me = static_cast<int>(threadIdx.x);
    for (int n = me; n < graph.nodes; n += kThreads) m.at_node[n] = ~0u;
    for (int k = me; k < events * (events - 1) / 2; k += kThreads) work.pairs[k] = kFar;
    __syncthreads();
    for (int slot = me; slot < kLanes * events; slot += kThreads)
        if (work.node[slot] >= 0)
            work.next[slot] = static_cast<int>(
                atomicExch(&m.at_node[work.node[slot]], static_cast<unsigned>(slot)));
    __syncthreads();
    for (int slot = me; slot < kLanes * events; slot += kThreads) {
        const int node = work.node[slot], i = slot / kLanes;
        if (node < 0) continue;
        for (int k = graph.node_ptr[node]; k < graph.node_ptr[node + 1]; ++k) {
            const int2 link = graph.links[k];
            if (link.y < 0 || !usable(graph, link.x, closed)) continue;
            const float to = work.far[slot] + weight_of(graph, link.x);
            for (int there = static_cast<int>(m.at_node[link.y]); there >= 0;
                 there = work.next[there])
                if (there / kLanes < i) {
                    const float way = to + work.far[there];
                    atomicMin(pair_of(work, i, there / kLanes),
                              static_cast<unsigned long long>(__float_as_uint(way)) << 32 |
                                  static_cast<unsigned>(slot * kSlots + there));
                }
        }
    }
    __syncthreads();
}

}  // namespace qdec
