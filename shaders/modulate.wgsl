// modulate — the two element-wise steps of an adaLN block (DiT's modulate(), and x + gate * branch; MAR's denoiser):
// a condition m shifts and scales a normalized x, and gates the branch h that is added to x.
//   shapes    x, h, y, dx, dh, dy (rows, D)   m, dm, before (rows, P·D): columns shift | scale | gate (P = 2: no gate)
//   modulate  y = x·(1 + scale) + shift      dx = dy·(1 + scale)   dshift = dy   dscale = dy·x   dgate = 0
//   gate      y = x + gate·h                 dx = dy   dh = dy·gate   dgate = dy·h   dshift = dscale = 0
//             Both steps of a block read the same m, so dm is the sum of two gradients. `before` is the gradient of m
//             accumulated so far: backward writes dm = before + its own, which saves a launch that adds the two.
//   saves     only its inputs. Backward overwrites its results.
//   threads   one invocation per element of x; it also handles the P columns of m that belong to this element
//   floor     per element of x: 16 bytes forward, 16 + 4·P backward, 4·P more with `before`
// uses lib/grid
struct Params { n: u32, d: u32, parts: u32, before: u32 } // n = rows·D; parts = P; before: 1 if bound
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> h: array<f32>;
@group(0) @binding(3) var<storage, read> m: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read> before: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read_write> dm: array<f32>;
@group(0) @binding(9) var<storage, read_write> dh: array<f32>;

// Index in m of the shift that belongs to element i of x. Its scale is d further, its gate 2·d further.
fn shift_of(i: u32) -> u32 {
    return i / p.d * p.parts * p.d + i % p.d;
}

fn write_dm(at: u32, value: f32) {
    var sum = value;
    if p.before > 0u { sum += before[at]; }
    dm[at] = sum;
}

@compute @workgroup_size(256)
fn modulate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.n { return; }
    let at = shift_of(i);
    y[i] = x[i] * (1.0 + m[at + p.d]) + m[at];
}

@compute @workgroup_size(256)
fn modulate_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.n { return; }
    let at = shift_of(i);
    let d = dy[i];
    dx[i] = d * (1.0 + m[at + p.d]);
    write_dm(at, d);
    write_dm(at + p.d, d * x[i]);
    if p.parts > 2u { write_dm(at + 2u * p.d, 0.0); }
}

@compute @workgroup_size(256)
fn gate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.n { return; }
    y[i] = x[i] + m[shift_of(i) + 2u * p.d] * h[i];
}

@compute @workgroup_size(256)
fn gate_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.n { return; }
    let at = shift_of(i);
    let d = dy[i];
    dh[i] = d * m[at + 2u * p.d];
    write_dm(at, 0.0);
    write_dm(at + p.d, 0.0);
    write_dm(at + 2u * p.d, d * h[i]);
}
