// selective_scan_whole — both passes of selective_scan for CPUs: a lane holds all states of its channels. Formulae and
// names of arrays are in selective_scan.wgsl and selective_scan_backward.wgsl; sum_parts and gate of the latter follow
// `backward` as they follow `scan`.
//   shapes    as in those, for 5 to 16 states
//   forward   out, and if chunks > 0 `states`: h at the ends of chunks of T tokens
//   backward  du | ddelta | dB and dC, summed over the channels of a workgroup | the gradient of channel_params for
//             each b, all in `gradients`
//   saves     `states`. backward walks a chunk forward from there, keeps h before each token and ā, and walks back.
//   why       On a CPU the lanes are the elements of a vector, and what lies in memory at a computed index is read and
//             written one lane at a time. This, not arithmetic, is what takes the time of a scan. So a lane keeps to
//             itself what is not summed over channels, and takes several channels, whose dB and dC it sums before
//             others see them. B and C are read at an index that all lanes share, which is one access. Private arrays
//             have constant indices, so that they stay in registers and on the stack.
//   threads   A lane holds four channels, and a workgroup has WG lanes. forward: it does all directions in turn, the
//             later ones add to out. backward: it does one; dB and dC of a chunk are summed in workgroup memory,
//             between two barriers. Channels past E and states past N hold zeros, which add nothing.
//   LOOPS     1: loops in place of four tokens and four channels written out, for CPUs in a browser: SwiftShader
//             compiles them sooner, and is no slower at computed indices. The bits are the same.
//   HALF      1: u, delta, xz, out, dout, states, and du and ddelta in `gradients` are f16; E is even. Arithmetic and
//             sums stay f32.
//   GRID      1: four directions over a grid, as in selective_scan.wgsl
//   floor     forward: 4·(2S+2) bytes per (b, t, e); backward: 16 bytes per (s, b, t, e), and 8/S for z and dout; half
//             of both with HALF. An exponential for each state and step, and in `backward` two.
//   tried     ms of 6 launches forward | backward, E 128, B 8, L 32, both directions, one core of a Xeon with AVX-512,
//             Mesa 26.1.6: quads of four channels a lane, staged in workgroup memory, with shuffles 13.1 | 51.1; this
//             6.9 | 14.4; T 8, of which `backward` walks the first four tokens twice 5.5 | 20; T 16 likewise 5.5 | 25;
//             in loops, with arrays at computed indices 9 | 78. Longer chunks save fewer states, and take twice as long
//             to compile.
//   const N: states, 5 to 16;  const T: tokens of a chunk, 4;  const HALF;  const GRID;  const LOOPS
// uses lib/math, lib/half, lib/element, lib/gate
struct Params {
    s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, channel_params_len: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, clear: u32,
    ddelta_at: u32, bc_at: u32, dchannel_params_at: u32, tiles: u32, height: u32, width: u32, bc_groups: u32,
    z_at: u32,                                          // column of z in xz: E, or 0
}
const WG = 16u;
const C = 4u;                                           // channels of a lane
const NQ = (N + 3u) / 4u;                               // quads of states
const SQ = (NQ + HALF) / (1u + HALF);                   // vec4s of states in memory: a quad of f32 or two of f16
const LOG2E = 1.4426950408889634;
const PAIRS = 1u + GRID;                                // directions from PAIRS on run from last to first
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> u: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<u32>;
@group(0) @binding(3) var<storage, read> xdbl: array<f32>;
@group(0) @binding(4) var<storage, read> channel_params: array<f32>;
@group(0) @binding(5) var<storage, read> xz: array<u32>;
@group(0) @binding(6) var<storage, read_write> states: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> saved: array<vec4<u32>>;   // states, as `backward` reads them
@group(0) @binding(8) var<storage, read_write> out: array<u32>;
@group(0) @binding(12) var<storage, read> dout: array<u32>;
@group(0) @binding(13) var<storage, read_write> gradients: array<u32>;

