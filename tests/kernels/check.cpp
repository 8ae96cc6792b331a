// Runs the kernels of a libkernels_*.so and compares every value with a BLAKE3 written here, from the specification.
//
// Memory is handed out byte by byte: a kernel may read the 16-byte cells that hold bytes of its chunks, `gather` exactly
// the bytes of its pieces, and write where its results belong. Whatever else it touches ends the launch with 700.
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

using u8 = unsigned char;
using u32 = uint32_t;
using u64 = uint64_t;
using Bytes = std::vector<u8>;

// ---- BLAKE3, as its specification says it ----------------------------------------------------------------------------

struct Value {
    u32 words[8];
    bool operator==(const Value &other) const { return !std::memcmp(words, other.words, 32); }
};
enum { CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8 };
constexpr Value IV = {{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19}};

Value compress(const Value &h, const u8 block[64], u64 counter, u32 length, u32 flags) {
    static const u8 schedule[7][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
        {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
        {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
        {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13}};
    static const u8 order[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
                                   {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}};
    u32 m[16], v[16];
    std::memcpy(m, block, 64);
    std::memcpy(v, h.words, 32);
    std::memcpy(v + 8, IV.words, 16);
    v[12] = static_cast<u32>(counter), v[13] = static_cast<u32>(counter >> 32), v[14] = length, v[15] = flags;
    auto turn = [](u32 x, int n) { return x >> n | x << (32 - n); };
    for (auto &round : schedule)
        for (int i = 0; i < 8; i++) {
            u32 &a = v[order[i][0]], &b = v[order[i][1]], &c = v[order[i][2]], &d = v[order[i][3]];
            a += b + m[round[2 * i]], d = turn(d ^ a, 16), c += d, b = turn(b ^ c, 12);
            a += b + m[round[2 * i + 1]], d = turn(d ^ a, 8), c += d, b = turn(b ^ c, 7);
        }
    Value out;
    for (int i = 0; i < 8; i++) out.words[i] = v[i] ^ v[i + 8];
    return out;
}
Value chunk_value(const u8 *bytes, size_t length, u64 counter, u32 root = 0) {
    Value h = IV;
    size_t at = 0;
    do {
        const size_t take = std::min<size_t>(64, length - at);
        u8 block[64] = {};
        if (take) std::memcpy(block, bytes + at, take);
        const bool first = at == 0, last = at + take == length;
        h = compress(h, block, counter, static_cast<u32>(take), (first ? CHUNK_START : 0) | (last ? CHUNK_END | root : 0));
        at += take;
    } while (at < length);
    return h;
}
Value parent_value(const Value &left, const Value &right, u32 root = 0) {
    u8 block[64];
    std::memcpy(block, left.words, 32), std::memcpy(block + 32, right.words, 32);
    return compress(IV, block, 0, 64, PARENT | root);
}
Value tree_value(const u8 *bytes, size_t length, u64 counter, u32 root = 0) {
    if (length <= 1024) return chunk_value(bytes, length, counter, root);
    size_t left = 1024;
    while (left * 2 < length) left *= 2;
    return parent_value(tree_value(bytes, left, counter), tree_value(bytes + left, length - left, counter + left / 1024), root);
}

// ---- the library, its memory, and chance -----------------------------------------------------------------------------

int (*host_launch)(const char *, unsigned, unsigned, unsigned, void **);

struct Range {
    u64 end;
    bool write;
};
std::map<u64, Range> ranges;  // by start; none overlap
int may_touch(u64 address, u64 bytes, int write) {
    auto after = ranges.upper_bound(address);
    if (after == ranges.begin()) return 0;
    const Range &range = std::prev(after)->second;
    return address + bytes <= range.end && (!write || range.write);
}
void allow(const void *from, u64 bytes, bool write = false) {
    const u64 start = reinterpret_cast<uintptr_t>(from);
    if (bytes) ranges[start] = {std::max(start + bytes, ranges.count(start) ? ranges[start].end : 0), write};
}

u64 state;
u64 chance() { return state ^= state << 13, state ^= state >> 7, state ^= state << 17; }
u64 below(u64 n) { return chance() % n; }

// Memory aligned to 256 bytes, as cuMemAlloc gives it.
struct Memory {
    std::unique_ptr<u8, void (*)(void *)> bytes{nullptr, std::free};
    u64 size = 0;
    explicit Memory(u64 size) : bytes(static_cast<u8 *>(std::aligned_alloc(256, (size + 511) / 256 * 256)), std::free), size(size) {}
    u64 address(u64 at = 0) const { return reinterpret_cast<uintptr_t>(bytes.get()) + at; }
};
Memory noise(u64 size) {
    Memory memory(size);
    for (u64 i = 0; i < (size + 7) / 8 * 8; i += 8) {
        const u64 word = chance();
        std::memcpy(memory.bytes.get() + i, &word, 8);
    }
    return memory;
}

struct alignas(16) Run { u64 base, counter; u32 first, skip, magic, seg0_shift; };
struct alignas(16) Group { u32 run, runs_levels, out, used, starts[4]; };
struct alignas(16) Piece { u64 src; u32 dst, len, row, skip, col0, pad; };

template <typename T> Memory to_device(const std::vector<T> &items) {
    Memory memory(std::max<u64>(1, items.size() * sizeof(T)));
    if (!items.empty()) std::memcpy(memory.bytes.get(), items.data(), items.size() * sizeof(T));
    allow(memory.bytes.get(), items.size() * sizeof(T));
    return memory;
}

long cases, values, wrong;
void expect(bool right, const std::string &what) {
    if (right) return;
    if (++wrong <= 10) std::fprintf(stderr, "wrong: %s\n", what.c_str());
}

// ---- chunk_values and merge_values ---------------------------------------------------------------------------------

// A line of slots under construction: subtrees of falling size, each put together from stretches of memory.
struct Line {
    std::vector<Memory> memory;
    std::vector<Run> runs;
    std::vector<u32> tree_of_slot, levels;  // by slot: the subtree that starts here, or NONE; by subtree
    std::vector<Bytes> text;                // by subtree
    std::vector<u64> counters;
    static constexpr u32 NONE = ~0u;

    u32 slots() const { return static_cast<u32>(tree_of_slot.size()); }
    void tree(u32 level, u64 counter) {
        tree_of_slot.push_back(static_cast<u32>(levels.size()));
        for (u32 i = 1; i < 1u << level; i++) tree_of_slot.push_back(NONE);
        levels.push_back(level), text.emplace_back(), counters.push_back(counter);
    }
    // Fills `chunks` slots from `slot` on with the chunk of bytes that `byte` finds, and lets their cells be read.
    template <typename F> void fill(u32 slot, u32 chunks, F byte) {
        for (u32 i = slot; i < slot + chunks; i++) {
            u32 start = i;
            while (tree_of_slot[start] == NONE) start--;
            Bytes &to = text[tree_of_slot[start]];
            to.resize(1024ull << levels[tree_of_slot[start]]);
            for (u32 b = 0; b < 1024; b++) to[(i - start) * 1024 + b] = *reinterpret_cast<u8 *>(byte((i - slot) * 1024 + b));
        }
    }
    static void allow_cells(u64 from, u64 end) {
        from &= ~15ull, end = (end + 15) & ~15ull;
        allow(reinterpret_cast<void *>(from), end - from);
    }
    void plain(u32 slot, u32 chunks, u64 counter, u32 misaligned) {
        memory.push_back(noise(32 + chunks * 1024ull));
        const u64 base = memory.back().address(misaligned);
        fill(slot, chunks, [&](u64 b) { return base + b; });
        allow_cells(base, base + chunks * 1024ull);
        runs.push_back({base, counter, slot, 0, 0, 32});
    }
    // Rows of `segments` segments of 128 bytes, `skip` bytes apart; the first slot begins in segment `first` of row 0.
    void rows(u32 slot, u32 chunks, u64 counter, u32 misaligned, u32 segments, u32 skip, u32 first) {
        const u64 row = segments * 128ull, pitch = row + skip, count = (first + chunks * 8ull + segments - 1) / segments;
        memory.push_back(noise(32 + count * pitch));
        const u64 base = memory.back().address(misaligned);
        auto at = [&](u64 b) { return base + (first * 128 + b) / row * pitch + (first * 128 + b) % row; };
        fill(slot, chunks, at);
        u64 begin = at(0);
        for (u64 b = 128; b <= chunks * 1024ull; b += 128)
            if (b == chunks * 1024ull || at(b) != at(b - 128) + 128) allow_cells(begin, at(b - 128) + 128), begin = b < chunks * 1024ull ? at(b) : 0;
        u32 shift = 31;
        while (segments >> (shift - 31) > 1) shift++;
        const u64 magic = ((1ull << shift) + segments - 1) / segments;
        runs.push_back({base, counter, slot, skip, static_cast<u32>(magic), first << 8 | shift});
    }
};

// A row's last cell may be the next row's first: neighbouring ranges become one, overlapping ones too.
void join_ranges() {
    std::map<u64, Range> joined;
    for (auto &[start, range] : ranges) {
        if (!joined.empty() && std::prev(joined.end())->second.end >= start && std::prev(joined.end())->second.write == range.write)
            std::prev(joined.end())->second.end = std::max(std::prev(joined.end())->second.end, range.end);
        else joined[start] = range;
    }
    ranges = std::move(joined);
}

void launch(const char *kernel, u32 blocks, u32 threads, u32 shared, std::vector<void *> arguments, const std::string &what) {
    join_ranges();
    const int error = host_launch(kernel, blocks, threads, shared, arguments.data());
    expect(error == 0, what + ": error " + std::to_string(error));
}

// Groups of a line whose slots are found in runs (chunk_values) or are themselves the input (merge_values).
std::vector<Group> group(const Line &line, u32 first_out, bool of_runs) {
    std::vector<Group> groups;
    u32 out = first_out;
    for (u32 slot0 = 0; slot0 < line.slots(); slot0 += 128) {
        Group g = {};
        g.used = std::min(128u, line.slots() - slot0), g.out = out, g.run = slot0;
        u32 levels = 0, runs = 0;
        for (u32 i = 0; i < g.used; i++) {
            const u32 tree = line.tree_of_slot[slot0 + i];
            if (tree != Line::NONE) g.starts[i / 32] |= 1u << i % 32, levels = std::max(levels, line.levels[tree]), out++;
        }
        if (of_runs) {
            u32 last = 0;
            for (u32 r = 0; r < line.runs.size(); r++) {
                if (line.runs[r].first <= slot0) g.run = r;
                if (line.runs[r].first < slot0 + g.used) last = r;
            }
            runs = last - g.run + 1;
        }
        g.runs_levels = runs | levels << 24;
        groups.push_back(g);
    }
    return groups;
}

void compare(const Line &line, u32 first_out, const Memory &out, const std::vector<Value> &expected, const std::string &what) {
    for (u32 i = 0; i < expected.size(); i++, values++)
        expect(!std::memcmp(out.bytes.get() + (first_out + i) * 32ull, &expected[i], 32), what + ": value " + std::to_string(i) + " of " +
               std::to_string(expected.size()) + ", level " + std::to_string(line.levels[i]));
}

void run_chunks(Line &line, const std::string &what) {
    cases++;
    std::stable_sort(line.runs.begin(), line.runs.end(), [](const Run &a, const Run &b) { return a.first < b.first; });
    const u32 first_out = static_cast<u32>(below(5)), trees = static_cast<u32>(line.levels.size());
    const Memory groups = to_device(group(line, first_out, true)), runs = to_device(line.runs);
    Memory out = noise((first_out + trees) * 32ull);
    allow(out.bytes.get() + first_out * 32, trees * 32ull, true);
    u64 g = groups.address(), r = runs.address(), o = out.address();
    u32 one = 1;
    launch("chunk_values", (line.slots() + 127) / 128, 128, 41984, {&g, &r, &o, &one}, what);
    std::vector<Value> expected;
    for (u32 i = 0; i < trees; i++) expected.push_back(tree_value(line.text[i].data(), line.text[i].size(), line.counters[i]));
    compare(line, first_out, out, expected, what);
    ranges.clear();
}

void run_merge(Line &line, const std::string &what) {
    cases++;
    const u32 first_in = static_cast<u32>(below(5)), first_out = static_cast<u32>(below(5)), trees = static_cast<u32>(line.levels.size());
    std::vector<Group> list = group(line, first_out, false);
    for (Group &g : list) g.run += first_in;
    const Memory groups = to_device(list), in = noise((first_in + line.slots()) * 32ull);
    allow(in.bytes.get() + first_in * 32, line.slots() * 32ull);
    Memory out = noise((first_out + trees) * 32ull);
    allow(out.bytes.get() + first_out * 32, trees * 32ull, true);
    u64 g = groups.address(), i = in.address(), o = out.address();
    u32 one = 1;
    launch("merge_values", static_cast<u32>(list.size()), 128, 4096, {&g, &i, &o, &one}, what);
    std::vector<Value> expected;
    for (u32 slot = 0; slot < line.slots(); slot++) {
        const u32 tree = line.tree_of_slot[slot];
        if (tree == Line::NONE) continue;
        std::vector<Value> level(1u << line.levels[tree]);
        std::memcpy(level.data(), in.bytes.get() + (first_in + slot) * 32ull, level.size() * 32);
        for (; level.size() > 1; level.resize(level.size() / 2))
            for (size_t k = 0; k < level.size() / 2; k++) level[k] = parent_value(level[2 * k], level[2 * k + 1]);
        expected.push_back(level[0]);
    }
    compare(line, first_out, out, expected, what);
    ranges.clear();
}

// Subtrees of falling size, `slots` in all.
Line some_trees(u32 slots, u32 most) {
    Line line;
    std::vector<u32> levels;
    for (u32 left = slots; left;) {
        u32 level = static_cast<u32>(below(most + 1));
        while (1u << level > left) level--;
        levels.push_back(level), left -= 1u << level;
    }
    std::sort(levels.rbegin(), levels.rend());
    u64 counter = 0;
    for (u32 level : levels) {
        const u64 bases[] = {counter, 0, 1ull << 20, (1ull << 32) - (1ull << level), 1ull << 32, (1ull << 40) + 128 * below(99), (1ull << 54) - (1ull << level)};
        // Mostly on from the one before, so that one run can serve several.
        counter = bases[below(3) ? 0 : below(7)];
        counter = (counter + (1ull << level) - 1) >> level << level;
        line.tree(level, counter);
        counter += 1ull << level;
    }
    return line;
}

u32 some_alignment() {
    const u32 kind = static_cast<u32>(below(4));
    return kind == 0 ? 0 : kind == 1 ? 4 * static_cast<u32>(below(4)) : static_cast<u32>(below(16));
}

void random_chunks(u32 nth) {
    Line line = some_trees(1 + static_cast<u32>(below(nth % 4 == 0 ? 420 : 140)), static_cast<u32>(below(8)));
    for (u32 slot = 0; slot < line.slots();) {
        u32 start = slot;
        while (line.tree_of_slot[start] == Line::NONE) start--;
        const u32 tree = line.tree_of_slot[start];
        const u64 counter = line.counters[tree] + (slot - start);
        u32 most = (1u << line.levels[tree]) - (slot - start);  // as far as the counters run on
        for (u32 t = tree; t + 1 < line.levels.size() && line.counters[t + 1] == line.counters[t] + (1ull << line.levels[t]); t++) most += 1u << line.levels[t + 1];
        const u32 chunks = below(3) ? most : 1 + static_cast<u32>(below(most));
        if (below(2)) line.plain(slot, chunks, counter, some_alignment());
        else {
            const u32 segments = 1 + static_cast<u32>(below(below(2) ? 20 : 300));
            line.rows(slot, chunks, counter, some_alignment(), segments, 16 * static_cast<u32>(below(20)), static_cast<u32>(below(segments)));
        }
        slot += chunks;
    }
    run_chunks(line, "random chunks " + std::to_string(nth));
}

void directed_chunks() {
    for (u32 misaligned = 0; misaligned < 16; misaligned++) {  // whole blocks, all alignments, across 2^32
        Line line;
        line.tree(7, (1ull << 32) - 128), line.tree(7, 1ull << 32);
        line.plain(0, 256, (1ull << 32) - 128, misaligned);
        run_chunks(line, "two blocks, alignment " + std::to_string(misaligned));
    }
    for (u32 used = 1; used <= 128; used += used < 40 ? 1 : 11) {  // tails
        Line line;
        for (u32 bit = 128, at = 0; bit; bit /= 2)
            if (used & bit) line.tree(static_cast<u32>(__builtin_ctz(bit)), at), at += bit;
        line.plain(0, used, 0, used % 3 ? used % 16 : 0);
        run_chunks(line, "a tail of " + std::to_string(used));
    }
    for (u32 misaligned : {0, 8, 5}) {  // rows that end inside the last lane's chunk alone: the first segments look flat
        Line line;
        line.tree(5, 0);
        line.rows(0, 32, 0, misaligned, 252, 48, 0);
        run_chunks(line, "a row of 31.5 chunks, alignment " + std::to_string(misaligned));
    }
    {  // half a warp 4 GiB behind the other: addresses that follow each other in their low 32 bits
        const u64 far = 1ull << 32, size = far + 64 * 1024;
        void *pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (pages == MAP_FAILED) std::perror("mmap of 4 GiB"), std::exit(1);
        const u64 base = reinterpret_cast<uintptr_t>(pages);
        Line line;
        line.tree(5, 0);
        for (u32 half = 0; half < 2; half++) {
            const u64 from = base + half * (far + 16 * 1024);
            for (u32 i = 0; i < 16 * 1024; i++) *reinterpret_cast<u8 *>(from + i) = static_cast<u8>(chance());
            line.fill(half * 16, 16, [&](u64 b) { return from + b; });
            Line::allow_cells(from, from + 16 * 1024);
            line.runs.push_back({from, half * 16ull, half * 16, 0, 0, 32});
        }
        Line::allow_cells(base + 16 * 1024, base + 32 * 1024);  // what a warp that takes the two for one would read
        run_chunks(line, "4 GiB apart");
        munmap(pages, size);
    }
    for (u32 odd = 0; odd < 32; odd++) {  // one misaligned lane among aligned ones, and the other way round
        Line line;
        line.tree(5, 64);
        for (u32 slot = 0; slot < 32; slot++) line.plain(slot, 1, 64 + slot, slot == odd ? 1 + odd % 15 : odd % 2 * 4);
        run_chunks(line, "lane " + std::to_string(odd) + " has an alignment of its own");
    }
}

// ---- gather --------------------------------------------------------------------------------------------------------

void random_gather(u32 nth) {
    cases++;
    std::vector<Memory> memory;
    std::vector<Piece> pieces;
    Bytes expected;
    for (u64 i = below(12); i; i--) {
        expected.resize(expected.size() + (below(2) ? 0 : below(40)), 0);  // a gap
        const u32 lengths[] = {static_cast<u32>(below(3)), static_cast<u32>(below(40)), static_cast<u32>(below(3000))};
        Piece piece = {};
        piece.dst = static_cast<u32>(expected.size()), piece.len = lengths[below(3)];
        memory.push_back(noise(70000));
        piece.src = memory.back().address(below(64));
        u64 from = piece.src;
        if (below(2)) {
            piece.row = 1 + static_cast<u32>(below(below(2) ? 60 : 900)), piece.skip = static_cast<u32>(below(20)), piece.col0 = static_cast<u32>(below(piece.row));
            while (u64(piece.len) / piece.row * piece.skip > 60000) piece.len /= 2;
        }
        for (u32 b = 0, column = piece.col0; b < piece.len; b++) {
            expected.push_back(*reinterpret_cast<u8 *>(from));
            allow(reinterpret_cast<void *>(from), 1);
            from++, column++;
            if (piece.row && column == piece.row) column = 0, from += piece.skip;
        }
        pieces.push_back(piece);
    }
    expected.resize(expected.size() + below(50), 0);
    const u32 cells = static_cast<u32>(expected.size() / 16 + 1), count = static_cast<u32>(pieces.size());
    expected.resize(cells * 16, 0);
    const Memory list = to_device(pieces);
    Memory scratch = noise(cells * 16ull);
    allow(scratch.bytes.get(), cells * 16ull, true);
    u64 p = list.address(), s = scratch.address();
    launch("gather", (cells + 255) / 256, 256, 0, {&p, const_cast<u32 *>(&count), const_cast<u32 *>(&cells), &s}, "gather " + std::to_string(nth));
    values += cells;
    const auto differs = std::mismatch(expected.begin(), expected.end(), scratch.bytes.get());
    expect(differs.first == expected.end(), "gather " + std::to_string(nth) + ": byte " + std::to_string(differs.first - expected.begin()));
    ranges.clear();
}

// ---- all of it -------------------------------------------------------------------------------------------------------

// The BLAKE3 above against digests that the reference implementation printed, of bytes i % 251.
void check_reference() {
    const std::pair<size_t, const char *> known[] = {
        {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
        {64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98"},
        {1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"},
        {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
        {5121, "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff"},
        {102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"}};
    for (auto &[length, hex] : known) {
        Bytes bytes(length);
        for (size_t i = 0; i < length; i++) bytes[i] = static_cast<u8>(i % 251);
        const Value root = tree_value(bytes.data(), length, 0, ROOT);
        std::string found;
        for (int i = 0; i < 32; i++) {
            char digits[3];
            std::snprintf(digits, 3, "%02x", root.words[i / 4] >> (i % 4 * 8) & 255);
            found += digits;
        }
        expect(found == hex, "the reference itself, length " + std::to_string(length));
    }
}

// What must be refused is refused, with the right number.
void check_refusals() {
    Line line;
    line.tree(0, 0);
    line.plain(0, 1, 0, 0);
    const Memory groups = to_device(group(line, 0, true)), runs = to_device(line.runs);
    Memory out(32);
    u64 g = groups.address(), r = runs.address(), o = out.address(), odd = o + 4;
    u32 one = 1;
    auto error = [&](const char *kernel, u32 threads, u32 shared, u64 *to) {
        void *arguments[] = {&g, &r, to, &one};
        return host_launch(kernel, 1, threads, shared, arguments);
    };
    expect(error("chunk_values", 128, 41984, &o) == 700, "an output that is not there");
    allow(out.bytes.get(), 32, true);
    expect(error("chunk_values", 128, 41984, &odd) == 716, "a misaligned output");
    expect(error("chunk_values", 128, 41472, &o) == 700, "too little shared memory");
    expect(error("chunk_values", 129, 41984, &o) == 1, "too many threads");
    expect(error("no_such_kernel", 128, 41984, &o) == 500, "no such kernel");
    expect(error("chunk_values", 128, 41984, &o) == 0, "and then all is well again");
    ranges.clear();
}

int main(int count, char **arguments) {
    if (count < 2 || count > 4) {
        std::fprintf(stderr, "usage: check LIBRARY [ROUNDS] [SEED]\n");
        return 2;
    }
    void *library = dlopen(arguments[1], RTLD_NOW);
    if (library) host_launch = reinterpret_cast<decltype(host_launch)>(dlsym(library, "host_launch"));
    if (!host_launch) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const u32 rounds = count > 2 ? static_cast<u32>(std::atoi(arguments[2])) : 150;
    state = 88172645463325252ull + (count > 3 ? std::strtoull(arguments[3], nullptr, 10) : 1) * 2654435761ull;
    auto *touch = &may_touch;
    void *callback[] = {&touch};
    host_launch("check_access", 0, 0, 0, callback);

    check_reference();
    check_refusals();
    directed_chunks();
    for (u32 i = 0; i < rounds; i++) random_chunks(i);
    for (u32 i = 0; i < rounds; i++) {
        Line line = some_trees(1 + static_cast<u32>(below(i % 4 == 0 ? 420 : 128)), static_cast<u32>(below(8)));
        run_merge(line, "merge " + std::to_string(i));
    }
    for (u32 i = 0; i < rounds; i++) random_gather(i);
    const char *order = std::getenv("HOST_LAUNCH_ORDER");
    std::printf("%s, %s order: %ld launches, %ld values, %ld wrong\n", arguments[1], order ? order : "usual", cases, values, wrong);
    return wrong ? 1 : 0;
}
