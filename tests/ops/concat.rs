use rowscan::cpu::concat::{Part, forward, narrow as part};
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::concat::{concat, concat_at, narrow};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, round_to_f16, run, to_f16, to_f32, wide};

/// `gaps[i]` columns that belong to no part lie in front of part i; they are 0.
#[test]
fn concat_matches_cpu() {
    each_tier(|g| {
        for (rows, widths, gaps) in [
            (1, vec![1], vec![0]),
            (3, vec![2, 5], vec![0, 0]),
            (65, vec![16, 16, 4, 33], vec![0, 1, 0, 7]),
            (40_000, vec![7, 64], vec![3, 0]),
        ] {
            let mut random = Random::new(rows as u64);
            let mut starts = Vec::new();
            let mut width = 0;
            for (gap, columns) in gaps.iter().zip(&widths) {
                starts.push(width + gap);
                width += gap + columns;
            }
            width += gaps[0]; // columns after the last part
            let values: Vec<Vec<f32>> = widths.iter().map(|columns| random.normal(rows * columns)).collect();
            let leaves: Vec<Var> =
                values.iter().zip(&widths).map(|(v, columns)| leaf(g, &[rows, *columns], v)).collect();
            let dy = random.normal(rows * width);
            let (y, grads) = run(g, &leaves, &dy, |r, v| {
                let parts: Vec<_> = starts.iter().copied().zip(v.iter().map(Some)).collect();
                concat_at(r, &parts, width)
            });
            let wides: Vec<Vec<f64>> = values.iter().map(|v| wide(v)).collect();
            let parts: Vec<Part<'_>> = (0..widths.len()).map(|i| (starts[i], widths[i], &wides[i][..])).collect();
            close("y", &y, &forward(rows, width, &parts), Tol::EXACT);
            for (i, grad) in grads.iter().enumerate() {
                close(&format!("dpart {i}"), grad, &part(&wide(&dy), width, starts[i], widths[i]), Tol::EXACT);
            }
        }
    });
}

#[test]
fn narrow_matches_cpu() {
    each_tier(|g| {
        for (rows, width, start, len) in [(1, 1, 0, 1), (5, 9, 3, 4), (40_000, 71, 64, 7)] {
            let mut random = Random::new(rows as u64);
            let (x, dout) = (random.normal(rows * width), random.normal(rows * len));
            let (out, grads) = run(g, &[leaf(g, &[rows, width], &x)], &dout, |r, v| narrow(r, &v[0], start, len));
            close("out", &out, &part(&wide(&x), width, start, len), Tol::EXACT);
            close("dx", &grads[0], &forward(rows, width, &[(start, len, &wide(&dout))]), Tol::EXACT);
        }
    });
}

/// f16 is copied two columns at a time.
#[test]
fn concat_and_narrow_of_f16() {
    each_tier(|g| {
        let (rows, d) = (5, 8);
        let mut random = Random::new(3);
        let [mut a, mut b] = [(); 2].map(|()| random.normal(rows * d));
        round_to_f16(&mut a);
        round_to_f16(&mut b);
        let (both, _) = run(g, &[leaf(g, &[rows, d], &a), leaf(g, &[rows, d], &b)], &vec![0.0; rows * 12], |r, v| {
            let parts = [to_f16(r, &v[0])?, to_f16(r, &v[1])?];
            let both = concat(r, &[&parts[0], &parts[1]])?;
            assert!(both.data.is_f16());
            let middle = narrow(r, &both, 2, 12)?;
            to_f32(r, &middle)
        });
        let all = forward(rows, 2 * d, &[(0, d, &wide(&a)), (d, d, &wide(&b))]);
        close("columns 2..14", &both, &part(&all, 2 * d, 2, 12), Tol::EXACT);
    });
}

#[test]
fn concat_names_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let mut r = Recorder::new(&g);
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let (a, b) = (var(&[2, 3]), var(&[3, 3]));
    let mut fails = |parts: &[(usize, Option<&Var>)], width, words: &str| {
        let error = concat_at(&mut r, parts, width).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    fails(&[(0, Some(&a)), (3, Some(&b))], 6, "got [3, 3], expected [2, 3]");
    fails(&[(0, Some(&a)), (2, Some(&a))], 6, "columns 2..5 of 6");
    fails(&[(4, Some(&a))], 6, "columns 4..7 of 6");
    fails(&[(0, None)], 6, "at least one of them there");
    let error = narrow(&mut r, &a, 1, 3).unwrap_err().to_string();
    assert!(error.contains("columns 1..4 of 3"), "{error}");
}
