// conv2d_coop — the products of conv2d.wgsl on cooperative matrices (CUDA: tensor cores), operands rounded to f16, sums
// in f32 (PyTorch: F.conv2d under torch.autocast with float16), or with HIGH = 1 split into two f16 each.
//   matmul_coop.wgsl, whose source follows this one, multiplies. This file says where the patches of its operands lie:
//   weights and dy of dw are matrices, and the other operand is gathered, x or dy of dx. The scalars, forms, stores and
//   names are those of conv2d.wgsl and lib/conv2d.
//   gathered  Rows of y and dx run along k, that is along the channels of a tap. Their pixels do not change from step
//             to step, and of the tap only the patch's first k is kept. Rows of dw run along n, that is along the
//             channels of a tap, which do not change; the pixel of the first row is kept. Both move by KS, whose
//             digits are computed once: a step carries, and divides nothing.
//   VEC = 2   channels of a group are multiples of 8 in every operand, 1: of 4, 0: single loads, with divisions for dw.
//   floor     2·B·H'·W'·O·(C/G)·kh·kw flops at the f16 rate (three times that with HIGH)
//   tried     instructions of the loop for 32 matrix products of 16×8×16 on NVK Turing, in tiles of 128 × 128, maps in
//             f16, channels in eights: y 331, dx 447, dw 670 (cargo xtask static turing --models=resnet50). With code
//             that loads either operand of dw, as in matmul_coop.wgsl, 889. A stem of three channels takes 913 for y.
// uses ../matmul_coop, lib/conv2d, lib/grid, lib/half, lib/element, lib/operands, lib/patches, lib/results, lib/coop16
// and lib/product16 or lib/coop8 and lib/product8

const ALIKE = false;                                   // one operand is a matrix, the other is gathered

// The matrix of an operand that is one.
fn base_of(second: bool, s: u32) -> u32 {
    return select(s * p.a_stride, weights_at(s), second);
}
fn is_gathered(second: bool) -> bool {
    return second == (FORM == TN);
}
struct Places {
    rows: vec4<u32>,                                     // of a matrix: lib/patches
    lanes: Gather,
    k: vec3<u32>,                                        // of the patch
    step: vec3<u32>,                                     // KS
    radix: vec2<u32>,
}
fn places(second: bool, o: Operand, s: u32, k: u32) -> Places {
    var at: Places;
    if !is_gathered(second) {
        at.rows = matrix_places(second, o);
        return at;
    }
    at.radix = radix(s);
    at.step = split(KS, at.radix);
    at.k = split(k + o.k, at.radix);
    let row = o.first + o.row;
    let four = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(o.size - 1u));
    if FORM != TN {
        at.lanes = gather_pixels(s, four);
    } else if VEC == 0u {
        at.lanes = gather_columns(s, four);
    } else {
        at.lanes = gather_columns(s, vec4(min(row, o.size - select(4u, 8u, eights(second)))));
    }
    return at;
}
fn moved(second: bool, at: Places) -> Places {
    var next = at;
    if is_gathered(second) { next.k = plus(at.k, at.step, at.radix); }
    return next;
}
fn first_patch(second: bool, o: Operand, at: Places, k: u32, count: u32) -> Patch {
    if is_gathered(second) { return gathered_patch(second, o, at, count); }
    return matrix_first(second, o, at.rows, k, count);
}
fn next_patch(second: bool, o: Operand, at: Places, k: u32) -> Patch {
    if is_gathered(second) { return gathered_patch(second, o, at, KS); }
    return matrix_next(second, o, at.rows, k);
}

// The patch of a step of `count` values of k.
fn gathered_patch(second: bool, o: Operand, at: Places, count: u32) -> Patch {
    var r: Patch;
    if !o.has { return r; }
    let one = vec3(0u, 0u, 1u);
    if FORM == TN {
        let k1 = plus(at.k, one, at.radix);
        let k2 = plus(k1, one, at.radix);
        r.x = gathered_row(second, at, 0u, at.k, o.k < count);
        r.y = gathered_row(second, at, 0u, k1, o.k + 1u < count);
        r.z = gathered_row(second, at, 0u, k2, o.k + 2u < count);
        r.w = gathered_row(second, at, 0u, plus(k2, one, at.radix), o.k + 3u < count);
        return r;
    }
    if VEC == 0u { return gathered_singles(at, max(count, o.k) - o.k); }
    r.x = gathered_row(second, at, 0u, at.k, o.k < count);
    r.y = gathered_row(second, at, 1u, at.k, o.k < count);
    if eights(second) { return r; }
    r.z = gathered_row(second, at, 2u, at.k, o.k < count);
    r.w = gathered_row(second, at, 3u, at.k, o.k < count);
    return r;
}
// 16 bytes of a lane from k on: four f32, four f16 as f32, or eight f16. Without vectors, in dw: one f32 of each lane.
fn gathered_row(second: bool, at: Places, lane: u32, k: vec3<u32>, within: bool) -> vec4<u32> {
    if VEC == 0u {
        var four: vec4<f32>;
        for (var i = 0u; i < 4u; i++) { four[i] = gathered_single(found(at.lanes, i, k), within); }
        return bitcast<vec4<u32>>(four);
    }
    let src = found(at.lanes, lane, k);
    let inside = within && src.y == 1u;
    let i = select(0u, src.x, inside);
    if vectors(second) { return select(vec4(0u), words(second, i >> (2u + is16(second))), inside); }
    if FORM == TN { return select(vec4(0u), bitcast<vec4<u32>>(b_quad(i)), inside); }
    return select(vec4(0u), bitcast<vec4<u32>>(a_quad(i)), inside);
}
fn gathered_single(src: vec2<u32>, within: bool) -> f32 {
    let inside = within && src.y == 1u;
    let i = select(0u, src.x, inside);
    if FORM == TN { return select(0.0, b1(i), inside); }
    return select(0.0, a1(i), inside);
}
// Four rows along k, element by element; `count` elements of a row are in the sum.
fn gathered_singles(at: Places, count: u32) -> Patch {
    var columns: mat4x4<f32>;                            // column i: element i of the rows
    var k = at.k;
    for (var i = 0u; i < 4u; i++) {
        for (var lane = 0u; lane < 4u; lane++) {
            columns[i][lane] = gathered_single(found(at.lanes, lane, k), i < count);
        }
        k = plus(k, vec3(0u, 0u, 1u), at.radix);
    }
    let rows = transpose(columns);
    return Patch(bitcast<vec4<u32>>(rows[0]), bitcast<vec4<u32>>(rows[1]), bitcast<vec4<u32>>(rows[2]),
                 bitcast<vec4<u32>>(rows[3]));
}
