// selftest_coop — out (4F, F) f32 = lhs (4F, 64)·rhs (64, F), F = FRAG; x holds lhs, then rhs, row-major in f16. Each
// of four subgroups of LANES computes F rows in one fragment, so the result is wrong if the device's subgroups have
// another size. One accumulator is carried through loops of 64/F steps over the inner dimension, because some drivers
// double a value that a loop carries.
// The first half of the inner dimension is loaded from single f16 in storage, the second half from cells in workgroup
// memory, where it runs within a row for both operands: the two ways in which operators load fragments.
//   const LANES: lanes of a subgroup
// uses lib/coop16 and lib/product16 or lib/coop8 and lib/product8
struct Params { n: u32 }
const THREADS = 4u * LANES;
const CELLS = 4u / CELL;                                 // in four f16
const PITCH = (32u + 8u) / CELL;                         // cells of a row
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f16>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
var<workgroup> sh: array<Cell, 5u * FRAG * PITCH>;       // rows of lhs, then columns of rhs

// Element k of row `row` of lhs, or of column row − 4F of rhs.
fn value(row: u32, k: u32) -> f16 {
    if row < 4u * FRAG { return x[row * 64u + k]; }
    return x[4u * 64u * FRAG + k * FRAG + row - 4u * FRAG];
}
fn product(wid: vec3<u32>, tid: u32) {
    for (var i = tid; i < 5u * FRAG * 8u; i += THREADS) {
        let row = i / 8u;
        let k = i % 8u * 4u;
        let v = vec4(value(row, k + 32u), value(row, k + 33u), value(row, k + 34u), value(row, k + 35u));
        for (var j = 0u; j < CELLS; j++) { sh[row * PITCH + k / CELL + j] = cell(v, j); }
    }
    workgroupBarrier();
    let row = tid / LANES * FRAG;
    var acc: Sum;
    for (var k = 0u; k < 32u; k += FRAG) {
        let lhs_at = row * 64u + k + p.n;
        let rhs_at = 4u * 64u * FRAG + k * FRAG;
        let lhs = coopLoadT<Lhs>(&x[lhs_at], 64u);
        let rhs = coopLoadT<Rhs>(&x[rhs_at], FRAG);
        acc = coopMultiplyAdd(lhs, rhs, acc);
    }
    for (var k = 0u; k < 32u; k += FRAG) {
        let lhs_at = row * PITCH + k / CELL;
        let rhs_at = 4u * FRAG * PITCH + k / CELL;
        let lhs = coopLoadT<Lhs>(&sh[lhs_at], PITCH);
        let rhs = coopLoad<Rhs>(&sh[rhs_at], PITCH);
        acc = coopMultiplyAdd(lhs, rhs, acc);
    }
    let stride = FRAG;
    let out_at = row * FRAG;
    coopStoreT(acc, &out[out_at], stride);
}
