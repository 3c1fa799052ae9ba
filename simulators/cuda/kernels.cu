// The kernels: a layer forward, every edge's value, the adjoint pass, and what finishes it.
//
// A warp is 2^log_lanes outputs times the remaining lanes of samples; forward it walks over inputs,
// backward it keeps to one. Samples come in groups of 32, one a lane: their x is read once and
// passed round by shuffles. Every sum is made in a fixed order, so results repeat to the bit.

struct Place {
    int lane, warp, warps, outputs, samples, output, sample;
};

QKAN_DEVICE Place place(const Arguments& a) {
    Place p;
    p.lane = threadIdx.x & 31;
    p.warp = threadIdx.x >> 5;
    p.warps = blockDim.x >> 5;
    p.outputs = 1 << a.log_lanes;
    p.samples = 32 >> a.log_lanes;
    p.output = p.lane & (p.outputs - 1);
    p.sample = p.lane >> a.log_lanes;
    return p;
}

// A lane's own sample of a group: x, and the base activation there.
struct Sample {
    Real x, base, slope;
};

QKAN_DEVICE Sample own_sample(const Arguments& a, Index b, Index end, Index i) {
    Sample mine = {Real(0), Real(0), Real(0)};
    if (b < end) {
        mine.x = load(a.x, b * a.ins + i);
        if constexpr (HAS_BASE) base_activation(mine.x, mine.base, mine.slope);
    }
    return mine;
}

// The sample of another lane; going forward its slope is not asked for.
template <bool BACK>
QKAN_DEVICE Sample from_lane(const Sample& mine, int lane) {
    Sample found = {__shfl_sync(ALL, mine.x, lane), Real(0), Real(0)};
    if constexpr (HAS_BASE) found.base = __shfl_sync(ALL, mine.base, lane);
    if constexpr (HAS_BASE && BACK) found.slope = __shfl_sync(ALL, mine.slope, lane);
    return found;
}

QKAN_DEVICE Real base_weight(const Arguments& a, Index edge) {
    if constexpr (!HAS_BASE) return Real(0);
    Real weight = load(a.base_weight, edge);
    return a.mask ? weight * load(a.mask, edge) : weight;
}

// out[b, o] = Σ_i weight·φ + Σ_i base_weight·base(x) + bias. A block has `groups` groups of samples
// and 2^log_lanes outputs; its warps share the inputs and add up through shared memory.
QKAN_KERNEL(layer_forward)(const Arguments a) {
    Real* pool = (Real*)QKAN_SHARED;
    Place p = place(a);
    int turns = p.outputs * (int)a.groups, cells = turns * 32;
    Real* sums = pool + p.warp * cells;
    Index first = (Index)blockIdx.x * a.groups * 32;
    Index o = (Index)blockIdx.y * p.outputs + p.output;
    for (int cell = p.lane; cell < cells; cell += 32) sums[cell] = Real(0);
    for (Index i = p.warp; i < a.ins; i += p.warps) {
        Index edge = least(o, a.outs - 1) * a.ins + i;
        Edge e;
        prepare(e, a, edge);
        Real base = base_weight(a, edge);
        for (int group = 0; group < a.groups; ++group) {
            Index b = first + group * 32;
            if (b >= a.batch) break;
            Sample mine = own_sample(a, b + p.lane, a.batch, i);
            int live = (int)least(32, a.batch - b);
            Real* to = sums + group * p.outputs * 32 + p.lane;
            for (int t = 0; t * p.samples < live; ++t) {
                Sample one = from_lane<false>(mine, t * p.samples + p.sample);
                Trace trace;
                to[t * 32] += fused(e.weight, evaluate(e, one.x, trace), base * one.base);
            }
        }
    }
    __syncthreads();
    for (int cell = threadIdx.x; cell < cells; cell += blockDim.x) {
        int turn = cell >> 5;
        int group = turn >> a.log_lanes, from = (turn & (p.outputs - 1)) * p.samples + p.sample;
        Index b = first + group * 32 + from;
        if (b >= a.batch || o >= a.outs) continue;
        Real total = a.bias ? load(a.bias, o) : Real(0);
        for (int warp = 0; warp < p.warps; ++warp) total += pool[warp * cells + cell];
        store(a.out, b * a.outs + o, total);
    }
}

// out[b, o, i] = φ, a thread an edge and `chunk` samples.
QKAN_KERNEL(edges_forward)(const Arguments a) {
    Index edge = (Index)blockIdx.x * blockDim.x + threadIdx.x, edges = a.outs * a.ins;
    if (edge >= edges) return;
    Edge e;
    prepare(e, a, edge);
    Index begin = (Index)blockIdx.y * a.chunk, end = least(begin + a.chunk, a.batch);
    for (Index b = begin; b < end; ++b) {
        Trace trace;
        store(a.out, b * edges + edge, evaluate(e, load(a.x, b * a.ins + edge % a.ins), trace));
    }
}

