// BLAKE3 without its root: the values of whole chunks, of subtrees above them, and the bytes that must be gathered first.
//
// Every launch has its own `orders`, written by src/device/wgpu/launch.rs: a header, then records. No feature beyond
// WebGPU's core is used; in particular no subgroups and no 64-bit integers (the chunk counter is two u32).

// Header: records, threads (or blocks), workgroups in a row of the dispatch, and for `gather` the guard's first word.
@group(0) @binding(0) var<storage, read> orders: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> cells: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> words_in: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> words_out: array<u32>;
// Workgroups that have not run yet, over all launches of a batch.
@group(0) @binding(3) var<storage, read_write> receipt: array<atomic<u32>>;

// What `chunks` is compiled for: sources that begin at a multiple of 16 bytes, or anywhere; and rows.
override SHIFT: bool = false;
override ROWS: bool = false;

const THREADS = 64u;
const SLOTS = 128u;
const NONE = 0xffffffffu;

const CHUNK_START = 1u;
const CHUNK_END = 2u;
const PARENT = 4u;

const IV_LOW = vec4<u32>(0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au);
const IV_HIGH = vec4<u32>(0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u);

// A chaining value.
struct Value { low: vec4<u32>, high: vec4<u32> }

// A message block in the order in which a round takes it: the first and second words of its four columns, then of its
// four diagonals.
struct Block { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

// The four rows of the state.
struct State { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }

fn block(m0: vec4<u32>, m4: vec4<u32>, m8: vec4<u32>, m12: vec4<u32>) -> Block {
    return Block(
        vec4(m0.xz, m4.xz), vec4(m0.yw, m4.yw),
        vec4(m8.xz, m12.xz), vec4(m8.yw, m12.yw),
    );
}

// The block for the next round: words 2 6 3 10 7 0 4 13 1 11 12 5 9 14 15 8.
fn permuted(m: Block) -> Block {
    return Block(
        vec4(m.a.y, m.b.y, m.b.w, m.a.z), vec4(m.a.w, m.c.y, m.a.x, m.d.z),
        vec4(m.b.x, m.c.z, m.d.x, m.d.w), vec4(m.d.y, m.b.z, m.c.w, m.c.x),
    );
}

fn rotate(x: vec4<u32>, bits: u32) -> vec4<u32> {
    return (x >> vec4(bits)) | (x << vec4(32u - bits));
}

// Four mixings side by side.
fn mix(s: State, x: vec4<u32>, y: vec4<u32>) -> State {
    let a = s.a + s.b + x;
    let d = rotate(s.d ^ a, 16u);
    let c = s.c + d;
    let b = rotate(s.b ^ c, 12u);
    let a2 = a + b + y;
    let d2 = rotate(d ^ a2, 8u);
    let c2 = c + d2;
    return State(a2, rotate(b ^ c2, 7u), c2, d2);
}

fn round(s: State, m: Block) -> State {
    let t = mix(s, m.a, m.b);
    let u = mix(State(t.a, t.b.yzwx, t.c.zwxy, t.d.wxyz), m.c, m.d);
    return State(u.a, u.b.wxyz, u.c.zwxy, u.d.yzwx);
}

// All blocks that a device sees are full: 64 bytes.
fn compress(h: Value, m0: Block, counter: vec2<u32>, flags: u32) -> Value {
    var s = State(h.low, h.high, IV_LOW, vec4(counter, 64u, flags));
    // By hand, since not every driver unrolls a loop of this size.
    s = round(s, m0);
    let m1 = permuted(m0);
    s = round(s, m1);
    let m2 = permuted(m1);
    s = round(s, m2);
    let m3 = permuted(m2);
    s = round(s, m3);
    let m4 = permuted(m3);
    s = round(s, m4);
    let m5 = permuted(m4);
    s = round(s, m5);
    s = round(s, permuted(m5));
    return Value(s.a ^ s.c, s.b ^ s.d);
}

// The last record of those of two cells each whose first word is not above `i`.
fn find(i: u32) -> u32 {
    var low = 0u;
    var high = orders[0].x;
    while (high - low > 1u) {
        let middle = (low + high) / 2u;
        if (orders[1u + 2u * middle].x <= i) { low = middle; } else { high = middle; }
    }
    return low;
}

// 64 bytes from any byte of the window on.
fn block_at(at: u32) -> Block {
    let cell = at / 16u;
    let q0 = cells[cell];
    let q1 = cells[cell + 1u];
    let q2 = cells[cell + 2u];
    let q3 = cells[cell + 3u];
    if (!SHIFT) {
        return block(q0, q1, q2, q3);
    }
    // A fifth cell only if bytes of it are wanted: there may be none.
    let q4 = cells[cell + select(4u, 3u, at % 16u == 0u)];
    let two = vec4((at & 8u) != 0u);
    let r0 = select(q0, vec4(q0.zw, q1.xy), two);
    let r1 = select(q1, vec4(q1.zw, q2.xy), two);
    let r2 = select(q2, vec4(q2.zw, q3.xy), two);
    let r3 = select(q3, vec4(q3.zw, q4.xy), two);
    let r4 = select(q4, vec4(q4.zw, q4.xy), two);
    let one = vec4((at & 4u) != 0u);
    let s0 = select(r0, vec4(r0.yzw, r1.x), one);
    let s1 = select(r1, vec4(r1.yzw, r2.x), one);
    let s2 = select(r2, vec4(r2.yzw, r3.x), one);
    let s3 = select(r3, vec4(r3.yzw, r4.x), one);
    let s4 = select(r4.x, r4.y, one.x);
    let bits = 8u * (at & 3u);
    return block(
        funnel(s0, s1.x, bits), funnel(s1, s2.x, bits), funnel(s2, s3.x, bits), funnel(s3, s4, bits),
    );
}

// Four words from bit `bits`, less than 32, of five.
fn funnel(x: vec4<u32>, next: u32, bits: u32) -> vec4<u32> {
    // Twice, since a shift by 32 is one by 0.
    return (x >> vec4(bits)) | ((vec4(x.yzw, next) << vec4(31u - bits)) << vec4(1u));
}

// A thread a chunk. Record: first thread, first slot, counter (2) | address, column, row, pitch. The address is that of
// the row's first byte, relative to the window modulo 2^32; a column is one of bytes.
@compute @workgroup_size(THREADS)
fn chunks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (group.y * orders[0].z + group.x) * THREADS + thread;
    if (i < orders[0].y) {
        let record = 1u + 2u * find(i);
        let run = orders[record];
        let place = orders[record + 1u];
        let passed = i - run.x;
        let low = run.z + passed;
        let counter = vec2(low, run.w + select(0u, 1u, low < passed));

        var at = place.x + passed * 1024u;
        var column = 0u;
        if (ROWS) {
            let y = place.y + passed * 1024u;
            at = place.x + y / place.z * place.w;
            column = y % place.z;
        }
        var h = Value(IV_LOW, IV_HIGH);
        for (var j = 0u; j < 16u; j++) {
            let flags = select(0u, CHUNK_START, j == 0u) | select(0u, CHUNK_END, j == 15u);
            h = compress(h, block_at(at + column), counter, flags);
            if (ROWS) {
                // Rows have whole blocks, so the next one begins in this row or at the start of the next row.
                column += 64u;
                if (column == place.z) {
                    column = 0u;
                    at += place.w;
                }
            } else {
                at += 64u;
            }
        }
        let slot = run.y + passed;
        values[2u * slot] = h.low;
        values[2u * slot + 1u] = h.high;
    }
    if (thread == 0u) { atomicSub(&receipt[0], 1u); }
}

