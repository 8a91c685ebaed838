//! Reconstructions of point clouds: what a decoder makes of the hidden patches.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Pretext};
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::pretrain::inputs::{PretrainInputs, Tables};
use crate::train::pretrain::mask::PatchMask;

/// The forward pass for one batch size and one number of visible patches.
#[derive(Debug)]
pub struct CloudReconstructor {
    g: Gpu,
    inputs: PretrainInputs,
    tables: Tables,
    program: Program,
    rebuilt: Tensor,
    loss: Tensor,
    groups: usize,
    group_size: usize,
}

/// One cloud and its reconstruction.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuiltCloud {
    /// The points of all patches (G·K); patches overlap.
    pub original: Vec<[f32; 3]>,
    /// The points of the visible patches (V·K).
    pub visible: Vec<[f32; 3]>,
    /// The points of the hidden patches as the decoder makes them, about the true centers (M·K).
    pub rebuilt: Vec<[f32; 3]>,
}

impl CloudReconstructor {
    /// Records the forward pass of `model` for `batch` clouds with `visible` patches each.
    ///
    /// # Errors
    /// A model that is not pretrained on point clouds.
    pub fn new(g: &Gpu, model: &dyn Pretext, config: &Config, batch: usize, visible: usize) -> Result<Self> {
        let points = config.points()?;
        let inputs = PretrainInputs::new(config, batch)?.of(config, model)?;
        let tables = inputs.tables(visible)?;
        let (recording, out) = Recorder::inference(g).record(|r| {
            let batch = inputs.batch(r, &tables)?;
            model.rebuild(r, &batch)
        })?;
        let expected = "a method on point clouds";
        let out = out.ok_or_else(|| Error::argument("the model to rebuild clouds with", model.method(), expected))?;
        Ok(Self {
            g: g.clone(),
            inputs,
            tables,
            program: Program::new(recording)?,
            rebuilt: out.rebuilt.data,
            loss: out.loss.data,
            groups: points.groups,
            group_size: points.group_size,
        })
    }

    /// Clouds as patches (B, G, 3K + 3) in bytes → their reconstructions, and the Chamfer distance of the hidden
    /// patches.
    pub async fn run(&self, patches: &[u8], mask: &PatchMask) -> Result<(Vec<RebuiltCloud>, f32)> {
        self.inputs.write(&self.g, patches, mask, &self.tables, (0, 1))?;
        self.program.run()?;
        let (rebuilt, loss) = (self.rebuilt.to_vec_async(&self.g).await?, self.loss.to_vec_async(&self.g).await?);
        let (size, groups) = (3 * self.group_size, self.groups);
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(patches);
        let hidden = rebuilt.len() * groups / mask.inverse.len().max(1); // values per cloud
        let clouds = values.chunks_exact(groups * (size + 3)).zip(mask.inverse.chunks_exact(groups));
        let clouds = clouds.zip(rebuilt.chunks_exact(hidden));
        let rebuild = |((cloud, inverse), rebuilt): ((&[f32], &[u32]), &[f32])| {
            let (mut visible, mut made) = (Vec::new(), Vec::new());
            let mut rebuilt = rebuilt.chunks_exact(size);
            for (patch, &place) in cloud.chunks_exact(size + 3).zip(inverse) {
                let (points, center) = patch.split_at(size);
                match place {
                    u32::MAX => made.extend(rebuilt.next().into_iter().flat_map(|points| about(points, center))),
                    _ => visible.extend(about(points, center)),
                }
            }
            RebuiltCloud { original: patch_points(cloud, self.group_size), visible, rebuilt: made }
        };
        Ok((clouds.map(rebuild).collect(), loss.first().copied().unwrap_or(f32::NAN)))
    }
}

/// Patches (G, 3K + 3), each K points relative to a center, and the center → the points of all (G·K).
pub fn patch_points(patches: &[f32], size: usize) -> Vec<[f32; 3]> {
    let patches = patches.chunks_exact(3 * size + 3).map(|patch| patch.split_at(3 * size));
    patches.flat_map(|(points, center)| about(points, center)).collect()
}

/// Points (K, 3) relative to a center → in the space of the cloud.
fn about(points: &[f32], center: &[f32]) -> impl Iterator<Item = [f32; 3]> {
    points.as_chunks::<3>().0.iter().map(|p| std::array::from_fn(|axis| p[axis] + center[axis]))
}
