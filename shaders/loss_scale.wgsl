// loss_scale — dynamic loss scaling on the device (torch.amp.GradScaler): the factor of the loss, and whether to step.
//   shapes    state (5) = level, good, skipped, correction1, correction2; all 0 before the first step.   clip (4)
//             out (n)   parts (n): sums of squares of the scaled gradients (adamw.square_sum)
//   scale     2^(16 + level), 2^16 at first, halved when a gradient overflows, doubled after `growth` good steps.
//             The numbers are GradScaler's; growth is 2000. Multiplying by a power of two does not round a gradient.
//   seed      out[i] = value·scale: backward starts from it instead of from value
//   judge     norm = √(Σ parts) / scale
//     finite  correction_j <- β_j·correction_j + (1−β_j), which is 1 − β_j^t after t steps taken
//             good <- good + 1;  after `growth` good steps in a row level <- level + 1, at most 8, and good <- 0
//             clip = min(1, max_norm / (norm + 1e-6)) / scale, norm, correction1, correction2
//     else    level <- level − 1, at least −30;  good <- 0;  skipped <- skipped + 1
//             clip = 0, 0, correction1, correction2;  adamw takes no step if clip[0] = 0
//   No backward.
//   threads   seed: one invocation per element. judge: one workgroup, which sums in a fixed order.
//   floor     one launch each
// uses lib/reduce
struct Params { n: u32, value: f32, rate1: f32, rate2: f32, max_norm: f32, growth: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> parts: array<f32>;
@group(0) @binding(4) var<storage, read_write> state_out: array<f32>;
@group(0) @binding(5) var<storage, read_write> clip: array<f32>;

// 2^(16 + level), exactly.
fn scale_of(level: f32) -> f32 { return bitcast<f32>(u32(143 + i32(level)) << 23u); }

@compute @workgroup_size(WG)
fn seed(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.n { out[id.x] = p.value * scale_of(state[0]); }
}

@compute @workgroup_size(WG)
fn judge(@builtin(local_invocation_index) tid: u32) {
    var sum = 0.0;
    for (var i = tid; i < p.n; i += WG) { sum += parts[i]; }
    sum = wg_sum(tid, sum);
    if tid != 0u { return; }
    let level = state_out[0];
    let scale = scale_of(level);
    // Tests the bits of sum: compilers may assume that a compared float is not NaN.
    if (bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u {
        state_out[0] = max(level - 1.0, -30.0);
        state_out[1] = 0.0;
        state_out[2] += 1.0;
        clip[0] = 0.0;
        clip[1] = 0.0;
    } else {
        let norm = sqrt(sum) / scale;
        let good = state_out[1] + 1.0;
        state_out[0] = select(level, min(level + 1.0, 8.0), good >= p.growth);
        state_out[1] = select(good, 0.0, good >= p.growth);
        state_out[3] += p.rate1 * (1.0 - state_out[3]);
        state_out[4] += p.rate2 * (1.0 - state_out[4]);
        clip[0] = min(1.0, p.max_norm / (norm + 1e-6)) / scale;
        clip[1] = norm;
    }
    clip[2] = state_out[3];
    clip[3] = state_out[4];
}