var<workgroup> low: array<vec4<u32>, SLOTS>;
var<workgroup> high: array<vec4<u32>, SLOTS>;

fn starts(bits: vec4<u32>, slot: u32) -> bool {
    return ((bits[slot / 32u] >> (slot % 32u)) & 1u) == 1u;
}

// How many subtrees start before `slot`.
fn rank(bits: vec4<u32>, slot: u32) -> u32 {
    var count = 0u;
    for (var word = 0u; word < slot / 32u; word++) { count += countOneBits(bits[word]); }
    return count + countOneBits(bits[slot / 32u] & ((1u << (slot % 32u)) - 1u));
}

// A workgroup a block. Record: first input, inputs, levels, first output | a bit for each input that starts a subtree.
@compute @workgroup_size(THREADS)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let index = group.y * orders[0].z + group.x;
    let here = index < orders[0].y;
    let record = 1u + 2u * select(0u, index, here);
    let work = orders[record];
    let bits = orders[record + 1u];
    let used = select(0u, work.y, here);
    for (var slot = thread; slot < used; slot += THREADS) {
        low[slot] = cells[2u * (work.x + slot)];
        high[slot] = cells[2u * (work.x + slot) + 1u];
    }
    for (var level = 0u; level < 7u; level++) {
        workgroupBarrier();
        // The loop, and not an `if`, lets a driver that runs several threads in one vector skip what has none.
        let pairs = select(0u, SLOTS >> (level + 1u), level < work.z);
        for (var pair = thread; pair < pairs; pair += THREADS) {
            let a = pair << (level + 1u);
            let b = a + (1u << level);
            if (b < used && !starts(bits, b)) {
                let left = low[a];
                let left2 = high[a];
                let merged = compress(
                    Value(IV_LOW, IV_HIGH), block(left, left2, low[b], high[b]), vec2(0u, 0u), PARENT,
                );
                low[a] = merged.low;
                high[a] = merged.high;
            }
        }
    }
    workgroupBarrier();
    for (var slot = thread; slot < used; slot += THREADS) {
        if (starts(bits, slot)) {
            let out = work.w + rank(bits, slot);
            values[2u * out] = low[slot];
            values[2u * out + 1u] = high[slot];
        }
    }
    if (thread == 0u) { atomicSub(&receipt[0], 1u); }
}

