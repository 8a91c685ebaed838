//! chamfer: Chamfer distance between pairs of point sets. Maths: `shaders/chamfer.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, DType, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `chamfer.wgsl`.
    pub(crate) struct ChamferParams {
        points: u32, n: u32, m: u32, factor_a: f32, factor_b: f32,
        own: u32, other: u32, own_at: u32, other_at: u32, factor: f32, other_factor: f32,
    }
}

const CONSTS: &[Const] = &[Const::of("FORM", &[0, 1])];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<ChamferParams>(name, wgsl!("chamfer", "grid"), binds).consts(CONSTS)
}
const FORWARD: Kernel =
    kernel("chamfer.forward", &[read(1, "a"), read(2, "b"), write(3, "shares"), write(4, "near").u32()]).least(pairs);
const BACKWARD: Kernel = kernel(
    "chamfer.backward",
    &[read(1, "a"), read(2, "b"), read(5, "saved_near").u32(), read(6, "dshares"), write(7, "down")],
);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Each pair of points is measured once for each of the two.
fn pairs(launch: &LaunchArgs<'_>) -> Work {
    let p: ChamferParams = launch.scalars();
    let [points, n, m] = [p.points, p.n, p.m].map(|size| size as usize);
    Work { bytes: launch.bytes, ..Work::of(0, 16 * points / (n + m) * n * m, 0) }
}

/// Most points of a set: a lane visits all of them.
const MOST: usize = 32_768;

/// What a Chamfer distance averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChamferForm {
    /// Half of the two means of distances: Point-MAE's `cdl1`.
    L1,
    /// The two means of squared distances: Point-MAE's `cdl2`.
    #[default]
    L2,
}

/// The Chamfer distance between pairs of point sets: how far, on average over the points of all pairs, the nearest
/// point of the other set is. The sum of the result is the distance; each element is the share of one point.
///
/// Of equally near points the first counts. Gradients go through the nearest pairs. Two points in the same place have
/// no gradient (in PyTorch, L1's is not a number there).
///
/// - Shapes: a (P, n, 3), b (P, m, 3) → (P, n + m), first the points of a.
/// - PyTorch: with `d = torch.cdist(a, b)`, L1 is `(d.amin(2).mean() + d.amin(1).mean()) / 2`, and L2 is
///   `(d ** 2).amin(2).mean() + (d ** 2).amin(1).mean()`.
/// - Source: Pang et al. 2022 (Point-MAE), `extensions/chamfer_dist`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::chamfer::{ChamferForm, chamfer}, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[1, 2, 3], &[0.0, 0.0, 0.0, 3.0, 0.0, 0.0])?);
/// let b = Var::constant(Tensor::from_slice(g, &[1, 1, 3], &[1.0, 0.0, 0.0])?);
/// let mut r = Recorder::new(g);
/// let shares = chamfer(&mut r, &a, &b, ChamferForm::L2)?;
/// let grads = r.backward(&shares, Grads::default())?;
/// r.run()?;
/// assert_eq!(shares.data.to_vec(g)?, [0.5, 2.0, 1.0]); // 1/2, 4/2, and 1 from b to the nearer point
/// assert_eq!(grads.get(&a).unwrap().to_vec(g)?, [-3.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a set is empty or has more than 32,768 points, or if points do not have three coordinates.
pub fn chamfer(r: &mut Recorder, a: &Var, b: &Var, form: ChamferForm) -> Result<Var> {
    let ([pairs, n, three], [_, m, _]) = (a.data.dims("chamfer: a")?, b.data.dims("chamfer: b")?);
    if three != 3 || pairs == 0 || !(1..=MOST).contains(&n) {
        let got = format!("{:?}", a.data.shape());
        return Err(Error::argument("chamfer: a", got, format!("(P, n, 3), n 1 to {MOST}")));
    }
    if !(1..=MOST).contains(&m) {
        return Err(Error::argument("chamfer: b", format!("{:?}", b.data.shape()), format!("1 to {MOST} points")));
    }
    b.data.expect_shape("chamfer: b", &[pairs, m, 3])?;
    let factor = move |points: usize| {
        let halved = if form == ChamferForm::L1 { 0.5 } else { 1.0 };
        (halved / (pairs * points) as f64) as f32
    };
    let (points, consts) = (pairs * (n + m), [("FORM", form as u32)]);
    let p = scalars!(ChamferParams {
        points,
        n,
        m,
        factor_a: factor(n),
        factor_b: factor(m),
        ..bytemuck::Zeroable::zeroed()
    });
    let shares = Tensor::scratch("chamfer", &[pairs, n + m]);
    let near = Tensor::scratch_of(DType::U32, "nearest points", &[pairs, n + m]);
    r.launch_with(&FORWARD, &consts, Grid::items(points, 64), &p, &[&a.data, &b.data, &shares, &near])?;
    Ok(r.push((a, b), shares, move |r, (a, b), dshares, grads| {
        for (own, other, [own_at, other_at]) in [(&a, &b, [0, n]), (&b, &a, [n, 0])] {
            if !grads.wants(own) {
                continue;
            }
            let down = grads.alloc(own);
            let [points, others] = [own, other].map(|var| var.data.shape()[1]);
            let p = scalars!(ChamferParams {
                points: pairs * points,
                own: points,
                other: others,
                own_at,
                other_at,
                factor: factor(points),
                other_factor: factor(others),
                ..p
            });
            let args = [&own.data, &other.data, &near, dshares, &down];
            r.launch_with(&BACKWARD, &consts, Grid::items(pairs * points, 64), &p, &args)?;
            grads.add(r, own, down)?;
        }
        Ok(())
    }))
}