alias States = mat4x4<f32>;                             // of a channel
alias Lane = array<States, C>;
// The places first..first+count of direction d and one sample. `row` is the row of the sample's token 0 in arrays
// (S·B·L, ..), and `out_row` in arrays (B·L, ..).
struct Run { row: u32, out_row: u32, first: u32, count: u32, d: u32 }
// Of a token and a channel: delta + bias, δ and u.
struct Step { raw: f32, delta: f32, u: f32 }

var<private> a: Lane;                                   // A·log2(e)
var<private> h: Lane;
var<private> before: array<States, T * C>;              // (T, C): h before each token of a chunk
var<private> decays: array<States, T * C>;              // (T, C): ā of each
var<private> steps: array<vec4<f32>, T * C>;            // (T, C): (δ, u, gy, slope)
var<private> carry: Lane;                               // ā·λ of the step after
var<private> da: Lane;                                  // Σ λ·δ·p
var<private> skip: array<f32, C>;                       // D
var<private> bias: array<f32, C>;
var<private> dd: array<f32, C>;                         // Σ gy·u
var<private> dbias: array<f32, C>;                      // Σ ddelta
var<private> db: States;                                // of one token, summed over the lane's channels
var<private> dc: States;
var<private> du: vec4<f32>;                             // of one token, for each channel
var<private> ddelta: vec4<f32>;
var<private> y: vec4<f32>;                              // what the channels add to out
var<workgroup> sh_sums: array<f32, T * 2u * N * WG>;    // (T, dB|dC, N, WG)

fn times(a: States, b: States) -> States {
    return States(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}
fn sum_of_products(a: States, b: States) -> f32 {
    let v = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
    return v.x + v.y + v.z + v.w;
}
fn exp2_clamped(x: vec4<f32>) -> vec4<f32> {
    return exp2(max(x, vec4(-115.0)));                  // as `decay` of selective_scan.wgsl
}
fn decay_of(delta: f32, a: States) -> States {
    let x = delta * a;
    return States(exp2_clamped(x[0]), exp2_clamped(x[1]), exp2_clamped(x[2]), exp2_clamped(x[3]));
}

// Whether a direction runs from the first place of its order to the last.
fn ascends(d: u32) -> bool {
    return d < PAIRS;
}
// The token of step j of a run.
fn token(j: u32, run: Run) -> u32 {
    let place = run.first + select(run.count - 1u - j, j, ascends(run.d));
    if GRID == 1u && run.d % PAIRS == 1u { return place % p.height * p.width + place / p.height; }
    return place;
}
fn bc_quad(at: u32, n: u32) -> vec4<f32> {
    var v = vec4(0.0);
    if n < N { v.x = xdbl[at + n]; }
    if n + 1u < N { v.y = xdbl[at + n + 1u]; }
    if n + 2u < N { v.z = xdbl[at + n + 2u]; }
    if n + 3u < N { v.w = xdbl[at + n + 3u]; }
    return v;
}
// B (which = 0) or C (1) of token t.
fn bc(run: Run, t: u32, which: u32) -> States {
    let row = select(run.row + t, (run.out_row + t) * p.s + run.d, GRID == 1u);
    let at = row * (p.r + 2u * N) + p.r + which * N;
    return States(bc_quad(at, 0u), bc_quad(at, 4u), bc_quad(at, 8u), bc_quad(at, 12u));
}
fn channel_param(on: u32, at: u32, e: u32) -> f32 {
    if on == 0u || e >= p.e { return 0.0; }
    return channel_params[at + e];
}
fn a_quad(at: u32, n: u32) -> vec4<f32> {
    var v = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if n + i < N { v[i] = -LOG2E * exp(clamp(channel_params[at + n + i], -80.0, 80.0)); }
    }
    return v;
}
// Begins the channels from e on, in direction d.
fn begin(d: u32, e: u32) {
    for (var c = 0u; c < C; c++) {
        let at = (d * p.e + e + c) * N;
        a[c] = States();
        if e + c < p.e { a[c] = States(a_quad(at, 0u), a_quad(at, 4u), a_quad(at, 8u), a_quad(at, 12u)); }
        skip[c] = channel_param(p.has_d, p.d_at + d * p.e, e + c);
        bias[c] = channel_param(p.has_bias, p.bias_at + d * p.e, e + c);
        h[c] = States();
    }
}

