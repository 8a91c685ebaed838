use rowscan::cpu::hide as cpu;
use rowscan::gpu::{DType, Gpu};
use rowscan::ops::hide::hide;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

/// `grid` patches of `cells` rows and columns each.
fn check(g: &Gpu, b: usize, grid: [usize; 2], cells: [usize; 2], c: usize, half: bool) {
    let (h, w) = (grid[0] * cells[0], grid[1] * cells[1]);
    let mut random = Random::new((b * 7 + h * 31 + w * 5 + c) as u64);
    let (mut x, mut dy) = (random.normal(b * h * w * c), random.normal(b * h * w * c));
    if half {
        [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
    }
    let visible = random.below(b * grid[0] * grid[1], 2);
    let inv: Vec<u32> = visible.iter().enumerate().map(|(i, v)| if *v == 1 { i as u32 } else { u32::MAX }).collect();
    let table = Tensor::from_indices(g, &[b, grid[0] * grid[1]], &inv).unwrap();
    let (y, grads) = run(g, &[leaf(g, &[b, h, w, c], &x)], &dy, |r, v| {
        let x = stored_as(r, &v[0], DType::f16_if(half))?;
        let y = hide(r, &x, &table, grid)?;
        assert_eq!(y.data.is_f16(), half);
        stored_as(r, &y, DType::F32)
    });
    let size = [b, h, w, c];
    close("y", &y, &cpu::hide(size, grid, &wide(&x), &inv), Tol::EXACT);
    close("dx", &grads[0], &cpu::hide(size, grid, &wide(&dy), &inv), Tol::EXACT);
}

#[test]
fn hide_matches_cpu() {
    each_tier(|g| {
        let shapes = [
            (1, [1, 1], [1, 1], 1),
            (2, [3, 2], [2, 2], 5),
            (3, [7, 7], [4, 4], 20),
            (2, [1, 5], [3, 1], 2),
            (1, [14, 14], [16, 16], 3),
        ];
        let mut random = Random::new(4);
        let mut drawn = || random.below(6, 6).into_iter().map(|v| v as usize + 1).collect::<Vec<_>>();
        let drawn: Vec<_> = (0..5).map(|_| drawn()).map(|d| (d[0], [d[1], d[2]], [d[3], d[4]], d[5])).collect();
        some(shapes.into_iter().chain(drawn)).for_each(|(b, grid, cells, c)| {
            check(g, b, grid, cells, c, false);
            check(g, b, grid, cells, c.next_multiple_of(2), true);
        });
    });
}

#[test]
fn hide_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[1, 3, 2, 1], &[0.0; 6]);
    let inv = Tensor::from_indices(g, &[1, 2], &[0; 2]).unwrap();
    let e = hide(&mut Recorder::new(g), &x, &inv, [2, 1]).expect_err("3 rows of 2 patches").to_string();
    assert!(e.contains("hide: map: got 3×2, expected a multiple of 2×1 patches"), "{e}");
    let x = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[1, 2, 2, 1]));
    let e = hide(&mut Recorder::new(g), &x, &inv, [2, 1]).expect_err("a channel in f16").to_string();
    assert!(e.contains("hide: channels in f16: got 1, expected an even number"), "{e}");
}
