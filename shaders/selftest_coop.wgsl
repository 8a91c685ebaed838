// selftest_coop — out (4F, F) f32 = lhs (4F, 64)·rhs (64, F), F = FRAG; x holds lhs, then rhs, row-major in f16. Each
// of four subgroups of LANES computes F rows in one fragment, so the result is wrong if the device's subgroups have
// another size. One accumulator is carried through a loop of 64/F steps over the inner dimension, because some drivers
// double a value that a loop carries.
//   const LANES: lanes of a subgroup
// uses lib/coop16 and lib/product16 or lib/coop8 and lib/product8
struct Params { n: u32 }
const THREADS = 4u * LANES;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f16>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
fn product(wid: vec3<u32>, tid: u32) {
    let row = tid / LANES * FRAG;
    var acc: Sum;
    for (var k = 0u; k < 64u; k += FRAG) {
        let lhs_at = row * 64u + k + p.n;
        let rhs_at = 4u * 64u * FRAG + k * FRAG;
        let lhs = coopLoadT<Lhs>(&x[lhs_at], 64u);
        let rhs = coopLoadT<Rhs>(&x[rhs_at], FRAG);
        acc = coopMultiplyAdd(lhs, rhs, acc);
    }
    let stride = FRAG;
    let out_at = row * FRAG;
    coopStoreT(acc, &out[out_at], stride);
}
