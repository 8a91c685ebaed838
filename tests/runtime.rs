//! Recordings, memory plans, programs and the tape, which every operator uses.

use std::time::Instant;

use rowscan::gpu::{Caps, DType, Gpu, Phase, Plan, Precision, Program, Recording};
use rowscan::ops::activation::gelu;
use rowscan::ops::matmul::{MatmulOptions, matmul};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;
use rowscan::{Error, Result};

use crate::common::{gpu, leaf};

#[test]
fn replay_makes_nothing_and_repeats_bit_for_bit() {
    let Some(g) = gpu() else { return };
    let x = Tensor::from_slice(g, &[1000], &[1.5; 1000]).unwrap();
    let chain = |r: &mut Recorder| {
        let a = Tensor::scratch("a", &[1000]);
        a.copy_from(r, &x)?;
        let b = Tensor::scratch("b", &[1000]);
        b.copy_from(r, &a)?;
        b.add_into(r, &x)?;
        let c = Tensor::scratch("c", &[1000]);
        c.copy_from(r, &b)?;
        Ok(c)
    };
    let (recording, c) = Recorder::new(g).record(chain).unwrap();
    let program = Program::new(recording).unwrap();
    program.run().unwrap();
    assert_eq!(c.to_vec(g).unwrap(), [3.0; 1000]);
    x.write(g, &[2.0f32; 1000]).unwrap();
    program.run().unwrap();
    assert_eq!(c.to_vec(g).unwrap(), [4.0; 1000]);
}

/// `Program::run` returns once the work is submitted. Training depends on it: the host submits a step while the device
/// computes the step before.
#[test]
fn a_replay_does_not_wait_for_the_device() {
    let Some(g) = gpu() else { return };
    let n = 384;
    let x = leaf(g, &[n, n], &vec![1e-3; n * n]);
    let chain =
        |r: &mut Recorder| (0..24).try_fold(x.clone(), |last, _| matmul(r, &last, &x, MatmulOptions::default()));
    let (recording, out) = Recorder::inference(g).record(chain).unwrap();
    let program = Program::new(recording).unwrap();
    let time = || {
        let start = Instant::now();
        program.run().unwrap();
        let handed_over = start.elapsed();
        out.data.to_vec(g).unwrap();
        (handed_over, start.elapsed())
    };
    // on a busy machine some of the five may wait
    let all: Vec<_> = (0..5).map(|_| time()).collect();
    assert!(all.iter().any(|(handed_over, done)| 4 * *handed_over < *done), "{all:?}");
}

/// The device on which benches/replay.rs times the host: everything but the arithmetic takes place.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn a_device_that_computes_nothing_replays_programs() {
    let g = Gpu::noop(Caps::portable());
    let x = Tensor::from_slice(&g, &[8], &[1.5; 8]).unwrap();
    let (recording, copied) = Recorder::new(&g).record(|r| copy(r, &x)).unwrap();
    let program = Program::new(recording).unwrap();
    let made = g.counters();
    (0..3).for_each(|_| program.run().unwrap());
    assert_eq!(g.counters().launches, made.launches + 3);
    assert_eq!((g.counters().bind_groups, g.counters().pipelines), (made.bind_groups, made.pipelines));
    assert_eq!(x.to_vec(&g).unwrap(), [1.5; 8]);
    assert_eq!(copied.to_vec(&g).unwrap(), [0.0; 8]);
}

#[test]
fn f16_is_the_nearest() {
    let Some(g) = gpu() else { return };
    let mut values =
        vec![0.0, -0.0, 1.0, -1.0 / 3.0, 65504.0, 65519.9, 65520.0, -1e9, 6e-8, 2.9e-8, -3.1e-8, 6.1e-5, 1e-30];
    // 513 values in all: an odd number, so the last word holds one f16
    values.extend((0..500).map(|i| (i as f32 - 250.0).powi(3) * 1.7e-4));
    let mut r = Recorder::new(g);
    let stored = Tensor::from_slice(g, &[values.len()], &values).unwrap();
    let stored = stored.to_dtype(&mut r, DType::F16).unwrap();
    r.run().unwrap();
    let want: Vec<u32> = values.iter().map(|&v| half::f16::from_f32(v).to_f32().to_bits()).collect();
    let got: Vec<u32> = stored.to_vec(g).unwrap().into_iter().map(f32::to_bits).collect();
    assert_eq!(got, want);
    let back = stored.to_dtype(&mut r, DType::F32).unwrap();
    r.run().unwrap();
    assert_eq!(back.to_vec(g).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>(), want);
    let refused = stored.fill(&mut r, 1.0).unwrap_err();
    assert!(matches!(&refused, Error::Argument { got, .. } if got == "f16"), "{refused}");
}

