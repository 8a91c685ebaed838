//! Every operator family against the oracle, then against the clock. How to run and read it: README.md.

mod clock;
mod common;
mod inputs;
mod ops;
#[path = "../tests/common.rs"]
#[expect(dead_code, reason = "the tests use all of it, the benches its random numbers and comparisons")]
mod oracle;
mod report;
mod roof;

fn main() {
    let mut bench = common::Bench::open().unwrap_or_else(|e| panic!("{e}"));
    for family in ops::ALL {
        family(&mut bench);
    }
    bench.finish();
}
