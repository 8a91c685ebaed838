//! parts: the sums of parts that the gradients of a layer's weights leave, one by one and in one launch.

use crate::bench::ops::*;
use crate::ops::parts::{Rows, sum_many, sum_parts};
use crate::tensor::Tensor;
use cpu::parts::sum;

/// (rows, columns): the parts of a weight (D, D), whose product is split 8 ways, and of the weight of a norm.
fn matrices(d: usize) -> [(usize, usize); 2] {
    [(8, d * d), (1024, d)]
}

pub fn cases(c: &mut Cases) {
    for s in c.scope.few().into_iter().filter(|s| s.l < 196) {
        let matrices = matrices(s.d);
        for (rows, cols) in matrices {
            let expect = move |v: &Values| {
                let want = sum(v.get("x")?, 0, rows, cols, cols);
                Ok(vec![near("y", want, 1e-5)])
            };
            let floor = Floor::bytes(4 * (rows + 1) * cols);
            c.case(format!("{rows}x{cols}")).at(&s).floor(floor).check(1, "tensors", expect).launches(move |r, x| {
                let y = Tensor::scratch("y", &[cols]);
                sum_parts(r, &x.normal("x", Whole, &[rows, cols])?, Rows::dense(rows, cols), &y)?;
                Ok(vec![result("y", Whole, y)])
            });
        }
        let mut sums = Vec::new();
        let (mut at, mut to) = (0, 0);
        for (rows, cols) in matrices.repeat(4) {
            sums.push(Rows { at, to, ..Rows::dense(rows, cols) });
            (at, to) = (at + rows * cols, to + cols);
        }
        let all = sums.clone();
        let expect = move |v: &Values| {
            let x = v.get("x")?;
            let want = all.iter().flat_map(|rows| sum(x, rows.at, rows.rows, rows.stride, rows.cols)).collect();
            Ok(vec![near("y", want, 1e-5)])
        };
        let case = c.case(format!("many {s}")).at(&s).floor(Floor::bytes(4 * (at + to)));
        case.check(1, "tensors", expect).launches(move |r, x| {
            let y = Tensor::scratch("y", &[to]);
            sum_many(r, &x.normal("x", Whole, &[at])?, &sums, &y)?;
            Ok(vec![result("y", Whole, y)])
        });
    }
}