// A channel past E reads what is not its own, and counts for nothing.
fn step_forward(run: Run, t: u32, e: u32, c: u32) -> Step {
    let i = (run.row + t) * p.e + e + c;
    let ui = (select(run.row, run.out_row, GRID == 1u) + t) * p.e + e + c;
    let raw = element(delta[i >> HALF], i, HALF) + bias[c];
    var v = Step(raw, raw, element(u[ui >> HALF], ui, HALF));
    if p.softplus == 1u { v.delta = softplus(raw); }
    if e + c >= p.e { v = Step(); }
    return v;
}
// (δ, u, dout·SiLU(z)/S, slope of softplus) of a token and a channel.
fn step_backward(run: Run, t: u32, e: u32, c: u32) -> vec4<f32> {
    let x = step_forward(run, t, e, c);
    let o = (run.out_row + t) * p.e + e + c;
    var gy = element(dout[o >> HALF], o, HALF) / select(f32(p.s), 1.0, GRID == 1u);
    if p.has_z == 1u {
        let i = o + (run.out_row + t) * p.e + p.z_at;
        gy *= gate_of(element(xz[i >> HALF], i, HALF));
    }
    if e + c >= p.e { gy = 0.0; }
    return vec4(x.delta, x.u, gy, select(1.0, softplus_slope(x.raw), p.softplus == 1u));
}

// A step of channel c; what the way back needs is kept.
fn advance_one(run: Run, t: u32, e: u32, j: u32, c: u32, b: States) {
    let x = step_backward(run, t, e, c);
    let decay = decay_of(x.x, a[c]);
    steps[j * C + c] = x;
    before[j * C + c] = h[c];
    decays[j * C + c] = decay;
    h[c] = times(decay, h[c]) + (x.x * x.y) * b;
}
fn advance(run: Run, j: u32, e: u32) {
    if j >= run.count { return; }
    let t = token(j, run);
    let b = bc(run, t, 0u);
    if LOOPS == 1u {
        for (var c = 0u; c < C; c++) { advance_one(run, t, e, j, c, b); }
        return;
    }
    advance_one(run, t, e, j, 0u, b);
    advance_one(run, t, e, j, 1u, b);
    advance_one(run, t, e, j, 2u, b);
    advance_one(run, t, e, j, 3u, b);
}
// Step j backward, of channel c.
fn retreat_one(j: u32, c: u32, b: States, ct: States) {
    let x = steps[j * C + c];
    let decay = decays[j * C + c];
    let past = times(decay, before[j * C + c]);         // p; selective_scan_backward.wgsl says why as a product
    let lambda = x.z * ct + carry[c];
    let lambda_p = times(lambda, past);
    let lambda_b = sum_of_products(lambda, b);
    carry[c] = times(decay, lambda);
    da[c] += x.x * lambda_p;
    db += (x.x * x.y) * lambda;
    dc += x.z * (past + (x.x * x.y) * b);
    du[c] = skip[c] * x.z + x.x * lambda_b;
    ddelta[c] = (x.y * lambda_b + sum_of_products(a[c], lambda_p) / LOG2E) * x.w;
    dd[c] += x.z * x.y;
    dbias[c] += ddelta[c];
}
fn retreat(run: Run, j: u32, e: u32, tid: u32) {
    if j >= run.count { return; }
    let t = token(j, run);
    let b = bc(run, t, 0u);
    let ct = bc(run, t, 1u);
    db = States();
    dc = States();
    if LOOPS == 1u {
        for (var c = 0u; c < C; c++) { retreat_one(j, c, b, ct); }
    } else {
        retreat_one(j, 0u, b, ct);
        retreat_one(j, 1u, b, ct);
        retreat_one(j, 2u, b, ct);
        retreat_one(j, 3u, b, ct);
    }
    put(j, 0u, tid, db);
    put(j, 1u, tid, dc);
    write_two(0u, run.row + t, e, du.xy);
    write_two(0u, run.row + t, e + 2u, du.zw);
    write_two(p.ddelta_at, run.row + t, e, ddelta.xy);
    write_two(p.ddelta_at, run.row + t, e + 2u, ddelta.zw);
}

