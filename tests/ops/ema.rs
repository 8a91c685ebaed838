use rowscan::cpu::ema as cpu;
use rowscan::gpu::{Caps, Gpu, Program};
use rowscan::ops::ema::{ema, momentum};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, some, wide};

/// Records one update of the average and replays it with other factors each time, as training does.
fn check(g: &Gpu, n: usize) {
    let mut random = Random::new(n as u64);
    let start = random.normal(n);
    let average = Tensor::from_slice(g, &[n], &start).unwrap();
    let (x, factors) = (Tensor::input("x", &[n]), Tensor::input("factors", &[2]));
    let (recording, ()) = Recorder::new(g).record(|r| ema(r, &average, &x, &factors)).unwrap();
    let program = Program::new(recording).unwrap();
    let mut want = wide(&start);
    let all = [momentum(0.9), momentum(0.99996), [0.0, 0.25], [1.0, 0.25], [0.0, 1.0], [-0.5, 2.0]];
    // of millions of elements, which the host takes seconds to draw, only the indices matter
    let updates = if n > 1 << 20 { &all[..1] } else { &all[..] };
    for &[keep, take] in updates {
        let values = random.normal(n);
        x.write(g, &values).unwrap();
        factors.write(g, &[keep, take]).unwrap();
        program.run().unwrap();
        want = cpu::update(&want, &wide(&values), keep.into(), take.into());
        // each update adds two roundings of numbers up to 8 to the error of the average
        close("average", &average.to_vec(g).unwrap(), &want, Tol { rel: 4e-7, abs: 2e-6 });
    }
}

#[test]
fn ema_matches_cpu() {
    each_tier(|g| {
        for n in some([1, 3, 64, 257, 1031 * 64, 8_400_007]) {
            check(g, n);
        }
        Random::new(4).below(6, 3000).iter().for_each(|&n| check(g, n as usize + 1));
    });
}

#[test]
fn nothing_is_kept_of_what_is_not_a_number() {
    each_tier(|g| {
        let average = Tensor::from_slice(g, &[3], &[f32::NAN, f32::INFINITY, 1.0]).unwrap();
        let (x, factors) = (Tensor::from_slice(g, &[3], &[1.0, 2.0, 3.0]).unwrap(), [0.0, 1.0]);
        at_once(g, |r| ema(r, &average, &x, &Tensor::from_slice(g, &[2], &factors)?));
        assert_eq!(average.to_vec(g).unwrap(), [1.0, 2.0, 3.0]);
    });
}

#[test]
fn ema_refuses_other_sizes() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let make = |n: usize| Tensor::input("array", &[n]);
    assert!(ema(r, &make(4), &make(4), &make(2)).is_ok());
    assert!(ema(r, &make(4), &make(5), &make(2)).unwrap_err().to_string().contains("ema: x"));
    assert!(ema(r, &make(4), &make(4), &make(1)).unwrap_err().to_string().contains("factors"));
}
