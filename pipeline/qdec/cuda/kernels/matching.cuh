// Events at the least weight, component by component: steps 2 and 3 of `components`.
#pragma once

#include "balls.cuh"

namespace qdec {

// Which events are in each event's component.
__device__ inline void label(Work& work, int events) {
    const int i = static_cast<int>(threadIdx.x);
    if (i < events) {
        unsigned long long links = bit_of(i);
        for (int j = 0; j < events; ++j)
            if (j != i) {
                const float way = length_of(*pair_of(work, i, j));
                if (way < INFINITY && way <= alone(work, i) + alone(work, j)) links |= bit_of(j);
            }
        work.links[i] = links;
    }
    __syncthreads();
    if (i < events) {
        unsigned long long members = bit_of(i), more = members;
        while (more) {
            const int j = __ffsll(static_cast<long long>(more)) - 1;
            more = (more & ~bit_of(j)) | (work.links[j] & ~members);
            members |= work.links[j];
        }
        work.members[i] = members;
    }
    __syncthreads();
}

// The lowest `of` bits of a mask that are set, one after the other.
__device__ inline int member_of(unsigned long long members, int n) {
    for (; n; --n) members &= members - 1;
    return __ffsll(static_cast<long long>(members)) - 1;
}

__device__ inline int leaving(const Work& work, int i) {
    return work.exit[i] <= work.reach[i] && work.exit[i] < INFINITY ? kBoundary : kOutside;
}

// Matches a component of up to kMembers events; all threads of the block.
__device__ inline void match_component(Work& work, unsigned long long members) {
    const int size = __popcll(members), me = static_cast<int>(threadIdx.x);
    if (me == 0) work.cost[0] = 0.0f;
    for (int n = size - 1; n >= 0; --n) {  // sets of which member n is the first
        __syncthreads();
        const int i = member_of(members, n);
        for (int behind = me; behind < 1 << (size - 1 - n); behind += kThreads) {
            const int rest = behind << (n + 1);
            float best = alone(work, i) + work.cost[rest];
            int with = n;
            for (int some = rest; some; some &= some - 1) {
                const int k = __ffs(some) - 1, j = member_of(members, k);
                if (!(work.links[i] & bit_of(j))) continue;
                const float both = length_of(*pair_of(work, i, j)) + work.cost[rest & ~(1 << k)];
                if (both < best) {
                    best = both;
                    with = k;
                }
            }
            work.cost[rest | 1 << n] = best;
            work.choice[rest | 1 << n] = static_cast<unsigned char>(with);
        }
    }
    __syncthreads();
    if (me == 0)
        for (int left = (1 << size) - 1; left;) {
            const int n = __ffs(left) - 1, k = work.choice[left];
            const int i = member_of(members, n), j = member_of(members, k);
            work.mate[i] = k == n ? leaving(work, i) : j;
            if (k != n) work.mate[j] = i;
            left &= ~(1 << n) & ~(1 << k);
        }
    __syncthreads();
}

// Matches every component: whether none is too large.
__device__ inline bool match_components(Work& work, int events) {
    for (int i = 0; i < events; ++i) {
        const unsigned long long members = work.members[i];
        const int size = __popcll(members);
        if (size > kMembers) return false;
        if (__ffsll(static_cast<long long>(members)) - 1 != i) continue;
        if (size > 2) match_component(work, members);
        else if (threadIdx.x == 0) {  // two would be no component were they dearer
            const int j = member_of(members, size - 1);
            work.mate[i] = size == 1 ? leaving(work, i) : j;
            if (size == 2) work.mate[j] = i;
        }
    }
    __syncthreads();
    return true;
}

// Marks the balls that are too small: whether there are any.
__device__ inline bool outgrown(Work& work, int events) {
    const int i = static_cast<int>(threadIdx.x);
    if (i == 0) work.flag = 0;
    __syncthreads();
    if (i < events) {
        bool leaves = false;
        for (int j = 0; j < events; ++j)
            if (work.members[i] & bit_of(j)) leaves |= work.mate[j] == kOutside;
        work.grow[i] = leaves && (work.reach[i] < work.exit[i] || work.mate[i] == kOutside);
        if (leaves) work.flag = 1;
    }
    __syncthreads();
    const bool any = work.flag;
    __syncthreads();
    return any;
}

// Flips the edges from a slot back to its event.
__device__ inline void flip_way(const Memory& m, const Graph& graph, bool closed, int slot) {
    const Work& work = *m.work;
    while (slot % kLanes) {
        const int edge = static_cast<int>(work.by[slot] / kLanes);
        flip_bit(m.flipped, edge);
        if (!closed) flip_answer(m, graph, edge);
        slot += static_cast<int>(work.by[slot] % kLanes) - slot % kLanes;
    }
}

// Flips the edges of all ways that were chosen.
__device__ inline void flip_matches(const Memory& m, const Graph& graph, bool closed, int events) {
    const Work& work = *m.work;
    for (int i = static_cast<int>(threadIdx.x); i < events; i += kThreads) {
        const int j = work.mate[i];
        int edge = 0;
        if (j == kBoundary) {
            edge = static_cast<int>(work.exit_by[i] / kLanes);
            flip_way(m, graph, closed, kLanes * i + static_cast<int>(work.exit_by[i] % kLanes));
        } else if (j > i) {
            const unsigned slots = static_cast<unsigned>(*pair_of(*m.work, i, j));
            const int one = static_cast<int>(slots / kSlots);
            const int other = static_cast<int>(slots % kSlots);
            int k = graph.node_ptr[work.node[one]];
            while (graph.links[k].y != work.node[other]) ++k;  // no two edges join the same nodes
            edge = graph.links[k].x;
            flip_way(m, graph, closed, one);
            flip_way(m, graph, closed, other);
        } else {
            continue;
        }
        flip_bit(m.flipped, edge);
        if (!closed) flip_answer(m, graph, edge);
    }
    __syncthreads();
}

// Matches what `residual` holds, in the whole window or the closed one: whether it could.
__device__ inline bool match(const Memory& m, const Graph& graph, bool closed, Found& found) {
    Work& work = *m.work;
    const int warp = static_cast<int>(threadIdx.x) / kLanes;
    found.residual = 0.0f;
    if (!take_likely(m, graph, closed)) return false;
    const int events = list_events(m);
    found.events = static_cast<unsigned>(events);
    if (events > kEvents) return false;
    for (int round = 0; events; ++round) {
        if (round == kRounds) return false;
        found.rounds = static_cast<unsigned>(round + 1);
        const float radius = kRadius + kStep * static_cast<float>(round);
        for (int i = warp; i < events; i += kWarps)
            if (work.grow[i]) grow_ball(work, graph, closed, i, radius);
        __syncthreads();
        find_ways(m, graph, closed, events);
        label(work, events);
        if (!match_components(work, events)) return false;
        if (!outgrown(work, events)) break;
    }
    for (int i = 0; i < events; ++i) {
        const int j = work.mate[i];
        if (j == kBoundary) found.residual += work.exit[i];
        else if (j > i) found.residual += length_of(*pair_of(work, i, j));
    }
    flip_matches(m, graph, closed, events);
    return true;
}

}  // namespace qdec
