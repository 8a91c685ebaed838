// matmul — a batch of matrix products with an epilogue: F.linear and its gradients (cuBLAS GEMM), in f32.
//   v[s,m,n] = Σ_k a·b (+ bias[s,n]) (+ residual[s,m,n])   s < batch, m < M, n < N, k < K
//   ACT       0     c = v
//             1, 2  c = act(v), act = GELU, SiLU (lib/math). If act_at > 0, c holds v, and act(v) from act_at on.
//             3, 4  c = (Σ_k a·b)·act'(residual), act = GELU, SiLU:  residual is the v that act was applied to
//   FORM      a            b            used for y = x·wᵀ
//   0 Nt      a[m·lda+k]   b[n·ldb+k]   y  = x·wᵀ
//   1 Nn      a[m·lda+k]   b[k·ldb+n]   dx = dy·w     (residual: the gradient of x that is accumulated so far)
//   2 Tn      a[k·lda+m]   b[k·ldb+n]   dw = dyᵀ·x    (K is long: see splits)
//             direct_sums and tiled_sums also write sums[s,m] = Σ_k a: dbias, where a is dy. Other kernels for dw leave
//             it to `columns` of reduce.wgsl.
//   shapes    c, residual [m·ldc+n];  batch s starts at s·a_stride, s·b_stride, s·c_stride;  bias (batch, N), dense
//             a, b, c and residual hold f16 if A16, B16, C16, R16 = 1. In mixed precision an activation that only
//             products read is stored as f16, because a product would round it anyway.
//   saves     nothing. c is overwritten. To accumulate a gradient, its old value is passed as residual.
//   threads   An invocation computes elements of c as 4×4 blocks in registers.
//             direct   reads operands from global memory, without barriers. For CPUs, where a barrier costs more than a
//                      load. An invocation computes ROWS×COLS elements. The 16 invocations of a workgroup lie side by
//                      side and have the same rows of a, which Mesa 26 loads once for all of them. Block shapes are
//                      chosen in src/ops/matmul/variant.rs.
//             tiled    computes a tile with TILE_M·TILE_N/64 invocations of 8×8 elements each. It stages 16 values of
//                      k at a time in workgroup memory (8.5 KiB for 64×64) while it loads the next 16. For GPUs. An
//                      invocation loads one 4×4 block of a, of b, or of both. The size of the tile is tuned:
//                      src/ops/matmul/tune.rs.
//             Loads are vec4s if VEC = 1 (rows of a and b are aligned and end at multiples of 4), else single numbers;
//             stores of tiled and combine likewise if C4 = 1 (rows of c, bias and residual). direct has C4 = 0.
//             Every kernel adds the products of an element in the order of k, so all of them give the same bits. Sums
//             of a are added as the first workgroup of a row of tiles loads its blocks: those of four k in order, into
//             one of four sums, by turns; these last.
//   ROUND     1: operands are rounded to f16 when loaded, and sums stay in f32, as in matmul_coop.wgsl, but without
//             cooperative matrices.
//   splits    > 1 (split-K): workgroup z = part·batch + s sums k_split values of k into c = partial (splits, batch, M,
//             N), without epilogue, and sums (splits, batch, M). combine adds the parts in order and applies the
//             epilogue, or parts.wgsl adds them where there is none: always the same bits.
//   floor     2·batch·M·N·K flops;  4·batch·(M·K + N·K + M·N) bytes
//   tried     ms of 512³ in f32 on one core of llvmpipe (Mesa 22.3.6) | of 4096³ in f32 on an NVIDIA H200
//             (benches/runs/2026-11-28-nvidia-h200):
//             direct   20.2 | 9.75  in blocks of 8×8, 64 invocations in a square: as it was until the list below.
//             tiled    64×64 32.6 | 4.70, 128×64 32.7 | 5.30, 64×128 32.7 | 4.56, 128×128 30.8 | 5.69. All kept: the
//                      tuner picks the fastest for each device.
//             H200: 25 to 32 TFLOP/s of the 61.6 that fused multiply-adds in registers reach; cuBLAS in f32 reaches 50.
//             direct   ms of CPU time of 512³ (Nt) on one core of llvmpipe, with AVX-512, Mesa 26.1.6 | 22.3.6, and of
//                      the first launch, which compiles (benches/runs/2026-11-28-llvmpipe-blocks):
//                      8×4 13.9, 120 | 31.5, 128
//                      8×8 13.3, 73 | 21.9, 140          taken by old drivers
//                      16×4 10.2, 85 | 26.4, 157         taken where a workgroup shares loads
//                      16×8 9.5, 119 | 17.5, 225         taken for large products
//                      With a store for each element, which a driver made of a loop with a constant end, 16×8 compiled
//                      in 465 | 2330 and 8×8 in 207 | 685. Others with such stores:
//                      4×16 18.1, 250 | 28.4, 699   8×16 10.7, 483 | 18.8, 1804   32×4 10.2, 555 | 23.6, 2039
//                      16×16 11.4, 280 | 18.2, 4333
//                      one k at a time, in place of four: 16×4 20.0, 168 | 43.0, 649
//                      workgroups of 8: the same, but half as fast with LP_NATIVE_VECTOR_WIDTH=512
// uses lib/grid, lib/math, lib/half, lib/element, lib/operands, lib/blocks, lib/gemm, lib/gemm_blocks, lib/store
// (direct) or lib/results and lib/store4 (the others), and lib/sums (direct_sums and tiled_sums) or lib/no_sums (the
// others)
const NT = 0u;
const TN = 2u;
const THREADS = TILE_M * TILE_N / 64u;
const ACROSS = COLS / 4u;                                // 4×4 blocks of `direct` beside each other
const WHOLE = VEC == 1u && FORM != TN;                   // K is a multiple of 4
const PITCH_A = TILE_M / 4u + 1u;                        // vec4s per k of a tile; odd: fewer bank conflicts
const PITCH_B = TILE_N / 4u + 1u;
@group(0) @binding(6) var<storage, read> part: array<vec4<f32>>;
var<workgroup> sh_a: array<vec4<f32>, 16u * PITCH_A>;
var<workgroup> sh_b: array<vec4<f32>, 16u * PITCH_B>;

