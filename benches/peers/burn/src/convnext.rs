//! ConvNeXt-T as torchvision and timm have it.

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::gelu;

fn norm<B: Backend>(width: usize, device: &B::Device) -> LayerNorm<B> {
    LayerNormConfig::new(width).with_epsilon(1e-6).init(device)
}

/// A convolution whose stride is its size.
fn patches<B: Backend>(inp: usize, out: usize, side: usize, device: &B::Device) -> Conv2d<B> {
    Conv2dConfig::new([inp, out], [side, side]).with_stride([side, side]).init(device)
}

/// (B, C, H, W) -> (B, H, W, C)
fn channels_last<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.permute([0, 2, 3, 1])
}

/// (B, H, W, C) -> (B, C, H, W)
fn channels_first<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    x.permute([0, 3, 1, 2])
}

#[derive(Module, Debug)]
struct Block<B: Backend> {
    depthwise: Conv2d<B>,
    norm: LayerNorm<B>,
    expand: Linear<B>,
    reduce: Linear<B>,
    scale: Param<Tensor<B, 1>>,
}

impl<B: Backend> Block<B> {
    fn new(width: usize, device: &B::Device) -> Self {
        let depthwise = Conv2dConfig::new([width, width], [7, 7]).with_groups(width);
        Self {
            depthwise: depthwise.with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3)).init(device),
            norm: norm(width, device),
            expand: LinearConfig::new(width, 4 * width).init(device),
            reduce: LinearConfig::new(4 * width, width).init(device),
            scale: Param::from_tensor(Tensor::full([width], 1e-6, device)),
        }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let y = channels_last(self.depthwise.forward(x.clone()));
        let shape = y.dims();
        // one matrix: of more dimensions Burn makes a gradient of the weight for each row of an image, and adds them up
        let y = self.norm.forward(y.reshape([-1, shape[3] as i32]));
        let y = self.reduce.forward(gelu(self.expand.forward(y))) * self.scale.val().unsqueeze();
        x + channels_first(y.reshape(shape))
    }
}

/// A norm and a convolution of stride 2, of which the first stage has none, then blocks.
#[derive(Module, Debug)]
struct Stage<B: Backend> {
    norm: Option<LayerNorm<B>>,
    down: Option<Conv2d<B>>,
    blocks: Vec<Block<B>>,
}

#[derive(Module, Debug)]
pub struct ConvNext<B: Backend> {
    stem: Conv2d<B>,
    stem_norm: LayerNorm<B>,
    stages: Vec<Stage<B>>,
    norm: LayerNorm<B>,
    head: Linear<B>,
}

impl<B: Backend> ConvNext<B> {
    pub fn new(classes: usize, device: &B::Device) -> Self {
        let stage = |(i, depth): (usize, usize)| {
            let width = 96 << i;
            Stage {
                norm: (i > 0).then(|| norm(width / 2, device)),
                down: (i > 0).then(|| patches(width / 2, width, 2, device)),
                blocks: (0..depth).map(|_| Block::new(width, device)).collect(),
            }
        };
        Self {
            stem: patches(3, 96, 4, device),
            stem_norm: norm(96, device),
            stages: [3, 3, 9, 3].into_iter().enumerate().map(stage).collect(),
            norm: norm(768, device),
            head: LinearConfig::new(768, classes).init(device),
        }
    }

    /// images (B, 3, S, S) -> logits (B, classes)
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let over_channels = |norm: &LayerNorm<B>, x| channels_first(norm.forward(channels_last(x)));
        let mut x = over_channels(&self.stem_norm, self.stem.forward(images));
        for stage in &self.stages {
            if let (Some(norm), Some(down)) = (&stage.norm, &stage.down) {
                x = down.forward(over_channels(norm, x));
            }
            x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
        }
        let x = x.flatten::<3>(2, 3).mean_dim(2).flatten(1, 2);
        self.head.forward(self.norm.forward(x))
    }
}
