// matmul_coop — the products of matmul.wgsl on cooperative matrices (CUDA: tensor cores), operands rounded to f16, sums
// in f32 (PyTorch: F.linear under torch.autocast with float16).
//   Scalars, forms, splits and epilogue are those of matmul.wgsl. Operands in f32 are rounded on their way.
//   HIGH = 0  c = Σ_k f16(a)·f16(b)                                        relative error of a product ≤ 2⁻¹⁰
//   HIGH = 1  x = hi + lo/2048,  hi = f16(x),  lo = f16((x − hi)·2048)      ≤ about 2⁻²¹, for |x| from 1e-4 to 65504
//             c = Σ hi·hi + (Σ hi·lo + Σ lo·hi)/2048                        two accumulators; lo·lo is below f32
//             quantizeToF16 computes hi: a compiler may simplify f32(f16(x)) to x, and then lo would be 0.
//   Numbers larger than 65504 become infinite. Dynamic loss scaling (loss_scale.wgsl) finds this in the gradients.
//   saves     nothing. c is overwritten.
//   threads   2·TILE invocations compute a TILE × TILE tile of c. Each of their subgroups computes SM × SN of it in
//             fragments of FRAG × FRAG, so an invocation holds TILE/2 sums.
//   steps     A step multiplies KS values of k. Its operands go from global memory to registers, to f16 in workgroup
//             memory, to fragments. While a step is multiplied, the next one is loaded to registers: a before the first
//             half of the step, b before the second half, because both at once need more registers.
//             The first step takes the remainder of k, and zeros up to KS. All other steps are whole, so the loop
//             compares nothing with the end of k, and only the distance in memory grows in it.
//   patch     What an invocation loads of an operand in a step: four rows of 16 bytes, as they lie in memory. Of an
//             operand in f16, 16 bytes hold eight elements if its rows start and end at multiples of 8 (VEC = 2). Then
//             a patch has only two rows where rows run along k, and else only half of the invocations have one.
//             Rows of m and n past the end repeat the last ones and are not stored. KS is 32, for which there is one
//             patch of 16 elements for each invocation.
//   tiles     In workgroup memory k runs within a row in both operands, whatever the form: a patch whose rows run along
//             m or n is transposed when it is stored there. So fragments are read along rows. AMD's RDNA 3 needs one
//             load for each element of a fragment that is read across rows. Rows are 16 bytes longer than KS, so that
//             eight of them start in different banks.
//   results   A kernel cannot access single elements of a fragment, so results pass through workgroup memory, one
//             fragment of each subgroup at a time.
//   unrolled  Arrays of fragments have constant indices: the calls for each fragment are written out, those past FM and
//             FN under a constant condition. An array that a loop indexes is kept out of registers by a compiler that
//             does not unroll the loop. FM is 1, 2 or 4, FN is 1, 2, 4 or 8.
//   Every subgroup must consist of LANES invocations with consecutive indices: the self-test of the tier finds LANES.
//   The kernel uses no subgroup operations, because some drivers crashed on a module with both.
//   floor     2·batch·M·N·K flops at the f16 rate (three times that with HIGH);  4·batch·(M·K + N·K + M·N) bytes
//   tried     instructions of the loop for 32 matrix products of 16×8×16 on NVK Ampere, of 16×16×16 on RDNA 3
//             (benches/static), in tiles of 128 × 128, forms Nt, Nn, Tn in f32:
//             masks in each step, fragments read across rows     1098, 1152, 516; spills     369, 485, 500
//             as it is now                                        439,  424, 427; none       216, 219, 232
//             both patches loaded before the step                 432,  712, 705             216, 218, 232
//             a patch kept from one turn of the loop to the next  430,  760, 328             272, 273, 263
//             one copy of the step, loads under a condition       458,  469, 464             not counted
//             f16 operands by way of u16 in place of f32: 3 to 11 % fewer on NVK, 4 to 11 % more on RDNA 3
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200): the first of these ran at 28 TFLOP/s, no faster than
//             f32, and a twentieth of cuBLAS in bf16. The others have not run on a GPU.
// lib/coop16 (Vulkan) or lib/coop8 (Metal) defines FRAG, Lhs, Rhs, Sum and Cell; lib/product16 or lib/product8 the
// entry point.
// lib/gemm_coop, or conv2d_coop.wgsl, says where a patch lies in memory: ALIKE, base_of, Places, places, moved,
// first_patch and next_patch.
// uses lib/grid, lib/math, lib/half, lib/element, lib/operands, lib/patches, lib/gemm, lib/gemm_coop, lib/results,
// lib/store4, lib/coop16 and lib/product16 or lib/coop8 and lib/product8
const NT = 0u;
const TN = 2u;
const THREADS = 2u * TILE;
const HELD = LANES * TILE / 2u;                        // elements of c that a subgroup computes, in SM × SN
const SM = 16u << (u32(HELD > 512u) + u32(HELD > 2048u));
const SN = HELD / SM;
const ACROSS = TILE / SN;                              // subgroups beside each other
const FM = SM / FRAG;
const FN = SN / FRAG;
const SIZE = FRAG * FRAG;
const PITCH = KS / 4u + 2u;                            // quads of a row in workgroup memory
const QUADS = 2u * TILE * PITCH;                       // of both operands; those of b follow those of a
const CELLS = 4u / CELL;                               // in a quad
const SHIFT = 2048.0;
const ONE = ALIKE && FORM == TN && VEC == 2u && A16 + B16 == 2u; // half of the invocations load a, half b
const STORED = 1u + 3u * C4;                           // elements that an invocation stores together
alias Sums = array<Sum, FM * FN>;
alias Rest = array<Sum, HIGH * FM * FN + 1u - HIGH>;   // Σ hi·lo + Σ lo·hi, still to be divided by 2048
var<workgroup> sh: array<Cell, (1u + HIGH) * QUADS * CELLS>;
var<workgroup> sh_c: array<f32, THREADS / LANES * (1u + HIGH) * SIZE>;

