// Numbers: conversion at loads and stores, sine and cosine, rotations, what base activations use.
//
// `Real` computes, `Number` is what memory holds; the program's header declares both.

QKAN_DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }
QKAN_DEVICE double fused(double a, double b, double c) { return fma(a, b, c); }

QKAN_DEVICE float convert(float value, float) { return value; }
QKAN_DEVICE double convert(double value, double) { return value; }

// Half precision as bits, so that no header is needed.
struct Bfloat16 {
    unsigned short bits;
};
struct Float16 {
    unsigned short bits;
};

QKAN_DEVICE float convert(Bfloat16 value, float) {
    return __uint_as_float((unsigned)value.bits << 16);
}

QKAN_DEVICE Bfloat16 convert(float value, Bfloat16) {
    unsigned bits = __float_as_uint(value);
    bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    unsigned even = bits + 0x7fffu + ((bits >> 16) & 1u);
    return {(unsigned short)(nan ? 0x7fffu : even >> 16)};
}

#ifdef __CUDA_ARCH__
QKAN_DEVICE float convert(Float16 value, float) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}
QKAN_DEVICE Float16 convert(float value, Float16) {
    Float16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#else
QKAN_DEVICE float convert(Float16 value, float) { return host_half_to_float(value.bits); }
QKAN_DEVICE Float16 convert(float value, Float16) { return {host_float_to_half(value)}; }
#endif

QKAN_DEVICE Real load(const void* from, Index at) {
    return convert(((const Number*)from)[at], Real());
}
QKAN_DEVICE void store(void* to, Index at, Real value) {
    ((Number*)to)[at] = convert(value, Number());
}

// Angles are counted in quarter turns, t = 2·angle/π = k + r with k the nearest integer. Sine and
// cosine of πr/2 are minimax polynomials in r², and k modulo 4 says whether to swap them and which
// signs they get. Products with 2/π are sums of two numbers, so the error does not grow with the angle.
template <typename T>
struct Turns;

template <>
struct Turns<float> {
    static constexpr float per_hi = 0.6366197466850281f, per_lo = 2.5682552973194106e-08f;
    static constexpr float rounder = 12582912.0f;  // 1.5·2^23: adding it rounds to an integer
    static constexpr float limit = 65536.0f;

    static QKAN_DEVICE float nearest(float value) { return rintf(value); }

    static QKAN_DEVICE float sine(float r, float z) {
        float p = fused(z, -0.00459228898681f, 0.07967590293001038f);
        p = fused(z, p, -0.6459629381609885f);
        return r * fused(z, p, 1.570796305085123f);
    }
    static QKAN_DEVICE float cosine(float z) {
        float q = fused(z, 0.0009040216702155f, -0.02086028851045237f);
        q = fused(z, q, 0.253669244030595f);
        q = fused(z, q, -1.233700543353518f);
        return fused(z, q, 1.0f);
    }
    // swap and sign by the quarter, which stands in the lowest bits of the rounded number
    static QKAN_DEVICE void place(float sine, float cosine, float rounded, float& c, float& s) {
        unsigned quarter = __float_as_uint(rounded);
        bool odd = quarter & 1u;
        unsigned sign_s = (quarter << 30) & 0x80000000u;
        unsigned sign_c = ((quarter + 1u) << 30) & 0x80000000u;
        s = __uint_as_float(__float_as_uint(odd ? cosine : sine) ^ sign_s);
        c = __uint_as_float(__float_as_uint(odd ? sine : cosine) ^ sign_c);
    }
};

template <>
struct Turns<double> {
    static constexpr double per_hi = 0.6366197723675814, per_lo = -3.935735335036497e-17;
    static constexpr double rounder = 6755399441055744.0;  // 1.5·2^52
    static constexpr double limit = 1099511627776.0;

    static QKAN_DEVICE double nearest(double value) { return rint(value); }

    static QKAN_DEVICE double sine(double r, double z) {
        double p = fused(z, 5.629796153247219461158e-8, -0.000003598609733323369681972);
        p = fused(z, p, 0.0001604411402355091205377);
        p = fused(z, p, -0.004681754130764874608059);
        p = fused(z, p, 0.07969262624592807000643);
        p = fused(z, p, -0.6459640975062407237041);
        return r * fused(z, p, 1.570796326794896582212);
    }
    static QKAN_DEVICE double cosine(double z) {
        double q = fused(z, 4.656003740993138809209e-7, -0.00002520019241239431880516);
        q = fused(z, q, 0.000919259967757669474956);
        q = fused(z, q, -0.02086348073757365143048);
        q = fused(z, q, 0.2536695079000529007972);
        q = fused(z, q, -1.23370055013615703661);
        return fused(z, q, 1.0);
    }
    static QKAN_DEVICE void place(double sine, double cosine, double rounded, double& c,
                                  double& s) {
        unsigned quarter = (unsigned)__double_as_longlong(rounded);
        bool odd = quarter & 1u;
        s = odd ? cosine : sine;
        c = odd ? sine : cosine;
        s = quarter & 2u ? -s : s;
        c = (quarter + 1u) & 2u ? -c : c;
    }
};

typedef Turns<Real> Quarter;

// 2·value/π as a sum of two parts.
QKAN_DEVICE void per_quarter(Real value, Real& hi, Real& lo) {
    hi = value * Quarter::per_hi;
    lo = fused(value, Quarter::per_hi, -hi) + value * Quarter::per_lo;
}

// 2·angle/π modulo 4, within ±2, as a sum of two parts.
QKAN_DEVICE void quarter_turns(Real angle, Real& hi, Real& lo) {
    per_quarter(angle, hi, lo);
    hi = fused(Real(-4), Quarter::nearest(hi * Real(0.25)), hi);
    lo = fused(Real(-4), Quarter::nearest(lo * Real(0.25)), lo);
}

// Cosine and sine of (π/2)·((s_hi + s_lo)·x + a_hi + a_lo), |s·x| ≤ limit.
QKAN_DEVICE void turn(Real s_hi, Real s_lo, Real a_hi, Real a_lo, Real x, Real& c, Real& s) {
    Real rounded = fused(s_hi, x, a_hi) + Quarter::rounder;
    Real r = (fused(s_hi, x, Quarter::rounder - rounded) + a_hi) + fused(s_lo, x, a_lo);
    Real z = r * r;
    Quarter::place(Quarter::sine(r, z), Quarter::cosine(z), rounded, c, s);
}

// Cosine and sine for angles of any size: whole and remaining quarter turns in double precision.
QKAN_DEVICE void far_turn(Real scale, Real a_hi, Real a_lo, Real x, Real& c, Real& s) {
    double hi = (double)scale * Turns<double>::per_hi;
    double lo = fma((double)scale, Turns<double>::per_hi, -hi);
    lo = fma((double)scale, Turns<double>::per_lo, lo);
    double whole = rint(hi * (double)x);
    double rest = fma(hi, (double)x, -whole) + (lo * (double)x + ((double)a_hi + (double)a_lo));
    double more = rint(rest);
    whole += more;
    whole = fma(-4.0, rint(whole * 0.25), whole);
    turn(Real(0), Real(0), (Real)whole, (Real)(rest - more), Real(0), c, s);
}

// Cosine and sine of an angle that depends on no sample.
QKAN_DEVICE void still(Real angle, Real& c, Real& s) {
    Real hi, lo;
    quarter_turns(angle, hi, lo);
    turn(Real(0), Real(0), hi, lo, Real(0), c, s);
}

// Rotate a vector about a coordinate axis.
template <int AXIS>
QKAN_DEVICE void rotate(Real* v, Real c, Real s) {
    constexpr int i = (AXIS + 1) % 3, j = (AXIS + 2) % 3;
    Real a = c * v[i] - s * v[j];
    v[j] = fused(s, v[i], c * v[j]);
    v[i] = a;
}

// ∂φ/∂angle of a rotation about an axis: that component of v × λ, equal on both of its sides.
template <int AXIS>
QKAN_DEVICE Real torque(const Real* v, const Real* adjoint) {
    constexpr int i = (AXIS + 1) % 3, j = (AXIS + 2) % 3;
    return v[i] * adjoint[j] - v[j] * adjoint[i];
}

QKAN_DEVICE float root(float value) { return sqrtf(value); }
QKAN_DEVICE double root(double value) { return sqrt(value); }
QKAN_DEVICE float exponential(float value) { return expf(value); }
QKAN_DEVICE double exponential(double value) { return exp(value); }
QKAN_DEVICE float error_function(float value) { return erff(value); }
QKAN_DEVICE double error_function(double value) { return erf(value); }
QKAN_DEVICE float hyperbolic(float value) { return tanhf(value); }
QKAN_DEVICE double hyperbolic(double value) { return tanh(value); }
