// A window's log-odds to its answer, where what the network leaves to be matched is little.
//
// One block has one window. Edges that are likely (log-odds above 0) are taken; what they leave of
// the window's events is matched at the least weight, |log-odds| an edge, as `qdec.match.sparse`
// says and proves:
//
// 1. A warp grows a *ball* around each event that is left: up to 32 nodes that are within a
//    radius, one to each lane. No node outside is nearer than the event's `reach`.
// 2. Where an edge joins two balls, the way between their events is known. Events joined by ways no
//    dearer than to leave both (over the boundary, or at the price `reach` out of the ball) are a
//    *component*, and each is matched exactly: dynamic programming over all sets of its events.
// 3. While a component's best has an event leave its ball, its balls get the next larger radius.
//    When none does, the answer is the minimum over all edges.
//
// An answer stands only if it is sure. Another frame would need a way from one side of the code to
// the other, and gains on it at most the weight of what was matched: all of that is made free, and
// no such way may be shorter than that weight and `apart`. This is the gap of a closed window
// (`qdec.match.gap`), so where the window's end cuts edges off, it is first matched without them.
//
// What is too much (events, a component's members, radii), what is unsure and what is no number is
// left to the host: the record then has all log-odds. So the bus carries only what is needed.
//
// Reads per window: the log-odds from the caches, some of the tables; the packed bytes once. Writes:
// a head and an answer, or those and the log-odds.
#include "matching.cuh"
#include "sides.cuh"

// `judged` has the records of `edges`, and `results` gets this kernel's, where `result_offsets` say.
// `whole`: the window is closed as it is. `apart`: 0 where nobody asks how sure the answer is.
extern "C" __global__ void __launch_bounds__(qdec::kThreads, 1)
    components_f32(const unsigned char* arena, const long long* offsets, int window_bytes,
                   const unsigned char* judged, const int2* ends, const int* id_ptr,
                   const int* ids, const int* node_ptr, const int2* links,
                   const unsigned char* sides, const unsigned* measured, int edges,
                   int answer_words, int whole, float apart, unsigned char* results,
                   const long long* result_offsets) {
    using namespace qdec;
    DYNAMIC_SHARED(Work, work);
    const int window = static_cast<int>(blockIdx.x), me = static_cast<int>(threadIdx.x);
    const long long offset = result_offsets[window];
    if (offset < 0) return;
    const Head head = *reinterpret_cast<const Head*>(judged + offset);
    const float* odds = reinterpret_cast<const float*>(judged + offset + sizeof(Head));
    const Graph graph = {ends, id_ptr, ids, node_ptr, links, sides, odds, edges, 8 * window_bytes};
    const Memory m = memory_of(work, graph, answer_words);

    for (int word = me; word < answer_words; word += kThreads) m.answer[word] = 0;
    Found found = {0u, 0u, 0.0f, 0u};
    bool settled = !(head.flags & kSick);
    const int last = apart > 0.0f && !whole;
    for (int closed = 0; settled && closed <= last; ++closed) {
        begin(m, arena, offsets, window, window_bytes, closed ? measured : nullptr);
        Found one = {0u, 0u, 0.0f, 0u};
        settled = match(m, graph, closed, one);
        if (!closed) found = one;
    }
    if (apart > 0.0f) settled = settled && sure(m, graph, apart);
    found.settled = settled;

    unsigned char* record = results + offset;
    unsigned* answer = reinterpret_cast<unsigned*>(record + sizeof(Head) + sizeof(Found));
    if (me == 0) {
        *reinterpret_cast<Head*>(record) = head;
        *reinterpret_cast<Found*>(record + sizeof(Head)) = found;
    }
    __syncthreads();
    const int padded = (answer_words + 3) / 4 * 4;
    for (int word = me; word < padded; word += kThreads)
        answer[word] = settled && word < answer_words ? m.answer[word] : 0u;
    if (settled || head.flags & kSick) return;
    const uint4* from = reinterpret_cast<const uint4*>(odds);
    uint4* to = reinterpret_cast<uint4*>(answer + padded);
    for (int i = me; i < (edges + 3) / 4; i += kThreads) to[i] = from[i];
}
