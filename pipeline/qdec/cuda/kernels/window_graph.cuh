// What `components` works on: a window's edges, and the memory of the block that has the window.
#pragma once

#include "common.cuh"

namespace qdec {

constexpr int kEvents = 64;   // of a window; bits of a mask
constexpr int kMembers = 10;  // of a component
constexpr int kRounds = 14;   // of growing balls
constexpr float kRadius = 1.0f;  // of balls in the first round, in nats
constexpr float kStep = 2.0f;    // and how much more in each further one
constexpr float kClip = 64.0f;   // no estimate of a probability is surer than e^-64
constexpr float kRounding = 1e-3f;  // what sums of float32 are off by is far less
constexpr int kSlots = kEvents * kLanes;
constexpr unsigned long long kFar = ~0ull;

// With whom an event is matched, if not with another one.
constexpr int kBoundary = -1, kOutside = -2;

// What an edge is in the closed window.
constexpr int kCut = 0;   // nothing: cut off, or of a part that is not measured
constexpr int kSide = 2;  // an end on the side that flips the observable

// What is said of a window behind its head.
struct alignas(16) Found {
    unsigned settled;  // 1: the answer stands, and no log-odds follow
    unsigned events;   // that the likely edges left, as far as they were counted
    float residual;    // how much heavier the answer is than the likely edges
    unsigned rounds;   // of growing balls
};

// A window's edges, and the ends of what is between two sides.
struct Graph {
    const int2* ends;            // the second is -1 for the boundary
    const int* id_ptr;           // edge e flips answer bits ids[id_ptr[e]] to ids[id_ptr[e + 1]]
    const int* ids;
    const int* node_ptr;         // node n has links node_ptr[n] to node_ptr[n + 1]
    const int2* links;           // an edge, and the node at its other end
    const unsigned char* sides;  // of each edge
    const float* odds;           // of each edge of this window
    int edges;
    int nodes;  // a multiple of 8
};

// Shared memory; words of the window, the answer, the flipped edges and the nodes follow.
struct alignas(16) Work {
    unsigned long long pairs[kEvents * (kEvents - 1) / 2];  // the shortest way and its two slots
    unsigned long long links[kEvents];
    unsigned long long members[kEvents];
    float far[kSlots];     // a ball's node in each slot: how far it is,
    int node[kSlots];      // which (-1: none),
    unsigned by[kSlots];   // the edge to it and the lane before it: edge * 32 + lane
    int next[kSlots];      // the next slot with that node
    float cost[1 << kMembers];
    unsigned char choice[1 << kMembers];
    int event[kEvents];  // its node
    int mate[kEvents];
    float reach[kEvents];
    float exit[kEvents];
    unsigned exit_by[kEvents];
    unsigned char grow[kEvents];
    float sums[kWarps];
    int flag;
};
constexpr int kWorkBytes = 56432;
static_assert(sizeof(Work) == kWorkBytes, "the plan asks for so much");

struct Memory {
    Work* work;
    unsigned* residual;  // bits of the window
    unsigned* answer;
    unsigned* flipped;   // edges whose side the matching changes
    unsigned* at_node;   // of each node: the latest slot; later, how near it is
    int residual_words;
    int answer_words;
    int flipped_words;
};

__device__ inline float weight_of(const Graph& graph, int edge) {
    return fminf(fabsf(graph.odds[edge]), kClip);
}

__device__ inline bool usable(const Graph& graph, int edge, bool closed) {
    return !closed || graph.sides[edge] != kCut;
}

__device__ inline unsigned long long bit_of(int i) { return 1ull << i; }

__device__ inline unsigned long long* pair_of(Work& work, int i, int j) {
    const int high = max(i, j), low = min(i, j);
    return &work.pairs[high * (high - 1) / 2 + low];
}

__device__ inline float length_of(unsigned long long pair) {
    return pair == kFar ? INFINITY : __uint_as_float(static_cast<unsigned>(pair >> 32));
}

// What an event costs at least that is matched with none to which a way is known.
__device__ inline float alone(const Work& work, int i) {
    return fminf(work.exit[i], work.reach[i]);
}

__device__ inline void flip_bit(unsigned* words, int bit) {
    atomicXor(&words[bit >> 5], 1u << (bit & 31));
}

__device__ inline void flip_answer(const Memory& m, const Graph& graph, int edge) {
    for (int k = graph.id_ptr[edge]; k < graph.id_ptr[edge + 1]; ++k)
        flip_bit(m.answer, graph.ids[k]);
}

__device__ inline Memory memory_of(Work* work, const Graph& graph, int answer_words) {
    Memory m;
    m.work = work;
    m.residual_words = (graph.nodes + 31) / 32;
    m.answer_words = answer_words;
    m.flipped_words = (graph.edges + 31) / 32;
    m.residual = reinterpret_cast<unsigned*>(work + 1);
    m.answer = m.residual + m.residual_words;
    m.flipped = m.answer + m.answer_words;
    m.at_node = m.flipped + m.flipped_words;
    return m;
}

}  // namespace qdec
