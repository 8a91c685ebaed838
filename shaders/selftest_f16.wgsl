enable f16;
// selftest_f16 — x² + 1 of 32 f16 numbers in storage buffers.
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f16>;
@group(0) @binding(2) var<storage, read_write> out: array<f16>;
@compute @workgroup_size(32)
fn run(@builtin(local_invocation_index) tid: u32) {
    let i = tid + p.n;
    out[i] = x[i] * x[i] + 1.0h;
}
