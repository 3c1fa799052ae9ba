// One edge: what does not depend on the sample, its value, its adjoint, its gradients.
//
// The header has the rotations of a lowered circuit, Rotation<0> … Rotation<ROTATIONS - 1> in time
// order. FIRST is the first whose angle depends on x, LAST one after the last such. Rotations before
// FIRST turn the initial vector, those from LAST on turn the observable back: both once an edge.

struct Edge {
    Real initial[3];
    Real observable[3];
    Real weight;
    // of each rotation in the middle, from Rotation::value on
    Real values[VALUES > 0 ? VALUES : 1];
};

struct Parameters {
    Real theta[THETAS > 0 ? THETAS : 1];
    Real scale[ENCODINGS];
    Real shift[ENCODINGS];
    Real weight;
};

QKAN_DEVICE Index least(Index a, Index b) { return a < b ? a : b; }

// Where the numbers of an edge stand in an array that each sample has of its own, or that all share.
template <int OWN>
QKAN_DEVICE Index entry(const Arguments& a, Index edge, Index sample) {
    return OWN ? sample * a.outs * a.ins + edge : edge;
}

QKAN_DEVICE void read(Parameters& p, const Arguments& a, Index edge, Index sample) {
    Index theta = entry<OWN_THETA>(a, edge, sample) * THETAS;
    Index scale = entry<OWN_SCALE>(a, edge, sample) * ENCODINGS;
    Index shift = entry<OWN_SHIFT>(a, edge, sample) * ENCODINGS;
    QKAN_UNROLL
    for (int k = 0; k < THETAS; ++k) p.theta[k] = load(a.theta, theta + k);
    QKAN_UNROLL
    for (int u = 0; u < ENCODINGS; ++u) {
        p.scale[u] = FIXED_SCALE ? fixed_scale(u) : load(a.scale, scale + u);
        p.shift[u] = load(a.shift, shift + u);
    }
    p.weight = a.weight ? load(a.weight, entry<OWN_WEIGHT>(a, edge, sample)) : Real(1);
    if (a.mask) p.weight *= load(a.mask, edge);
}

template <int N>
QKAN_DEVICE void leading(const Parameters& p, Real* vector) {
    if constexpr (N < FIRST) {
        Real c, s;
        still(Rotation<N>::angle(p.theta), c, s);
        rotate<Rotation<N>::axis>(vector, c, s);
        leading<N + 1>(p, vector);
    }
}

template <int N>
QKAN_DEVICE void closing(const Parameters& p, Real* vector) {
    if constexpr (N >= LAST) {
        Real c, s;
        still(Rotation<N>::angle(p.theta), c, s);
        rotate<Rotation<N>::axis>(vector, c, -s);
        closing<N - 1>(p, vector);
    }
}

template <int N>
QKAN_DEVICE void middle(const Parameters& p, Real* values) {
    if constexpr (N < LAST) {
        typedef Rotation<N> R;
        Real* mine = values + R::value;
        Real angle = R::angle(p.theta);
        if constexpr (R::kind == CONSTANT) {
            still(angle, mine[0], mine[1]);
        } else if constexpr (R::kind == AFFINE) {
            per_quarter(p.scale[R::encoding], mine[0], mine[1]);
            quarter_turns(angle + p.shift[R::encoding], mine[2], mine[3]);
            mine[4] = p.scale[R::encoding];
        } else {
            mine[0] = p.shift[R::encoding];
            mine[1] = p.scale[R::encoding];
            if constexpr (R::offset) still(angle, mine[2], mine[3]);
        }
        middle<N + 1>(p, values);
    }
}

QKAN_DEVICE void prepare(Edge& e, const Parameters& p) {
    QKAN_UNROLL
    for (int m = 0; m < 3; ++m) {
        e.initial[m] = initial_vector(m);
        e.observable[m] = observable_vector(m);
    }
    leading<0>(p, e.initial);
    middle<FIRST>(p, e.values);
    closing<ROTATIONS - 1>(p, e.observable);
    e.weight = p.weight;
}

QKAN_DEVICE void prepare(Edge& e, const Arguments& a, Index edge) {
    Parameters p;
    read(p, a, edge, 0);
    prepare(e, p);
}

QKAN_DEVICE Real gradient_at(const Arguments& a, Index b, Index o, Index i) {
    return load(a.grad, a.weight ? b * a.outs + o : (b * a.outs + o) * a.ins + i);
}

