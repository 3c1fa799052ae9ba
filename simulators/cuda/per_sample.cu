// The kernels of layers whose samples have parameters of their own, where an edge meets one sample.
//
// The lanes of a warp are a power of two of inputs, which vary fastest, so that parameters are read in
// a row, times a number of outputs. Every sum has a fixed order, so results repeat to the bit.

// out[b, o] = Σ_i weight·φ, or out[b, o, i] = φ without a weight. 2^log_lanes lanes share the inputs
// of an output of a sample.
QKAN_KERNEL(per_sample_forward)(const Arguments a) {
    int lanes = 1 << a.log_lanes, lane = threadIdx.x & (lanes - 1);
    Index row = ((Index)blockIdx.x * blockDim.x + threadIdx.x) >> a.log_lanes;
    Index rows = a.batch * a.outs, here = least(row, rows - 1), b = here / a.outs;
    Real total = Real(0);
    for (Index i = lane; i < a.ins; i += lanes) {
        Edge e;
        Parameters p;
        Trace trace;
        read(p, a, here % a.outs * a.ins + i, b);
        prepare(e, p);
        Real value = evaluate(e, load(a.x, b * a.ins + i), trace);
        if (a.weight) total = fused(e.weight, value, total);
        if (!a.weight && row < rows) store(a.out, row * a.ins + i, value);
    }
    if (!a.weight) return;
    for (int step = lanes >> 1; step > 0; step >>= 1) total += __shfl_xor_sync(ALL, total, step);
    if (lane == 0 && row < rows) store(a.out, row, total);
}

// The gradients of one edge at its sample; returns its part of ∂/∂x.
QKAN_DEVICE Real sample_backward(const Arguments& a, Index b, Index o, Index i,
                                 Parameters& gradient) {
    Edge e;
    Parameters p;
    Real sums[SUMS] = {};
    read(p, a, o * a.ins + i, b);
    prepare(e, p);
    Real dx = adjoin(e, load(a.x, b * a.ins + i), gradient_at(a, b, o, i), sums);
    finish(e, p, sums, gradient);
    return dx;
}

constexpr int WORDS = sizeof(Parameters) / sizeof(Real);

// Where a number of `Parameters` stands among those that all samples share; -1 where each has its own.
QKAN_DEVICE constexpr int place_of(int word) {
    int sizes[] = {WORDS - 2 * ENCODINGS - 1, ENCODINGS, ENCODINGS, 1};
    int own[] = {OWN_THETA, OWN_SCALE, OWN_SHIFT, OWN_WEIGHT};
    int place = 0, begin = 0;
    for (int part = 0; part < 4; ++part) {
        if (word < begin + sizes[part]) return own[part] ? -1 : place + word - begin;
        place += own[part] ? 0 : sizes[part];
        begin += sizes[part];
    }
    return -1;
}

constexpr int SHARED_WORDS = (OWN_THETA ? 0 : WORDS - 2 * ENCODINGS - 1) +
                             (OWN_SCALE ? 0 : ENCODINGS) + (OWN_SHIFT ? 0 : ENCODINGS) +
                             (OWN_WEIGHT ? 0 : 1);

// The adjoint pass. A warp has 32 >> log_lanes inputs, the outputs y, y + gridDim.y, … in tiles of
// 2^log_lanes, and `chunk` samples. Shared parameters' gradients are summed over the chunk.
QKAN_KERNEL(per_sample_backward)(const Arguments a) {
    int lane = threadIdx.x & 31, outputs = 1 << a.log_lanes, inputs = 32 >> a.log_lanes;
    int output = lane >> (5 - a.log_lanes);
    Index tile = (Index)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
    if (tile * inputs >= a.ins) return;
    Index i = tile * inputs + (lane & (inputs - 1)), edges = a.outs * a.ins;
    Index begin = (Index)blockIdx.z * a.chunk, end = least(begin + a.chunk, a.batch);
    for (Index y = blockIdx.y; y * outputs < a.outs; y += gridDim.y) {
        Index o = y * outputs + output, edge = o * a.ins + i;
        bool counts = o < a.outs && i < a.ins;
        Parameters shared = {};
        for (Index b = begin; b < end; ++b) {
            Parameters gradient = {};
            Real dx = Real(0);
            if (counts) {
                dx = sample_backward(a, b, o, i, gradient);
                write<1>(a, gradient, b * edges + edge);
                QKAN_UNROLL
                for (int m = 0; m < WORDS; ++m) ((Real*)&shared)[m] += ((Real*)&gradient)[m];
            }
            if (!a.dx) continue;
            for (int step = inputs; step < 32; step <<= 1) dx += __shfl_xor_sync(ALL, dx, step);
            if (output == 0 && i < a.ins) {
                Index at = ((Index)blockIdx.y * a.ins + i) * a.batch + b;
                Real* to = (Real*)a.input_sums + at;
                *to = y == blockIdx.y ? dx : *to + dx;
            }
        }
        if (!counts) continue;
        if (gridDim.z == 1) write<0>(a, shared, edge);
        if (gridDim.z == 1 || !a.edge_sums) continue;
        Real* to = (Real*)a.edge_sums + (Index)blockIdx.z * SHARED_WORDS * edges + edge;
        QKAN_UNROLL
        for (int m = 0; m < WORDS; ++m) {
            if (place_of(m) >= 0) to[place_of(m) * edges] = ((Real*)&shared)[m];
        }
    }
}

// Add up what the blocks of the adjoint pass left: first shared parameters, then inputs.
QKAN_KERNEL(per_sample_finish)(const Arguments a) {
    if ((Index)blockIdx.x >= a.edge_blocks) {
        finish_inputs(a, blockIdx.x - a.edge_blocks, (Real*)QKAN_SHARED);
        return;
    }
    Index edge = (Index)blockIdx.x * blockDim.x + threadIdx.x, edges = a.outs * a.ins;
    if (edge >= edges) return;
    Parameters shared = {};
    for (Index chunk = 0; chunk < a.chunks; ++chunk) {
        const Real* from = (const Real*)a.edge_sums + chunk * SHARED_WORDS * edges + edge;
        QKAN_UNROLL
        for (int m = 0; m < WORDS; ++m) {
            if (place_of(m) >= 0) ((Real*)&shared)[m] += from[place_of(m) * edges];
        }
    }
    write<0>(a, shared, edge);
}
