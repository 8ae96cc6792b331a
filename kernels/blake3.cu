// BLAKE3 of byte strings that lie scattered over device memory.
//
//   chunk_values   chunks of 1,024 bytes, where they lie  ->  chaining values, already merged a few levels up
//   merge_values   chaining values                        ->  chaining values of larger subtrees
//   gather         bytes that cannot be read in place     ->  scratch memory, where chunk_values can read them
//
// What the kernels are given is decided by the host, which knows where every extent of a string lies:
//
// - A launch sees a line of SLOTS, one full chunk each, 128 of them a block. A `Run` maps consecutive slots to memory; a
//   `Group` is the work of one block. Chunks that straddle extents, or whose surrounding 16-byte cells may not be read,
//   are gathered first and are then a run over scratch. So no kernel has an edge case: every chunk is whole, every
//   16-byte cell that holds a byte of it may be read.
// - The values are those of complete, aligned subtrees of 2^k chunks. Subtrees lie in the line by falling size, so each
//   one is also aligned in its block, and one bit a slot ("a subtree starts here") says all about the tree's shape.
// - Short chunks and the root are the host's: the flag ROOT does not occur here.
//
// Compile-time choices (kernels/build makes one image for each ADD; the other two are for kernels/count alone):
#ifndef ADD        // which pipe adds: 0 as the compiler likes, 7 half of the three-input adds, 2 all adds as multiply-adds
#define ADD 0
#endif
#ifndef ONLY_READER  // 0, 1, 2: compile in one of READ_CELLS, _WORDS, _BYTES, so that static counts are those of one path
#define ONLY_READER 3
#endif
#ifndef ONLY_SOURCE  // 1: every warp's source is flat, 2: none is
#define ONLY_SOURCE 0
#endif

#ifdef __CUDACC__
#include "device.cuh"
#else
#include "host.h"  // tests/kernels
#endif

// ---- what the host writes: little-endian, 16-byte aligned, 32 bytes each (src/device/cuda has the same in Rust) ---------

// Consecutive slots in memory. Plain memory, or rows of `row` bytes at a pitch, `row` a multiple of SEGMENT; then a
// chunk's segments are found by one multiplication: row number = (segments since row 0 began * magic) >> shift.
struct alignas(16) Run {
    u64 base;        // address of row 0, column 0
    u64 counter;     // the BLAKE3 counter of the first slot
    u32 first;       // the first slot, counted over the whole launch
    u32 skip;        // pitch - row, a multiple of 16; 0: plain
    u32 magic;       // ceil(2^shift / segments a row), exact below 2^30 segments; 0: plain
    u32 seg0_shift;  // the first slot's first segment, counted from column 0 of row 0, << 8 | shift; plain: 32
};

// The work of one block.
struct alignas(16) Group {
    u32 run;          // chunk_values: the first run; merge_values: the first input value
    u32 runs_levels;  // number of runs (merge_values: not used) | levels to merge (at most 7) << 24
    u32 out;          // index of the first output value
    u32 used;         // slots, 1 to 128
    u32 starts[4];    // bit s: a subtree starts at slot s
};

// A part of scratch and where its bytes come from. Sorted by `dst`; what no piece covers becomes zero.
struct alignas(16) Piece {
    u64 src;   // address of the first byte
    u32 dst;   // its place in scratch
    u32 len;
    u32 row;   // bytes a row; 0: plain
    u32 skip;  // pitch - row
    u32 col0;  // column of the first byte in its row
    u32 pad;
};

static_assert(sizeof(Run) == 32 && sizeof(Group) == 32 && sizeof(Piece) == 32, "the host writes 32 bytes each");

// ---- the compression function ----------------------------------------------------------------------------------------

enum : u32 { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4 };

// BLAKE3 is bound by the pipe of integer adds and logic; multiplications run on another one, half idle. `one` is 1.
DEVICE u32 add(u32 x, u32 y, u32 one) {
#if ADD == 2
    return multiply_add(y, one, x);
#else
    return x + y;
#endif
}
DEVICE u32 add(u32 x, u32 y, u32 m, u32 one) {
#if ADD == 2
    return multiply_add(y, one, multiply_add(m, one, x));
#elif ADD == 7
    return multiply_add(y, one, x + m);
#else
    return x + y + m;
#endif
}
DEVICE u32 rotate(u32 x, u32 right) { return x >> right | x << (32 - right); }

