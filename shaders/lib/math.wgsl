// lib/math — scalar functions with their slopes, safe over all of f32: exp arguments are clamped.
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-clamp(x, -80.0, 80.0)));
}
fn silu(x: f32) -> f32 {
    return x * sigmoid(x);
}
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    return s * (1.0 + x * (1.0 - s));
}
// ln(1 + y), y >= 0, without the rounding of 1 + y for small y: 2·atanh(y / (2 + y)) as a series.
fn log1p(y: f32) -> f32 {
    if y > 0.5 { return log(1.0 + y); }
    let r = y / (2.0 + y);
    let s = r * r;
    return 2.0 * r * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s / 11.0)))));
}
fn softplus(x: f32) -> f32 {
    if x > 20.0 { return x; }
    return log1p(exp(max(x, -80.0)));
}
fn softplus_slope(x: f32) -> f32 {
    if x > 20.0 { return 1.0; }
    return sigmoid(x);
}
// erf(x) in two ranges: the Taylor series below 1.5, the continued fraction of erfc beyond.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let s = a * a;
    if a < 1.5 {
        // Σ (−1)^k x^(2k+1) / (k!·(2k+1)) · 2/√π, Horner
        var r = 1.0 / 27.0 / 6227020800.0;
        r = 1.0 / 25.0 / 479001600.0 - s * r;
        r = 1.0 / 23.0 / 39916800.0 - s * r;
        r = 1.0 / 21.0 / 3628800.0 - s * r;
        r = 1.0 / 19.0 / 362880.0 - s * r;
        r = 1.0 / 17.0 / 40320.0 - s * r;
        r = 1.0 / 15.0 / 5040.0 - s * r;
        r = 1.0 / 13.0 / 720.0 - s * r;
        r = 1.0 / 11.0 / 120.0 - s * r;
        r = 1.0 / 9.0 / 24.0 - s * r;
        r = 1.0 / 7.0 / 6.0 - s * r;
        r = 1.0 / 5.0 / 2.0 - s * r;
        r = 1.0 / 3.0 - s * r;
        r = 1.0 - s * r;
        return x * r * 1.1283791670955126;
    }
    let big = min(a, 6.0);
    // erfc(a) = exp(−a²)/√π · 1/(a + ½/(a + 1/(a + 3⁄2/(a + …)))), from the inside out
    var f = big;
    for (var k = 24u; k > 0u; k--) { f = big + 0.5 * f32(k) / f; }
    return sign(x) * (1.0 - exp(-big * big) * 0.5641895835477563 / f);
}
fn gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));
}
fn gelu_slope(x: f32) -> f32 {
    let c = min(x * x, 160.0);
    return 0.5 * (1.0 + erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * exp(-0.5 * c);
}
// (1 + tanh v)/2 = σ(2v): the same function without the cancellation of 1 + tanh in the left tail.
fn gelu_tanh(x: f32) -> f32 {
    return x * sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x));
}
fn gelu_tanh_slope(x: f32) -> f32 {
    let s = sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x));
    return s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * x * x);
}
