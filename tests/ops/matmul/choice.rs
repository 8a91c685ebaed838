//! How a variant is chosen: by `pick` from the shape, or by tuning on the device.

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu, Precision, Tiers};
use rowscan::ops::matmul::{Added, Form, Gemm, Route, Variant, gemm_with, pick};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use super::TILED;
use crate::common::{Random, as_hardware, at_once, some};

/// Tuning chooses among the routes of a precision by time alone, so all of them have to give the same bits.
#[test]
fn every_path_makes_the_same_bits() {
    let Some(g) = as_hardware() else { return };
    let mut random = Random::new(23);
    for (form, m, n, k, splits) in [
        (Form::Nt, 150, 136, 77, 1),
        (Form::Nn, 70, 260, 64, 1),
        (Form::Tn, 129, 44, 500, 1),
        (Form::Tn, 60, 68, 900, 4),
    ] {
        let p = Gemm::dense(form, 1, m, n, k);
        let (a, b) = (random.normal(m * k), random.normal(n * k));
        for precision in some([Precision::F32, Precision::Mixed, Precision::High]) {
            let product = |path| -> Result<Vec<f32>> {
                let (a, b) = (Tensor::from_slice(&g, &[a.len()], &a)?, Tensor::from_slice(&g, &[b.len()], &b)?);
                let c = Tensor::scratch("c", &[m, n]);
                at_once(&g, |r| gemm_with(r, Variant { path, splits, precision }, &p, &a, &b, Added::default(), &c));
                c.to_vec(&g)
            };
            let mut paths = Route::candidates(g.caps(), precision);
            let coop = g.caps().tiers.coop && precision != Precision::F32;
            let widest = g.caps().workgroup_memory >= 16 * 16 * (32 + 32 + 2);
            let expected = match precision {
                _ if !coop => 4 + usize::from(widest),
                Precision::Mixed => 2,
                _ => 1,
            };
            assert_eq!(paths.len(), expected, "{paths:?}");
            if precision == Precision::F32 {
                paths.extend([Route::Direct(16, 4), Route::Direct(16, 8)]); // those of a CPU, slow to compile there
            }
            let first = product(paths[0]).unwrap();
            for path in &paths[1..] {
                assert!(product(*path).unwrap() == first, "{path:?} and {:?}, {p:?}, {precision}", paths[0]);
            }
        }
    }
}

/// A class of shapes is measured once and then remembered, and a step has the same bits before and after.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn tuning_measures_each_class_once_and_changes_no_bit() {
    use crate::common::{leaf, run};
    use rowscan::ops::matmul::{MatmulOptions, gemm, matmul, tune};

    let Some(g) = as_hardware() else { return };
    let mut random = Random::new(29);
    let (x, w, dy) = (random.normal(70 * 40), random.normal(36 * 40), random.normal(70 * 36));
    let leaves = [leaf(&g, &[70, 40], &x), leaf(&g, &[36, 40], &w)];
    let step = || run(&g, &leaves, &dy, |r, v| matmul(r, &v[0], &v[1], MatmulOptions::default()));
    let before = step();
    let record = |rows: usize| {
        let p = Gemm::dense(Form::Nt, 1, rows, 36, 40);
        let tensor = |n: usize| Tensor::input("operand", &[n]);
        let c = tensor(rows * 36);
        let mut r = Recorder::new(&g);
        gemm(&mut r, &p, &tensor(rows * 40), &tensor(36 * 40), Added::default(), &c).unwrap();
        r.finish()
    };
    assert_eq!(tune(&g, record(70).launches(), Precision::F32).unwrap(), 1);
    assert_eq!(tune(&g, record(70).launches(), Precision::F32).unwrap(), 0, "known");
    assert_eq!(
        tune(&g, record(100).launches(), Precision::F32).unwrap(),
        0,
        "rounded up to powers of two, the shapes are the same"
    );
    assert_eq!(tune(&g, record(200).launches(), Precision::F32).unwrap(), 1, "another class");
    assert_eq!(step(), before);
    let software = crate::common::gpu().unwrap();
    if software.caps().software {
        assert_eq!(tune(software, record(70).launches(), Precision::F32).unwrap(), 0, "a CPU adapter is not measured");
    }
}

