//! rms_norm: launcher and tape rule, shared with layer_norm. Maths: `shaders/rms_norm.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Args, Bind, Caps, Const, DType, Grid, Kernel, Work, params, read, wgsl, write};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `rms_norm.wgsl` and `layer_norm.wgsl`.
    pub struct Norm { rows: u32, d: u32, l: u32, residual: u32, dsum: u32, groups: u32, eps: f32 }
}

const SRC: &str = wgsl!("rms_norm", "grid", "reduce", "half", "norm");
const SUBGROUP: &str = wgsl!("rms_norm", "grid", "reduce_subgroup", "half", "norm");
/// Invocations per row, columns per invocation, and whether y is f16.
pub(super) const CONSTS: &[Const] =
    &[Const::of("WG", ROW_WORKGROUPS), Const::within("COLS", 1, 4096, &[4, 1, 3, 12]), Const::flag("HALF")];
/// Invocations that share a row: what [`row_workgroup`] gives.
pub(super) const ROW_WORKGROUPS: &[u32] = &[256, 32, 64, 128];

const FORWARD: Kernel = Kernel::new::<Norm>(
    "rms_norm.forward",
    SRC,
    &[
        read(1, "x"),
        read(2, "residual"),
        read(3, "keep"),
        read(4, "w"),
        write(5, "sum"),
        write(6, "y").f16_if("HALF"),
        write(7, "stat"),
    ],
)
.subgroup(SUBGROUP)
.consts(CONSTS)
.rounds()
.least(|x| columns(x, 6));
const BACKWARD: Kernel = Kernel::new::<Norm>("rms_norm.backward", SRC, BACKWARD_BINDS)
    .subgroup(SUBGROUP)
    .consts(CONSTS)
    .rounds()
    .least(|x| columns(x, 12));
pub(super) const BACKWARD_BINDS: &[Bind] = &[
    read(8, "saved_sum"),
    read(4, "w"),
    read(9, "saved_stat"),
    read(10, "dy").f16_if("HALF"),
    read(11, "dsum"),
    write(12, "dx"),
    write(13, "dresidual"),
    write(14, "share"),
];
const SUM_PARTIALS: Kernel =
    Kernel::new::<Norm>("rms_norm.sum_partials", SRC, &[read(15, "shares"), write(16, "dw")]).consts(CONSTS).rounds();

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &SUM_PARTIALS];

/// Each array moved once; so many flops per element.
pub(super) fn columns(launch: &Args<'_>, flops: usize) -> Work {
    let p: Norm = launch.scalars();
    Work { bytes: launch.bytes, ..Work::of(0, flops * (p.rows * p.d) as usize, 0) }
}

/// The residual sum r' = residual + keep·x, and its RMS norm y: -> (y, r'). `x` and `residual` are (B, L, D) or (rows,
/// D),
/// `keep` is (B), a factor per sample, `w` is (D). Without residual and keep, r' is `x` itself.
pub fn rms_norm(
    r: &mut Recorder, x: &Var, residual: Option<&Var>, keep: Option<&Tensor>, w: &Var, eps: f32,
) -> Result<(Var, Var)> {
    FAMILY.apply(r, false, x, residual, keep, &[("w", w)], eps)
}

/// [`rms_norm`] with y in f16, for operators that take it so; D has to be even.
pub fn rms_norm_half(
    r: &mut Recorder, x: &Var, residual: Option<&Var>, keep: Option<&Tensor>, w: &Var, eps: f32,
) -> Result<(Var, Var)> {
    FAMILY.apply(r, true, x, residual, keep, &[("w", w)], eps)
}

const FAMILY: Family = Family { op: "rms_norm", forward: &FORWARD, backward: &BACKWARD, sum_partials: &SUM_PARTIALS };

/// A norm: its kernels. rms_norm has one weight vector, layer_norm two.
pub(super) struct Family {
    pub op: &'static str,
    pub forward: &'static Kernel,
    pub backward: &'static Kernel,
    pub sum_partials: &'static Kernel,
}

/// Most workgroups of a backward launch: enough to fill a large GPU, few enough that their shares of dw are small.
const GROUPS: usize = 1024;

/// Invocations for a row of `d` columns: 32 to 256 with about four columns each, or about twelve on a CPU, where
/// barriers cost more than serial loops.
pub(super) fn row_workgroup(caps: &Caps, d: usize) -> usize {
    (d / if caps.software { 12 } else { 3 }).clamp(32, 256).next_power_of_two()
}

