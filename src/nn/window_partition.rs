//! Windows of a map: Swin's `window_partition` and `window_reverse`.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::reshape::reshape;
use crate::ops::tokens::gather;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The cut of maps of one size into square windows. A map that no whole number of windows covers gets rows and columns
/// of zeros below and right; these cells are tokens as all others are.
#[derive(Debug, Clone)]
pub struct WindowPartition {
    size: [usize; 2],
    side: usize,
    /// For each token of the windows its cell, or u32::MAX for a cell of zeros; for each cell its token. `None` where
    /// the tokens are in the order of the cells already.
    tables: Option<[Tensor; 2]>,
}

impl WindowPartition {
    /// Windows of `side` × `side` cells for maps of `size` = [H, W].
    pub fn new(g: &Gpu, size: [usize; 2], side: usize) -> Result<Self> {
        let mut windows = Self { size, side, tables: None };
        let ([h, w], [rows, columns]) = (size, windows.counts());
        if h == rows * side && w == side {
            return Ok(windows); // the windows are whole rows of the map
        }
        let mut cells = Vec::new();
        let mut tokens = vec![0; h * w];
        for window in 0..rows * columns {
            for inside in 0..side * side {
                let y = window / columns * side + inside / side;
                let x = window % columns * side + inside % side;
                if y < h && x < w {
                    tokens[y * w + x] = cells.len() as u32;
                    cells.push((y * w + x) as u32);
                } else {
                    cells.push(u32::MAX);
                }
            }
        }
        let table = |values: &[u32]| Tensor::from_indices(g, &[values.len()], values);
        windows.tables = Some([table(&cells)?, table(&tokens)?]);
        Ok(windows)
    }

    /// Rows and columns of the maps.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Rows and columns of windows.
    fn counts(&self) -> [usize; 2] {
        self.size.map(|cells| cells.div_ceil(self.side))
    }

    /// Windows of a map.
    pub fn count(&self) -> usize {
        self.counts().iter().product()
    }

    /// A map (B, H, W, C) → its windows (B·windows, side², C), row by row, and so are the tokens inside.
    pub fn partition(&self, r: &mut Recorder, map: &Var) -> Result<Var> {
        let [b, h, w, c] = map.data.dims("map")?;
        let mut tokens = reshape(r, map, &[b, h * w, c])?;
        if let Some([cells, places]) = &self.tables {
            tokens = gather(r, &tokens, cells, places)?;
        }
        reshape(r, &tokens, &[b * self.count(), self.side * self.side, c])
    }

    /// Windows (B·windows, side², C) → the map (B, H, W, C), without the cells of zeros.
    pub fn reverse(&self, r: &mut Recorder, windows: &Var) -> Result<Var> {
        let [n, l, c] = windows.data.dims("windows")?;
        let (b, [h, w]) = (n / self.count(), self.size);
        let mut tokens = reshape(r, windows, &[b, self.count() * l, c])?;
        if let Some([cells, places]) = &self.tables {
            tokens = gather(r, &tokens, places, cells)?;
        }
        reshape(r, &tokens, &[b, h, w, c])
    }
}
