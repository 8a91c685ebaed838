//! The attention weights of MAP's decoder.

use crate::error::Result;
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Map};
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::pretrain::inputs::{PretrainInputs, Tables};
use crate::train::pretrain::mask::PatchMask;

/// A forward program for one batch size and one number of visible patches.
#[derive(Debug)]
pub struct AttentionMaps {
    g: Gpu,
    inputs: PretrainInputs,
    tables: Tables,
    program: Program,
    maps: Vec<Tensor>,
}

impl AttentionMaps {
    /// Records encoder and decoder of `model` for `batch` images with `visible` tokens each.
    pub fn new(g: &Gpu, model: &Map, config: &Config, batch: usize, visible: usize) -> Result<Self> {
        let inputs = PretrainInputs::new(config, batch)?;
        let tables = inputs.tables(visible)?;
        let (recording, maps) = Recorder::inference(g).record(|r| {
            let batch = inputs.batch(r, &tables)?;
            model.attention(r, &batch)
        })?;
        Ok(Self { g: g.clone(), program: Program::new(recording)?, inputs, tables, maps })
    }

    /// Images (B, S, S, 3) → for each block of the decoder the attention weights (B, H, L, L). The third index is the
    /// token that attends, the fourth the token that it attends to. The weights of a token add up to 1.
    pub async fn run(&self, images: &[u8], mask: &PatchMask) -> Result<Vec<Vec<f32>>> {
        self.inputs.write(&self.g, images, mask, &self.tables, (0, 1))?;
        self.program.run()?;
        let mut found = Vec::with_capacity(self.maps.len());
        for map in &self.maps {
            found.push(map.to_vec_async(&self.g).await?);
        }
        Ok(found)
    }
}