fn pick(caps: &Caps, d: usize, half: bool) -> [(&'static str, u32); 2] {
    let wg = row_workgroup(caps, d);
    let columns = d.div_ceil(wg).next_multiple_of(if half { 2 } else { 1 });
    [("WG", wg as u32), ("COLS", columns as u32)]
}

impl Family {
    /// Shapes, launch and rule.
    #[expect(clippy::too_many_arguments, reason = "the operands of one fused operator")]
    pub fn apply(
        self, r: &mut Recorder, half: bool, x: &Var, residual: Option<&Var>, keep: Option<&Tensor>,
        weights: &[(&str, &Var)], eps: f32,
    ) -> Result<(Var, Var)> {
        let shape = x.data.shape();
        let (rows, d) = x.data.rows_cols();
        for (name, weight) in weights {
            weight.data.expect_shape(&format!("{}: {name}", self.op), &[d])?;
        }
        if let Some(residual) = residual {
            residual.data.expect_shape(&format!("{}: residual", self.op), shape)?;
        }
        let samples = keep.map_or(1, Tensor::len);
        if samples == 0 || rows % samples != 0 || (keep.is_some() && shape.len() > 2 && samples != shape[0]) {
            return Err(Error::argument(format!("{}: keep", self.op), samples, format!("one per sample of {shape:?}")));
        }
        if half && !d.is_multiple_of(2) {
            return Err(Error::argument(format!("{}: columns in f16", self.op), d, "an even number"));
        }
        let plain = residual.is_none() && keep.is_none();
        let p = Norm {
            rows: rows as u32,
            d: d as u32,
            l: if keep.is_some() { rows / samples } else { 0 } as u32,
            residual: residual.is_some().into(),
            dsum: 0,
            groups: rows.min(GROUPS) as u32,
            eps,
        };
        let y = Tensor::scratch_of(DType::f16_if(half), "norm", shape);
        let stat = Tensor::scratch("norm statistics", &[rows, 4]);
        let sum = Tensor::scratch("residual", if plain { &[1] } else { shape });
        let weights: Vec<&Var> = weights.iter().map(|(_, weight)| *weight).collect();
        let mut args = vec![Some(&x.data), residual.map(|r| &r.data), keep];
        args.extend(weights.iter().map(|weight| Some(&weight.data)));
        args.extend([&sum, &y, &stat].map(Some));
        r.launch_with(self.forward, &pick(r.caps(), d, half), Grid::rows(rows), &p, &args)?;

        let operands = (x, residual, &weights[..]);
        let rule = Rule { family: self, p, sum: if plain { x.data.clone() } else { sum }, stat };
        if plain {
            let y = r.push(operands, y, move |r, operands, dy, grads| {
                let others = grads.take(&operands.0); // what later layers sent to r' = x
                rule.run(r, operands, dy, others.as_ref(), grads)
            });
            return Ok((y, x.clone()));
        }
        let out = [y, rule.sum.clone()];
        let [y, sum] = r.push_many(operands, out, move |r, (x, residual, weights), [dy, dsum], grads| {
            let dy = match dy {
                Some(dy) => dy,
                None => {
                    let zeros = Tensor::scratch("no gradient", x.data.shape());
                    zeros.fill(r, 0.0)?;
                    zeros
                }
            };
            rule.run(r, (x, residual, weights), &dy, dsum.as_ref(), grads)
        });
        Ok((y, sum))
    }
}

/// What backward needs.
struct Rule {
    family: Family,
    p: Norm,
    sum: Tensor,
    stat: Tensor,
}

impl Rule {
    fn run(
        self, r: &mut Recorder, (x, residual, weights): (Var, Option<Var>, Vec<Var>), dy: &Tensor,
        dsum: Option<&Tensor>, grads: &mut Grads,
    ) -> Result<()> {
        let (d, groups) = (self.p.d as usize, self.p.groups as usize);
        let p = Norm { dsum: dsum.is_some().into(), ..self.p };
        let keep = p.l > 0;
        let dx = grads.alloc(&x);
        let dresidual = match &residual {
            Some(residual) if keep => grads.alloc(residual),
            _ => Tensor::scratch("unused", if keep { x.data.shape() } else { &[1] }),
        };
        let shares = Tensor::scratch("norm shares", &[groups, weights.len(), d]);
        let w = &weights[0].data;
        let [sum, w, stat, dy_, dx_] = [&self.sum, w, &self.stat, dy, &dx].map(Some);
        let args = [sum, w, stat, dy_, dsum, dx_, Some(&dresidual), Some(&shares)];
        r.launch_with(self.family.backward, &pick(r.caps(), d, dy.is_f16()), Grid::of(groups, 1, 1), &p, &args)?;
        if let Some(residual) = &residual {
            grads.add(r, residual, if keep { dresidual } else { dx.clone() })?;
        }
        grads.add(r, &x, dx)?;

        if !weights.iter().any(|weight| grads.wants(weight)) {
            return Ok(());
        }
        let dws: Vec<Tensor> = weights.iter().map(|weight| grads.alloc(weight)).collect();
        let mut args = vec![&shares];
        args.extend(&dws);
        let grid = Grid::of((dws.len() * d).div_ceil(16), 1, 1);
        r.launch(self.family.sum_partials, grid, &p, &args)?;
        weights.iter().zip(dws).try_for_each(|(weight, dw)| grads.add(r, weight, dw))
    }
}
