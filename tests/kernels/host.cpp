// The kernels as a library for a CPU, with one entry point, host_launch. See host.h for what it models.
//
// What it cannot show: lanes that really run at once, orders of memory accesses that need a fence, what ptxas makes of
// the code, and time. Fibers are made by makecontext and switched by setjmp and longjmp, which make no system call; this
// is why the file is compiled without _FORTIFY_SOURCE, whose longjmp refuses to enter another stack.
#include "host.h"

#include <setjmp.h>
#include <ucontext.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

thread_local Index threadIdx, blockIdx;

#include "../../kernels/blake3.cu"

namespace {

enum Error {  // as cuda.h numbers them
    SUCCESS = 0,
    INVALID_VALUE = 1,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    MISALIGNED_ADDRESS = 716,
    LAUNCH_FAILED = 719,
};

constexpr unsigned MAX_THREADS = 256, WARP = 32, STACK = 64 * 1024;

// May `bytes` bytes at `address` be read (or written)? Whoever owns the memory says so; until then all may.
using Access = int (*)(uint64_t address, uint64_t bytes, int write);
std::atomic<Access> allowed{nullptr};

struct Copy {
    u32 to;
    u64 from;
    u32 group;
};

struct Fiber {
    enum State { UNBORN, READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE } state = UNBORN;
    jmp_buf at;
    ucontext_t birth;
    std::unique_ptr<char[]> stack;
    std::vector<Copy> copies;
    u32 group = 0;
};

// One block of threads; blocks run one after the other. Each host thread that launches has its own.
struct Machine {
    std::vector<Fiber> fibers{MAX_THREADS};
    std::vector<unsigned char> shared;
    u32 exchanged[2][MAX_THREADS];
    u32 rounds[MAX_THREADS];
    std::function<void()> kernel;
    jmp_buf scheduler;
    ucontext_t scheduler_birth;
    unsigned threads = 0, current = 0;
    bool adverse = false;
    int error = SUCCESS;
};
thread_local std::unique_ptr<Machine> machine;

Machine &here() { return *machine; }
Fiber &me() { return here().fibers[here().current]; }

// noinline: the compiler must not keep the address of a thread_local, or a jmp_buf's frame, across a switch.
__attribute__((noinline)) void leave(Fiber::State state) {
    me().state = state;
    if (!_setjmp(me().at)) _longjmp(here().scheduler, 1);
}

void live() {
    for (;;) {  // a fiber is born once and then runs one thread of each block
        here().kernel();
        leave(Fiber::DONE);
    }
}

__attribute__((noinline)) void resume(unsigned which) {
    Machine &m = here();
    Fiber &fiber = m.fibers[which];
    m.current = which;
    threadIdx.x = which;
    if (_setjmp(m.scheduler)) return;
    if (fiber.state != Fiber::UNBORN) _longjmp(fiber.at, 1);
    if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    getcontext(&fiber.birth);
    fiber.birth.uc_stack.ss_sp = fiber.stack.get();
    fiber.birth.uc_stack.ss_size = STACK;
    fiber.birth.uc_link = nullptr;
    makecontext(&fiber.birth, live, 0);
    setcontext(&fiber.birth);
}

// Lets the threads from `first` to `end` go on if all that are left wait at the same kind of barrier.
bool release(unsigned first, unsigned end, Fiber::State barrier) {
    bool any = false;
    for (unsigned i = first; i < end; i++) {
        const Fiber::State state = here().fibers[i].state;
        if (state == barrier) any = true;
        else if (state != Fiber::DONE) return false;
    }
    for (unsigned i = first; any && i < end; i++)
        if (here().fibers[i].state == barrier) here().fibers[i].state = Fiber::READY;
    return any;
}

int run_block(u32 block) {
    Machine &m = here();
    blockIdx.x = block;
    std::memset(m.shared.data(), 0xAA, m.shared.size());  // what nobody wrote is not zero
    for (unsigned i = 0; i < m.threads; i++) {
        Fiber &fiber = m.fibers[i];
        if (fiber.state != Fiber::UNBORN) fiber.state = Fiber::READY;
        fiber.copies.clear();
        fiber.group = m.rounds[i] = 0;
    }
    for (;;) {
        bool moved = false, done = true;
        for (unsigned n = 0; n < m.threads; n++) {
            const unsigned i = m.adverse ? m.threads - 1 - n : n;
            if (m.fibers[i].state > Fiber::READY) continue;
            moved = true;
            resume(i);
            if (m.error) return m.error;
        }
        for (unsigned i = 0; i < m.threads; i++) done &= m.fibers[i].state == Fiber::DONE;
        if (done) return SUCCESS;
        for (unsigned i = 0; i < m.threads; i += WARP) moved |= release(i, min(i + WARP, m.threads), Fiber::AT_WARP_BARRIER);
        moved |= release(0, m.threads, Fiber::AT_BLOCK_BARRIER);
        if (!moved) return LAUNCH_FAILED;  // some wait for others that will never come
    }
}

template <typename T> T argument(void **arguments, int n) { return *static_cast<T *>(arguments[n]); }

int launch(const char *name, u32 blocks, u32 threads, u32 shared_bytes, void **a) {
    const std::string_view kernel = name;
    std::function<void()> body;
    u32 most = SLOTS;
    if (kernel == "chunk_values") {
        body = [a] { chunk_values(argument<const Group *>(a, 0), argument<const Run *>(a, 1), argument<u32 *>(a, 2), argument<u32>(a, 3)); };
    } else if (kernel == "merge_values") {
        body = [a] { merge_values(argument<const Group *>(a, 0), argument<const u32 *>(a, 1), argument<u32 *>(a, 2), argument<u32>(a, 3)); };
    } else if (kernel == "gather") {
        body = [a] { gather(argument<const Piece *>(a, 0), argument<u32>(a, 1), argument<u32>(a, 2), argument<uint4 *>(a, 3)); };
        most = 256;
    } else {
        return NOT_FOUND;
    }
    if (blocks == 0 || threads == 0 || threads > most) return INVALID_VALUE;

    if (!machine) machine.reset(new Machine);
    Machine &m = here();
    const char *order = std::getenv("HOST_LAUNCH_ORDER");
    m.adverse = order && std::string_view(order) == "adverse";
    m.kernel = body;
    m.threads = threads;
    m.shared.resize(shared_bytes);
    m.error = SUCCESS;
    for (u32 block = 0; block < blocks; block++) {
        const int error = run_block(block);
        if (error == SUCCESS) continue;
        for (Fiber &fiber : m.fibers) fiber.state = Fiber::UNBORN;  // they stopped half-way: never go on from there
        return error;
    }
    return SUCCESS;
}

}  // namespace