#[test]
fn disjoint_lives_share_a_slot_without_a_gpu() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let chain = |r: &mut Recorder| {
        let mut last = x.clone();
        for _ in 0..10 {
            let next = Tensor::scratch("next", &[64]);
            next.copy_from(r, &last)?;
            last = next;
        }
        Ok(last)
    };
    let (recording, out) = Recorder::new(&g).record(chain).unwrap();
    let plan = Plan::new(&recording).unwrap();
    assert_eq!(
        (plan.inputs, plan.outputs, plan.scratch),
        (256, 256, 512),
        "ten results in a row need two slots and the output"
    );
    drop(out);
}

/// A new tensor with a launched copy of `from`.
fn copy(r: &mut Recorder, from: &Tensor) -> Result<Tensor> {
    let to = Tensor::scratch("to", from.shape());
    to.copy_from(r, from)?;
    Ok(to)
}

#[test]
fn launches_whose_results_nobody_reads_can_be_dropped() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let place = Tensor::input("place", &[64]);
    let chain = |r: &mut Recorder| {
        let read = copy(r, &x)?;
        let unread = copy(r, &read)?;
        copy(r, &unread)?.add_into(r, &x)?; // no launch reads the end of this chain
        place.copy_from(r, &read)?;
        copy(r, &read) // the caller holds it
    };
    let (mut recording, held) = Recorder::new(&g).record(chain).unwrap();
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
    let mut r = Recorder::new(&g);
    let aliased = x.add_into(&mut r, &x).unwrap_err();
    assert!(matches!(&aliased, Error::Argument { got, .. } if got.contains("bound twice")), "{aliased}");
    let unwritten = copy(&mut r, &x).and_then(|_| Plan::new(&r.take())).unwrap_err();
    assert!(unwritten.to_string().contains("nothing has written"), "{unwritten}");
    let huge = Tensor::input("huge", &[64 << 20]);
    let limit = huge.fill(&mut r, 0.0).unwrap_err();
    assert!(matches!(limit, Error::Limit { allowed: 134_217_728, .. }), "{limit}");
    assert!(r.launches().is_empty(), "what is refused is not recorded");
}

#[test]
fn a_recorder_runs_when_it_is_told_to_and_only_once() {
    let Some(g) = gpu() else { return };
    let x = Tensor::from_slice(g, &[3], &[1.0, 2.0, 3.0]).unwrap();
    let total = Tensor::from_slice(g, &[3], &[0.0; 3]).unwrap();
    let mut r = Recorder::new(g);
    let twice = x.plus(&mut r, &x).unwrap();
    total.add_into(&mut r, &twice).unwrap();
    let early = twice.to_vec(g).unwrap_err().to_string();
    assert!(early.contains("a tensor that no program has written"), "{early}");
    assert_eq!(total.to_vec(g).unwrap(), [0.0; 3]);
    r.run().unwrap();
    r.run().unwrap(); // runs nothing: the first call took the launches
    assert_eq!(total.to_vec(g).unwrap(), [2.0, 4.0, 6.0]);
    // later launches read the results of an earlier run and do not change them
    let thrice = twice.plus(&mut r, &x).unwrap();
    total.add_into(&mut r, &thrice).unwrap();
    r.run().unwrap();
    let values = [&twice, &thrice, &total].map(|tensor| tensor.to_vec(g).unwrap());
    assert_eq!(values, [[2.0, 4.0, 6.0], [3.0, 6.0, 9.0], [5.0, 10.0, 15.0]]);
}

#[test]
fn a_backward_pass_may_run_after_its_forward_pass_was_read() {
    let Some(g) = gpu() else { return };
    let found = |read: bool| {
        let x = leaf(g, &[2, 3], &[0.5, -1.0, 2.0, 0.0, 3.0, -0.25]);
        let mut r = Recorder::new(g);
        let hidden = gelu(&mut r, &x).unwrap();
        let out = matmul(&mut r, &hidden, &x, MatmulOptions::default()).unwrap();
        if read {
            r.run().unwrap();
            out.data.to_vec(g).unwrap();
        }
        let grads = r.backward(&out, Grads::default()).unwrap();
        r.run().unwrap();
        [out.data.to_vec(g).unwrap(), grads.get(&x).unwrap().to_vec(g).unwrap()]
    };
    assert_eq!(found(true), found(false));
}

