//! Record, plan, replay: what every operator stands on.

use std::time::Instant;

use rowscan::Error;
use rowscan::gpu::{Caps, Gpu, Plan, Program};
use rowscan::ops::matmul::matmul;
use rowscan::tape::{Grads, Tape, Var};
use rowscan::tensor::Tensor;

use crate::common::{gpu, leaf};

#[test]
fn replay_makes_nothing_and_repeats_bit_for_bit() {
    let Some(g) = gpu() else { return };
    let x = Tensor::from_slice(g, &[1000], &[1.5; 1000]).unwrap();
    let chain = || {
        let a = Tensor::scratch("a", &[1000]);
        a.copy_from(g, &x)?;
        let b = Tensor::scratch("b", &[1000]);
        b.copy_from(g, &a)?;
        b.add_into(g, &x)?;
        let c = Tensor::scratch("c", &[1000]);
        c.copy_from(g, &b)?;
        Ok(c)
    };
    let (recording, c) = g.record(chain).unwrap();
    let program = Program::new(g, recording).unwrap();
    program.run().unwrap();
    assert_eq!(c.to_vec(g).unwrap(), [3.0; 1000]);
    x.write(g, &[2.0f32; 1000]).unwrap();
    program.run().unwrap();
    assert_eq!(c.to_vec(g).unwrap(), [4.0; 1000]);
}

/// Training encodes a step while the device works on the one before: to replay is to hand over.
#[test]
fn a_replay_does_not_wait_for_the_device() {
    let Some(g) = gpu() else { return };
    let n = 384;
    let x = leaf(g, &[n, n], &vec![1e-3; n * n]);
    let chain = || {
        let mut t = Tape::off();
        (0..24).try_fold(x.clone(), |last, _| matmul(g, &mut t, &last, &x, None, None))
    };
    let (recording, out) = g.record(chain).unwrap();
    let program = Program::new(g, recording).unwrap();
    let time = || {
        let start = Instant::now();
        program.run().unwrap();
        let handed_over = start.elapsed();
        out.data.to_vec(g).unwrap();
        (handed_over, start.elapsed())
    };
    // a busy machine may hold up one of them
    let all: Vec<_> = (0..5).map(|_| time()).collect();
    assert!(all.iter().any(|(handed_over, done)| 4 * *handed_over < *done), "{all:?}");
}

#[test]
fn f16_is_the_nearest() {
    let Some(g) = gpu() else { return };
    let mut values =
        vec![0.0, -0.0, 1.0, -1.0 / 3.0, 65504.0, 65519.9, 65520.0, -1e9, 6e-8, 2.9e-8, -3.1e-8, 6.1e-5, 1e-30];
    values.extend((0..500).map(|i| (i as f32 - 250.0).powi(3) * 1.7e-4)); // an odd number of them
    let half = Tensor::from_slice(g, &[values.len()], &values).unwrap().to_f16(g).unwrap();
    let want: Vec<u32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32().to_bits()).collect();
    let got: Vec<u32> = half.to_vec(g).unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(got, want);
    let refused = Tensor::scratch("f32", &[values.len()]).copy_from(g, &half).unwrap_err();
    assert!(matches!(&refused, Error::Argument { got, .. } if got == "f16"), "{refused}");
}

#[test]
fn disjoint_lives_share_a_slot_without_a_gpu() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let (recording, out) = g
        .record(|| {
            let mut last = x.clone();
            for _ in 0..10 {
                let next = Tensor::scratch("next", &[64]);
                next.copy_from(&g, &last)?;
                last = next;
            }
            Ok(last)
        })
        .unwrap();
    let plan = Plan::new(&recording).unwrap();
    assert_eq!(
        (plan.inputs, plan.outputs, plan.scratch),
        (256, 256, 512),
        "ten results in a row need two slots and the output"
    );
    drop(out);
}

#[test]
fn launches_whose_results_nobody_reads_can_be_dropped() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let place = Tensor::input("place", &[64]);
    let copy = |from: &Tensor| -> rowscan::Result<Tensor> {
        let to = Tensor::scratch("to", &[64]);
        to.copy_from(&g, from)?;
        Ok(to)
    };
    let (mut recording, held) = g
        .record(|| {
            let read = copy(&x)?;
            let unread = copy(&read)?;
            copy(&unread)?.add_into(&g, &x)?; // a chain that ends in nothing
            place.copy_from(&g, &read)?;
            copy(&read) // held
        })
        .unwrap();
    recording.drop_unread();
    let names: Vec<&str> = recording.launches().iter().map(|l| l.name()).collect();
    assert_eq!(names, ["tensor.copy"; 3]);
    let plan = Plan::new(&recording).unwrap();
    assert_eq!((plan.scratch, plan.inputs, plan.outputs), (256, 512, 256));
    drop(held);
    recording.drop_unread();
    assert_eq!(recording.launches().len(), 2);
}

