// conv2d_depthwise — the convolution of conv2d.wgsl with one channel a group (F.conv2d with groups = C = O): each
// channel is filtered by its own K×K taps, K = 3, 5 or 7, with the stride S or the dilation E both ways. That is no
// product of matrices.
//   shapes    x, dx (B, H, W, C)   y, dy (B, H', W', C)   w, dw (C, 1, K, K)   taps (K, K, C), packed by conv2d.pack
//   walk      BACK 0  y[b,i,j,c] = bias[c] + Σ_{ky,kx} w[c,ky,kx]·x[b, i·S + ky − top, j·S + kx − left, c]
//             BACK 1  dx[b,y,x,c] = Σ w[c,ky,kx]·dy[b, (y + top − ky)/S, (x + left − kx)/S, c]
//                     for each phase, that is for each rest of (y, x) by S (see conv2d.wgsl), a walk without stride
//                     over the taps ky = tap + S·t, t < ⌈K/S⌉, in reverse; taps past K count as 0
//             With E > 1, S is 1 and taps are E·ky and E·kx. Each rest of (i, j) by E is a grid of its own, whose
//             pixels read one grid of x alone, and there the walk is one without dilation. A map with fewer rows or
//             columns than E has as many grids as it has rows or columns.
//   sums      dw[c,ky,kx] = Σ_{b,i,j} dy[b,i,j,c]·x[b, i·S + ky − top, j·S + kx − left, c]   dbias[c] = Σ dy
//             each lane sums a share of y into part, and finish adds the shares in a fixed order
//   saves     nothing but the operands. All results are overwritten.
//   threads   Neighboring lanes have neighboring channels, so they load neighboring numbers. A lane walks down a strip
//             of X = 4 columns of its output and loads each row of its input once: the row is added to the sums of all
//             the output rows that read it, DEPTH = ⌈K/S⌉ of them, which are kept in registers like the taps. A lane of
//             `sums` keeps K·K sums and the last DEPTH rows of dy.
//             After `run` rows another lane takes over, which loads the K − S rows between them again.
//   floor     4·(|x| + |y|) bytes, as each of the three passes reads one map and writes or reads the other; 2 in f16
//   tried     taps in one loop of K·K: compilers write out no more than 32 turns, and an array leaves the registers
//             where an index is no constant. K = 7 on NVK Ampere (registers, bytes of local memory, instructions of
//             the loop): walk 64, 196, 677, with two loops 104, 0, 623; sums 64, 196, 691 and 208, 0, 763.
//   const K: 3, 5 or 7;  const S: stride, 1 to 4;  const BACK
//   IN16, OUT16, DY16 = 1   x, y or dy holds f16, two in a word, and C is even. Where walk writes f16, a lane has two
//             channels (CH) of 2 columns, because two f16 are one word, instead of one channel of 4.
// uses lib/grid, lib/half, lib/element
struct Params {
    lanes: u32, c: u32, units: u32, strips: u32, runs: u32, run: u32,  // units = B·grids_h·grids_w·runs·strips
    h: u32, w: u32, top: u32, left: u32,                    // the map that is read
    rows: u32, dilation: u32, grids_h: u32, grids_w: u32,   // of a grid of pixels: of y, or of a phase of dx; E
    out_h: u32, out_w: u32, has_bias: u32, per: u32, shares: u32,  // the map that is written; sums: dy
}
const WG = 64u;
const CH = 1u + OUT16;
const X = 4u / CH;
const STEP = S - BACK * (S - 1u);                       // S forth, 1 back
const TAPS = K - BACK * (K - (K + S - 1u) / S);         // K forth, ⌈K/S⌉ back
const DEPTH = (TAPS + STEP - 1u) / STEP;
const SPAN = (X - 1u) * STEP + TAPS;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // walk with BACK 1: dy
@group(0) @binding(2) var<storage, read> taps: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;       // walk with BACK 1: dx
@group(0) @binding(5) var<storage, read> dy: array<u32>;
@group(0) @binding(6) var<storage, read_write> part: array<f32>;    // (shares, K·K + 1, C)
@group(0) @binding(7) var<storage, read> parts: array<f32>;
@group(0) @binding(8) var<storage, read_write> dw: array<f32>;
@group(0) @binding(9) var<storage, read_write> dbias: array<f32>;

