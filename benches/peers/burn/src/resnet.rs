//! ResNet-50 as torchvision and timm have it: the stride of a bottleneck is in its 3×3 convolution.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::prelude::*;
use burn::tensor::activation::relu;

/// A convolution without bias, then batch norm.
#[derive(Module, Debug)]
struct ConvNorm<B: Backend> {
    conv: Conv2d<B>,
    norm: BatchNorm<B>,
}

impl<B: Backend> ConvNorm<B> {
    fn new(inp: usize, out: usize, side: usize, stride: usize, device: &B::Device) -> Self {
        let pad = side / 2;
        let conv = Conv2dConfig::new([inp, out], [side, side])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false);
        Self { conv: conv.init(device), norm: BatchNormConfig::new(out).init(device) }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        self.norm.forward(self.conv.forward(x))
    }
}

#[derive(Module, Debug)]
struct Bottleneck<B: Backend> {
    reduce: ConvNorm<B>,
    conv: ConvNorm<B>,
    expand: ConvNorm<B>,
    shortcut: Option<ConvNorm<B>>,
}

impl<B: Backend> Bottleneck<B> {
    fn new(inp: usize, width: usize, stride: usize, device: &B::Device) -> Self {
        let out = 4 * width;
        Self {
            reduce: ConvNorm::new(inp, width, 1, 1, device),
            conv: ConvNorm::new(width, width, 3, stride, device),
            expand: ConvNorm::new(width, out, 1, 1, device),
            shortcut: (inp != out).then(|| ConvNorm::new(inp, out, 1, stride, device)),
        }
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let y = relu(self.reduce.forward(x.clone()));
        let y = self.expand.forward(relu(self.conv.forward(y)));
        relu(y + self.shortcut.as_ref().map_or(x.clone(), |shortcut| shortcut.forward(x)))
    }
}

#[derive(Module, Debug)]
pub struct ResNet<B: Backend> {
    stem: ConvNorm<B>,
    pool: MaxPool2d,
    blocks: Vec<Bottleneck<B>>,
    head: Linear<B>,
}

impl<B: Backend> ResNet<B> {
    pub fn new(classes: usize, device: &B::Device) -> Self {
        let mut blocks = Vec::new();
        let mut inp = 64;
        for (stage, depth) in [3, 4, 6, 3].into_iter().enumerate() {
            for block in 0..depth {
                let width = 64 << stage;
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Bottleneck::new(inp, width, stride, device));
                inp = 4 * width;
            }
        }
        let pool = MaxPool2dConfig::new([3, 3]).with_strides([2, 2]);
        Self {
            stem: ConvNorm::new(3, 64, 7, 2, device),
            pool: pool.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(),
            blocks,
            head: LinearConfig::new(inp, classes).init(device),
        }
    }

    /// images (B, 3, S, S) -> logits (B, classes)
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let x = self.pool.forward(relu(self.stem.forward(images)));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        self.head.forward(x.flatten::<3>(2, 3).mean_dim(2).flatten(1, 2))
    }
}
