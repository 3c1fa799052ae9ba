// A CUDA block on a CPU: every thread is a fiber, barriers and shuffles switch between fibers.
//
// Only what the kernels use. Fibers run in the order of their index or against it: a kernel whose
// result depends on that order lacks a barrier. A barrier that a thread never reaches is an error.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace host {

struct Index3 {
    unsigned x = 0, y = 0, z = 0;
};

struct Barrier {
    int arrived = 0;
    long generation = 0;
};

struct Warp {
    Barrier barrier;
    double exchange[32];
};

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool begun = false;
    void* stack = nullptr;
    Index3 index;
    bool done = true;
};

typedef void (*Kernel)(const void* arguments);

constexpr size_t STACK = 256 << 10;
constexpr size_t SHARED_DOUBLES = (48 << 10) / sizeof(double);
constexpr unsigned THREADS = 256;
static double shared[SHARED_DOUBLES + 16];
static Index3 block_index, block_size, grid_size;
static Fiber fibers[THREADS];
static Warp warps[THREADS / 32];
static Barrier block;
static Fiber* running;
static jmp_buf scheduler;
static Kernel kernel;
static const void* given;
static long progress;

// A context only begins a fiber; jumps between them spare the two system calls of swapcontext.
static void yield() {
    if (_setjmp(running->place) == 0) _longjmp(scheduler, 1);
}

static void resume() {
    if (_setjmp(scheduler) != 0) return;
    if (running->begun) _longjmp(running->place, 1);
    running->begun = true;
    setcontext(&running->context);
}

static void wait(Barrier& barrier, int expected) {
    long generation = barrier.generation;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        ++progress;
    } else {
        while (barrier.generation == generation) yield();
    }
}

static Warp& warp() { return warps[running->index.x >> 5]; }

template <typename T>
T exchange(T value, int lane) {
    Warp& mine = warp();
    std::memcpy(&mine.exchange[running->index.x & 31], &value, sizeof value);
    wait(mine.barrier, 32);
    std::memcpy(&value, &mine.exchange[lane & 31], sizeof value);
    wait(mine.barrier, 32);
    return value;
}

static void start() {
    kernel(given);
    running->done = true;
    ++progress;
    yield();
}

// Run one block; false when its threads wait for each other for ever.
static bool run_block(unsigned threads, bool backwards) {
    for (double& number : shared) number = NAN;
    block = Barrier();
    for (Warp& one : warps) one = Warp();
    for (unsigned t = 0; t < threads; ++t) {
        Fiber& fiber = fibers[t];
        if (!fiber.stack) fiber.stack = std::malloc(STACK);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        fiber.index.x = t;
        fiber.done = fiber.begun = false;
        makecontext(&fiber.context, start, 0);
    }
    for (bool alive = true; alive;) {
        long before = progress;
        alive = false;
        for (unsigned n = 0; n < threads; ++n) {
            running = &fibers[backwards ? threads - 1 - n : n];
            if (running->done) continue;
            resume();
            alive = alive || !running->done;
        }
        if (alive && progress == before) return false;
    }
    return true;
}

// Run a kernel. 0, or what went wrong: 1 a deadlock, 2 too much shared memory, 3 written beyond it,
// 4 too many threads.
static int run(const unsigned* grid, unsigned threads, unsigned bytes, bool backwards,
               Kernel one, const void* arguments) {
    if (bytes > SHARED_DOUBLES * sizeof(double)) return 2;
    if (threads > THREADS) return 4;
    kernel = one;
    given = arguments;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {threads, 1, 1};
    unsigned blocks = grid[0] * grid[1] * grid[2];
    for (unsigned n = 0; n < blocks; ++n) {
        unsigned at = backwards ? blocks - 1 - n : n;
        block_index = {at % grid[0], at / grid[0] % grid[1], at / grid[0] / grid[1]};
        if (!run_block(threads, backwards)) return 1;
        for (size_t spare = (bytes + 7) / 8; spare < SHARED_DOUBLES + 16; ++spare) {
            if (!std::isnan(shared[spare])) return 3;
        }
    }
    return 0;
}

template <typename To, typename From>
To bits(From value) {
    To result;
    static_assert(sizeof result == sizeof value, "as wide");
    std::memcpy(&result, &value, sizeof result);
    return result;
}

}  // namespace host

#define QKAN_DEVICE inline
#define QKAN_KERNEL(name) inline void name
#define QKAN_UNROLL
#define QKAN_SHARED host::shared
#define threadIdx host::running->index
#define blockIdx host::block_index
#define blockDim host::block_size
#define gridDim host::grid_size

inline void __syncthreads() { host::wait(host::block, (int)host::block_size.x); }
inline void __syncwarp() { host::wait(host::warp().barrier, 32); }
template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
    return host::exchange(value, lane);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return host::exchange(value, (int)(host::running->index.x & 31) ^ mask);
}
inline unsigned __float_as_uint(float value) { return host::bits<unsigned>(value); }
inline float __uint_as_float(unsigned value) { return host::bits<float>(value); }
inline long long __double_as_longlong(double value) { return host::bits<long long>(value); }
inline float host_half_to_float(unsigned short value) { return (float)host::bits<_Float16>(value); }
inline unsigned short host_float_to_half(float value) {
    return host::bits<unsigned short>((_Float16)value);
}
