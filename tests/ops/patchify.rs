use rowscan::Result;
use rowscan::cpu::patchify::{Dims, from_nchw, from_u8, to_map};
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::patchify;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, gpu, values, wide};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn check(g: &Gpu, dim: Dims, seed: u64) {
    let Dims { b, h, w, c, p } = dim;
    let mut random = Random::new(seed);
    let shape = [b, h / p * (w / p), c * p * p];
    eprintln!("{dim:?}");

    // another launch reads the result, as the projection does in a model
    let through = |r: &mut Recorder, rows: Tensor| -> Result<Tensor> {
        assert_eq!(rows.shape(), shape);
        let copy = Tensor::scratch("copy", &shape);
        copy.copy_from(r, &rows)?;
        Ok(copy)
    };
    let pixels = random.normal(b * c * h * w);
    let images = Tensor::from_slice(g, &[b, c, h, w], &pixels).unwrap();
    let rows = values(g, |r| patchify::from_nchw(r, &images, p).and_then(|rows| through(r, rows)));
    close("from_nchw", &rows, &from_nchw(dim, &wide(&pixels)), Tol::EXACT);

    if c != 3 {
        return;
    }
    let patches = random.normal(b * c * h * w);
    let (grid, on_gpu) = ([h / p, w / p], Tensor::from_slice(g, &shape, &patches).unwrap());
    let inv: Vec<u32> = random.below(b * grid[0] * grid[1], 2).iter().map(|v| v.wrapping_sub(1)).collect();
    let table = Tensor::from_indices(g, &shape[..2], &inv).unwrap();
    for inv in [None, Some(&inv[..])] {
        let map = values(g, |r| patchify::to_map(r, &on_gpu, inv.map(|_| &table), grid));
        close("to_map", &map, &to_map(dim, &wide(&patches), inv), Tol::EXACT);
    }

    let mut bytes: Vec<u8> = random.below(b * h * w * 3, 256).into_iter().map(|v| v as u8).collect();
    let want = from_u8(dim, &bytes, &wide(&MEAN), &wide(&STD));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words: Vec<u32> = bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let images = Tensor::from_indices(g, &[words.len()], &words).unwrap();
    let rows = values(g, |r| patchify::from_u8(r, &images, [b, h, w], p, MEAN, STD).and_then(|rows| through(r, rows)));
    // three roundings: of scale·v, up to 4.4, of the shift, up to 2.1, and of their sum
    close("from_u8", &rows, &want, Tol { rel: 0.0, abs: 1e-6 });
}

#[test]
fn patchify_matches_cpu() {
    each_tier(|g| {
        let sizes = [
            Dims { b: 1, h: 1, w: 1, c: 1, p: 1 },
            Dims { b: 3, h: 1, w: 3, c: 3, p: 1 }, // 27 bytes: the last u32 is padded
            Dims { b: 2, h: 6, w: 9, c: 3, p: 3 },
            Dims { b: 5, h: 7, w: 14, c: 2, p: 7 },
            Dims { b: 2, h: 64, w: 32, c: 3, p: 16 },
        ];
        for (i, dim) in sizes.into_iter().enumerate() {
            check(g, dim, i as u64);
        }
        let mut random = Random::new(1);
        for seed in 0..10 {
            let draw: Vec<usize> = random.below(5, 5).into_iter().map(|v| v as usize + 1).collect();
            let [b, rows, columns, p] = [draw[0], draw[1], draw[2], draw[3]];
            check(g, Dims { b, h: rows * p, w: columns * p, c: if seed % 2 == 0 { 3 } else { draw[4] }, p }, seed);
        }
    });
}

/// One element more than a grid row covers (32768 workgroups of 256). Patches of 1×1 pixels leave the order as it is.
#[test]
fn patchify_folds_its_grid() {
    let Some(g) = gpu() else { return };
    let n = (1 << 23) + 1;
    let pixels: Vec<f32> = (0..n).map(|i| (i % 8191) as f32).collect();
    let images = Tensor::from_slice(g, &[1, 1, 1, n], &pixels).unwrap();
    let rows = at_once(g, |r| patchify::from_nchw(r, &images, 1));
    assert_eq!(rows.shape(), [1, n, 1]);
    assert!(rows.to_vec(g).unwrap() == pixels, "from_nchw");

    let words: Vec<u32> = (0..n.div_ceil(4) as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let images = Tensor::from_indices(g, &[words.len()], &words).unwrap();
    let rows = values(g, |r| patchify::from_u8(r, &images, [1, 1, n / 3], 1, [0.0; 3], [1.0; 3]));
    let byte = |i: usize| (words[i / 4] >> (i % 4 * 8)) as u8;
    // the kernel multiplies by 1/255, which is rounded
    assert!(rows.iter().enumerate().all(|(i, r)| (r - f32::from(byte(i)) / 255.0).abs() < 2e-7), "from_u8");
}

#[test]
fn patchify_refuses_other_sizes() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let images = Tensor::input("images", &[2, 3, 32, 24]);
    let error = patchify::from_nchw(r, &images, 16).unwrap_err().to_string();
    assert!(error.contains("(2, 3, 32, 24)") && error.contains("16"), "{error}");
    assert!(patchify::from_nchw(r, &images, 0).is_err());
    let error = patchify::from_u8(r, &images, [2, 32, 32], 16, MEAN, STD).unwrap_err().to_string();
    assert!(error.contains("1536 words"), "{error}");
    let error = patchify::from_u8(r, &images, [2, 32, 96], 16, MEAN, [1.0, 0.0, 1.0]).unwrap_err().to_string();
    assert!(error.contains("std"), "{error}");
}