// The functions below treat operand b if `second`, else a. `second` is a constant where they are called, or (ONE) they
// are the same for both.
fn by_k(second: bool) -> bool {                        // whether its rows in memory run along k
    return select(FORM != TN, FORM == NT, second);
}
fn is16(second: bool) -> u32 {
    return select(A16, B16, second);
}
fn eights(second: bool) -> bool {                      // whether 16 bytes of it are eight elements
    return VEC == 2u && is16(second) == 1u;
}
fn vectors(second: bool) -> bool {                     // whether 16 bytes are loaded at once, or element by element
    return VEC == 2u || (VEC == 1u && is16(second) == 0u);
}
struct Operand {
    base: u32,                                         // first element of the matrix
    first: u32,                                        // row of m or n where the tile starts
    size: u32,                                         // rows of m or n
    ld: u32,
    row: u32,                                          // where the patch starts in the tile: row of m or n, and k
    k: u32,
    has: bool,                                         // whether this invocation has a patch
}
fn operand(second: bool, s: u32, first: u32, tid: u32) -> Operand {
    var o: Operand;
    o.base = base_of(second, s);
    o.first = first;
    o.size = select(p.m, p.n, second);
    o.ld = select(p.lda, p.ldb, second);
    o.has = true;
    if by_k(second) && eights(second) {
        o.row = tid / (KS / 8u) * 2u;
        o.k = tid % (KS / 8u) * 8u;
        return o;
    }
    o.row = tid / (KS / 4u) * 4u;
    o.k = tid % (KS / 4u) * 4u;
    if eights(second) {                                // the first half of the invocations loads a, the last half b
        let at = select(tid, tid - TILE, second);
        o.has = ONE || at < TILE;
        o.row = at / (KS / 4u) * 8u;
    }
    return o;
}
// 16 bytes.
fn words(second: bool, i: u32) -> vec4<u32> {
    if second { return b[i]; }
    return a[i];
}
struct Patch { x: vec4<u32>, y: vec4<u32>, z: vec4<u32>, w: vec4<u32> }

// Stores quad i of a tile.
fn put_quad(i: u32, v: vec4<f32>) {
    if HIGH == 0u {
        put_cells(i, vec4<f16>(v));
        return;
    }
    let hi = quantizeToF16(v);
    put_cells(i, vec4<f16>(hi));
    put_cells(QUADS + i, vec4<f16>((v - hi) * SHIFT));
}
fn put_cells(i: u32, v: vec4<f16>) {
    sh[i * CELLS] = cell(v, 0u);
    if CELLS == 4u {
        sh[i * CELLS + 1u] = cell(v, 1u);
        sh[i * CELLS + 2u] = cell(v, 2u);
        sh[i * CELLS + 3u] = cell(v, 3u);
    }
}
// Stores four quads of a tile below each other. Each argument holds one k of all four.
fn put_columns(i: u32, x: vec4<f32>, y: vec4<f32>, z: vec4<f32>, w: vec4<f32>) {
    put_quad(i, vec4(x.x, y.x, z.x, w.x));
    put_quad(i + PITCH, vec4(x.y, y.y, z.y, w.y));
    put_quad(i + 2u * PITCH, vec4(x.z, y.z, z.z, w.z));
    put_quad(i + 3u * PITCH, vec4(x.w, y.w, z.w, w.w));
}
// Stores a patch.
fn put_patch(second: bool, o: Operand, r: Patch) {
    if !o.has { return; }
    let i = select(0u, TILE * PITCH, second) + o.row * PITCH + o.k / 4u;
    if eights(second) && by_k(second) {
        put_quad(i, floats(r.x.xy));
        put_quad(i + 1u, floats(r.x.zw));
        put_quad(i + PITCH, floats(r.y.xy));
        put_quad(i + PITCH + 1u, floats(r.y.zw));
    } else if eights(second) {
        put_columns(i, floats(r.x.xy), floats(r.y.xy), floats(r.z.xy), floats(r.w.xy));
        put_columns(i + 4u * PITCH, floats(r.x.zw), floats(r.y.zw), floats(r.z.zw), floats(r.w.zw));
    } else if by_k(second) {
        put_quad(i, bitcast<vec4<f32>>(r.x));
        put_quad(i + PITCH, bitcast<vec4<f32>>(r.y));
        put_quad(i + 2u * PITCH, bitcast<vec4<f32>>(r.z));
        put_quad(i + 3u * PITCH, bitcast<vec4<f32>>(r.w));
    } else {
        put_columns(i, bitcast<vec4<f32>>(r.x), bitcast<vec4<f32>>(r.y), bitcast<vec4<f32>>(r.z),
                    bitcast<vec4<f32>>(r.w));
    }
}

