// CUDA's words for a CPU, so that kernels/blake3.cu runs where there is no GPU: what kernels/device.cuh does by
// instructions, and the part of CUDA's own vocabulary that blake3.cu uses. host.cpp holds the machine behind it.
//
// A thread of a block is a fiber: it runs alone until it comes to a barrier. So what one lane does before another is not
// what a GPU would do, and a missing barrier shows as a wrong value. An asynchronous copy happens when it is waited for,
// so a missing wait shows too. Every access is checked for its alignment and by whoever knows what memory there is.
#pragma once
#include <cstdint>
#include <cstring>

typedef unsigned int u32;
typedef unsigned long long u64;

#define __global__
#define __launch_bounds__(threads)
#define DEVICE static inline

struct alignas(16) uint4 { u32 x, y, z, w; };
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

struct Index { u32 x; };
extern thread_local Index threadIdx, blockIdx;

namespace host {
// Ends the launch with a CUDA error number.
[[noreturn]] void refuse(int error);
// Memory of the "device": the place of `bytes` bytes at `address`, or the launch is refused.
void *global(u64 address, u64 bytes, bool write);
void *shared(u32 at, u32 bytes);
void warp_barrier();
void block_barrier();
void copy(u32 to, u64 from);
void commit();
void wait_all_but_newest();
// Every lane's number, seen by all lanes of its warp until its next call.
u32 *exchange(u32 mine);
}  // namespace host

static inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
static inline u32 __popc(u32 x) { return static_cast<u32>(__builtin_popcount(x)); }
static inline u32 __funnelshift_r(u32 low, u32 high, u32 bits) {
    return static_cast<u32>((static_cast<u64>(high) << 32 | low) >> (bits & 31));
}
static inline void __syncthreads() { host::block_barrier(); }
static inline void __syncwarp() { host::warp_barrier(); }
static inline u32 __shfl_sync(u32, u32 mine, u32 lane) { return host::exchange(mine)[lane]; }
static inline u32 __reduce_or_sync(u32, u32 mine) {
    const u32 *all = host::exchange(mine);
    u32 any = 0;
    for (int i = 0; i < 32; i++) any |= all[i];
    return any;
}

template <typename T> DEVICE T load_at(u64 address) {
    T value;
    std::memcpy(&value, host::global(address, sizeof(T), false), sizeof(T));
    return value;
}
template <typename T> DEVICE T load(const T *from) { return load_at<T>(reinterpret_cast<uintptr_t>(from)); }
template <typename T> DEVICE void store(T *to, T value) {
    std::memcpy(host::global(reinterpret_cast<uintptr_t>(to), sizeof(T), true), &value, sizeof(T));
}

DEVICE u32 shared_memory() { return 0; }
template <typename T> static inline T get_shared(u32 at) {
    T value;
    std::memcpy(&value, host::shared(at, sizeof(T)), sizeof(T));
    return value;
}
DEVICE u32 load_shared(u32 at) { return get_shared<u32>(at); }
DEVICE u64 load_shared_u64(u32 at) { return get_shared<u64>(at); }
DEVICE uint4 load_shared_uint4(u32 at) { return get_shared<uint4>(at); }
DEVICE void store_shared(u32 at, u32 value) { std::memcpy(host::shared(at, 4), &value, 4); }
DEVICE void store_shared_u64(u32 at, u64 value) { std::memcpy(host::shared(at, 8), &value, 8); }

DEVICE void copy_async(u32 to, u64 from) { host::copy(to, from); }
DEVICE void copy_commit() { host::commit(); }
DEVICE void copy_wait_all_but_newest() { host::wait_all_but_newest(); }

DEVICE u32 multiply_add(u32 x, u32 one, u32 y) { return x * one + y; }
