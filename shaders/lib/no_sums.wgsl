// lib/no_sums — products without the sums of lib/sums, whose names it has.
const SUMS = 0u;
fn put_sums(z: u32, m: u32, v: vec4<f32>) {}
