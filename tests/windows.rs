//! Attention within windows, as in the backbones of ViTDet.

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu};
use rowscan::models::dense::{Dense, Detection};
use rowscan::models::{Backbone, Config, Detector, Purpose, backbone};
use rowscan::nn::{Block, BlockConfig, Init, Params, Sight, WindowPartition};
use rowscan::ops::tokens::gather;
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, close_l2, each_tier, gpu, leaf, wide};

const WIDTH: usize = 16;
const BLOCK: BlockConfig =
    BlockConfig { width: WIDTH, heads: 2, hidden: 24, eps: 1e-6, qkv_bias: true, init: Init::TruncNormal(0.5) };

/// What leaves a block, and the gradient of what enters it, for tokens (B, L, 16) and a random gradient of the result.
fn through(
    g: &Gpu, block: &Block, tokens: &Var, sight: &Sight, factors: Option<&[Tensor; 2]>,
) -> Result<[Vec<f32>; 2]> {
    let dy = Tensor::from_slice(g, tokens.data.shape(), &Random::new(8).normal(tokens.data.len()))?;
    let mut r = Recorder::new(g);
    let y = block.forward_seeing(&mut r, tokens, factors, sight)?;
    let grads = r.backward_from(&y, dy, Grads::default())?;
    r.run()?;
    Ok([y.data.to_vec(g)?, grads.get(tokens).expect("a gradient").to_vec(g)?])
}

/// On a grid of 3 × 5 in windows of 2 × 2, a window gives what the block gives of its tokens alone, with zeros where it
/// reaches past the grid: a norm without a bias makes zeros of zeros.
#[test]
fn a_window_sees_itself_and_the_zeros_that_fill_it() {
    each_tier(|g| {
        let ([h, w], side, b) = ([3, 5], 2, 2);
        let mut params = Params::new(g);
        let block = Block::new(&mut params, "block", &BLOCK).unwrap();
        params.init(g, 3).unwrap();
        let values = Random::new(5).normal(b * h * w * WIDTH);
        let tokens = leaf(g, &[b, h * w, WIDTH], &values);
        let windows = Sight::Window(WindowPartition::new(g, [h, w], side).unwrap());
        let found = through(g, &block, &tokens, &windows, None).unwrap();
        let kept = [(); 2].map(|()| Tensor::from_slice(g, &[b], &[1.0; 2]).unwrap());
        let dropped = through(g, &block, &tokens, &windows, Some(&kept)).unwrap();
        for (what, found, dropped) in [("y", &found[0], &dropped[0]), ("dx", &found[1], &dropped[1])] {
            close_l2(&format!("{what} with factors of 1"), dropped, &wide(found), 1e-6);
        }
        for (y0, x0) in (0..h).step_by(side).flat_map(|y| (0..w).step_by(side).map(move |x| (y, x))) {
            let cells = (0..side * side).map(|i| (y0 + i / side, x0 + i % side));
            let cells: Vec<u32> =
                cells.map(|(y, x)| if y < h && x < w { (y * w + x) as u32 } else { u32::MAX }).collect();
            let places: Vec<u32> = (0..(h * w) as u32)
                .map(|cell| cells.iter().position(|known| *known == cell).map_or(u32::MAX, |at| at as u32))
                .collect();
            let table = |values: &[u32]| Tensor::from_indices(g, &[values.len()], values).unwrap();
            let (cells_, places_) = (table(&cells), table(&places));
            let dy = Tensor::from_slice(g, &[b, h * w, WIDTH], &Random::new(8).normal(values.len())).unwrap();
            let mut r = Recorder::new(g);
            let alone = gather(&mut r, &tokens, &cells_, &places_).unwrap();
            let y = block.forward(&mut r, &alone, None).unwrap();
            let y = gather(&mut r, &y, &places_, &cells_).unwrap();
            let grads = r.backward_from(&y, dy, Grads::default()).unwrap();
            r.run().unwrap();
            let expected = [y.data.to_vec(g).unwrap(), grads.get(&tokens).unwrap().to_vec(g).unwrap()];
            for (what, found, expected) in [("y", &found[0], &expected[0]), ("dx", &found[1], &expected[1])] {
                let of = |all: &[f32]| -> Vec<f32> {
                    let rows = (0..b).flat_map(|image| cells.iter().map(move |cell| (image, *cell)));
                    let real = rows.filter(|(_, cell)| *cell != u32::MAX);
                    real.flat_map(|(image, cell)| all[(image * h * w + cell as usize) * WIDTH..][..WIDTH].to_vec())
                        .collect()
                };
                // a product of 16 terms, twice, and sums of four weights
                close_l2(&format!("{what} of the window at {y0}, {x0}"), &of(found), &wide(&of(expected)), 1e-5);
            }
        }
    });
}

/// The last block of each quarter sees the whole grid, so a change of one patch reaches every cell of the last depth;
/// windows that hold the whole grid change nothing.
#[test]
fn four_blocks_see_all() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in ["vit_micro_patch4_32", "map_micro_patch4_32"] {
        let with = |window| {
            let heads = Detection { channels: 8, features: 16, window, ..Detection::micro() };
            let pattern = if name.starts_with("map") { "MTMTMTMTMTMT" } else { "TTTTTT" };
            let config = Config { image_size: 16, pattern: pattern.into(), ..Config::preset(name).unwrap() };
            config.for_dense(Dense::Detection(heads), 3)
        };
        let last = |window: usize, patches: &[f32]| -> Result<Vec<f32>> {
            let config = with(window);
            let mut params = Params::new(g);
            let net: Backbone = backbone(g, &mut params, &config, Purpose::Pretraining)?;
            params.draw(g, 3)?;
            let x = Var::constant(Tensor::from_slice(g, &[1, 16, config.patch_len()], patches)?);
            let mut r = Recorder::inference(g);
            let depths = net.depths(&mut r, &x, None, 4)?;
            r.run()?;
            depths[3].data.to_vec(g)
        };
        let mut patches = Random::new(5).normal(16 * 48);
        let (none, two, whole) = (last(0, &patches)?, last(2, &patches)?, last(4, &patches)?);
        close_l2(&format!("{name}: windows of the whole grid"), &whole, &wide(&none), 1e-5);
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
        assert!(far(&none, &two) > none.len() / 2, "{name}: windows make a difference");
        patches[..48].iter_mut().for_each(|v| *v += 1.0);
        let changed = last(2, &patches)?;
        let width = changed.len() / 16;
        let reached = (0..16).all(|cell| far(&two[cell * width..][..width], &changed[cell * width..][..width]) > 0);
        assert!(reached, "{name}: one patch is seen everywhere");
    }
    Ok(())
}

/// Backbones that do not attend have no windows.
#[test]
fn windows_need_attention() {
    let g = Gpu::dry(Caps::portable());
    let heads = Detection { window: 2, ..Detection::micro() };
    for name in ["vim_micro_patch4_32", "mambar_micro_patch4_32", "arm_micro_patch4_32", "resnet_micro"] {
        let config =
            Config { image_size: 32, ..Config::preset(name).unwrap() }.for_dense(Dense::Detection(heads.clone()), 3);
        let error = Detector::new(&g, &mut Params::new(&g), &config).expect_err(name).to_string();
        assert!(error.contains("dense.window: got 2"), "{name}: {error}");
    }
}