// A 4×4 block of a (or b). Column j holds element k + j of four rows m (or n); columns from k = `end` on are 0.
fn a_columns(r: Rows, k: u32, end: u32) -> mat4x4<f32> {
    return masked(a_block(r, k), k, end);
}
fn b_columns(r: Rows, k: u32, end: u32) -> mat4x4<f32> {
    return masked(b_block(r, k), k, end);
}
fn masked(block: mat4x4<f32>, k: u32, end: u32) -> mat4x4<f32> {
    var r = block;
    if ROUND == 1u {
        r = mat4x4(nearest_f16(r[0]), nearest_f16(r[1]), nearest_f16(r[2]), nearest_f16(r[3]));
    }
    if k + 4u <= end { return r; }
    let zero = vec4(0.0);
    return mat4x4(
        select(zero, r[0], k < end), select(zero, r[1], k + 1u < end), select(zero, r[2], k + 2u < end), zero);
}

// Adds the outer product of one k: row i of r gains x[i]·y.
fn outer(r: mat4x4<f32>, x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(fma(vec4(x.x), y, r[0]), fma(vec4(x.y), y, r[1]), fma(vec4(x.z), y, r[2]), fma(vec4(x.w), y, r[3]));
}
fn outer4(r: mat4x4<f32>, x: mat4x4<f32>, y: mat4x4<f32>) -> mat4x4<f32> {
    return outer(outer(outer(outer(r, x[0], y[0]), x[1], y[1]), x[2], y[2]), x[3], y[3]);
}

// The sum over the columns of a block: over four k.
fn over_k(block: mat4x4<f32>) -> vec4<f32> {
    return ((block[0] + block[1]) + block[2]) + block[3];
}

// Block y if `is`, else x.
fn second(is: bool, x: mat4x4<f32>, y: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(select(x[0], y[0], is), select(x[1], y[1], is), select(x[2], y[2], is), select(x[3], y[3], is));
}

// The first of four sums is the last then, with a new value. Indices are constants, which stay in registers.
fn turned(sums: mat4x4<f32>, first: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sums[1], sums[2], sums[3], first);
}
fn in_order(sums: mat4x4<f32>) -> vec4<f32> {
    return ((sums[0] + sums[1]) + sums[2]) + sums[3];
}

