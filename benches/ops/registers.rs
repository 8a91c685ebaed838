//! registers: twelve among 196 patches, and read back.

use rowscan::cpu::registers as cpu;
use rowscan::cpu::registers::Dims;
use rowscan::ops::registers::{Places, extract, insert};

use super::*;

fn validate(g: &Gpu) {
    let places = Places::even(196, 12);
    let dim = Dims { b: 3, l: 196, n: 12, d: 33, first: places.first, step: places.step };
    let mut random = Random::new(1);
    let (x, r, all) = (random.normal(3 * 196 * 33), random.normal(12 * 33), random.normal(3 * 208 * 33));
    let exact = Tol { rel: 0.0, abs: 0.0 };
    let leaves = [leaf(g, &[3, 196, 33], &x), leaf(g, &[1, 12, 33], &r)];
    let (out, grads) = run(g, &leaves, &all, |g, t, v| insert(g, t, &v[0], &v[1], places));
    close("insert", &out, &cpu::insert(dim, &wide(&x), &wide(&r)), exact);
    let (dx, dr) = cpu::insert_backward(dim, &wide(&all), true);
    close("insert dx", &grads[0], &dx, exact);
    close("insert dr", &grads[1], &dr, Tol { rel: 1e-6, abs: 1e-6 }); // sums of three
    let dout = random.normal(3 * 12 * 33);
    let (out, grads) = run(g, &[leaf(g, &[3, 208, 33], &all)], &dout, |g, t, v| extract(g, t, &v[0], places));
    close("extract", &out, &cpu::extract(dim, &wide(&all)), exact);
    close("extract dx", &grads[0], &cpu::extract_backward(dim, &wide(&dout)), exact);
}

pub fn bench(b: &mut Bench) {
    b.family("registers", validate);
    for s in b.shapes().into_iter().filter(|s| s.l < 196 || s.b == 1) {
        let places = Places::even(196, 12);
        let (tokens, registers) = (s.b * 196 * s.d, s.b * 12 * s.d);
        // dx is moved, dr read and summed
        let floors = [8 * (tokens + registers), 8 * (tokens + registers)].map(Floor::bytes);
        b.op(&format!("insert {} 12+196x{}", s.model, s.b), floors, |t, x| {
            let r = x.leaf(&[1, 12, s.d])?;
            Ok(vec![insert(x.g, t, &x.leaf(&[s.b, 196, s.d])?, &r, places)?])
        });
        let floors = [8 * registers, 4 * (tokens + 2 * registers)].map(Floor::bytes);
        b.op(&format!("extract {} 12of208x{}", s.model, s.b), floors, |t, x| {
            Ok(vec![extract(x.g, t, &x.leaf(&[s.b, 208, s.d])?, places)?])
        });
    }
}