#[test]
fn what_the_next_launch_belongs_to_is_restored_also_after_an_error() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let mut r = Recorder::new(&g);
    let refused = |r: &mut Recorder| r.no_grad(|r| r.scope("inner", |r| x.add_into(r, &x)));
    r.scope("outer", |r| r.phase(Phase::Update, refused)).unwrap_err();
    assert!(r.keeps_rules());
    copy(&mut r, &x).unwrap();
    r.scope("outer", |r| {
        r.phase(Phase::Update, |r| r.scope("inner", |r| copy(r, &x)))?;
        copy(r, &x)
    })
    .unwrap();
    let found: Vec<_> = r.launches().iter().map(|l| (&*l.scope, l.phase)).collect();
    assert_eq!(found, [("", Phase::Forward), ("outer.inner", Phase::Update), ("outer", Phase::Forward)]);
}

#[test]
fn recorders_of_one_device_do_not_mix() {
    let Some(g) = gpu() else { return };
    let x = Tensor::from_slice(g, &[3], &[1.0, 2.0, 3.0]).unwrap();
    let (mut one, mut other) = (Recorder::new(g), Recorder::inference(g).in_precision(Precision::Mixed));
    one.set_scope("one".into());
    let (kept, waiting) = (copy(&mut one, &x).unwrap(), copy(&mut other, &x).unwrap());
    assert_eq!((one.precision(), other.precision()), (Precision::F32, Precision::Mixed));
    assert_eq!((one.keeps_rules(), other.keeps_rules()), (true, false));
    assert_eq!([&one, &other].map(|r| r.launches()[0].scope.to_string()), ["one", ""]);
    one.run().unwrap();
    assert_eq!(kept.to_vec(g).unwrap(), [1.0, 2.0, 3.0]);
    assert!(waiting.to_vec(g).is_err());
    // a recording may be finished and run on another thread
    let mut recording = other.take();
    let elsewhere = || x.plus(&mut recording, &waiting);
    let sum = std::thread::scope(|s| s.spawn(elsewhere).join()).unwrap().unwrap();
    Program::new(recording).unwrap().run().unwrap();
    assert_eq!(sum.to_vec(g).unwrap(), [2.0, 4.0, 6.0]);
}

#[test]
fn a_result_of_constants_is_a_constant() {
    let g = Gpu::dry(Caps::portable());
    let [x, w] = [[2, 3], [4, 3]].map(|shape| Tensor::input("x", &shape));
    let (constant, w) = (Var::constant(x), Var::leaf(w));
    let mut r = Recorder::new(&g);
    let hidden = gelu(&mut r, &constant).unwrap();
    let out = matmul(&mut r, &hidden, &w, MatmulOptions::default()).unwrap();
    assert_eq!((hidden.id(), out.id() == 0), (0, false));
    let grads = r.backward(&out, Grads::default()).unwrap();
    assert!(grads.get(&w).is_some() && grads.get(&hidden).is_none());
    assert!(r.launches().iter().all(|l| l.name() != "activation.gelu_backward"));
}

#[test]
fn marks_cut_a_recording() {
    let g = Gpu::dry(Caps::portable());
    let x = Tensor::input("x", &[64]);
    let part = |count: usize| {
        let mut r = Recording::new(&g);
        x.fill(&mut r, 0.0).unwrap();
        r.mark();
        (0..count).for_each(|_| x.fill(&mut r, 1.0).unwrap());
        r
    };
    let sizes = |r: Recording| r.split_at_marks().iter().map(|part| part.launches().len()).collect::<Vec<_>>();
    let mut r = part(2);
    assert_eq!(sizes(r.take()), [1, 2]);
    assert_eq!(sizes(r), [0], "its marks were taken with its launches");
    assert_eq!(sizes(part(2).then(Some(part(3)))), [1, 3, 3]);
}

