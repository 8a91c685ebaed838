enable f16;
enable wgpu_cooperative_matrix;
// selftest_coop — out (16, 16) f32 = lhs (16, 64) · rhs (64, 16), f16 row-major one after the other in x, four steps of
// K carried in one accumulator: drivers have been seen to double what a loop carries.
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f16>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(32)
fn run() {
    var acc: coop_mat16x16<f32, C>;
    for (var k = 0u; k < 4u; k++) {
        let lhs_at = k * 16u + p.n;
        let rhs_at = 1024u + k * 256u;
        let lhs = coopLoadT<coop_mat16x16<f16, A>>(&x[lhs_at], 64u);
        let rhs = coopLoadT<coop_mat16x16<f16, B>>(&x[rhs_at], 16u);
        acc = coopMultiplyAdd(lhs, rhs, acc);
    }
    let stride = 16u;
    coopStoreT(acc, &out[0], stride);
}
