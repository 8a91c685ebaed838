//! Record, plan, replay: what every operator stands on.

use rowscan::Error;
use rowscan::gpu::{Caps, Gpu, Plan, Program};
use rowscan::tensor::Tensor;

use crate::common::gpu;

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
