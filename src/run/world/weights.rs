//! Weights that all processes start from: those of rank 0.

use super::processes::World;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::Params;
use crate::tensor::Tensor;

impl World {
    /// Copies weights, moments and buffers of rank 0 to all others.
    ///
    /// # Errors
    /// Those of the device; processes that do not answer in time.
    pub fn spread(&self, g: &Gpu, models: &[&Params]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        for model in models {
            let moments = model.flat().into_iter().flat_map(|flat| [flat.first_moment, flat.second_moment]);
            for tensor in model.flat_tensors().into_iter().chain(moments) {
                self.spread_tensor(g, &tensor)?;
            }
        }
        Ok(())
    }

    fn spread_tensor(&self, g: &Gpu, tensor: &Tensor) -> Result<()> {
        let mut bytes = if self.leads() { tensor.read(g)?.wait()? } else { vec![0; tensor.len() * 4] };
        let sent = self.submit(move |transport| transport.broadcast(&mut bytes).map(|()| bytes))?;
        let bytes = self.wait(&sent)??;
        if self.leads() { Ok(()) } else { g.write(tensor.memory(), &bytes) }
    }
}
