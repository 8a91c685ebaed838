// pool — max pooling of maps (F.max_pool2d). Channels come last, as in conv2d.wgsl.
//   shapes    x, dx (B, H, W, C)   y, dy (B, H', W', C), H' = ⌊(H + 2·pad − k)/stride⌋ + 1, W' likewise
//             best (B, H', W', ⌈C/4⌉), one byte per channel
//   forward   y = the largest number of the window's cells inside the map. best = place ky·kw + kx of the first of them
//             in row-major order: behind a ReLU ties are common.
//   backward  dx of a cell = Σ dy of the windows in which it is the best. A gather, so no atomics. It overwrites dx.
//   saves     best
//   threads   one invocation per pixel and four channels: pixels of y forward, of x backward
//   VEC = 1   C is a multiple of 4: four channels are loaded and stored at once
//   HALF = 1  maps hold f16, two in a word; VEC is 1 then
//   floor     per element of x 4 bytes, per element of y 5, in either direction; 2 and 3 in f16
// uses lib/grid, lib/half, lib/element
struct Params {
    n: u32, words: u32, c: u32, h: u32, w: u32, out_h: u32, out_w: u32,   // words = ⌈C/4⌉
    kh: u32, kw: u32, stride_y: u32, stride_x: u32, pad_y: u32, pad_x: u32,
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> best: array<u32>;
@group(0) @binding(4) var<storage, read> saved_best: array<u32>;
@group(0) @binding(5) var<storage, read> dy: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<u32>>;

// Sample, row, column and word of item i, in maps of these rows and columns.
fn item(i: u32, rows: u32, cols: u32) -> vec4<u32> {
    let pixel = i / p.words;
    return vec4(pixel / cols / rows, pixel / cols % rows, pixel % cols, i % p.words);
}
// Indices of the four channels of a word in the pixel `at`. Channels past the last one repeat it.
fn four(at: u32, word: u32) -> vec4<u32> {
    return at * p.c + min(word * 4u + vec4(0u, 1u, 2u, 3u), vec4(p.c - 1u));
}
fn x4(at: u32, word: u32) -> vec4<f32> {
    let quad = at * p.words + word;
    if VEC == 1u { return element4(x[quad >> HALF], quad, HALF); }
    let i = four(at, word);
    return bitcast<vec4<f32>>(vec4(
        x[i.x >> 2u][i.x & 3u], x[i.y >> 2u][i.y & 3u], x[i.z >> 2u][i.z & 3u], x[i.w >> 2u][i.w & 3u]));
}
fn dy4(at: u32, word: u32) -> vec4<f32> {
    let quad = at * p.words + word;
    if VEC == 1u { return element4(dy[quad >> HALF], quad, HALF); }
    let i = four(at, word);
    return bitcast<vec4<f32>>(vec4(
        dy[i.x >> 2u][i.x & 3u], dy[i.y >> 2u][i.y & 3u], dy[i.z >> 2u][i.z & 3u], dy[i.w >> 2u][i.w & 3u]));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = item(i, p.out_h, p.out_w);
    var most = vec4(0.0);
    var place = vec4(0u);
    var found = false;
    for (var ky = 0u; ky < p.kh; ky++) {
        for (var kx = 0u; kx < p.kw; kx++) {
            let row = at.y * p.stride_y + ky - p.pad_y;  // below 0 it wraps to a huge number, outside too
            let col = at.z * p.stride_x + kx - p.pad_x;
            if row < p.h && col < p.w {
                let v = x4((at.x * p.h + row) * p.w + col, at.w);
                let better = (v > most) | vec4(!found);
                most = select(most, v, better);
                place = select(place, vec4(ky * p.kw + kx), better);
                found = true;
            }
        }
    }
    best[i] = place.x | (place.y << 8u) | (place.z << 16u) | (place.w << 24u);
    if HALF == 1u {
        let words = halves(most);
        y[i >> 1u][2u * (i & 1u)] = words.x;
        y[i >> 1u][2u * (i & 1u) + 1u] = words.y;
    } else if VEC == 1u {
        y[i] = bitcast<vec4<u32>>(most);
    } else {
        for (var j = 0u; j < min(4u, p.c - at.w * 4u); j++) {
            let to = i / p.words * p.c + at.w * 4u + j;
            y[to >> 2u][to & 3u] = bitcast<u32>(most[j]);
        }
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = item(i, p.h, p.w);
    let row = at.y + p.pad_y;
    let col = at.z + p.pad_x;
    // the windows from the first that ends behind the cell to the last that starts before it
    let first = (max(vec2(row, col) + 1u, vec2(p.kh, p.kw)) - vec2(p.kh, p.kw) + vec2(p.stride_y, p.stride_x) - 1u)
        / vec2(p.stride_y, p.stride_x);
    let last = min(vec2(row, col) / vec2(p.stride_y, p.stride_x), vec2(p.out_h, p.out_w) - 1u);
    var sum = vec4(0.0);
    for (var oy = first.x; oy <= last.x; oy++) {
        for (var ox = first.y; ox <= last.y; ox++) {
            let pixel = (at.x * p.out_h + oy) * p.out_w + ox;
            let place = (row - oy * p.stride_y) * p.kw + col - ox * p.stride_x;
            let theirs = (vec4(saved_best[pixel * p.words + at.w]) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
            sum += select(vec4(0.0), dy4(pixel, at.w), theirs == vec4(place));
        }
    }
    if HALF == 1u {
        let words = halves(sum);
        dx[i >> 1u][2u * (i & 1u)] = words.x;
        dx[i >> 1u][2u * (i & 1u) + 1u] = words.y;
    } else if VEC == 1u {
        dx[i] = bitcast<vec4<u32>>(sum);
    } else {
        for (var j = 0u; j < min(4u, p.c - at.w * 4u); j++) {
            let to = i / p.words * p.c + at.w * 4u + j;
            dx[to >> 2u][to & 3u] = bitcast<u32>(sum[j]);
        }
    }
}