fn direct_block(wid: vec3<u32>, tid: u32) {
    let m = wid.y * ROWS;
    let n = (wid.x * 16u + tid) * COLS;
    if n >= p.n { return; }
    let s = wid.z % p.batch;
    let start = wid.z / p.batch * p.k_split;
    let end = k_end(s, start);
    let to_y0 = b_rows(s, n);
    let to_y1 = b_rows(s, n + 4u);
    let to_x0 = a_rows(s, m);
    let to_x1 = a_rows(s, m + 4u);
    let to_x2 = a_rows(s, m + 8u);
    let to_x3 = a_rows(s, m + 12u);
    var r: array<mat4x4<f32>, 8>;                        // ROWS/4 × ACROSS blocks
    var over0: mat4x4<f32>;                              // sums of a: of each four rows four, which take turns
    var over1: mat4x4<f32>;
    var over2: mat4x4<f32>;
    var over3: mat4x4<f32>;
    let adds = SUMS == 1u && wid.x == 0u && tid == 0u;
    for (var k = start; k < end; k += 4u) {
        let stop = select(end, k + 4u, WHOLE);
        let y0 = b_columns(to_y0, k, stop);
        var y1: mat4x4<f32>;
        if COLS == 8u { y1 = b_columns(to_y1, k, stop); }
        let x0 = a_columns(to_x0, k, stop);
        let x1 = a_columns(to_x1, k, stop);
        r[0] = outer4(r[0], x0, y0);
        r[ACROSS] = outer4(r[ACROSS], x1, y0);
        if COLS == 8u {
            r[1] = outer4(r[1], x0, y1);
            r[3] = outer4(r[3], x1, y1);
        }
        if ROWS == 16u {
            let x2 = a_columns(to_x2, k, stop);
            let x3 = a_columns(to_x3, k, stop);
            r[2u * ACROSS] = outer4(r[2u * ACROSS], x2, y0);
            r[3u * ACROSS] = outer4(r[3u * ACROSS], x3, y0);
            if COLS == 8u {
                r[5] = outer4(r[5], x2, y1);
                r[7] = outer4(r[7], x3, y1);
            }
            if adds {
                over2 = turned(over2, over2[0] + over_k(x2));
                over3 = turned(over3, over3[0] + over_k(x3));
            }
        }
        if adds {
            over0 = turned(over0, over0[0] + over_k(x0));
            over1 = turned(over1, over1[0] + over_k(x1));
        }
    }
    if adds {
        // until the first is in front again
        for (var turns = (end - start + 3u) / 4u; turns % 4u != 0u; turns++) {
            over0 = turned(over0, over0[0]);
            over1 = turned(over1, over1[0]);
            over2 = turned(over2, over2[0]);
            over3 = turned(over3, over3[0]);
        }
        put_sums(wid.z, m, in_order(over0));
        put_sums(wid.z, m + 4u, in_order(over1));
        if ROWS == 16u {
            put_sums(wid.z, m + 8u, in_order(over2));
            put_sums(wid.z, m + 12u, in_order(over3));
        }
    }
    // One row of one block at a time. The number of rows is not a constant and `r` has constant indices, so that
    // drivers compile one store, in place of one for each element.
    for (var i = 0u; i < min(ROWS, p.m - m) * ACROSS; i++) {
        let row = i / ACROSS;
        let at = row / 4u * ACROSS + i % ACROSS;
        var block = second(at == 1u, r[0], r[1]);
        block = second(at == 2u, block, r[2]);
        block = second(at == 3u, block, r[3]);
        if ROWS * COLS == 128u {
            block = second(at == 4u, block, r[4]);
            block = second(at == 5u, block, r[5]);
            block = second(at == 6u, block, r[6]);
            block = second(at == 7u, block, r[7]);
        }
        let q = row % 4u;
        let v = select(select(select(block[0], block[1], q == 1u), block[2], q == 2u), block[3], q == 3u);
        store4(wid.z, m + row, n + i % ACROSS * 4u, v);
    }
}

