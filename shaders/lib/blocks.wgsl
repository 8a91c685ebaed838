// lib/blocks — blocks of operands that lie in memory as matrices, for products without cooperative matrices.
// A 4×4 block of a (or b) in the matrix that starts at `base`. Column j holds element k + j of four rows m (or n).
fn a_matrix(base: u32, m: u32, k: u32) -> mat4x4<f32> {
    var r: mat4x4<f32>;
    if FORM == TN {
        let last = p.k - 1u;
        r = mat4x4(a4(base + min(k, last) * p.lda, m, p.m), a4(base + min(k + 1u, last) * p.lda, m, p.m),
                   a4(base + min(k + 2u, last) * p.lda, m, p.m), a4(base + min(k + 3u, last) * p.lda, m, p.m));
    } else {
        let last = p.m - 1u;
        r = transpose(mat4x4(
            a4(base + min(m, last) * p.lda, k, p.k), a4(base + min(m + 1u, last) * p.lda, k, p.k),
            a4(base + min(m + 2u, last) * p.lda, k, p.k), a4(base + min(m + 3u, last) * p.lda, k, p.k)));
    }
    return r;
}
fn b_matrix(base: u32, n: u32, k: u32) -> mat4x4<f32> {
    var r: mat4x4<f32>;
    if FORM == NT {
        let last = p.n - 1u;
        r = transpose(mat4x4(
            b4(base + min(n, last) * p.ldb, k, p.k), b4(base + min(n + 1u, last) * p.ldb, k, p.k),
            b4(base + min(n + 2u, last) * p.ldb, k, p.k), b4(base + min(n + 3u, last) * p.ldb, k, p.k)));
    } else {
        let last = p.k - 1u;
        r = mat4x4(b4(base + min(k, last) * p.ldb, n, p.n), b4(base + min(k + 1u, last) * p.ldb, n, p.n),
                   b4(base + min(k + 2u, last) * p.ldb, n, p.n), b4(base + min(k + 3u, last) * p.ldb, n, p.n));
    }
    return r;
}
