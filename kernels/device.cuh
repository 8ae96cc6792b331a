// The instructions that C++ has no word for, each as a function. blake3.cu uses nothing of the machine but these and
// what CUDA declares itself; tests/kernels/host.h has the same functions for a CPU, so that one source runs on both.
//
// Shared memory is addressed by 32-bit offsets, not by pointers: the addresses of the hot loop then cost one register.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__

// ---- global memory -------------------------------------------------------------------------------------------------

// A load of what no kernel of the launch writes (LDG through the read-only path).
template <typename T> DEVICE T load(const T *from) { return __ldg(from); }
template <typename T> DEVICE T load_at(u64 address) { return __ldg(reinterpret_cast<const T *>(address)); }
template <typename T> DEVICE void store(T *to, T value) { *to = value; }

// ---- shared memory -------------------------------------------------------------------------------------------------

DEVICE u32 shared_memory() {
    extern __shared__ __align__(128) unsigned char bytes[];
    return static_cast<u32>(__cvta_generic_to_shared(bytes));
}
DEVICE u32 load_shared(u32 at) {
    u32 value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(at) : "memory");
    return value;
}
DEVICE u64 load_shared_u64(u32 at) {
    u64 value;
    asm volatile("ld.shared.u64 %0, [%1];" : "=l"(value) : "r"(at) : "memory");
    return value;
}
DEVICE uint4 load_shared_uint4(u32 at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at) : "memory");
    return v;
}
DEVICE void store_shared(u32 at, u32 value) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}
DEVICE void store_shared_u64(u32 at, u64 value) {
    asm volatile("st.shared.u64 [%0], %1;" ::"r"(at), "l"(value) : "memory");
}

// ---- copies from global to shared memory that run beside the arithmetic -----------------------------------------------

// 16 bytes, both sides aligned to 16. Past L1: no byte is read twice.
DEVICE void copy_async(u32 to, u64 from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// Closes a group of copies; a group may be empty.
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all of this lane's groups but the newest have landed. Other lanes see them after a barrier, not before.
DEVICE void copy_wait_all_but_newest() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

// ---- arithmetic ----------------------------------------------------------------------------------------------------

// x * one + y on the multiply pipe. `one` must come from outside the kernel: a constant is folded back into an add.
DEVICE u32 multiply_add(u32 x, u32 one, u32 y) {
    u32 sum;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(one), "r"(y));
    return sum;
}