// Contributions of a lane to dB (which = 0) or dC (1) of step j.
fn put(j: u32, which: u32, tid: u32, v: States) {
    let at = (j * 2u + which) * N * WG + tid;
    put_quad(at, 0u, v[0]);
    put_quad(at, 4u, v[1]);
    put_quad(at, 8u, v[2]);
    put_quad(at, 12u, v[3]);
}
fn put_quad(at: u32, n: u32, v: vec4<f32>) {
    if n < N { sh_sums[at + n * WG] = v.x; }
    if n + 1u < N { sh_sums[at + (n + 1u) * WG] = v.y; }
    if n + 2u < N { sh_sums[at + (n + 2u) * WG] = v.z; }
    if n + 3u < N { sh_sums[at + (n + 3u) * WG] = v.w; }
}
fn sum_quad(at: u32) -> f32 {
    return sh_sums[at] + sh_sums[at + 1u] + sh_sums[at + 2u] + sh_sums[at + 3u];
}
// Sums dB and dC of a chunk over the lanes, and writes them.
fn flush(run: Run, tid: u32, tile: u32) {
    workgroupBarrier();
    for (var i = tid; i < run.count * 2u * N; i += WG) {
        let row = run.row + token(i / (2u * N), run);
        let v = sum_quad(i * WG) + sum_quad(i * WG + 4u) + sum_quad(i * WG + 8u) + sum_quad(i * WG + 12u);
        gradients[p.bc_at + (row * p.tiles + tile) * 2u * N + i % (2u * N)] = bitcast<u32>(v);
    }
    workgroupBarrier();
}
// Stores du or ddelta, which begin at `begin`, of a token's channels e and e + 1.
fn write_two(begin: u32, row: u32, e: u32, v: vec2<f32>) {
    if e >= p.e { return; }
    let i = row * p.e + e;
    if HALF == 1u {
        gradients[begin + (i >> 1u)] = pair(v);
        return;
    }
    gradients[begin + i] = bitcast<u32>(v.x);
    if e + 1u < p.e { gradients[begin + i + 1u] = bitcast<u32>(v.y); }
}

// Quad q of the saved states of chunk `at` and channel e.
fn state_quad(at: u32, e: u32, q: u32) -> vec4<f32> {
    if q >= NQ || e >= p.e { return vec4(0.0); }
    return element4(saved[(at * SQ + q / (1u + HALF)) * p.e + e], q, HALF);
}
// Sets h of channel c to the states of chunk `at`, or to 0.
fn restore(c: u32, at: u32, e: u32, starts: bool) {
    h[c] = States();
    if !starts {
        h[c] = States(
            state_quad(at, e + c, 0u), state_quad(at, e + c, 1u), state_quad(at, e + c, 2u), state_quad(at, e + c, 3u),
        );
    }
}
// Stores h of channel c as the states of chunk `at`.
fn save(c: u32, at: u32, e: u32) {
    if e + c >= p.e { return; }
    save_quads(at, e + c, 0u, h[c][0], h[c][1]);
    save_quads(at, e + c, 2u, h[c][2], h[c][3]);
}
fn save_quads(at: u32, e: u32, q: u32, first: vec4<f32>, second: vec4<f32>) {
    if q >= NQ { return; }
    let i = (at * SQ + q / (1u + HALF)) * p.e + e;
    if HALF == 1u {
        states[i] = vec4(halves(first), halves(second));
        return;
    }
    states[i] = bitcast<vec4<u32>>(first);
    if q + 1u < NQ { states[i + p.e] = bitcast<vec4<u32>>(second); }
}

// Writes the results of two channels, or adds them to those of the directions before.
fn write_out(row: u32, e: u32, v: vec2<f32>, adds: bool) {
    if e >= p.e { return; }
    let i = row * p.e + e;
    if HALF == 1u {
        out[i >> 1u] = pair(v + select(vec2(0.0), unpack2x16float(out[i >> 1u]), adds));
        return;
    }
    out[i] = bitcast<u32>(v.x + select(0.0, bitcast<f32>(out[i]), adds));
    if e + 1u < p.e { out[i + 1u] = bitcast<u32>(v.y + select(0.0, bitcast<f32>(out[i + 1u]), adds)); }
}
// The factor of y in out: SiLU(z)/S, or 1/S without z, or 1 with GRID.
fn gate(row: u32, e: u32) -> f32 {
    if GRID == 1u { return 1.0; }
    if p.has_z == 0u { return 1.0 / f32(p.s); }
    let i = row * 2u * p.e + p.z_at + e;
    return gate_of(element(xz[i >> HALF], i, HALF)) / f32(p.s);
}