// Cosine, sine and d angle / d e of a data rotation at one sample.
template <int N>
QKAN_DEVICE void encode(const Real* values, Real x, Real& c, Real& s, Real& slope) {
    typedef Rotation<N> R;
    const Real* mine = values + R::value;
    if constexpr (R::kind == AFFINE) {
        Real size = mine[0] * x;
        if ((size < 0 ? -size : size) > Quarter::limit) {
            far_turn(mine[4], mine[2], mine[3], x, c, s);
        } else {
            turn(mine[0], mine[1], mine[2], mine[3], x, c, s);
        }
        slope = Real(1);
    } else {
        Real e = mine[1] * x + mine[0];
        e = e > Real(1) ? Real(1) : e;
        e = e < Real(-1) ? Real(-1) : e;
        Real sine = root((Real(1) - e) * (Real(1) + e));
        slope = sine == Real(0) ? Real(0) : Real(-1) / sine;
        c = e;
        s = sine;
        if constexpr (R::offset) {
            c = e * mine[2] - sine * mine[3];
            s = sine * mine[2] + e * mine[3];
        }
    }
}

template <int N>
QKAN_DEVICE void advance(const Edge& e, Real x, Real* v, Real* c, Real* s, Real* slope) {
    if constexpr (N < LAST) {
        typedef Rotation<N> R;
        if constexpr (R::kind == CONSTANT) {
            rotate<R::axis>(v, e.values[R::value], e.values[R::value + 1]);
        } else {
            encode<N>(e.values, x, c[R::data], s[R::data], slope[R::data]);
            rotate<R::axis>(v, c[R::data], s[R::data]);
        }
        advance<N + 1>(e, x, v, c, s, slope);
    }
}

struct Trace {
    Real state[3];
    Real cosine[DATA], sine[DATA], slope[DATA];
};

QKAN_DEVICE Real dot(const Real* a, const Real* b) {
    return fused(a[0], b[0], fused(a[1], b[1], a[2] * b[2]));
}

// φ at x, and in the trace what the adjoint pass needs.
QKAN_DEVICE Real evaluate(const Edge& e, Real x, Trace& t) {
    QKAN_UNROLL
    for (int m = 0; m < 3; ++m) t.state[m] = e.initial[m];
    advance<FIRST>(e, x, t.state, t.cosine, t.sine, t.slope);
    return dot(e.observable, t.state);
}

// An edge's sums over samples, g the gradient of its weighted value:
//   0 … 2          Σ g·state at the end of the middle, weight aside
//   3 … 5          Σ adjoint at the start of the middle, if there are leading rotations
//   Rotation::sum  Σ ∂φ/∂angle (CONSTANT); and Σ x·∂φ/∂angle (AFFINE); ∂φ/∂e, x·∂φ/∂e (ARCCOS)
//   GRADIENT_SUM   Σ g;  BASE_SUM  Σ g·base(x)
template <int N>
QKAN_DEVICE void retreat(const Edge& e, Real x, Trace& t, Real* adjoint, Real* sums, Real& dx) {
    if constexpr (N >= FIRST) {
        typedef Rotation<N> R;
        Real slope = torque<R::axis>(t.state, adjoint);
        Real c, s;
        if constexpr (R::kind == CONSTANT) {
            c = e.values[R::value];
            s = e.values[R::value + 1];
            sums[R::sum] += slope;
        } else {
            c = t.cosine[R::data];
            s = t.sine[R::data];
            sums[R::sum] += slope;
            if constexpr (R::kind == ARCCOS) slope *= t.slope[R::data];
            if constexpr (R::kind == ARCCOS) sums[R::sum + 2] += slope;
            sums[R::sum + 1] = fused(x, slope, sums[R::sum + 1]);
            dx = fused(e.values[R::value + (R::kind == AFFINE ? 4 : 1)], slope, dx);
        }
        rotate<R::axis>(adjoint, c, -s);
        rotate<R::axis>(t.state, c, -s);
        retreat<N - 1>(e, x, t, adjoint, sums, dx);
    }
}

// Add one sample to an edge's sums; returns its part of ∂/∂x.
QKAN_DEVICE Real adjoin(const Edge& e, Real x, Real g, Real* sums) {
    Trace t;
    evaluate(e, x, t);
    Real adjoint[3], dx = Real(0), weighted = g * e.weight;
    QKAN_UNROLL
    for (int m = 0; m < 3; ++m) {
        sums[m] = fused(g, t.state[m], sums[m]);
        adjoint[m] = weighted * e.observable[m];
    }
    retreat<LAST - 1>(e, x, t, adjoint, sums, dx);
    if constexpr (FIRST > 0) {
        QKAN_UNROLL
        for (int m = 0; m < 3; ++m) sums[3 + m] += adjoint[m];
    }
    return dx;
}

QKAN_DEVICE void cross(const Real* a, const Real* b, Real* result) {
    result[0] = torque<0>(a, b);
    result[1] = torque<1>(a, b);
    result[2] = torque<2>(a, b);
}

