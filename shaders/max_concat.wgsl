// max_concat — the maximum over a set of points beside each point (PointNet's global feature beside its local ones).
//   shapes    x, dx (R, K, C)   y, dy (R, K, 2C)   best (R, ⌈C/4⌉), one byte per channel
//   forward   y[r,k] = [max_k x[r,k], x[r,k]].  best = the first k at which the maximum stands: behind a ReLU ties are
//             common.
//   backward  dx[r,k,c] = dy[r,k,C+c] + (Σ_k dy[r,k,c] if k is the best, else 0). It overwrites dx.
//   saves     best
//   threads   one invocation per set and four channels, which it walks through twice
//   VEC = 1   C is a multiple of 4: four channels are loaded and stored at once
//   floor     per element of x 12 bytes, in either direction: the second walk finds its values in a cache
// uses lib/grid
struct Params { n: u32, words: u32, k: u32, c: u32 }   // words = ⌈C/4⌉
const WG = 64u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> best: array<u32>;
@group(0) @binding(4) var<storage, read> saved_best: array<u32>;
@group(0) @binding(5) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;

// Indices of the four channels of a word in a row of C that starts at `at`. Channels past the last one repeat it.
fn four(at: u32, word: u32) -> vec4<u32> {
    return at + min(word * 4u + vec4(0u, 1u, 2u, 3u), vec4(p.c - 1u));
}
fn x4(at: u32, word: u32) -> vec4<f32> {
    if VEC == 1u { return x[(at >> 2u) + word]; }
    let i = four(at, word);
    return vec4(x[i.x >> 2u][i.x & 3u], x[i.y >> 2u][i.y & 3u], x[i.z >> 2u][i.z & 3u], x[i.w >> 2u][i.w & 3u]);
}
fn dy4(at: u32, word: u32) -> vec4<f32> {
    if VEC == 1u { return dy[(at >> 2u) + word]; }
    let i = four(at, word);
    return vec4(dy[i.x >> 2u][i.x & 3u], dy[i.y >> 2u][i.y & 3u], dy[i.z >> 2u][i.z & 3u], dy[i.w >> 2u][i.w & 3u]);
}
fn put_y(at: u32, word: u32, v: vec4<f32>) {
    if VEC == 1u {
        y[(at >> 2u) + word] = v;
        return;
    }
    for (var j = 0u; j < min(4u, p.c - word * 4u); j++) {
        let to = at + word * 4u + j;
        y[to >> 2u][to & 3u] = v[j];
    }
}
fn put_dx(at: u32, word: u32, v: vec4<f32>) {
    if VEC == 1u {
        dx[(at >> 2u) + word] = v;
        return;
    }
    for (var j = 0u; j < min(4u, p.c - word * 4u); j++) {
        let to = at + word * 4u + j;
        dx[to >> 2u][to & 3u] = v[j];
    }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let first = i / p.words * p.k;
    let word = i % p.words;
    var most = x4(first * p.c, word);
    var place = vec4(0u);
    for (var k = 1u; k < p.k; k++) {
        let v = x4((first + k) * p.c, word);
        place = select(place, vec4(k), v > most);
        most = max(most, v);
    }
    best[i] = place.x | (place.y << 8u) | (place.z << 16u) | (place.w << 24u);
    for (var k = 0u; k < p.k; k++) {
        let row = 2u * (first + k) * p.c;
        put_y(row, word, most);
        put_y(row + p.c, word, x4((first + k) * p.c, word));
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let first = i / p.words * p.k;
    let word = i % p.words;
    var sum = vec4(0.0);
    for (var k = 0u; k < p.k; k++) { sum += dy4(2u * (first + k) * p.c, word); }
    let place = (vec4(saved_best[i]) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    for (var k = 0u; k < p.k; k++) {
        let own = dy4((2u * (first + k) + 1u) * p.c, word);
        put_dx((first + k) * p.c, word, own + select(vec4(0.0), sum, place == vec4(k)));
    }
}