DEVICE void mix(u32 &a, u32 &b, u32 &c, u32 &d, u32 x, u32 y, u32 one) {
    a = add(a, b, x, one);
    d = rotate(d ^ a, 16);
    c = add(c, d, one);
    b = rotate(b ^ c, 12);
    a = add(a, b, y, one);
    d = rotate(d ^ a, 8);
    c = add(c, d, one);
    b = rotate(b ^ c, 7);
}

DEVICE void start_value(u32 h[8]) {
    h[0] = 0x6A09E667, h[1] = 0xBB67AE85, h[2] = 0x3C6EF372, h[3] = 0xA54FF53A;
    h[4] = 0x510E527F, h[5] = 0x9B05688C, h[6] = 0x1F83D9AB, h[7] = 0x5BE0CD19;
}

// Takes the 64-byte block `m` into `h`. All loops unroll: `v` and `m` are registers, the permutation is a renaming.
DEVICE void compress(u32 h[8], u32 m[16], u64 counter, u32 flags, u32 one) {
    u32 v[16];
    start_value(v + 8);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = h[i];
    v[12] = static_cast<u32>(counter), v[13] = static_cast<u32>(counter >> 32), v[14] = 64, v[15] = flags;
#pragma unroll
    for (int round = 0; round < 7; round++) {
        mix(v[0], v[4], v[8], v[12], m[0], m[1], one);
        mix(v[1], v[5], v[9], v[13], m[2], m[3], one);
        mix(v[2], v[6], v[10], v[14], m[4], m[5], one);
        mix(v[3], v[7], v[11], v[15], m[6], m[7], one);
        mix(v[0], v[5], v[10], v[15], m[8], m[9], one);
        mix(v[1], v[6], v[11], v[12], m[10], m[11], one);
        mix(v[2], v[7], v[8], v[13], m[12], m[13], one);
        mix(v[3], v[4], v[9], v[14], m[14], m[15], one);
        const u32 p[16] = {m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8]};
#pragma unroll
        for (int i = 0; i < 16; i++) m[i] = p[i];
    }
#pragma unroll
    for (int i = 0; i < 8; i++) h[i] = v[i] ^ v[i + 8];
}

// ---- the tree inside a block -------------------------------------------------------------------------------------------

constexpr u32 SLOTS = 128;  // slots of a block, and its threads
constexpr u32 LANES = 32;

// Word `w` of slot `s` lies at values + (w * SLOTS + s) * 4: neighbouring lanes touch neighbouring banks.
DEVICE void put_value(u32 values, u32 slot, const u32 h[8]) {
#pragma unroll
    for (u32 w = 0; w < 8; w++) store_shared(values + (w * SLOTS + slot) * 4, h[w]);
}
DEVICE void get_value(u32 values, u32 slot, u32 h[8]) {
#pragma unroll
    for (u32 w = 0; w < 8; w++) h[w] = load_shared(values + (w * SLOTS + slot) * 4);
}

// Merges the block's values in place and writes one value a subtree, in order. Every thread of the block must come here;
// each has put the value of its slot, if its slot is used.
//
// A parent takes the slot of its left child. So nobody writes what another thread of the level reads, and a subtree that
// is finished stays in its first slot while the levels above go on.
DEVICE void merge_and_store(u32 values, const Group *group, uint4 head, u32 *out, u32 one) {
    const u32 thread = threadIdx.x, levels = head.y >> 24, used = head.w;
    u32 h[8], m[16];
    __syncthreads();
#pragma unroll 1
    for (u32 level = 0; level < levels; level++) {
        const u32 left = thread << (level + 1), right = left + (1u << level);
        // The test of `used` comes first: beyond it the shift count and the slot mean nothing.
        if (right < used && !(load(&group->starts[right >> 5]) >> (right & 31) & 1)) {
            get_value(values, left, m);
            get_value(values, right, m + 8);
            start_value(h);
            compress(h, m, 0, PARENT, one);
            put_value(values, left, h);
        }
        __syncthreads();
    }
    if (thread >= used) return;
    u32 word = thread >> 5;
    const u32 starts = load(&group->starts[word]), bit = 1u << (thread & 31);
    if (!(starts & bit)) return;
    u32 rank = __popc(starts & (bit - 1));  // subtrees before this one
#pragma unroll 1
    while (word-- > 0) rank += __popc(load(&group->starts[word]));
    get_value(values, thread, h);
    uint4 *to = reinterpret_cast<uint4 *>(out) + (static_cast<u64>(head.z) + rank) * 2;
    store(to, make_uint4(h[0], h[1], h[2], h[3]));
    store(to + 1, make_uint4(h[4], h[5], h[6], h[7]));
}