template <int N>
QKAN_DEVICE void finish_leading(const Parameters& p, Real* turning, Real* dtheta) {
    if constexpr (N >= 0) {
        Real c, s;
        Rotation<N>::give(dtheta, turning[Rotation<N>::axis]);
        still(Rotation<N>::angle(p.theta), c, s);
        rotate<Rotation<N>::axis>(turning, c, -s);
        finish_leading<N - 1>(p, turning, dtheta);
    }
}

template <int N>
QKAN_DEVICE void finish_closing(const Parameters& p, Real* turning, Real* dtheta) {
    if constexpr (N < ROTATIONS) {
        Real c, s;
        Rotation<N>::give(dtheta, turning[Rotation<N>::axis]);
        still(Rotation<N>::angle(p.theta), c, s);
        rotate<Rotation<N>::axis>(turning, c, s);
        finish_closing<N + 1>(p, turning, dtheta);
    }
}

template <int N>
QKAN_DEVICE void finish_middle(const Real* sums, Parameters& gradient) {
    if constexpr (N < LAST) {
        typedef Rotation<N> R;
        R::give(gradient.theta, sums[R::sum]);
        if constexpr (R::kind != CONSTANT) {
            gradient.scale[R::encoding] += sums[R::sum + 1];
            gradient.shift[R::encoding] += sums[R::sum + (R::kind == ARCCOS ? 2 : 0)];
        }
        finish_middle<N + 1>(sums, gradient);
    }
}

// From an edge's sums to the gradients of its parameters; the mask is not in that of the weight.
QKAN_DEVICE void finish(const Edge& e, const Parameters& p, const Real* sums,
                        Parameters& gradient) {
    Real turning[3];
    if constexpr (FIRST > 0) {
        cross(e.initial, sums + 3, turning);
        finish_leading<FIRST - 1>(p, turning, gradient.theta);
    }
    finish_middle<FIRST>(sums, gradient);
    cross(sums, e.observable, turning);
    QKAN_UNROLL
    for (int m = 0; m < 3; ++m) turning[m] *= e.weight;
    finish_closing<LAST>(p, turning, gradient.theta);
    gradient.weight += dot(e.observable, sums);
}

// Write the gradients that are wanted, of parameters that each sample has (OWN) or that all share.
template <int OWN>
QKAN_DEVICE void write(const Arguments& a, const Parameters& gradient, Index edge) {
    if (OWN_THETA == OWN && a.dtheta) {
        QKAN_UNROLL
        for (int k = 0; k < THETAS; ++k) store(a.dtheta, edge * THETAS + k, gradient.theta[k]);
    }
    QKAN_UNROLL
    for (int u = 0; u < ENCODINGS; ++u) {
        if (OWN_SCALE == OWN && a.dscale) store(a.dscale, edge * ENCODINGS + u, gradient.scale[u]);
        if (OWN_SHIFT == OWN && a.dshift) store(a.dshift, edge * ENCODINGS + u, gradient.shift[u]);
    }
    if (OWN_WEIGHT == OWN && a.dweight) store(a.dweight, edge, gradient.weight);
}

// From an edge's sums to its gradients in memory, where all samples share the parameters.
QKAN_DEVICE void finish_edge(const Arguments& a, Index edge, const Real* sums) {
    Edge e;
    Parameters p, gradient = {};
    read(p, a, edge, 0);
    prepare(e, p);
    finish(e, p, sums, gradient);
    Real kept = a.mask ? load(a.mask, edge) : Real(1);
    gradient.weight *= kept;
    write<0>(a, gradient, edge);
    if constexpr (HAS_BASE) {
        if (a.dbase_weight) store(a.dbase_weight, edge, kept * sums[BASE_SUM]);
    }
}

// ∂/∂x from (part, i, b) to (b, i), a tile of 32 × 32 a block of 256 threads.
QKAN_DEVICE void finish_inputs(const Arguments& a, Index block, Real* tile) {
    Index columns = (a.batch + 31) / 32, b = block % columns * 32, i = block / columns * 32;
    int across = threadIdx.x & 31;
    for (int row = threadIdx.x >> 5; row < 32; row += blockDim.x >> 5) {
        if (i + row >= a.ins || b + across >= a.batch) continue;
        Real total = Real(0);
        for (Index part = 0; part < a.parts; ++part) {
            total += ((const Real*)a.input_sums)[(part * a.ins + i + row) * a.batch + b + across];
        }
        tile[row * 33 + across] = total;
    }
    __syncthreads();
    for (int row = threadIdx.x >> 5; row < 32; row += blockDim.x >> 5) {
        if (i + across < a.ins && b + row < a.batch) {
            store(a.dx, (b + row) * a.ins + i + across, tile[across * 33 + row]);
        }
    }
}