#[test]
fn misuse_is_an_error_and_says_what() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::scratch("x", &[64]);
    let aliased = g.record(|| x.add_into(&g, &x)).unwrap_err();
    assert!(matches!(&aliased, Error::Argument { got, .. } if got.contains("bound twice")), "{aliased}");
    let (recording, ()) = g.record(|| Tensor::scratch("y", &[64]).copy_from(&g, &x)).unwrap();
    let unwritten = Plan::new(&recording).unwrap_err();
    assert!(unwritten.to_string().contains("nothing has written"), "{unwritten}");
    let huge = Tensor::input("huge", &[64 << 20]);
    let limit = g.record(|| huge.fill(&g, 0.0)).unwrap_err();
    assert!(matches!(limit, Error::Limit { allowed: 134_217_728, .. }), "{limit}");
}

/// z = x + y whose rule sends each twice its gradient in the ways that share memory.
fn add_twice(g: &Gpu, t: &mut Tape, x: &Var, y: &Var) -> Var {
    let (z, x, y) = (x.data.plus(g, &y.data).unwrap(), x.clone(), y.clone());
    t.push(g, z, move |g, dz, grads| {
        let copy = grads.alloc(&x);
        copy.copy_from(g, dz)?;
        grads.add(g, &x, dz.clone())?;
        grads.add(g, &x, copy)?; // must not change dz, which is read again
        grads.add(g, &y, dz.clone())?;
        grads.add(g, &y, dz.clone()) // the sum itself
    })
}

#[test]
fn a_contribution_to_several_variables_is_not_added_to_in_place() {
    let Some(g) = gpu() else { return };
    let [x, y] = [1.0, 2.0].map(|v| leaf(g, &[3], &[v; 3]));
    let mut t = Tape::new();
    let early = add_twice(g, &mut t, &x, &x);
    let late = add_twice(g, &mut t, &x, &y);
    let out = add_twice(g, &mut t, &late, &early);
    let seed = Tensor::from_slice(g, &[3], &[10.0; 3]).unwrap();
    let grads = t.backward_from(g, &out, seed.clone(), Grads::default()).unwrap();
    let value = |var: &Var| grads.get(var).unwrap().to_vec(g).unwrap();
    assert_eq!((value(&x), value(&y)), (vec![120.0; 3], vec![40.0; 3]));
    assert_eq!(seed.to_vec(g).unwrap(), [10.0; 3]);
}

#[test]
fn no_other_variable_moves_into_the_place_of_a_gradient() {
    let Some(g) = gpu() else { return };
    let [x, bias] = [1.0, 2.0].map(|v| leaf(g, &[3], &[v; 3]));
    let place = Tensor::input("place", &[3]);
    let mut t = Tape::new();
    let z = Tensor::scratch("z", &[3]);
    z.copy_from(g, &x.data).unwrap();
    let rule = (x.clone(), bias.clone());
    let z = t.push(g, z, move |g, dz, grads| {
        let dbias = grads.alloc(&rule.1);
        dbias.copy_from(g, dz)?;
        grads.add(g, &rule.0, dbias.clone())?;
        grads.add(g, &rule.1, dbias)?;
        grads.add(g, &rule.0, dz.clone())?;
        grads.add(g, &rule.1, dz.clone())?;
        grads.add(g, &rule.1, dz.clone())
    });
    let home = Grads::with_places([(bias.id(), place.clone())].into());
    let grads = t.backward_from(g, &z, Tensor::from_slice(g, &[3], &[1.0; 3]).unwrap(), home).unwrap();
    assert_eq!(grads.get(&x).unwrap().to_vec(g).unwrap(), [2.0; 3]);
    assert_eq!(place.to_vec(g).unwrap(), [3.0; 3]);
}

#[test]
fn the_work_of_launches_comes_from_their_formulae() {
    use rowscan::gpu::Work;
    let g = Gpu::dry(Caps::portable());
    let (m, n, k) = (301, 17, 23);
    let [x, w, b] = [(m, k), (n, k), (1, n)].map(|(rows, cols)| Var::leaf(Tensor::input("x", &[rows, cols])));
    let (recording, ()) = g
        .record(|| {
            let mut t = Tape::new();
            let b = Var::leaf(b.data.reshape(&[n])?);
            let y = matmul(&g, &mut t, &x, &w, Some(&b), None)?;
            t.backward(&g, &y, Grads::default()).map(drop)
        })
        .unwrap();
    let sum = |name: &str| -> Work { recording.launches().iter().filter(|l| l.name() == name).map(|l| l.work()).sum() };
    let products = sum("matmul.tiled");
    assert_eq!(products.flops, 3 * 2 * (m * n * k) as u64, "y, dx and dw");
    let each = 4 * (m * k + n * k + m * n) as u64;
    assert_eq!(products.bytes, 3 * each + 4 * n as u64, "three operands each, and the bias once");
    // an update in place reads and writes, a buffer bound twice is read once
    let (recording, ()) = g.record(|| x.data.reshape(&[m * k])?.add_into(&g, &Tensor::input("y", &[m * k]))).unwrap();
    assert_eq!(recording.work(), Work::bytes(12 * m * k));
    let (recording, _) = g.record(|| x.data.plus(&g, &x.data)).unwrap();
    assert_eq!(recording.work(), Work::bytes(8 * m * k));
}