fn tile(wid: vec3<u32>, tid: u32) {
    let m = wid.y * TILE_M;
    let n = wid.x * TILE_N;
    let s = wid.z % p.batch;
    let start = wid.z / p.batch * p.k_split;
    let end = k_end(s, start);
    // The 4×4 block that this invocation loads. Neighboring invocations load neighboring memory. The first invocations
    // load blocks of a, the last ones blocks of b.
    let loads_a = tid < TILE_M;
    let loads_b = tid >= THREADS - TILE_N;
    let tb = tid - min(tid, THREADS - TILE_N);
    let a_at = select(vec2(tid / 4u, tid % 4u), vec2(tid % (TILE_M / 4u), tid / (TILE_M / 4u)), FORM == TN);
    let b_at = select(vec2(tb % (TILE_N / 4u), tb / (TILE_N / 4u)), vec2(tb / 4u, tb % 4u), FORM == NT);
    let ty = tid / (TILE_N / 8u);                        // rows ty·4.. and TILE_M/2 further; likewise columns with tx
    let tx = tid % (TILE_N / 8u);
    let to_x = a_rows(s, m + a_at.x * 4u);
    let to_y = b_rows(s, n + b_at.x * 4u);
    var r00: mat4x4<f32>;
    var r01: mat4x4<f32>;
    var r10: mat4x4<f32>;
    var r11: mat4x4<f32>;
    var x: mat4x4<f32>;
    var y: mat4x4<f32>;
    var over = vec4(0.0);                                // sum of a over this invocation's blocks
    let adds = SUMS == 1u && wid.x == 0u;
    if loads_a { x = a_columns(to_x, start + a_at.y * 4u, end); }
    if loads_b { y = b_columns(to_y, start + b_at.y * 4u, end); }
    for (var k = start; k < end; k += 16u) {
        if adds && loads_a { over += over_k(x); }
        for (var j = 0u; j < 4u; j++) {
            if loads_a { sh_a[(a_at.y * 4u + j) * PITCH_A + a_at.x] = x[j]; }
            if loads_b { sh_b[(b_at.y * 4u + j) * PITCH_B + b_at.x] = y[j]; }
        }
        workgroupBarrier();
        if k + 16u < end {
            if loads_a { x = a_columns(to_x, k + 16u + a_at.y * 4u, end); }
            if loads_b { y = b_columns(to_y, k + 16u + b_at.y * 4u, end); }
        }
        for (var j = 0u; j < 16u; j++) {
            let x0 = sh_a[j * PITCH_A + ty];
            let x1 = sh_a[j * PITCH_A + ty + TILE_M / 8u];
            let y0 = sh_b[j * PITCH_B + tx];
            let y1 = sh_b[j * PITCH_B + tx + TILE_N / 8u];
            r00 = outer(r00, x0, y0);
            r01 = outer(r01, x0, y1);
            r10 = outer(r10, x1, y0);
            r11 = outer(r11, x1, y1);
        }
        workgroupBarrier();
    }
    if adds {
        if loads_a { sh_a[a_at.y * PITCH_A + a_at.x] = over; }
        workgroupBarrier();
        if tid < TILE_M / 4u {
            let all = ((sh_a[tid] + sh_a[PITCH_A + tid]) + sh_a[2u * PITCH_A + tid]) + sh_a[3u * PITCH_A + tid];
            put_sums(wid.z, m + tid * 4u, all);
        }
    }
    // With an activation and single stores a loop over rows keeps the compiled code short.
    if ACT > 0u && C4 == 0u {
        var rows = array(r00[0], r00[1], r00[2], r00[3], r01[0], r01[1], r01[2], r01[3],
                         r10[0], r10[1], r10[2], r10[3], r11[0], r11[1], r11[2], r11[3]);
        for (var i = 0u; i < 16u; i++) {
            let row = m + ty * 4u + i / 8u * (TILE_M / 2u) + i % 4u;
            store4(wid.z, row, n + tx * 4u + i / 4u % 2u * (TILE_N / 2u), rows[i]);
        }
        return;
    }
    store_block(wid.z, m + ty * 4u, n + tx * 4u, r00);
    store_block(wid.z, m + ty * 4u, n + tx * 4u + TILE_N / 2u, r01);
    store_block(wid.z, m + ty * 4u + TILE_M / 2u, n + tx * 4u, r10);
    store_block(wid.z, m + ty * 4u + TILE_M / 2u, n + tx * 4u + TILE_N / 2u, r11);
}

@compute @workgroup_size(16)
fn direct(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    direct_block(wid, tid);
}

@compute @workgroup_size(THREADS)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    tile(wid, tid);
}

@compute @workgroup_size(256)
fn combine(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * 256u + tid) * (1u + 3u * C4);
    let size = p.batch * p.m * p.n;
    if i >= size { return; }
    var sum = vec4(0.0);
    for (var k = 0u; k < p.splits; k++) {
        let at = k * size + i;
        if C4 == 1u { sum += part[at >> 2u]; } else { sum.x += part[at >> 2u][at & 3u]; }
    }
    let z = i / (p.m * p.n);
    let m = i / p.n % p.m;
    if C4 == 1u { store4(z, m, i % p.n, sum); } else { store(z, m, i % p.n, sum.x); }
}