// The part of the output that a lane walks: sample, first row, row behind the last, first column. They are those of a
// grid whose pixel (i, j) is E·(i, j) + own.
struct Strip { b: u32, first: u32, end: u32, col: u32, own: vec2<u32> }
fn strip(unit: u32) -> Strip {
    let first = unit / p.strips % p.runs * p.run;
    let grid = unit / (p.strips * p.runs);
    let own = vec2(grid / p.grids_w % p.grids_h, grid % p.grids_w);
    let b = grid / (p.grids_w * p.grids_h);
    return Strip(b, first, min(first + p.run, p.rows), unit % p.strips * X, own);
}

var<private> line: array<f32, SPAN * CH>;
// Loads SPAN columns, E apart, of a row of CH channels from c on. Rows and columns outside of the map count as 0; those
// below 0 wrap to huge numbers, and so are outside too.
fn load(b: u32, row: u32, col: u32, c: u32) {
    for (var i = 0u; i < SPAN; i++) {
        let at = col + i * p.dilation;
        for (var ch = 0u; ch < CH; ch++) { line[i * CH + ch] = 0.0; }
        if row < p.h && at < p.w {
            let from_ = ((b * p.h + row) * p.w + at) * p.c + c;
            line[i * CH] = element(x[from_ >> IN16], from_, IN16);
            if CH == 2u { line[i * CH + OUT16] = element(x[(from_ + OUT16) >> IN16], from_ + OUT16, IN16); }
        }
    }
}

// Loads the taps of CH channels from c on; of a phase of dx those whose first is `first`, in reverse.
var<private> w: array<f32, TAPS * TAPS * CH>;
fn load_taps(c: u32, first: vec2<u32>) {
    for (var ky = 0u; ky < TAPS; ky++) {
        for (var kx = 0u; kx < TAPS; kx++) {
            var at = vec2(ky, kx);
            if BACK == 1u { at = first + S * (vec2(TAPS - 1u) - at); }
            for (var ch = 0u; ch < CH; ch++) {
                let i = (ky * TAPS + kx) * CH + ch;
                w[i] = 0.0;
                if at.x < K && at.y < K { w[i] = taps[(at.x * K + at.y) * p.c + c + ch]; }
            }
        }
    }
}

@compute @workgroup_size(WG)
fn walk(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * WG + tid;
    if lane >= p.lanes { return; }
    let across = p.c / CH;
    let c = lane % across * CH;
    let at = strip(lane / across % p.units);
    let number = lane / across / p.units;                   // of the phase; 0 for y
    let phase = vec2(number / S, number % S);
    let padded = phase + vec2(p.top, p.left);
    // the pixel that tap 0 reads for pixel (0, 0) of the grid
    var corner = at.own - padded;
    if BACK == 1u { corner = at.own + padded / S - (TAPS - 1u) * p.dilation; }
    load_taps(c, padded % S);
    var start: array<f32, CH>;
    for (var ch = 0u; ch < CH; ch++) {
        if p.has_bias == 1u { start[ch] = bias[c + ch]; }
    }
    var sum: array<f32, DEPTH * X * CH>;                // of the output rows i, i − 1, …
    for (var i = at.first; i < at.end + DEPTH - 1u; i++) {
        for (var d = DEPTH - 1u; d > 0u; d--) {
            for (var j = 0u; j < X * CH; j++) { sum[d * X * CH + j] = sum[(d - 1u) * X * CH + j]; }
        }
        for (var j = 0u; j < X * CH; j++) { sum[j] = start[j % CH]; }
        for (var q = 0u; q < STEP; q++) {
            load(at.b, (i * STEP + q) * p.dilation + corner.x, at.col * STEP * p.dilation + corner.y, c);
            for (var d = 0u; d < DEPTH; d++) {
                let ky = d * STEP + q;
                if ky < TAPS {
                    for (var kx = 0u; kx < TAPS; kx++) {
                        for (var j = 0u; j < X * CH; j++) {
                            let ch = j % CH;
                            sum[d * X * CH + j] += line[(j / CH * STEP + kx) * CH + ch] * w[(ky * TAPS + kx) * CH + ch];
                        }
                    }
                }
            }
        }
        let row = i + 1u - DEPTH;                       // has read its last row
        if i + 1u >= at.first + DEPTH {
            for (var j = 0u; j < X; j++) {
                var to = vec2(row, at.col + j) * p.dilation + at.own;
                if BACK == 1u { to = phase + S * to; }
                if to.x < p.out_h && to.y < p.out_w {
                    let place = ((at.b * p.out_h + to.x) * p.out_w + to.y) * p.c + c;
                    let done = ((DEPTH - 1u) * X + j) * CH;
                    if OUT16 == 1u {
                        y[place >> 1u] = pair(vec2(sum[done], sum[done + OUT16]));
                    } else {
                        y[place] = bitcast<u32>(sum[done]);
                    }
                }
            }
        }
    }
}