// Fragment x down (or y across) of the tile, at k. part = 1: the low halves, if HIGH = 1.
fn lhs(row: u32, x: u32, k: u32, part: u32) -> Lhs {
    let at = (part * QUADS + (row + x * FRAG) * PITCH) * CELLS + k / CELL;
    return coopLoadT<Lhs>(&sh[at], PITCH * CELLS);
}
fn rhs(col: u32, y: u32, k: u32, part: u32) -> Rhs {
    let at = (part * QUADS + (TILE + col + y * FRAG) * PITCH) * CELLS + k / CELL;
    return coopLoad<Rhs>(&sh[at], PITCH * CELLS);
}
fn add(sums: ptr<function, Sums>, x: u32, y: u32, left: Lhs, right: Rhs) {
    (*sums)[x * FN + y] = coopMultiplyAdd(left, right, (*sums)[x * FN + y]);
}
fn add_rest(rest: ptr<function, Rest>, x: u32, y: u32, left: Lhs, right: Rhs) {
    let at = HIGH * (x * FN + y);
    (*rest)[at] = coopMultiplyAdd(left, right, (*rest)[at]);
}
// Column y of the fragments: `left` times fragment y of b.
fn column(
    sums: ptr<function, Sums>, rest: ptr<function, Rest>, row: u32, col: u32, k: u32, y: u32,
    x0: Lhs, x1: Lhs, x2: Lhs, x3: Lhs,
) {
    let right = rhs(col, y, k, 0u);
    add(sums, 0u, y, x0, right);
    if FM > 1u { add(sums, 1u, y, x1, right); }
    if FM > 2u {
        add(sums, 2u, y, x2, right);
        add(sums, 3u, y, x3, right);
    }
    if HIGH == 1u {
        let small = rhs(col, y, k, HIGH);
        add_rest(rest, 0u, y, x0, small);
        add_rest(rest, 0u, y, lhs(row, 0u, k, HIGH), right);
        if FM > 1u {
            add_rest(rest, 1u, y, x1, small);
            add_rest(rest, 1u, y, lhs(row, 1u, k, HIGH), right);
        }
        if FM > 2u {
            add_rest(rest, 2u, y, x2, small);
            add_rest(rest, 2u, y, lhs(row, 2u, k, HIGH), right);
            add_rest(rest, 3u, y, x3, small);
            add_rest(rest, 3u, y, lhs(row, 3u, k, HIGH), right);
        }
    }
}
// Adds the products of the step in workgroup memory, for k from `begin` to `stop`.
fn multiply(sums: ptr<function, Sums>, rest: ptr<function, Rest>, row: u32, col: u32, begin: u32, stop: u32) {
    for (var k = begin; k < stop; k += FRAG) {
        let x0 = lhs(row, 0u, k, 0u);
        var x1: Lhs;
        var x2: Lhs;
        var x3: Lhs;
        if FM > 1u { x1 = lhs(row, 1u, k, 0u); }
        if FM > 2u {
            x2 = lhs(row, 2u, k, 0u);
            x3 = lhs(row, 3u, k, 0u);
        }
        column(sums, rest, row, col, k, 0u, x0, x1, x2, x3);
        if FN > 1u { column(sums, rest, row, col, k, 1u, x0, x1, x2, x3); }
        if FN > 2u {
            column(sums, rest, row, col, k, 2u, x0, x1, x2, x3);
            column(sums, rest, row, col, k, 3u, x0, x1, x2, x3);
        }
        if FN > 4u {
            column(sums, rest, row, col, k, 4u, x0, x1, x2, x3);
            column(sums, rest, row, col, k, 5u, x0, x1, x2, x3);
            column(sums, rest, row, col, k, 6u, x0, x1, x2, x3);
            column(sums, rest, row, col, k, 7u, x0, x1, x2, x3);
        }
    }
}

