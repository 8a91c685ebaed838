//! What the backward pass of selective_scan writes.

use super::call::{ScanCall, channel_layout};
use crate::error::Result;
use crate::gpu::DType;
use crate::ops::tokens::sum_samples;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Everything the backward scan writes, in one buffer, because WebGPU allows eight storage bindings.
/// The fields `*_at` are offsets into it in words of 4 bytes.
#[derive(Debug)]
pub(in crate::ops) struct Workspace {
    pub all: Tensor,
    case: ScanCall,
    pub tiles: usize,
    pub ddelta_at: usize,
    pub bc_at: usize,
    pub dchannel_params_at: usize,
}

impl Workspace {
    /// For workgroups of `channels` channels.
    pub(super) fn new(case: ScanCall, channels: usize) -> Self {
        let ScanCall { s, b, l, e, .. } = case;
        let n = case.spec.states;
        let tiles = e.div_ceil(channels);
        let ddelta_at = (s * b * l * e / if case.half { 2 } else { 1 }).next_multiple_of(64);
        let bc_at = 2 * ddelta_at;
        let dchannel_params_at = bc_at + (s * b * l * tiles * 2 * n).next_multiple_of(64);
        let all = Tensor::scratch("selective_scan gradients", &[dchannel_params_at + b * channel_layout(s, e, n).len]);
        Self { all, case, tiles, ddelta_at, bc_at, dchannel_params_at }
    }

    /// The (S, B, L, E) elements that begin at word `at`.
    fn part(&self, at: usize) -> Result<Tensor> {
        let shape = [self.case.s, self.case.b, self.case.l, self.case.e];
        let dtype = DType::f16_if(self.case.half);
        let bytes = shape.iter().product::<usize>() * dtype.size() as usize;
        self.all.range(at, &[bytes.div_ceil(4)])?.viewed_as(dtype, &shape)
    }

    /// du (S, B, L, E). A kernel that reads it may not write another part of this buffer: in one dispatch WebGPU
    /// binds a buffer either as `read` or as `read_write`.
    pub(in crate::ops) fn du(&self) -> Result<Tensor> {
        self.part(0)
    }

    /// The gradient of the operand u of a scan over a grid, which all directions share: the sum of du, (1, B, L, E).
    pub(in crate::ops) fn du_of_grid(&self, r: &mut Recorder) -> Result<Tensor> {
        let ScanCall { s, b, l, e, .. } = self.case;
        let sum = Tensor::scratch("selective_scan du", &[1, b, l, e]);
        sum_samples(r, &self.du()?.reshape(&[s, b * l, e])?, &sum.reshape(&[b * l, e])?)?;
        Ok(sum)
    }

    /// ddelta (S, B, L, E): the gradient of delta before bias and softplus.
    pub(in crate::ops) fn ddelta(&self) -> Result<Tensor> {
        self.part(self.ddelta_at)
    }
}
