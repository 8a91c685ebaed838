//! Layers of `nn` that hold more than an operator: their names, buffers and modes.

use rowscan::Result;
use rowscan::cpu::batch_norm as cpu;
use rowscan::gpu::Program;
use rowscan::nn::{BatchNorm, BatchNormConfig, Entry, Params};
use rowscan::ops::reduce;
use rowscan::tape::Recorder;

use crate::common::{Random, Tol, close, gpu, leaf, values, wide};

const EPS: f32 = 1e-5;
const MOMENTUM: f64 = 0.1;

/// Running statistics are buffers: named, saved and loaded like weights, without a gradient, moved in training by each
/// run of a program, and only read in evaluation.
#[test]
fn a_batch_norm_keeps_running_statistics_as_buffers() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let drawn = Random::new(9).normal(12 * 5);
    let x_wide = wide(&drawn);
    let mut params = Params::new(g);
    let norm = BatchNorm::new(&mut params, "bn1", 5, BatchNormConfig { eps: EPS, momentum: MOMENTUM })?;
    params.init(g, 1)?;
    let names = |entries: &[Entry]| entries.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(params.entries()), ["bn1.weight", "bn1.bias"]);
    assert_eq!(names(params.buffers()), ["bn1.running_mean", "bn1.running_var"]);
    let x = leaf(g, &[12, 5], &drawn);
    let (recording, y) = Recorder::new(g).record(|r| {
        let y = norm.forward(r, &x)?;
        let loss = reduce::sum(r, &y)?;
        r.backward(&loss, params.grads())?;
        Ok(y)
    })?;
    let program = Program::new(recording)?;
    let mut want = [vec![0.0; 5], vec![1.0; 5]];
    for micro_batch in 0..3 {
        program.run()?;
        want = cpu::running([&want[0], &want[1]], &x_wide, MOMENTUM);
        let now = pollster::block_on(params.weights(g))?;
        for (name, want) in [("bn1.running_mean", &want[0]), ("bn1.running_var", &want[1])] {
            close(&format!("{name} {micro_batch}"), &now[name].1, want, Tol { rel: 2e-6, abs: 1e-6 });
        }
        assert_eq!((&now["bn1.weight"].1, &now["bn1.bias"].1), (&vec![1.0; 5], &vec![0.0; 5]));
    }
    let trained = y.data.to_vec(g)?;
    let saved = pollster::block_on(params.weights(g))?;
    let evaluated = values(g, |r| Ok(norm.forward(r, &x)?.data));
    close(
        "evaluation",
        &evaluated,
        &cpu::forward(&x_wide, [&want[0], &want[1]], &[1.0; 5], &[0.0; 5], f64::from(EPS)),
        Tol { rel: 1e-5, abs: 1e-5 },
    );
    assert_ne!(evaluated, trained);
    assert_eq!(pollster::block_on(params.weights(g))?, saved, "evaluation only reads them");
    Ok(())
}