// Element i of sh_c as a result.
fn staged(i: u32) -> f32 {
    if HIGH == 1u { return sh_c[i] + sh_c[i + HIGH * SIZE] / SHIFT; }
    return sh_c[i];
}
// Stores fragment (x, y) of each subgroup. (m, n): the first element of the invocation's subgroup in c.
fn finish(
    sums: ptr<function, Sums>, rest: ptr<function, Rest>, x: u32, y: u32, z: u32, m: u32, n: u32, tid: u32,
) {
    let stride = FRAG;
    let own = tid / LANES * (1u + HIGH) * SIZE;
    let sum = (*sums)[x * FN + y];
    coopStoreT(sum, &sh_c[own], stride);
    if HIGH == 1u {
        let small = (*rest)[HIGH * (x * FN + y)];
        let behind = own + SIZE;
        coopStoreT(small, &sh_c[behind], stride);
    }
    workgroupBarrier();
    for (var i = tid % LANES * STORED; i < SIZE; i += LANES * STORED) {
        let at = vec2(m + x * FRAG + i / FRAG, n + y * FRAG + i % FRAG);
        if C4 == 1u {
            let j = own + i;
            store4(z, at.x, at.y, vec4(staged(j), staged(j + 1u), staged(j + 2u), staged(j + 3u)));
        } else if at.x < p.m && at.y < p.n {
            store(z, at.x, at.y, staged(own + i));
        }
    }
    workgroupBarrier();
}
fn finish_column(
    sums: ptr<function, Sums>, rest: ptr<function, Rest>, y: u32, z: u32, m: u32, n: u32, tid: u32,
) {
    finish(sums, rest, 0u, y, z, m, n, tid);
    if FM > 1u { finish(sums, rest, 1u, y, z, m, n, tid); }
    if FM > 2u {
        finish(sums, rest, 2u, y, z, m, n, tid);
        finish(sums, rest, 3u, y, z, m, n, tid);
    }
}

fn product(wid: vec3<u32>, tid: u32) {
    let m = wid.y * TILE;
    let n = wid.x * TILE;
    let s = wid.z % p.batch;
    let start = wid.z / p.batch * p.k_split;
    let end = k_end(s, start);
    let count = select((end - start - 1u) % KS + 1u, 0u, start >= end); // values of k of the first step
    let row = tid / LANES / ACROSS * SM;                 // with col: the subgroup's first element in the tile
    let col = tid / LANES % ACROSS * SN;
    let second = ONE && tid >= TILE;
    let left = operand(second, s, select(m, n, second), tid);
    let right = operand(true, s, n, tid);
    var left_at = places(second, left, s, start);
    var right_at = places(true, right, s, start);
    var sums: Sums;
    var rest: Rest;
    put_patch(second, left, first_patch(second, left, left_at, start, count));
    if !ONE { put_patch(true, right, first_patch(true, right, right_at, start, count)); }
    left_at = places(second, left, s, start + count);
    right_at = places(true, right, s, start + count);
    for (var k = start + count; k < end; k += KS) {
        workgroupBarrier();
        let next_a = next_patch(second, left, left_at, k);
        left_at = moved(second, left_at);
        multiply(&sums, &rest, row, col, 0u, KS / 2u);
        var next_b: Patch;
        if !ONE { next_b = next_patch(true, right, right_at, k); }
        right_at = moved(true, right_at);
        multiply(&sums, &rest, row, col, KS / 2u, KS);
        workgroupBarrier();
        put_patch(second, left, next_a);
        if !ONE { put_patch(true, right, next_b); }
    }
    workgroupBarrier();
    multiply(&sums, &rest, row, col, 0u, KS);
    finish_column(&sums, &rest, 0u, wid.z, m + row, n + col, tid);
    if FN > 1u { finish_column(&sums, &rest, 1u, wid.z, m + row, n + col, tid); }
    if FN > 2u {
        finish_column(&sums, &rest, 2u, wid.z, m + row, n + col, tid);
        finish_column(&sums, &rest, 3u, wid.z, m + row, n + col, tid);
    }
    if FN > 4u {
        finish_column(&sums, &rest, 4u, wid.z, m + row, n + col, tid);
        finish_column(&sums, &rest, 5u, wid.z, m + row, n + col, tid);
        finish_column(&sums, &rest, 6u, wid.z, m + row, n + col, tid);
        finish_column(&sums, &rest, 7u, wid.z, m + row, n + col, tid);
    }
}