// A step of channel c, and what it adds to out.
fn out_one(run: Run, t: u32, e: u32, c: u32, b: States, ct: States) {
    let x = step_forward(run, t, e, c);
    h[c] = times(decay_of(x.delta, a[c]), h[c]) + (x.delta * x.u) * b;
    y[c] = (sum_of_products(ct, h[c]) + skip[c] * x.u) * gate(run.out_row + t, e + c);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let e = (wid.x * WG + tid) * C;
    for (var s = 0u; s < p.s; s++) {
        let seq = s * p.b + b;
        let run = Run(seq * p.l, b * p.l, 0u, p.l, s);
        begin(s, e);
        for (var j = 0u; j < p.l; j++) {
            let t = token(j, run);
            let b_t = bc(run, t, 0u);
            let c_t = bc(run, t, 1u);
            if LOOPS == 1u {
                for (var c = 0u; c < C; c++) { out_one(run, t, e, c, b_t, c_t); }
            } else {
                out_one(run, t, e, 0u, b_t, c_t);
                out_one(run, t, e, 1u, b_t, c_t);
                out_one(run, t, e, 2u, b_t, c_t);
                out_one(run, t, e, 3u, b_t, c_t);
            }
            write_out(b * p.l + t, e, y.xy, s > 0u);
            write_out(b * p.l + t, e + 2u, y.zw, s > 0u);
            let place = select(p.l - 1u - j, j, ascends(s));
            let ends = select(place % T == 0u, place % T == T - 1u || place == p.l - 1u, ascends(s));
            if ends && p.chunks > 0u {
                let at = seq * p.chunks + place / T;
                save(0u, at, e);
                save(1u, at, e);
                save(2u, at, e);
                save(3u, at, e);
            }
        }
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let s = wid.z;
    let seq = s * p.b + b;
    let e = (wid.x * WG + tid) * C;
    begin(s, e);
    for (var i = 0u; i < p.chunks; i++) {               // from the last chunk to the first
        let place = select(i, p.chunks - 1u - i, ascends(s));
        let run = Run(seq * p.l, b * p.l, place * T, min(T, p.l - place * T), s);
        let at = seq * p.chunks + select(place + 1u, place - 1u, ascends(s));
        let starts = i + 1u == p.chunks;
        for (var c = 0u; c < C; c++) { restore(c, at, e, starts); }
        if LOOPS == 1u {
            for (var j = 0u; j < T; j++) { advance(run, j, e); }
            for (var j = T; j > 0u; j--) { retreat(run, j - 1u, e, tid); }
        } else {
            advance(run, 0u, e);
            advance(run, 1u, e);
            advance(run, 2u, e);
            advance(run, 3u, e);
            retreat(run, 3u, e, tid);
            retreat(run, 2u, e, tid);
            retreat(run, 1u, e, tid);
            retreat(run, 0u, e, tid);
        }
        flush(run, tid, wid.x);
    }
    let at = p.dchannel_params_at + b * p.channel_params_len;
    for (var c = 0u; c < C; c++) {
        if e + c < p.e {
            let grad = times(da[c], a[c]);
            let first = at + (s * p.e + e + c) * N;
            for (var n = 0u; n < N; n++) { gradients[first + n] = bitcast<u32>(grad[n / 4u][n % 4u] / LOG2E); }
            gradients[at + p.d_at + s * p.e + e + c] = bitcast<u32>(select(0.0, dd[c], p.has_d == 1u));
            gradients[at + p.bias_at + s * p.e + e + c] = bitcast<u32>(select(0.0, dbias[c], p.has_bias == 1u));
        }
    }
}