namespace host {

void refuse(int error) {
    here().error = error;
    leave(Fiber::DONE);
    std::abort();  // nobody goes on with a refused fiber
}
void *global(u64 address, u64 bytes, bool write) {
    if (address % bytes) refuse(MISALIGNED_ADDRESS);
    const Access may = allowed.load();
    if (address == 0 || (may && !may(address, bytes, write))) refuse(ILLEGAL_ADDRESS);
    return reinterpret_cast<void *>(static_cast<uintptr_t>(address));
}
void *shared(u32 at, u32 bytes) {
    if (at % bytes) refuse(MISALIGNED_ADDRESS);
    if (static_cast<u64>(at) + bytes > here().shared.size()) refuse(ILLEGAL_ADDRESS);
    return here().shared.data() + at;
}
void warp_barrier() { leave(Fiber::AT_WARP_BARRIER); }
void block_barrier() { leave(Fiber::AT_BLOCK_BARRIER); }

static void land(const Copy &copy) { std::memcpy(shared(copy.to, 16), global(copy.from, 16, false), 16); }

// In the usual order a copy lands as late as it may, in the adverse order at once.
void copy(u32 to, u64 from) {
    const Copy copy = {to, from, me().group};
    if (here().adverse) return land(copy);
    shared(to, 16), global(from, 16, false);  // refused where it is issued
    me().copies.push_back(copy);
}
void commit() { me().group++; }
void wait_all_but_newest() {
    std::vector<Copy> later;
    for (const Copy &copy : me().copies) {
        if (copy.group + 1 < me().group) land(copy);
        else later.push_back(copy);
    }
    me().copies.swap(later);
}

u32 *exchange(u32 mine) {
    // Two places in turn: a lane that is ahead by one call does not overwrite what a slower one still reads.
    Machine &m = here();
    u32 *place = m.exchanged[m.rounds[m.current]++ % 2];
    place[m.current] = mine;
    const unsigned first = m.current / WARP * WARP;
    warp_barrier();
    return place + first;
}

}  // namespace host

// Launches a kernel and runs it to its end. `args` as cuLaunchKernel takes them: a pointer to each argument. Returns 0 or a
// CUDA error number: 500 no such kernel, 1 bad sizes, 700 memory that may not be touched, 716 misaligned, 719 a barrier that
// not all threads reach. Different host threads may launch at once. HOST_LAUNCH_ORDER=adverse in the environment runs the
// threads last to first, and copies land when they are issued: what either order forgives, the other shows.
//
// "check_access" is no kernel: its one argument is a function that says whether memory may be touched (Access), or null.
extern "C" int host_launch(const char *kernel, unsigned grid_x, unsigned block_x, unsigned shared_bytes, void **args) {
    if (std::string_view(kernel) == "check_access") {
        allowed = argument<Access>(args, 0);
        return SUCCESS;
    }
    return launch(kernel, grid_x, block_x, shared_bytes, args);
}
