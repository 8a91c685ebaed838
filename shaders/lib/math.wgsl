// lib/math — activation functions and their derivatives (_slope) of one number. They are finite for every finite f32,
// because arguments of exp are clamped.
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
// ln(1 + y) for y >= 0. 1 + y would lose digits of a small y, so for y <= 0.5 it is the series of 2·atanh(y/(2 + y)).
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
// (Φ(x), exp(−x²/2)), where Φ is the normal CDF. Twice the tail beyond |x| is exp(−x²/2)·t·P(t) with t = 1/(1 +
// 0.37·|x|/√2) and a fitted polynomial P of degree 8. Its relative error is 1.5e-8 for all |x| < 13, so that GELU keeps
// its digits for negative x.
fn normal(x: f32) -> vec2<f32> {
    let g = exp(-0.5 * min(x * x, 160.0));
    let t = 1.0 / (1.0 + 0.26162951 * abs(x));
    var r = 0.062336156;
    r = r * t - 0.305288418;
    r = r * t + 0.491029111;
    r = r * t - 0.290140573;
    r = r * t + 0.314175623;
    r = r * t + 0.105060877;
    r = r * t + 0.206635150;
    r = r * t + 0.207374986;
    r = r * t + 0.208817072;
    let tail = 0.5 * g * t * r;
    return vec2(select(1.0 - tail, tail, x < 0.0), g);
}
fn gelu(x: f32) -> f32 {
    return x * normal(x).x;
}
fn gelu_slope(x: f32) -> f32 {
    let at = normal(x);
    return at.x + x * 0.3989422804014327 * at.y;
}
// x·(1 + tanh v)/2, written as x·σ(2v): 1 + tanh v would cancel in the left tail.
fn gelu_tanh(x: f32) -> f32 {
    return x * sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x));
}
fn gelu_tanh_slope(x: f32) -> f32 {
    let s = sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x));
    return s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * x * x);
}