// `in` is read as what no thread writes: it must not overlap `out`.
extern "C" __global__ void __launch_bounds__(SLOTS) merge_values(const Group *groups, const u32 *in, u32 *out, u32 one) {
    const Group *group = groups + blockIdx.x;
    const uint4 head = load(reinterpret_cast<const uint4 *>(group));
    const u32 values = shared_memory(), slot = threadIdx.x;
    if (slot < head.w) {
        const uint4 *from = reinterpret_cast<const uint4 *>(in) + (static_cast<u64>(head.x) + slot) * 2;
        const uint4 a = load(from), b = load(from + 1);
        const u32 h[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        put_value(values, slot, h);
    }
    merge_and_store(values, group, head, out, one);
}

// ---- chunks --------------------------------------------------------------------------------------------------------------

// One thread hashes one chunk. Reading it directly would touch 32 distant cache lines with every load of a warp, so a warp
// copies its 32 chunks through shared memory, a SEGMENT of each at a time, eight lanes to a segment: whole 128-byte lines.
// One segment is hashed while the next is on its way.
constexpr u32 CHUNK = 1024, SEGMENT = 128, SEGMENTS = CHUNK / SEGMENT, BLOCK = 64, CELL = 16;

// A staged segment has a row of its own. The 16 bytes more hold the last cell of a segment that does not start at a cell,
// and turn the rows against the banks: a quarter warp's 16-byte loads of eight rows meet no bank twice.
constexpr u32 ROW = SEGMENT + CELL, STAGE = LANES * ROW;

// Shared memory of a block: an address table a warp, two stages a warp, the values.
constexpr u32 WARPS = SLOTS / LANES, TABLE = LANES * 8;
constexpr u32 STAGES_AT = WARPS * TABLE, VALUES_AT = STAGES_AT + WARPS * 2 * STAGE;
static_assert(VALUES_AT + SLOTS * 32 == 41984, "the host asks for so much");

constexpr u32 LANES_A_ROW = SEGMENT / CELL, ROWS_A_COPY = LANES / LANES_A_ROW, COPIES = LANES / ROWS_A_COPY;

// How a staged row is read: by 16 bytes, by aligned words, or by words that are then shifted together.
enum : u32 { READ_CELLS = 0, READ_WORDS = 1, READ_BYTES = 2 };

// Where one lane's chunk lies.
struct Source {
    u64 base, counter;
    u32 skip, magic, shift;
    u32 segment;  // its first segment, counted from row 0, column 0
};

// The source of `slot`: a search among the runs of this block alone, no step at all if there is but one.
DEVICE Source find_source(const Run *runs, u32 count, u32 slot) {
#pragma unroll 1
    while (count > 1) {
        const u32 half = count / 2;
        const bool above = load(&runs[half].first) <= slot;
        runs = above ? runs + half : runs;
        count = above ? count - half : half;
    }
    const uint4 *words = reinterpret_cast<const uint4 *>(runs);
    const uint4 a = load(words), b = load(words + 1);
    const u32 nth = slot - b.x;
    Source s;
    s.base = static_cast<u64>(a.y) << 32 | a.x;
    s.counter = (static_cast<u64>(a.w) << 32 | a.z) + nth;
    s.skip = b.y, s.magic = b.z, s.shift = b.w & 255;
    s.segment = (b.w >> 8) + nth * SEGMENTS;
    return s;
}

// The address of its segment `n`. Plain memory has magic 0: row 0, and no branch.
DEVICE u64 segment_address(const Source &s, u32 n) {
    const u32 segment = s.segment + n, row = static_cast<u32>(static_cast<u64>(segment) * s.magic >> s.shift);
    return s.base + static_cast<u64>(row) * s.skip + static_cast<u64>(segment) * SEGMENT;
}

// Do the warp's 32 chunks lie one behind the other in plain memory? Rows do not count as such even where the first
// segments of the chunks do: a row may end inside a chunk.
DEVICE u32 is_flat(const Source &s, u64 address, u32 lane) {
    if (ONLY_SOURCE != 0) return ONLY_SOURCE == 1;
    const u32 low = __shfl_sync(~0u, static_cast<u32>(address), 0), high = __shfl_sync(~0u, static_cast<u32>(address >> 32), 0);
    const u64 off = address - ((static_cast<u64>(high) << 32 | low) + lane * CHUNK);
    return __reduce_or_sync(~0u, static_cast<u32>(off) | static_cast<u32>(off >> 32) | s.magic) == 0;
}

// The reader that serves all lanes of the warp: the hot loop has no divergence.
DEVICE u32 choose_reader(u32 misaligned) {
    if (ONLY_READER < 3) return ONLY_READER;
    const u32 any = __reduce_or_sync(~0u, misaligned);
    return any == 0 ? READ_CELLS : any % 4 == 0 ? READ_WORDS : READ_BYTES;
}

// The 16 words of a block from a staged row, `at` the word of its first byte. Words instead of cells are four lanes to a
// bank, but shared memory is far from being the limit, and the words of a misaligned block then need no arithmetic.
DEVICE void read_block(u32 m[16], u32 at, u32 misaligned, u32 reader) {
    if (reader == READ_CELLS) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const uint4 v = load_shared_uint4(at + i * CELL);
            m[4 * i] = v.x, m[4 * i + 1] = v.y, m[4 * i + 2] = v.z, m[4 * i + 3] = v.w;
        }
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 16; i++) m[i] = load_shared(at + i * 4);
    if (reader == READ_WORDS) return;
    const u32 last = load_shared(at + BLOCK), bits = misaligned * 8;  // the shift takes its count modulo 32
