//! One attention: its operands, checked, and its launches.

use super::coop;
use super::kernels::{Attention, AttentionMask, BACKWARD_DELTA, MAX_HEAD, Route, Step, tiling};
use super::options::AttentionOptions;
use crate::error::{Error, Result};
use crate::gpu::{Grid, Precision, scalars};
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Where q, k and v lie in their buffers: the lengths of rows, and the columns at which k and v begin. q begins at 0.
pub(super) struct Columns {
    pub q_row: usize,
    pub kv_row: usize,
    pub k: usize,
    pub v: usize,
}

/// Scalars, operands and kernels of one attention.
pub(super) struct Call {
    pub p: Attention,
    /// B, Lq, C
    pub shape: [usize; 3],
    pub dh: usize,
    q: Tensor,
    kv: Tensor,
    /// The region table; None if there is no mask.
    pub table: Option<Tensor>,
    pub path: Route,
}

impl Call {
    /// Attention of q (B, Lq, C) over kv (B, Lk, 2C).
    pub fn cross(r: &Recorder, q: &Tensor, kv: &Tensor, options: AttentionOptions<'_>) -> Result<Self> {
        let [b, lq, c] = q.dims("attention: q")?;
        let [_, lk, _] = kv.dims("attention: kv")?;
        kv.expect_shape("attention: kv", &[b, lk, 2 * c])?;
        let columns = Columns { q_row: c, kv_row: 2 * c, k: 0, v: c };
        Self::new(r, [b, lq, lk, c], columns, options, q, kv)
    }

    pub fn new(
        r: &Recorder, [b, lq, lk, c]: [usize; 4], columns: Columns, options: AttentionOptions<'_>, q: &Tensor,
        kv: &Tensor,
    ) -> Result<Self> {
        let AttentionOptions { heads, mask, regions } = options;
        let dh = c / heads.max(1);
        if heads == 0 || c % heads != 0 || !(1..=MAX_HEAD).contains(&dh) {
            let expected = format!("a divisor of {c} that leaves heads of 1 to {MAX_HEAD}");
            return Err(Error::argument("attention: heads", heads, expected));
        }
        if q.is_f16() && !dh.is_multiple_of(4) {
            return Err(Error::argument("attention: columns of a head in f16", dh, "a multiple of 4"));
        }
        let table = match (mask, regions) {
            (AttentionMask::Full, _) => None,
            (_, None) => return Err(Error::argument("attention: regions", "none", format!("a table for {mask:?}"))),
            (_, Some(regions)) if [lq, lk] != [regions.len; 2] => {
                let got = format!("{lq} queries, {lk} keys");
                return Err(Error::argument(
                    "attention: tokens",
                    got,
                    format!("{} of each, as in regions", regions.len),
                ));
            }
            (_, Some(regions)) => Some(regions.table.clone()),
        };
        let p = scalars!(Attention {
            lq,
            lk,
            heads,
            groups: b * heads,
            q_row: columns.q_row,
            kv_row: columns.kv_row,
            k_at: columns.k,
            v_at: columns.v,
            mask: mask as u32,
            scale: (dh as f32).sqrt().recip(),
        });
        Ok(Self {
            p,
            shape: [b, lq, c],
            dh,
            q: q.clone(),
            kv: kv.clone(),
            table,
            path: Route::f32(r.caps().software, dh),
        })
    }

    /// Moves to cooperative matrices if the recorder's precision is mixed and the adapter has them.
    pub fn in_precision(self, r: &Recorder) -> Self {
        let path = if r.precision() == Precision::Mixed { coop::path(r.caps(), self.dh) } else { None };
        Self { path: path.unwrap_or(self.path), ..self }
    }

    /// Launches the forward pass → out (B, Lq, C), and lse (B, H, Lq), the logarithm of each softmax's denominator.
    pub fn forward(&self, r: &mut Recorder) -> Result<(Tensor, Tensor)> {
        let out = self.q.scratch_like("attention", &self.shape);
        let lse = self.per_query("attention lse");
        self.launch(
            r,
            &self.path.forward,
            self.p.lq,
            &[Some(&self.q), Some(&self.kv), Some(&self.kv), self.table.as_ref(), Some(&out), Some(&lse)],
        )?;
        Ok((out, lse))
    }

    /// Launches delta = dout·out, a dot product for each query and head → (B, H, Lq). Every backward kernel reads it.
    pub fn delta(&self, r: &mut Recorder, out: &Tensor, dout: &Tensor) -> Result<Tensor> {
        let delta = self.per_query("attention delta");
        let mut consts = tiling(r.caps().software, self.dh, true);
        consts[4].1 = self.path.rounds.into();
        r.launch_with(&BACKWARD_DELTA, &consts, Grid::items(delta.len(), 64), &self.p, &[out, dout, &delta])?;
        Ok(delta)
    }

    /// Launches the gradient of q, or of k and v. It goes to the columns of `grad` that q, or k and v, have in their
    /// buffer.
    pub fn backward(
        &self, r: &mut Recorder, step: &Step, rows: u32, [lse, delta, dout]: [&Tensor; 3], grad: &Tensor,
    ) -> Result<()> {
        self.launch(
            r,
            step,
            rows,
            &[
                Some(&self.q),
                Some(&self.kv),
                Some(&self.kv),
                self.table.as_ref(),
                Some(lse),
                Some(delta),
                Some(dout),
                Some(grad),
            ],
        )
    }

    fn per_query(&self, label: &'static str) -> Tensor {
        Tensor::scratch(label, &[self.shape[0], self.p.heads as usize, self.shape[1]])
    }

    /// Launches one workgroup for each (b, h) and each block of `step.rows` rows, out of `rows`.
    fn launch(&self, r: &mut Recorder, step: &Step, rows: u32, args: &[Option<&Tensor>]) -> Result<()> {
        let grid = Grid::rows((self.p.groups * rows.div_ceil(step.rows)) as usize);
        r.launch_with(step.kernel, &step.consts, grid, &self.p, args)
    }
}
