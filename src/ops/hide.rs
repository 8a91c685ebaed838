//! hide: zeros where patches are hidden, on a map of any stride. Maths: `shaders/hide.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `hide.wgsl`.
    pub(crate) struct Hide { n: u32, h: u32, w: u32, c: u32, rows: u32, cols: u32 }
}

const FORWARD: Kernel = Kernel::new::<Hide>(
    "hide.forward",
    wgsl!("hide", "grid"),
    &[read(1, "x").f16_if("HALF"), read(2, "inv").u32(), write(3, "y").f16_if("HALF")],
)
.consts(&[Const::flag("HALF")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// A map with zeros in the cells of hidden patches. A patch is a whole number of cells. A map in f16 stays f16.
///
/// `inv` is [`MaskedBatch::inverse`](crate::models::MaskedBatch): for each patch its place among the visible ones, or
/// `u32::MAX` if it is hidden. `grid` is the number of rows and columns of patches.
///
/// - Shapes: x (B, H, W, C), `inv` (B, L), L = `grid[0]`·`grid[1]` → (B, H, W, C).
/// - PyTorch: `x * visible.repeat_interleave(k, 1).repeat_interleave(k, 2)[..., None]`, with k = H/`grid[0]`.
/// - Source: Gao et al. 2022 (ConvMAE), masked convolutions.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::hide::hide, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 4, 1], &[1.0, 2.0, 3.0, 4.0])?); // two patches of two cells
/// let inv = Tensor::from_indices(g, &[1, 2], &[u32::MAX, 0])?; // the first is hidden
/// let mut r = Recorder::new(g);
/// let y = hide(&mut r, &x, &inv, [1, 2])?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [0.0, 0.0, 3.0, 4.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 0.0, 1.0, 1.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the map is no whole number of cells a patch, if the table is of another batch or grid, or if a map in f16 has an
/// odd number of channels.
pub fn hide(r: &mut Recorder, x: &Var, inv: &Tensor, grid: [usize; 2]) -> Result<Var> {
    let [b, h, w, c] = x.data.dims("hide: x")?;
    inv.expect_shape("hide: inv", &[b, grid[0] * grid[1]])?;
    if x.data.is_empty() || h % grid[0] != 0 || w % grid[1] != 0 {
        let [rows, columns] = grid;
        let expected = format!("a multiple of {rows}×{columns} patches, not empty");
        return Err(Error::argument("hide: map", format!("{h}×{w}"), expected));
    }
    if x.data.is_f16() && !c.is_multiple_of(2) {
        return Err(Error::argument("hide: channels in f16", c, "an even number"));
    }
    let words = if x.data.is_f16() { x.data.len() / 2 } else { x.data.len() };
    let p = scalars!(Hide { n: words, h, w, c, rows: h / grid[0], cols: w / grid[1] });
    let y = x.data.scratch_like("hide", x.data.shape());
    r.launch(&FORWARD, Grid::items(p.n as usize, 256), &p, &[&x.data, inv, &y])?;
    let inv = inv.clone();
    Ok(r.push(x, y, move |r, x, dy, grads| {
        let dx = grads.alloc(&x);
        r.launch(&FORWARD, Grid::items(p.n as usize, 256), &p, &[dy, &inv, &dx])?;
        grads.add(r, &x, dx)
    }))
}
