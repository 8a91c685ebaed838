// roof — measures the peak rate of exponentials and of multiply-adds in registers, for the floors of `rowscan bench`.
// An invocation computes four independent chains of 256 dependent steps. It reads no input, and stores one number, so
// that the compiler cannot remove the chains.
//   exps   x ← exp(−x)            256·4 exponentials each
//   fmas   x ← x·a + a            256·4 multiply-adds each
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
fn store(i: u32, x: vec4<f32>) {
    if i < p.n { out[i] = x.x + x.y + x.z + x.w; }
}
@compute @workgroup_size(256)
fn exps(@builtin(global_invocation_id) id: vec3<u32>) {
    var x = vec4(f32(id.x) * 1e-8) + vec4(0.1, 0.2, 0.3, 0.4);
    for (var i = 0u; i < 256u; i++) { x = exp(-x); }
    store(id.x, x);
}
@compute @workgroup_size(256)
fn fmas(@builtin(global_invocation_id) id: vec3<u32>) {
    var x = vec4(f32(id.x) * 1e-8) + vec4(0.1, 0.2, 0.3, 0.4);
    let a = x * 0.9;
    for (var i = 0u; i < 256u; i++) { x = x * a + a; }
    store(id.x, x);
}