@compute @workgroup_size(WG)
fn sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * WG + tid;
    if lane >= p.lanes { return; }
    let c = lane % p.c;
    let share = lane / p.c;
    var sum: array<f32, K * K>;
    var total = 0.0;                                    // of dy
    for (var unit = share * p.per; unit < min((share + 1u) * p.per, p.units); unit++) {
        let at = strip(unit);
        var g: array<f32, DEPTH * X>;                   // rows i, i − 1, … of dy
        for (var i = 0u; i < DEPTH * X; i++) { g[i] = 0.0; }
        for (var i = at.first; i < at.end + DEPTH - 1u; i++) {
            for (var d = DEPTH - 1u; d > 0u; d--) {
                for (var j = 0u; j < X; j++) { g[d * X + j] = g[(d - 1u) * X + j]; }
            }
            for (var j = 0u; j < X; j++) {
                g[j] = 0.0;
                let to = vec2(i, at.col + j) * p.dilation + at.own;
                if i < at.end && to.x < p.out_h && to.y < p.out_w {
                    let from_ = ((at.b * p.out_h + to.x) * p.out_w + to.y) * p.c + c;
                    g[j] = element(dy[from_ >> DY16], from_, DY16);
                }
                total += g[j];
            }
            for (var q = 0u; q < S; q++) {
                let corner = at.own - vec2(p.top, p.left);
                load(at.b, (i * S + q) * p.dilation + corner.x, at.col * S * p.dilation + corner.y, c);
                for (var d = 0u; d < DEPTH; d++) {
                    let ky = d * S + q;
                    if ky < K {
                        for (var kx = 0u; kx < K; kx++) {
                            for (var j = 0u; j < X; j++) { sum[ky * K + kx] += line[j * S + kx] * g[d * X + j]; }
                        }
                    }
                }
            }
        }
    }
    for (var ky = 0u; ky < K; ky++) {
        for (var kx = 0u; kx < K; kx++) {
            let i = ky * K + kx;
            part[(share * (K * K + 1u) + i) * p.c + c] = sum[i];
        }
    }
    part[(share * (K * K + 1u) + K * K) * p.c + c] = total;
}

// Sums part over its shares in a fixed order. A workgroup takes 32 columns and 8 interleaved groups of shares.
var<workgroup> sh_sum: array<f32, 256>;
@compute @workgroup_size(256)
fn finish(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let cols = (K * K + 1u) * p.c;
    let col = grid_row(wid) * 32u + tid % 32u;
    var v = 0.0;
    if col < cols {
        for (var share = tid / 32u; share < p.shares; share += 8u) { v += parts[share * cols + col]; }
    }
    sh_sum[tid] = v;
    workgroupBarrier();
    if tid >= 32u || col >= cols { return; }
    for (var i = 1u; i < 8u; i++) { v += sh_sum[tid + 32u * i]; }
    let tap = col / p.c;
    let c = col % p.c;
    if tap == K * K { dbias[c] = v; } else { dw[c * K * K + tap] = v; }
}