#pragma unroll
    for (u32 i = 0; i < 16; i++) m[i] = __funnelshift_r(m[i], i < 15 ? m[i + 1] : last, bits);
}

extern "C" __global__ void __launch_bounds__(SLOTS) chunk_values(const Group *groups, const Run *runs, u32 *out, u32 one) {
    const u32 lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const Group *group = groups + blockIdx.x;
    const uint4 head = load(reinterpret_cast<const uint4 *>(group));
    const u32 used = head.w, values = shared_memory() + VALUES_AT;

    if (warp * LANES < used) {
        // A lane past the last slot does what the last slot's lane does: it reads nothing else, and its value is dropped.
        const u32 slot = min(threadIdx.x, used - 1);
        const Source source = find_source(runs + head.x, head.y & 0xFFFFFF, blockIdx.x * SLOTS + slot);
        const u32 misaligned = ONLY_READER == READ_CELLS ? 0 : static_cast<u32>(source.base) % CELL;
        const u32 reader = choose_reader(misaligned);
        const u64 mine = segment_address(source, 0);
        const u32 flat = is_flat(source, mine, lane);

        // As a copier this lane moves cell `cell` of the rows first_row, first_row + 4, ...; as a hasher it owns row `lane`.
        const u32 cell = lane % LANES_A_ROW * CELL, first_row = lane / LANES_A_ROW;
        const u32 table = shared_memory() + warp * TABLE;
        const u32 stages = shared_memory() + STAGES_AT + warp * 2 * STAGE;
        const u32 copy_to = stages + first_row * ROW + cell, own_row = stages + lane * ROW;
        // In a flat warp one address serves all rows: that of this lane's cell in its first row, of the next segment.
        const u64 to_own_row = static_cast<long long>(static_cast<int>((lane - first_row) * CHUNK - cell));
        u64 flat_from = (mine & ~15ull) - to_own_row;
        // A misaligned segment ends in one cell more, which its hasher copies. An aligned one in the same warp has none, and
        // what follows it may not be readable: its hasher copies its first cell to where nobody looks.
        const u32 one_more = misaligned ? SEGMENT : 0;
        const u64 flat_one_more = to_own_row + one_more;

        auto copy_segment = [&](u32 n) {
            const u32 stage = n % 2 * STAGE;
            if (flat) {
#pragma unroll
                for (u32 i = 0; i < COPIES; i++)
                    copy_async(copy_to + stage + i * ROWS_A_COPY * ROW, flat_from + i * ROWS_A_COPY * CHUNK);
                if (reader != READ_CELLS) copy_async(own_row + stage + SEGMENT, flat_from + flat_one_more);
                flat_from += SEGMENT;
            } else {
                const u64 from = segment_address(source, n) & ~15ull;
                __syncwarp();  // no lane still reads the table of the segment before
                store_shared_u64(table + lane * 8, from);
                __syncwarp();
                u64 rows[COPIES];
#pragma unroll
                for (u32 i = 0; i < COPIES; i++) rows[i] = load_shared_u64(table + (first_row + i * ROWS_A_COPY) * 8) + cell;
#pragma unroll
                for (u32 i = 0; i < COPIES; i++) copy_async(copy_to + stage + i * ROWS_A_COPY * ROW, rows[i]);
                if (reader != READ_CELLS) copy_async(own_row + stage + SEGMENT, from + one_more);
            }
        };

        u32 h[8], m[16], flags = CHUNK_START;
        start_value(h);
        copy_segment(0);
        copy_commit();
#pragma unroll 1
        for (u32 n = 0; n < SEGMENTS; n++) {
            if (n + 1 < SEGMENTS) copy_segment(n + 1);
            copy_commit();  // also if nothing was copied: then the wait below is for the last segment
            copy_wait_all_but_newest();
            __syncwarp();  // what the other lanes copied is here too
            u32 at = own_row + n % 2 * STAGE + (misaligned & ~3u);
#pragma unroll 1
            for (u32 left = SEGMENT / BLOCK; left > 0; left--, at += BLOCK) {
                read_block(m, at, misaligned, reader);
                if (n == SEGMENTS - 1 && left == 1) flags = CHUNK_END;
                compress(h, m, source.counter, flags, one);
                flags = 0;
            }
            __syncwarp();  // all rows are read; the copies of the next round may overwrite them
        }
        put_value(values, threadIdx.x, h);
    }
    merge_and_store(values, group, head, out, one);
}