// One group of samples on one edge a lane: adds to `sums`, and leaves ∂/∂x of each in the tile.
QKAN_DEVICE void group_backward(const Arguments& a, const Place& p, const Edge& e, Real base,
                                Index b, Index end, Index o, Index i, Real* sums, Real* tile) {
    Sample mine = own_sample(a, b + p.lane, end, i);
    int live = (int)least(32, end - b), row = p.outputs | 1;
    for (int t = 0; t * p.samples < live; ++t) {
        int from = t * p.samples + p.sample;
        Sample one = from_lane<true>(mine, from);
        bool counts = from < live && o < a.outs;
        Real g = counts ? gradient_at(a, b + from, o, i) : Real(0);
        Real dx = adjoin(e, one.x, g, sums);
        sums[GRADIENT_SUM] += g;
        if constexpr (HAS_BASE) {
            sums[BASE_SUM] = fused(g, one.base, sums[BASE_SUM]);
            dx = fused(g * base, one.slope, dx);
        }
        if (a.dx) tile[from * row + p.output] = counts ? dx : Real(0);
    }
}

// Add the tile's rows to the block's own ∂/∂x, (i, b), which its first tile of outputs writes.
QKAN_DEVICE void collect_dx(const Arguments& a, const Place& p, Index b, Index end, Index i,
                            bool begins, const Real* tile) {
    __syncwarp();
    if (b + p.lane < end) {
        Index at = ((Index)blockIdx.y * a.ins + i) * a.batch + b + p.lane;
        Real total = begins ? Real(0) : ((Real*)a.input_sums)[at];
        const Real* mine = tile + p.lane * (p.outputs | 1);
        for (int j = 0; j < p.outputs; ++j) total += mine[j];
        ((Real*)a.input_sums)[at] = total;
    }
    __syncwarp();
}

// Sums over the lanes of samples, then over chunks: here when there is one, else in `finish`.
QKAN_DEVICE void deliver(const Arguments& a, const Place& p, Index o, Index i, const Real* totals) {
    Real sums[SUMS];
    QKAN_UNROLL
    for (int m = 0; m < SUMS; ++m) {
        sums[m] = totals[m * blockDim.x];
        for (int step = p.outputs; step < 32; step <<= 1) {
            sums[m] += __shfl_xor_sync(ALL, sums[m], step);
        }
    }
    if (p.sample != 0 || o >= a.outs) return;
    if (gridDim.z == 1) {
        finish_edge(a, o * a.ins + i, sums);
        if (a.dbias && i == 0) store(a.dbias, o, sums[GRADIENT_SUM]);
        return;
    }
    if (!a.edge_sums) return;
    Real* to = (Real*)a.edge_sums + (Index)blockIdx.z * SUMS * a.ins * a.outs + i * a.outs + o;
    QKAN_UNROLL
    for (int m = 0; m < SUMS; ++m) to[m * a.ins * a.outs] = sums[m];
}

// The adjoint pass. A warp has one input, the outputs y, y + gridDim.y, … in tiles of 2^log_lanes,
// and `chunk` samples. Totals over many samples are made of sums over 32 of a lane's own.
QKAN_KERNEL(layer_backward)(const Arguments a) {
    Real* pool = (Real*)QKAN_SHARED;
    Place p = place(a);
    Index i = (Index)blockIdx.x * p.warps + p.warp;
    if (i >= a.ins) return;
    Real* totals = pool + threadIdx.x;
    Real* tile = pool + SUMS * blockDim.x + p.warp * 32 * (p.outputs | 1);
    Index begin = (Index)blockIdx.z * a.chunk, end = least(begin + a.chunk, a.batch);
    Index stretch = 32 * p.samples;
    for (Index y = blockIdx.y; y * p.outputs < a.outs; y += gridDim.y) {
        Index o = y * p.outputs + p.output, edge = least(o, a.outs - 1) * a.ins + i;
        Edge e;
        prepare(e, a, edge);
        Real base = base_weight(a, edge);
        QKAN_UNROLL
        for (int m = 0; m < SUMS; ++m) totals[m * blockDim.x] = Real(0);
        for (Index from = begin; from < end; from += stretch) {
            Real sums[SUMS] = {};
            for (Index b = from; b < least(from + stretch, end); b += 32) {
                group_backward(a, p, e, base, b, end, o, i, sums, tile);
                if (a.dx) collect_dx(a, p, b, end, i, y == blockIdx.y, tile);
            }
            QKAN_UNROLL
            for (int m = 0; m < SUMS; ++m) totals[m * blockDim.x] += sums[m];
        }
        deliver(a, p, o, i, totals);
    }
}

QKAN_DEVICE void finish_parameters(const Arguments& a, Index at) {
    Index edges = a.ins * a.outs;
    if (at >= edges) return;
    Real sums[SUMS] = {};
    for (Index chunk = 0; chunk < a.chunks; ++chunk) {
        const Real* from = (const Real*)a.edge_sums + chunk * SUMS * edges + at;
        QKAN_UNROLL
        for (int m = 0; m < SUMS; ++m) sums[m] += from[m * edges];
    }
    Index o = at % a.outs, i = at / a.outs;
    finish_edge(a, o * a.ins + i, sums);
    if (a.dbias && i == 0) store(a.dbias, o, sums[GRADIENT_SUM]);
}

// Add up what the blocks of the adjoint pass left: first parameters, then inputs.
QKAN_KERNEL(layer_finish)(const Arguments a) {
    if ((Index)blockIdx.x < a.edge_blocks) {
        finish_parameters(a, (Index)blockIdx.x * blockDim.x + threadIdx.x);
    } else {
        finish_inputs(a, blockIdx.x - a.edge_blocks, (Real*)QKAN_SHARED);
    }
}
