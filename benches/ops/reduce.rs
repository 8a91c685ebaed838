//! reduce: the sum of everything with its rule, and the sum over rows that is the gradient of a bias.

use rowscan::cpu::reduce as cpu;

use super::*;

fn validate(g: &Gpu) {
    // integers of −3 … 3: every partial sum is exact
    let exact = Tol { rel: 0.0, abs: 0.0 };
    let x: Vec<f32> = Random::new(1).below(257 * 67, 7).into_iter().map(|v| v as f32 - 3.0).collect();
    let leaves = [leaf(g, &[257, 67], &x)];
    let (y, grads) = run(g, &leaves, &[0.75], |g, t, v| ops::reduce::sum(g, t, &v[0]));
    close("sum", &y, &[cpu::sum(&wide(&x))], exact);
    close("sum dx", &grads[0], &cpu::sum_backward(x.len(), 0.75), exact);
    let dy = Random::new(2).normal(67);
    let leaves = [leaf(g, &[1, 257, 67], &x)];
    let (y, grads) = run(g, &leaves, &dy, |g, t, v| ops::reduce::mean_tokens(g, t, &v[0]));
    let rounded = Tol { rel: 2e-7, abs: 0.0 }; // 1/L and a product with it
    close("mean_tokens", &y, &cpu::mean_tokens(257, 67, &wide(&x)), rounded);
    close("mean_tokens dx", &grads[0], &cpu::mean_tokens_backward(257, 67, &wide(&dy)), rounded);
    let out = Tensor::scratch("out", &[67]);
    let columns = ops::reduce::column_sum(g, &leaves[0].data, &out).and_then(|()| out.to_vec(g));
    close("columns", &columns.unwrap_or_else(|e| panic!("{e}")), &cpu::column_sum(67, &wide(&x)), exact);
}

pub fn bench(b: &mut Bench) {
    b.family("reduce", validate);
    for s in b.shapes() {
        let (floor, shape) = (Floor::bytes(4 * s.rows() * s.d), [s.rows(), s.d]);
        b.op(&format!("sum {s}"), [floor; 2], |t, x| Ok(vec![ops::reduce::sum(x.g, t, &x.leaf(&shape)?)?]));
        let tokens = [s.b, s.l, s.d];
        b.op(&format!("mean_tokens {s}"), [floor; 2], |t, x| {
            Ok(vec![ops::reduce::mean_tokens(x.g, t, &x.leaf(&tokens)?)?])
        });
        b.launches(&format!("columns {s}"), floor, |x| {
            let out = Tensor::scratch("out", &[s.d]);
            ops::reduce::column_sum(x.g, &x.normal(&shape)?, &out)?;
            Ok(out)
        });
    }
}
