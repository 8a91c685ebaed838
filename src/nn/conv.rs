//! Convolutions of maps.

use std::sync::Arc;

use super::init::Init;
use super::norm::{BatchNorm, BatchNormConfig};
use super::params::Params;
use super::stored::stored;
use crate::error::Result;
use crate::gpu::DType;
use crate::ops::batch_norm::BatchNormAct;
use crate::ops::conv2d::{Conv2dOptions, conv2d, same_padding};
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
        Self { inputs, outputs, kernel, stride: 1, padding, groups: 1, bias: false, init }
    }

    /// The same with each channel by itself.
    pub fn depthwise(channels: usize, kernel: usize, init: Init) -> Self {
        Self { groups: channels, ..Self::dense(channels, channels, kernel, init) }
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
    padding: Padding,
    groups: usize,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Conv2d {
    /// Parameters `name.weight` (O, C/groups, kernel, kernel) and, if there is one, `name.bias` (O).
    pub fn new(params: &mut Params, name: &str, config: ConvConfig) -> Result<Self> {
        let ConvConfig { inputs, outputs, kernel, stride, padding, groups, bias, init } = config;
        params.scope(name, |p| {
            let shape = [outputs, inputs / groups.max(1), kernel, kernel];
            let weight = p.add("weight", &shape, &shape, init)?;
            let fan_in = (shape[1] * kernel * kernel).max(1) as f32;
            let start = match init {
                Init::FanIn(factor) => Init::Uniform(factor * fan_in.powf(-0.5)),
                _ => Init::Zeros,
            };
            let bias = bias.then(|| p.add("bias", &[outputs], &[outputs], start)).transpose()?;
            Ok(Self { weight, bias, kernel, stride, padding, groups, name: p.path() })
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
        let options =
            Conv2dOptions { bias: self.bias.as_ref(), stride: [self.stride; 2], padding, groups: self.groups, dtype };
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
}
