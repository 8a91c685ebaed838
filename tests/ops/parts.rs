use rowscan::cpu::parts as cpu;
use rowscan::gpu::{Caps, Class, Gpu};
use rowscan::ops::matmul::{MatmulOptions, matmul};
use rowscan::ops::norm::{NormOptions, layer_norm};
use rowscan::ops::parts::{Rows, join, sum_many, sum_parts};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, values, wide};

/// Integers from −3 to 3. f32 sums of them are exact, so a sum that misses one element fails.
fn integers(random: &mut Random, n: usize) -> Vec<f32> {
    random.below(n, 7).into_iter().map(|v| v as f32 - 3.0).collect()
}

/// Matrices of a few sizes, and random ones: their elements follow each other with gaps, and so do their sums.
fn matrices() -> Vec<Rows> {
    let mut sizes = vec![(1, 1, 1), (2, 5, 5), (0, 7, 7), (64, 3, 3), (65, 3, 4), (67, 129, 131), (3, 70_001, 70_001)];
    sizes.extend([(1024, 192, 384), (9, 4096, 4096), (300, 65, 65)]);
    let mut random = Random::new(5);
    for _ in 0..12 {
        let n: Vec<usize> = random.below(3, 1 << 16).iter().map(|n| *n as usize).collect();
        sizes.push((n[0] % 150, 1 + n[1] % 300, 1 + n[1] % 300 + n[2] % 3));
    }
    let (mut at, mut to) = (0, 0);
    let place = |(rows, cols, stride): (usize, usize, usize)| {
        let sum = Rows { at, rows, stride, cols, to };
        at += rows * stride + 1 + cols % 4;
        to += cols + 1 + rows % 3;
        sum
    };
    sizes.into_iter().map(place).collect()
}

#[test]
fn sums_match_cpu() {
    let in_quads = |sum: &Rows| Rows { at: sum.at * 4, rows: sum.rows, stride: sum.stride * 4, ..*sum };
    let sums = matrices();
    let wide_sums: Vec<Rows> = sums.iter().map(|s| Rows { cols: 4 * s.cols, to: 4 * s.to, ..in_quads(s) }).collect();
    for sums in [sums, wide_sums] {
        let (last, most) = (sums[sums.len() - 1], sums.iter().map(|sum| sum.to + sum.cols).max().unwrap_or(0));
        let x = integers(&mut Random::new(7), last.at + last.rows.max(1) * last.stride);
        let mut want = vec![9.0; most];
        for sum in &sums {
            let (x, to) = (wide(&x), sum.to);
            want[to..to + sum.cols].copy_from_slice(&cpu::sum(&x, sum.at, sum.rows, sum.stride, sum.cols));
        }
        each_tier(|g| {
            let input = Tensor::from_slice(g, &[x.len()], &x).unwrap();
            let one_by_one = values(g, |r| {
                let y = Tensor::scratch("y", &[most]);
                y.fill(r, 9.0)?;
                sums.iter().try_for_each(|sum| sum_parts(r, &input, *sum, &y))?;
                Ok(y)
            });
            close("sum_parts", &one_by_one, &want, Tol::EXACT);
            let at_once = values(g, |r| {
                let y = Tensor::scratch("y", &[most]);
                y.fill(r, 9.0)?;
                sum_many(r, &input, &sums, &y)?;
                Ok(y)
            });
            close("sum_many", &at_once, &want, Tol::EXACT);
        });
    }
}

/// The rounding of a sum does not depend on which kernel computes it, nor on the sums beside it.
#[test]
fn both_kernels_give_the_same_bits() {
    let sums = matrices();
    let last = sums[sums.len() - 1];
    let x = Random::new(3).normal(last.at + last.rows.max(1) * last.stride);
    let most = sums.iter().map(|sum| sum.to + sum.cols).max().unwrap_or(0);
    each_tier(|g| {
        let input = Tensor::from_slice(g, &[x.len()], &x).unwrap();
        let of = |launch: &dyn Fn(&mut Recorder, &Tensor) -> rowscan::Result<()>| {
            let got = values(g, |r| {
                let y = Tensor::scratch("y", &[most]);
                y.fill(r, 0.0)?;
                launch(r, &y)?;
                Ok(y)
            });
            got.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let one_by_one = of(&|r, y| sums.iter().try_for_each(|sum| sum_parts(r, &input, *sum, y)));
        assert_eq!(one_by_one, of(&|r, y| sum_many(r, &input, &sums, y)));
    });
}

#[test]
fn sums_name_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let (x, y) = (Tensor::input("x", &[6]), Tensor::scratch("y", &[3]));
    let error = sum_parts(r, &x, Rows::dense(3, 3), &y).unwrap_err().to_string();
    assert!(error.starts_with("sum_parts: x: got Rows { at: 0, rows: 3, stride: 3, cols: 3, to: 0 }"), "{error}");
    assert!(error.ends_with("an end within 6 elements"), "{error}");
    let error = sum_parts(r, &x, Rows { to: 2, ..Rows::dense(3, 2) }, &y).unwrap_err().to_string();
    assert!(error.starts_with("sum_parts: y: got") && error.ends_with("within 3 elements"), "{error}");
    let error = sum_many(r, &x, &[], &y).unwrap_err().to_string();
    assert_eq!(error, "sum_many: sums: got none, expected at least one");
}

/// Gradients of a linear layer and a layer norm in a flat buffer, as parameters have them.
struct Places {
    flat: Tensor,
    vars: Vec<Var>,
    places: Vec<Tensor>,
}

const ROWS: usize = 700;
const WIDTH: usize = 36;

