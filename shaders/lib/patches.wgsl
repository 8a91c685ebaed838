// lib/patches — patches of an operand of matmul_coop.wgsl that lies in memory as a matrix.
// Where the rows of a patch lie, in units of 16 bytes from the first k of its step on.
fn matrix_places(second: bool, o: Operand) -> vec4<u32> {
    let rows = vec4(0u, 1u, 2u, 3u);
    let unit = 2u + is16(second);
    if by_k(second) { return (o.base + min(o.first + o.row + rows, vec4(o.size - 1u)) * o.ld + o.k) >> vec4(unit); }
    return ((o.base + o.k * o.ld + min(o.first + o.row, o.size - (1u << unit))) >> unit) + rows * (o.ld >> unit);
}
// The distance in memory to the step that starts at k, in units of 16 bytes.
fn distance(second: bool, o: Operand, k: u32) -> u32 {
    return select(k * o.ld, k, by_k(second)) >> (2u + is16(second));
}
// The patch of a whole step.
fn whole_patch(second: bool, o: Operand, at: vec4<u32>, k: u32) -> Patch {
    var r: Patch;
    if !o.has { return r; }
    var i = at + distance(second, o, k);
    if !by_k(second) { i = at.x + distance(second, o, k) + vec4(0u, 1u, 2u, 3u) * (o.ld >> (2u + is16(second))); }
    r.x = words(second, i.x);
    r.y = words(second, i.y);
    if by_k(second) && eights(second) { return r; }
    r.z = words(second, i.z);
    r.w = words(second, i.w);
    return r;
}
// Row j of the patch of a first step of `count` values of k. Where rows run along k, `count` is a multiple of the
// elements in 16 bytes: they are all past it, or none is.
fn first_row(second: bool, o: Operand, at: u32, j: u32, count: u32) -> vec4<u32> {
    let inside = o.has && select(o.k + j, o.k, by_k(second)) < count;
    return select(vec4(0u), words(second, select(0u, at, inside)), inside);
}
// Row j of the patch of the step from k on, as four f32 that are loaded one by one. From k = `end` on they are 0.
fn single_row(second: bool, o: Operand, k: u32, j: u32, end: u32) -> vec4<u32> {
    var row = o.first + o.row;
    var at = k + o.k;
    var v: vec4<f32>;
    if by_k(second) {
        row = min(row + j, o.size - 1u);
        if second { v = b4(o.base + row * o.ld, at, p.k); } else { v = a4(o.base + row * o.ld, at, p.k); }
        return bitcast<vec4<u32>>(select(vec4(0.0), v, at + vec4(0u, 1u, 2u, 3u) < vec4(end)));
    }
    at += j;
    let start = o.base + min(at, p.k - 1u) * o.ld;
    if second { v = b4(start, row, o.size); } else { v = a4(start, row, o.size); }
    return bitcast<vec4<u32>>(select(vec4(0.0), v, at < end));
}
fn singles(second: bool, o: Operand, k: u32, end: u32) -> Patch {
    return Patch(single_row(second, o, k, 0u, end), single_row(second, o, k, 1u, end),
                 single_row(second, o, k, 2u, end), single_row(second, o, k, 3u, end));
}
fn matrix_first(second: bool, o: Operand, at: vec4<u32>, k: u32, count: u32) -> Patch {
    if !vectors(second) { return singles(second, o, k, k + count); }
    let i = at + distance(second, o, k);
    return Patch(first_row(second, o, i.x, 0u, count), first_row(second, o, i.y, 1u, count),
                 first_row(second, o, i.z, 2u, count), first_row(second, o, i.w, 3u, count));
}
fn matrix_next(second: bool, o: Operand, at: vec4<u32>, k: u32) -> Patch {
    if !vectors(second) { return singles(second, o, k, k + KS); }
    return whole_patch(second, o, at, k);
}
