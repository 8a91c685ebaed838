//! `bench` compares each operator with the oracle before it is timed: here that comparison itself is tested. And models
//! whose throughput is measured go on after a device was lost.

use std::cell::Cell;

use rowscan::bench::case::{Cases, out};
use rowscan::bench::inputs::Along::{Axis, Whole};
use rowscan::bench::oracle::{Tol, Values, Want, want};
use rowscan::bench::runner::{Outcome, Throughput, throughput};
use rowscan::bench::{Scope, ops};
use rowscan::gpu::{Gpu, Options, Precision};
use rowscan::models::Config;
use rowscan::{Error, Result, ops as op};

use crate::common::{adapter, each_tier, gpu};

const ROWS: usize = 40;
const D: usize = 3;

/// The expected y, dx and dw of y = x·wᵀ for the picked rows. `more` is added to every value of the one named `wrong`.
fn expect(v: &Values, wrong: &str, more: f64) -> Result<Vec<Want>> {
    let (x, w, dy) = (v.get("x")?, v.get("w")?, v.get("dy")?);
    let m = v.picked.len();
    let sum = |n: usize, term: &dyn Fn(usize) -> f64| (0..n).map(term).sum::<f64>();
    let each = |rows: usize, value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..rows * D).map(|i| value(i / D, i % D)).collect()
    };
    let values = [
        ("y", each(m, &|i, j| sum(D, &|k| x[i * D + k] * w[j * D + k]))),
        ("dx", each(m, &|i, k| sum(D, &|j| dy[i * D + j] * w[j * D + k]))),
        ("dw", each(D, &|j, k| sum(m, &|i| dy[i * D + j] * x[i * D + k]))),
    ];
    let shifted = |name, values: Vec<f64>| values.iter().map(|v| v + if name == wrong { more } else { 0.0 }).collect();
    Ok(values.map(|(name, values)| want(name, shifted(name, values), Tol { rel: 1e-5, abs: 1e-5 })).into())
}

fn product(c: &mut Cases, name: &str, count: usize, expect: impl Fn(&Values) -> Result<Vec<Want>> + 'static) {
    c.case(name).check(count, "rows", expect).op(|r, x| {
        let (input, w) = (x.leaf("x", Axis(0), &[ROWS, D])?, x.leaf("w", Whole, &[D, D])?);
        Ok(vec![out("y", Axis(0), op::matmul::matmul(r, &input, &w, op::matmul::MatmulOptions::default())?)])
    });
}

fn cases(c: &mut Cases) {
    product(c, "all", ROWS, |v| expect(v, "", 0.0));
    product(c, "some", 6, |v| expect(v, "", 0.0));
    product(c, "one", 1, |v| expect(v, "", 0.0));
    product(c, "y", 6, |v| expect(v, "y", 1e-3));
    product(c, "dx", 6, |v| expect(v, "dx", 1e-3));
    product(c, "dw", 6, |v| expect(v, "dw", 1e-3));
    product(c, "silent", 6, |v| Ok(expect(v, "", 0.0)?.into_iter().filter(|want| want.name != "dw").collect()));
}

#[test]
fn some_samples_are_enough_to_compare_every_gradient() {
    each_tier(|g| {
        for case in ops::of(&Scope::default(), ("made_up", cases)) {
            let checked = case.check(g);
            match case.name.as_str() {
                "all" => assert_eq!(checked.unwrap(), "all"),
                "some" => assert_eq!(checked.unwrap(), "6 of 40 rows"),
                "one" => assert_eq!(checked.unwrap(), "1 of 40 rows"),
                wrong => {
                    let Err(Error::Mismatch(text)) = checked else { panic!("{wrong} passed") };
                    let named =
                        if wrong == "silent" { "no expected values for `dw`".into() } else { format!("{wrong}[") };
                    assert!(text.contains(&named), "{wrong}: {text}");
                }
            }
        }
    });
}

#[test]
fn a_lost_device_costs_one_row_of_the_throughput() {
    if gpu().is_none() {
        return;
    }
    let opened = Cell::new(0);
    let open = || {
        let g = Gpu::open_blocking(&Options { adapter: adapter(), ..Options::default() }).expect("an adapter");
        opened.set(opened.get() + 1);
        if opened.get() == 1 {
            g.destroy()?;
        }
        Ok(g)
    };
    let models = ["map_micro_patch4_16", "vit_micro_patch8_16"].map(|name| Config::preset(name).unwrap());
    let precision = Precision::F32;
    let measured =
        Throughput { batch_size: 1, precision, train: false, checkpoint_blocks: false, warm_up: 0, steps: 1 };
    let report = throughput(open, &models, &measured, |_| Ok(())).unwrap();
    let [first, second] = &report.rows[..] else { panic!("{:?}", report.rows) };
    assert!(matches!(&first.outcome, Outcome::Failed(why) if why.contains("lost")), "{first:?}");
    assert!(matches!(second.outcome, Outcome::Timed(_)), "{second:?}");
    assert_eq!((opened.get(), report.passed()), (2, false));
}