impl Places {
    fn new(g: &Gpu) -> Self {
        let shapes = [vec![WIDTH, WIDTH], vec![WIDTH], vec![WIDTH], vec![WIDTH]];
        let flat = Tensor::new(Class::Gradient, "gradients", &[4 * 2048]);
        let mut random = Random::new(2);
        let leaf = |shape: &Vec<usize>| {
            let values = random.normal(shape.iter().product());
            Var::leaf(Tensor::from_slice(g, shape, &values).unwrap())
        };
        let vars: Vec<Var> = shapes.iter().map(leaf).collect();
        let places = shapes.iter().enumerate().map(|(i, shape)| flat.range(2048 * i, shape).unwrap()).collect();
        Self { flat, vars, places }
    }

    fn grads(&self) -> Grads {
        let places = self.vars.iter().zip(&self.places);
        Grads::with_places(places.map(|(var, place)| (var.id(), place.clone())).collect())
    }

    /// Two layers with the same weights, so that each gets two gradients, the second in a segment.
    fn forward(&self, r: &mut Recorder, x: &Var) -> rowscan::Result<Var> {
        let vars = self.vars.clone();
        let layer = move |r: &mut Recorder, x: &Var| -> rowscan::Result<Var> {
            let options = MatmulOptions { bias: Some(&vars[1]), ..MatmulOptions::default() };
            let y = matmul(r, x, &vars[0], options)?;
            Ok(layer_norm(r, &y, &vars[2], &vars[3], NormOptions::default())?.0)
        };
        let first = layer(r, x)?;
        let [second] = r.segment(move |r| Ok([layer(r, &first)?]))?;
        Ok(second)
    }
}

/// The gradients of a step, and the kernels that it launches, with and without joined sums.
fn step(g: &Gpu, joined: bool, checkpointing: bool) -> (Vec<Vec<u32>>, Vec<&'static str>) {
    let attempt = || -> rowscan::Result<_> {
        let p = Places::new(g);
        p.flat.write(g, &vec![f32::NAN; p.flat.len()])?;
        let x = Var::leaf(Tensor::from_slice(g, &[ROWS, WIDTH], &Random::new(8).normal(ROWS * WIDTH))?);
        let seed = Tensor::from_slice(g, &[ROWS, WIDTH], &Random::new(9).normal(ROWS * WIDTH))?;
        let mut r = Recorder::new(g).checkpointing(checkpointing);
        let y = p.forward(&mut r, &x)?;
        let grads = r.backward_from(&y, seed, p.grads())?;
        // a launch in mid-graph that reads a gradient, after which its sum is written again
        let doubled = p.places[2].plus(&mut r, &p.places[2])?;
        drop(grads);
        let sum = Tensor::new(Class::Gradient, "sum", &[WIDTH]);
        let part = Tensor::scratch("part", &[2, WIDTH]);
        part.fill(&mut r, 1.0)?;
        sum_parts(&mut r, &part, Rows::dense(2, WIDTH), &p.places[2])?;
        drop(part);
        sum.copy_from(&mut r, &p.places[2])?;
        if joined {
            join(&mut r)?;
        }
        let names = r.launches().iter().map(|launch| launch.name()).collect();
        r.run()?;
        let mut found = vec![doubled.to_vec(g)?, sum.to_vec(g)?];
        for i in [0, 1, 3] {
            found.push(p.places[i].to_vec(g)?);
        }
        Ok((found.iter().map(|v| v.iter().map(|v| v.to_bits()).collect()).collect(), names))
    };
    attempt().unwrap_or_else(|e| panic!("{e}"))
}

/// Joined sums are the sums that they replace, bit for bit: where two gradients are added, where a launch in mid-graph
/// reads one, where it is written again after that, and where a segment is recorded twice.
#[test]
fn joined_sums_have_the_same_bits() {
    each_tier(|g| {
        for checkpointing in [false, true] {
            let ((want, before), (got, after)) = (step(g, false, checkpointing), step(g, true, checkpointing));
            assert_eq!(got, want, "checkpointing: {checkpointing}");
            assert!(want.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite()));
            assert!(after.contains(&"parts.sum_many"), "{after:?}");
            let sums = |names: &[&str]| names.iter().filter(|name| name.starts_with("parts.")).count();
            assert!(sums(&after) < sums(&before), "{before:?}\n{after:?}");
            let count = |names: &[&str]| names.iter().filter(|name| !name.starts_with("parts.")).count();
            assert_eq!(count(&after), count(&before));
        }
    });
}

/// What may not be delayed is not: parts that a handle outside of the recording holds, or that something else reads,
/// and sums that do not go into gradients.
#[test]
fn only_sums_of_parts_that_nothing_else_reads_are_joined() {
    let g = Gpu::dry(Caps::portable());
    let names = |class: Class, read: bool, held: bool| {
        let mut r = Recorder::new(&g);
        let (x, y) = (Tensor::input("x", &[2, 64]), Tensor::new(class, "y", &[256]));
        let mut handles = Vec::new();
        for i in 0..3 {
            let part = Tensor::scratch("part", &[2, 64]);
            part.copy_from(&mut r, &x).unwrap();
            sum_parts(&mut r, &part, Rows { to: 64 * i, ..Rows::dense(2, 64) }, &y).unwrap();
            if read {
                x.copy_from(&mut r, &part).unwrap();
            }
            handles.extend(held.then_some(part));
        }
        join(&mut r).unwrap();
        r.launches().iter().map(|launch| launch.name()).filter(|name| name.starts_with("parts.")).collect::<Vec<_>>()
    };
    assert_eq!(names(Class::Gradient, false, false), ["parts.sum_many"]);
    assert_eq!(names(Class::Gradient, true, false), ["parts.sum"; 3]);
    assert_eq!(names(Class::Gradient, false, true), ["parts.sum"; 3]);
    assert_eq!(names(Class::Scratch, false, false), ["parts.sum"; 3]);
}
