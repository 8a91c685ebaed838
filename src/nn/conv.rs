//! Convolutions of maps.

use std::sync::Arc;

use super::init::Init;
use super::norm::{BatchNorm, BatchNormConfig, LayerNorm};
use super::params::Params;
use super::stored::stored;
use crate::error::Result;
use crate::gpu::DType;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::conv2d::{Conv2dOptions, conv2d, conv2d_transposed, same_padding};
use crate::tape::{Recorder, Var};

/// Sizes and initial values of a [`Conv2d`]. Kernel and stride are the same in rows and in columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvConfig {
    /// Channels C of the input.
    pub inputs: usize,
    /// Channels O of the result.
    pub outputs: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Distance of its places.
    pub stride: usize,
    /// Distance of its taps.
    pub dilation: usize,
    /// Zeros around the map.
    pub padding: Padding,
    /// Groups of channels; as many as channels for a depthwise convolution.
    pub groups: usize,
    /// Whether there is a bias. It starts at zero, or where the weight has PyTorch's default ([`Init::FanIn`]) at
    /// PyTorch's too.
    pub bias: bool,
    /// Initial values of the weight.
    pub init: Init,
}

/// Zeros around a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// So many on each side.
    Of(usize),
    /// TensorFlow's "same": ⌈side / stride⌉ rows and columns result.
    Same,
}

impl ConvConfig {
    /// A dense convolution with stride 1, padding so that the map keeps its size (odd kernels), and no bias.
    pub fn dense(inputs: usize, outputs: usize, kernel: usize, init: Init) -> Self {
        let padding = Padding::Of(kernel / 2);
        Self { inputs, outputs, kernel, stride: 1, dilation: 1, padding, groups: 1, bias: false, init }
    }

    /// The same with each channel by itself.
    pub fn depthwise(channels: usize, kernel: usize, init: Init) -> Self {
        Self { groups: channels, ..Self::dense(channels, channels, kernel, init) }
    }

    /// The same with taps that are so far apart, and padding so that the map keeps its size.
    #[must_use]
    pub fn dilated(self, dilation: usize) -> Self {
        Self { dilation, padding: Padding::Of(dilation * (self.kernel / 2)), ..self }
    }
}

/// A convolution of maps whose channels come last: PyTorch's `nn.Conv2d`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// (O, C/groups, kernel, kernel)
    weight: Var,
    bias: Option<Var>,
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: Padding,
    groups: usize,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Conv2d {
    /// Parameters `name.weight` (O, C/groups, kernel, kernel) and, if there is one, `name.bias` (O).
    pub fn new(params: &mut Params, name: &str, config: ConvConfig) -> Result<Self> {
        let ConvConfig { inputs, outputs, kernel, stride, dilation, padding, groups, bias, init } = config;
        params.scope(name, |p| {
            let shape = [outputs, inputs / groups.max(1), kernel, kernel];
            let weight = p.add("weight", &shape, &shape, init)?;
            let fan_in = (shape[1] * kernel * kernel).max(1) as f32;
            let start = match init {
                Init::FanIn(factor) => Init::Uniform(factor * fan_in.powf(-0.5)),
                _ => Init::Zeros,
            };
            let bias = bias.then(|| p.add("bias", &[outputs], &[outputs], start)).transpose()?;
            Ok(Self { weight, bias, kernel, stride, dilation, padding, groups, name: p.path() })
        })
    }

    /// x (B, H, W, C) → (B, H', W', O), stored as mixed precision stores maps.
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        // a group is stored by itself; depthwise kernels take the channels of all groups together
        let outputs = self.weight.data.shape()[0];
        let dtype = stored(r, if self.groups == outputs { outputs } else { outputs / self.groups });
        self.forward_as(r, x, dtype)
    }

    /// x (B, H, W, C) → (B, H', W', O), stored as `dtype` for an operator that reads it.
    pub fn forward_as(&self, r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
        let [_, h, w, _] = x.data.dims("map")?;
        let padding = match self.padding {
            Padding::Of(each) => [each; 4],
            Padding::Same => same_padding([h, w], [self.kernel; 2], [self.stride; 2]),
        };
        let (stride, dilation) = ([self.stride; 2], [self.dilation; 2]);
        let bias = self.bias.as_ref();
        let options = Conv2dOptions { bias, stride, dilation, padding, groups: self.groups, dtype };
        r.scope(&self.name, |r| conv2d(r, x, &self.weight, options))
    }
}