fn byte_at(at: u32) -> u32 {
    return (words_in[at / 4u] >> (8u * (at % 4u))) & 0xffu;
}

fn word_at(at: u32) -> u32 {
    let bits = 8u * (at % 4u);
    let word = words_in[at / 4u];
    if (bits == 0u) { return word; }
    return (word >> bits) | (words_in[at / 4u + 1u] << (32u - bits));
}

// A thread a word of the target. Record: first thread, first target byte, bytes, first word that is this record's own |
// address, column, row, pitch, as in `chunks`; one long row if there are none. The records are in order of their target,
// and a word is owned by the first record that has a byte in it. Bytes of a word that no record has stay as they are:
// an earlier or a later launch writes them.
@compute @workgroup_size(THREADS)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let header = orders[0];
    let i = (group.y * header.z + group.x) * THREADS + thread;
    if (i < header.y) {
        var record = find(i);
        let own = orders[1u + 2u * record];
        let word = own.w + (i - own.x);
        var value = 0u;
        var mask = 0u;
        while (record < header.x) {
            let piece = orders[1u + 2u * record];
            let place = orders[2u + 2u * record];
            let start = max(piece.y, 4u * word);
            let end = min(piece.y + piece.z, 4u * word + 4u);
            // Pieces may own no word, so not all that follow have a byte here.
            if (piece.y >= 4u * word + 4u) { break; }
            let y = place.y + (start - piece.y);
            if (end == start + 4u && y % place.z + 4u <= place.z) {
                value = word_at(place.x + y / place.z * place.w + y % place.z);
                mask = NONE;
                break;
            }
            for (var to = start; to < end; to++) {
                let z = place.y + (to - piece.y);
                let bits = 8u * (to % 4u);
                value |= byte_at(place.x + z / place.z * place.w + z % place.z) << bits;
                mask |= 0xffu << bits;
            }
            record++;
        }
        if (mask == NONE) {
            words_out[word] = value;
        } else {
            words_out[word] = (words_out[word] & ~mask) | value;
        }
    }
    if (i < 4u && header.w != NONE) { words_out[header.w + i] = 0u; }
    if (thread == 0u) { atomicSub(&receipt[0], 1u); }
}
