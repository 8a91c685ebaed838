use rowscan::cpu::modulate as oracle;
use rowscan::cpu::modulate::Dims;
use rowscan::ops::modulate::{gate, modulate};
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, wide};

fn cases() -> Vec<Dims> {
    let mut cases = vec![(1, 1, 2), (1, 1, 3), (7, 1031, 3), (32_771, 3, 3), (3, 256, 2)];
    let mut random = Random::new(5);
    cases.extend((0..8).map(|_| {
        let n = random.below(3, 1 << 16);
        (1 + n[0] as usize % 50, 1 + n[1] as usize % 300, 2 + n[2] as usize % 2)
    }));
    cases.into_iter().map(|(rows, d, parts)| Dims { rows, d, parts }).collect()
}

/// One product and one sum of numbers up to 9.
const TOL: Tol = Tol { rel: 2e-7, abs: 2e-6 };

#[test]
fn modulate_matches_cpu() {
    each_tier(|g| {
        for dim @ Dims { rows, d, parts } in cases() {
            let mut random = Random::new((rows * d) as u64);
            let (x, m, dy) = (random.normal(rows * d), random.normal(rows * parts * d), random.normal(rows * d));
            let leaves = [leaf(g, &[rows, d], &x), leaf(g, &[rows, parts * d], &m)];
            let (y, grads) = run(g, &leaves, &dy, |r, v| modulate(r, &v[0], &v[1]));
            let (x, m, dy) = (wide(&x), wide(&m), wide(&dy));
            let (dx, dm) = oracle::modulate_backward(dim, &x, &m, &dy);
            close(&format!("y {dim:?}"), &y, &oracle::modulate(dim, &x, &m), TOL);
            close(&format!("dx {dim:?}"), &grads[0], &dx, TOL);
            close(&format!("dm {dim:?}"), &grads[1], &dm, TOL);
        }
    });
}

#[test]
fn gate_matches_cpu() {
    each_tier(|g| {
        for dim @ Dims { rows, d, .. } in cases().into_iter().filter(|dim| dim.parts == 3) {
            let mut random = Random::new((rows * d) as u64);
            let [x, h, dy] = [(); 3].map(|()| random.normal(rows * d));
            let m = random.normal(rows * 3 * d);
            let leaves = [leaf(g, &[rows, d], &x), leaf(g, &[rows, d], &h), leaf(g, &[rows, 3 * d], &m)];
            let (y, grads) = run(g, &leaves, &dy, |r, v| gate(r, &v[0], &v[1], &v[2]));
            let (x, h, m, dy) = (wide(&x), wide(&h), wide(&m), wide(&dy));
            let (dh, dm) = oracle::gate_backward(dim, &h, &m, &dy);
            close(&format!("y {dim:?}"), &y, &oracle::gate(dim, &x, &h, &m), TOL);
            close(&format!("dx {dim:?}"), &grads[0], &dy, TOL);
            close(&format!("dh {dim:?}"), &grads[1], &dh, TOL);
            close(&format!("dm {dim:?}"), &grads[2], &dm, TOL);
        }
    });
}

/// A block of the denoiser (adaLN in DiT and MAR): `modulate` and `gate` read the same m, so dm is the sum of their
/// gradients.
#[test]
fn both_steps_of_a_block_share_their_condition() {
    each_tier(|g| {
        let dim @ Dims { rows, d, .. } = Dims { rows: 5, d: 33, parts: 3 };
        let mut random = Random::new(8);
        let [x, dy] = [(); 2].map(|()| random.normal(rows * d));
        let m = random.normal(rows * 3 * d);
        let leaves = [leaf(g, &[rows, d], &x), leaf(g, &[rows, 3 * d], &m)];
        let (y, grads) = run(g, &leaves, &dy, |r, v| {
            let h = modulate(r, &v[0], &v[1])?;
            gate(r, &v[0], &h, &v[1])
        });
        let (x, m, dy) = (wide(&x), wide(&m), wide(&dy));
        let h = oracle::modulate(dim, &x, &m);
        let (dh, dm_gate) = oracle::gate_backward(dim, &h, &m, &dy);
        let (dx, dm) = oracle::modulate_backward(dim, &x, &m, &dh);
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect::<Vec<_>>();
        let tol = Tol { rel: 4e-7, abs: 8e-6 }; // products of up to three numbers of that size
        close("y", &y, &oracle::gate(dim, &x, &h, &m), tol);
        close("dx", &grads[0], &sum(&dx, &dy), tol);
        close("dm", &grads[1], &sum(&dm, &dm_gate), tol);
    });
}

#[test]
fn modulate_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let r = &mut Recorder::new(g);
    let (x, m, wide) = (leaf(g, &[2, 3], &[0.0; 6]), leaf(g, &[2, 6], &[0.0; 12]), leaf(g, &[2, 7], &[0.0; 14]));
    assert!(modulate(r, &x, &wide).unwrap_err().to_string().contains("modulate: m"));
    assert!(gate(r, &x, &x, &m).unwrap_err().to_string().contains("gate: m"));
}