/// A convolution and the batch norm behind it.
#[derive(Debug, Clone)]
pub struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    /// Parameters under the two names. The norm's weight starts at `gain`.
    pub fn new(
        params: &mut Params, [conv, norm]: [&str; 2], config: ConvConfig, norms: BatchNormConfig, gain: Init,
    ) -> Result<Self> {
        let conv = Conv2d::new(params, conv, config)?;
        Ok(Self { conv, norm: BatchNorm::starting_at(params, norm, config.outputs, norms, gain)? })
    }

    /// x (B, H, W, C) → act(norm(conv(x))), (B, H', W', O)
    pub fn forward(&self, r: &mut Recorder, x: &Var, act: BatchNormAct) -> Result<Var> {
        let y = self.conv.forward(r, x)?;
        r.scope(&self.norm.name, |r| self.norm.forward_act(r, &y, act))
    }

    /// [`ConvNorm::forward`], stored as `dtype` for an operator that reads it.
    pub fn forward_as(&self, r: &mut Recorder, x: &Var, act: BatchNormAct, dtype: DType) -> Result<Var> {
        let y = self.conv.forward_as(r, x, dtype)?;
        r.scope(&self.norm.name, |r| self.norm.forward_act(r, &y, act))
    }
}

/// A convolution without bias and the layer norm over channels behind it, as detectron2's `Conv2d(norm="LN")`.
#[derive(Debug, Clone)]
pub struct ConvLayerNorm {
    conv: Conv2d,
    norm: LayerNorm,
}

impl ConvLayerNorm {
    /// Parameters `name.weight` and `name.norm.{weight, bias}`.
    pub fn new(params: &mut Params, name: &str, config: ConvConfig, eps: f32) -> Result<Self> {
        let conv = Conv2d::new(params, name, config)?;
        Ok(Self { conv, norm: LayerNorm::new(params, &format!("{name}.norm"), config.outputs, eps)? })
    }

    /// x (B, H, W, C) → norm(conv(x)), (B, H', W', O) in f32
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let y = self.conv.forward(r, x)?;
        r.scope(&self.norm.name, |r| self.norm.forward(r, &y))
    }
}

/// A transposed convolution with kernel and stride 2, which doubles a map: PyTorch's `nn.ConvTranspose2d(C, O, 2, 2)`.
#[derive(Debug, Clone)]
pub struct Deconv {
    /// (C, O, 2, 2)
    weight: Var,
    bias: Var,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Deconv {
    /// Parameters `name.weight` (C, O, 2, 2) and `name.bias` (O). With PyTorch's default ([`Init::FanIn`]) the bias has
    /// the weight's bound; PyTorch counts outputs here. Else it starts at zero.
    pub fn new(params: &mut Params, name: &str, inputs: usize, outputs: usize, init: Init) -> Result<Self> {
        params.scope(name, |p| {
            let shape = [inputs, outputs, 2, 2];
            let start = match init {
                Init::FanIn(factor) => Init::Uniform(factor * (4.0 * outputs as f32).powf(-0.5)),
                _ => Init::Zeros,
            };
            let weight = p.add("weight", &shape, &shape, init)?;
            Ok(Self { weight, bias: p.add("bias", &[outputs], &[outputs], start)?, name: p.path() })
        })
    }

    /// The layer in front of a batch norm that takes the statistics of its batch, as
    /// [`Linear::before_batch_norm`](super::Linear::before_batch_norm).
    #[must_use]
    pub fn before_batch_norm(&self) -> Self {
        Self { bias: Var::constant(self.bias.data.clone()), ..self.clone() }
    }

    /// x (B, H, W, C) → (B, 2H, 2W, O), stored as mixed precision stores maps.
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let dtype = stored(r, self.bias.data.len());
        self.forward_as(r, x, dtype)
    }

    /// [`Deconv::forward`], stored as `dtype` for an operator that reads it.
    pub fn forward_as(&self, r: &mut Recorder, x: &Var, dtype: DType) -> Result<Var> {
        let options = Conv2dOptions { bias: Some(&self.bias), stride: [2; 2], dtype, ..Conv2dOptions::default() };
        r.scope(&self.name, |r| conv2d_transposed(r, x, &self.weight, options))
    }
}
