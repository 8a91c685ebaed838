//! What the examples in the documentation share: an adapter, opened once per process.
//!
//! The lines that call it are hidden, so a reader of the documentation sees the operator alone.

use std::sync::LazyLock;

use crate::error::Result;
use crate::gpu::{AdapterChoice, Gpu, Options};

/// The portable device, so that an example computes the same on every adapter.
static GPU: LazyLock<Option<Gpu>> = LazyLock::new(|| {
    let choice = std::env::var("ROWSCAN_ADAPTER").unwrap_or_else(|_| "auto".into());
    let adapter: AdapterChoice = choice.parse().unwrap_or_default();
    match Gpu::open_blocking(&Options { adapter, portable: true, ..Options::default() }) {
        Ok(gpu) => Some(gpu),
        Err(e) if std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1") => panic!("REQUIRE_GPU=1, but {e}"),
        Err(e) => {
            eprintln!("SKIPPED: an example that needs an adapter ({e})");
            None
        }
    }
});

/// Runs an example.
///
/// # Panics
///
/// If the example returns an error, or if there is no adapter and `REQUIRE_GPU=1`. Without `REQUIRE_GPU=1` an example
/// that finds no adapter is skipped with a line on stderr.
pub fn run(body: impl FnOnce(&Gpu) -> Result<()>) {
    if let Some(gpu) = &*GPU {
        body(gpu).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Compares the numbers of an example, which adapters round differently.
///
/// # Panics
///
/// If the lengths differ, or if a number is off by more than `tolerance`.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    let near = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() <= tolerance);
    assert!(got.len() == expected.len() && near, "got {got:?}, expected {expected:?} within {tolerance}");
}