// ---- gather --------------------------------------------------------------------------------------------------------------

// The rest of a piece, from byte `x` of scratch on.
struct Stretch {
    u64 from;          // address of the byte for x
    u32 left;          // bytes to the end of the piece; 0: x is in no piece
    u32 row, skip;
    u32 left_in_row;   // without rows the piece is one row
    u32 before;        // bytes of this row that are of the piece, too, and lie before x
};

DEVICE Stretch open_piece(const Piece *piece, u32 x) {
    const uint4 *words = reinterpret_cast<const uint4 *>(piece);
    const uint4 a = load(words), b = load(words + 1);
    Stretch s;
    s.row = b.x, s.skip = b.y;
    s.before = x - a.z;
    s.left = s.left_in_row = s.before < a.w ? a.w - s.before : 0;
    s.from = (static_cast<u64>(a.y) << 32 | a.x) + s.before;
    if (s.row) {
        const u32 y = s.before + b.z, rows = y / s.row, column = y - rows * s.row;
        s.from += static_cast<u64>(rows) * s.skip;
        s.before = min(s.before, column);
        s.left_in_row = s.row - column;
    }
    return s;
}

// A thread fills 16 bytes of scratch. Nearly all threads lie inside a row and read aligned words; the few at the ends of
// rows and pieces go byte by byte. No byte is read that is not of the piece.
extern "C" __global__ void __launch_bounds__(256) gather(const Piece *pieces, u32 count, u32 cells, uint4 *scratch) {
    const u32 nth = blockIdx.x * 256 + threadIdx.x;
    if (nth >= cells) return;
    u32 x = nth * CELL;
    u32 next = 0;  // becomes the first piece that begins behind x
#pragma unroll 1
    for (u32 end = count; next < end;) {
        const u32 middle = next + (end - next) / 2;
        if (load(&pieces[middle].dst) <= x) next = middle + 1;
        else end = middle;
    }
    Stretch s = {};
    if (next > 0) s = open_piece(pieces + (next - 1), x);

    const u32 off = static_cast<u32>(s.from) % 4, words = off ? CELL + 4 : CELL;
    if (s.before >= off && min(s.left, s.left_in_row) >= words - off) {
        const u64 at = s.from - off;
        const u32 a = load_at<u32>(at), b = load_at<u32>(at + 4), c = load_at<u32>(at + 8), d = load_at<u32>(at + 12);
        const u32 e = load_at<u32>(at + words - 4), bits = off * 8;  // d again if nothing is to be shifted
        store(scratch + nth, make_uint4(__funnelshift_r(a, b, bits), __funnelshift_r(b, c, bits),
                                        __funnelshift_r(c, d, bits), __funnelshift_r(d, e, bits)));
        return;
    }
    u64 low = 0, high = 0;  // the 16 bytes, shifted in from above
#pragma unroll 1
    for (u32 i = 0; i < CELL; i++, x++) {
#pragma unroll 1
        while (next < count && load(&pieces[next].dst) <= x) s = open_piece(pieces + next++, x);
        u64 byte = 0;
        if (s.left) {
            byte = load_at<unsigned char>(s.from++);
            s.left--, s.left_in_row--;
            if (s.row && s.left_in_row == 0) s.left_in_row = s.row, s.from += s.skip;
        }
        low = low >> 8 | high << 56;
        high = high >> 8 | byte << 56;
    }
    store(scratch + nth, make_uint4(static_cast<u32>(low), static_cast<u32>(low >> 32), static_cast<u32>(high), static_cast<u32>(high >> 32)));
}