/// z = x + y. Its rule adds dz twice to the gradient of x and twice to that of y, and hands over the tensor dz itself,
/// so that several gradients share its memory.
fn add_twice(r: &mut Recorder, x: &Var, y: &Var) -> Var {
    let z = x.data.plus(r, &y.data).unwrap();
    r.push((x, y), z, |r, (x, y), dz, grads| {
        let copy = grads.alloc(&x);
        copy.copy_from(r, dz)?;
        grads.add(r, &x, dz.clone())?;
        grads.add(r, &x, copy)?; // must not be written into dz, which is read again
        grads.add(r, &y, dz.clone())?;
        grads.add(r, &y, dz.clone())
    })
}

#[test]
fn a_contribution_to_several_variables_is_not_added_to_in_place() {
    let Some(g) = gpu() else { return };
    let [x, y] = [1.0, 2.0].map(|v| leaf(g, &[3], &[v; 3]));
    let mut r = Recorder::new(g);
    let early = add_twice(&mut r, &x, &x);
    let late = add_twice(&mut r, &x, &y);
    let out = add_twice(&mut r, &late, &early);
    let seed = Tensor::from_slice(g, &[3], &[10.0; 3]).unwrap();
    let grads = r.backward_from(&out, seed.clone(), Grads::default()).unwrap();
    r.run().unwrap();
    let value = |var: &Var| grads.get(var).unwrap().to_vec(g).unwrap();
    assert_eq!((value(&x), value(&y)), (vec![120.0; 3], vec![40.0; 3]));
    assert_eq!(seed.to_vec(g).unwrap(), [10.0; 3]);
}

#[test]
fn no_other_variable_moves_into_the_place_of_a_gradient() {
    let Some(g) = gpu() else { return };
    let [x, bias] = [1.0, 2.0].map(|v| leaf(g, &[3], &[v; 3]));
    let place = Tensor::input("place", &[3]);
    let mut r = Recorder::new(g);
    let z = Tensor::scratch("z", &[3]);
    z.copy_from(&mut r, &x.data).unwrap();
    let z = r.push((&x, &bias), z, |r, (x, bias), dz, grads| {
        let dbias = grads.alloc(&bias);
        dbias.copy_from(r, dz)?;
        grads.add(r, &x, dbias.clone())?;
        grads.add(r, &bias, dbias)?;
        grads.add(r, &x, dz.clone())?;
        grads.add(r, &bias, dz.clone())?;
        grads.add(r, &bias, dz.clone())
    });
    let home = Grads::with_places([(bias.id(), place.clone())].into());
    let grads = r.backward_from(&z, Tensor::from_slice(g, &[3], &[1.0; 3]).unwrap(), home).unwrap();
    r.run().unwrap();
    assert_eq!(grads.get(&x).unwrap().to_vec(g).unwrap(), [2.0; 3]);
    assert_eq!(place.to_vec(g).unwrap(), [3.0; 3]);
}

#[test]
fn the_work_of_launches_comes_from_their_formulae() {
    use rowscan::gpu::Work;
    let g = Gpu::dry(Caps::portable());
    let (m, n, k) = (301, 17, 23);
    let [x, w, b] = [(m, k), (n, k), (1, n)].map(|(rows, cols)| Var::leaf(Tensor::input("x", &[rows, cols])));
    let mut r = Recorder::new(&g);
    let b = Var::leaf(b.data.reshape(&[n]).unwrap());
    let y = matmul(&mut r, &x, &w, MatmulOptions { bias: Some(&b), ..MatmulOptions::default() }).unwrap();
    r.backward(&y, Grads::default()).unwrap();
    let recording = r.take();
    let sum = |name: &str| -> Work { recording.launches().iter().filter(|l| l.name() == name).map(|l| l.work()).sum() };
    let products = sum("matmul.tiled") + sum("matmul.tiled_sums");
    assert_eq!(products.flops, (3 * 2 * m * n * k + m * n) as u64, "y, dx, and dw with dbias");
    let each = 4 * (m * k + n * k + m * n) as u64;
    assert_eq!(products.bytes, 3 * each + 2 * 4 * n as u64, "three operands each, the bias and its gradient once");
    // an update in place counts a read and a write; a buffer that is bound twice counts once
    x.data.reshape(&[m * k]).unwrap().add_into(&mut r, &Tensor::input("y", &[m * k])).unwrap();
    assert_eq!(r.take().work(), Work::bytes(12 * m * k));
    x.data.plus(&mut r, &x.data).unwrap();
    assert_eq!(r.take().work(), Work::bytes(8 * m * k));
}