#[test]
fn pick_fills_a_gpu_and_spares_a_cpu_the_barriers() {
    let gpu = Caps::portable();
    let cpu = |driver: &str| Caps { software: true, driver: driver.into(), ..Caps::portable() };
    let (old, new) = (cpu("llvmpipe Mesa 22.3.6 (LLVM 15.0.6)"), cpu("llvmpipe Mesa 26.1.6-1~bpo13+1 (LLVM 19.1.7)"));
    let on = |caps: &Caps, p: &Gemm| {
        let Variant { path, splits, .. } = pick(caps, Precision::F32, p);
        (path, splits)
    };
    for (m, n, k) in [(192, 44, 25_088), (384, 192, 12_544), (12, 384, 12_544), (1536, 384, 12_544)] {
        let p = Gemm::dense(Form::Tn, 1, m, n, k);
        let picked = pick(&gpu, Precision::F32, &p);
        let workgroups = m.div_ceil(64) * n.div_ceil(64) * picked.splits;
        assert!(workgroups >= 256 && picked.path == Route::Tiled(64, 64), "{p:?}: {workgroups}");
        assert!(matches!(on(&old, &p).0, Route::Direct(..)) && on(&old, &p).1 == 1, "{p:?}");
    }
    let (small, large) = (Gemm::dense(Form::Nt, 1, 512, 256, 64), Gemm::dense(Form::Nt, 1, 25_088, 768, 192));
    let tall = Gemm::dense(Form::Nt, 1, 524_281, 4, 4); // past the workgroups of a dimension
    for (caps, expected) in [(&old, Route::Direct(8, 8)), (&new, Route::Direct(16, 4)), (&cpu(""), Route::Direct(8, 8))]
    {
        assert_eq!(on(caps, &small), (expected, 1));
        assert_eq!(on(caps, &large), (Route::Direct(16, 8), 1));
        assert_eq!(on(caps, &tall), (Route::Tiled(64, 64), 1));
    }
    assert_eq!(pick(&gpu, Precision::F32, &Gemm::dense(Form::Nt, 1, 12_544, 384, 192)), TILED);
}

#[test]
fn pick_takes_cooperative_matrices_for_what_they_can_hold() {
    let tiers = Tiers { coop: true, ..Tiers::default() };
    let gpu = Caps { tiers, fragment: 16, coop_lanes: 32, ..Caps::portable() };
    let (large, small) = (Gemm::dense(Form::Nt, 1, 25_088, 768, 384), Gemm::dense(Form::Tn, 1, 192, 44, 25_088));
    let path = |caps: &Caps, precision, p: &Gemm| pick(caps, precision, p).path;
    assert_eq!(path(&gpu, Precision::F32, &large), Route::Tiled(64, 64));
    assert_eq!(path(&gpu, Precision::Mixed, &large), Route::Coop(128));
    assert_eq!(path(&gpu, Precision::High, &large), Route::Coop(64));
    assert_eq!(path(&gpu, Precision::Mixed, &small), Route::Coop(64));
    assert!(pick(&gpu, Precision::Mixed, &small).splits > 64, "a long sum is split");
    for caps in [Caps::portable(), Caps { software: true, ..gpu.clone() }] {
        for precision in [Precision::Mixed, Precision::High] {
            assert!(!matches!(path(&caps, precision, &large), Route::Coop(_)), "{caps}");
        }
    }
    // a variant that the adapter lacks is an error; no other takes its place
    let g = Gpu::dry(Caps::portable());
    let operand = Tensor::input("operand", &[64 * 64]);
    let variant = Variant { path: Route::Coop(64), splits: 1, precision: Precision::Mixed };
    let p = Gemm::dense(Form::Nt, 1, 64, 64, 64);
    let c = Tensor::input("c", &[64 * 64]);
    let launched = gemm_with(&mut Recorder::new(&g), variant, &p, &operand, &operand, Added::default(), &c);
    assert!(launched.unwrap_err().to_string().contains("cooperative matrices"));
}
