//! Whether a training step fits the adapter's memory. The step is recorded on a device that only plans, so nothing is
//! allocated.

use super::update::Hyper;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan};

/// Refuses a step on `batch` images that does not fit the adapter `caps`. `plan` makes the memory plan of a step for a
/// planning device, a number of images and the optimizer's numbers.
///
/// # Errors
/// [`Error::OutOfMemory`] with the plan's size, the largest batch that fits, and the largest one with
/// `--checkpoint-blocks` if that is larger.
pub fn expect_fit(
    caps: &Caps, batch: usize, hyper: Hyper, plan: impl Fn(&Gpu, usize, Hyper) -> Result<Plan>,
) -> Result<()> {
    let planned = |batch, hyper| plan(&Gpu::dry(caps.clone()), batch, hyper).and_then(|plan| plan.fits(caps));
    let Err(e) = planned(batch, hyper) else { return Ok(()) };
    if !is_of_size(&e) {
        return Err(e);
    }
    let most = |hyper| largest(batch + 1, |batch| planned(batch, hyper).is_ok());
    let with_blocks = || if hyper.checkpoint_blocks { 0 } else { most(Hyper { checkpoint_blocks: true, ..hyper }) };
    let way_out = |more| format!("add `checkpoint_blocks` (then `batch_size` {more} fits)");
    // batch norms take no single row
    let (fewest, smallest) = match planned(1, hyper) {
        Err(e) if !is_of_size(&e) => ("two images", planned(2, hyper)),
        one => ("one image", one),
    };
    Err(match smallest {
        Ok(()) => {
            let (fitting, more) = (most(hyper), with_blocks());
            let before = if more > fitting { way_out(more) + "; without it " } else { String::new() };
            let advice = format!("{before}the largest `batch_size` that fits is {fitting}");
            Error::OutOfMemory(format!("`batch_size` {batch}: {}\n{advice}", reason(&e)))
        }
        Err(e) if is_of_size(&e) => {
            let more = with_blocks();
            let advice = if more > 0 { format!("\n{}", way_out(more)) } else { String::new() };
            Error::OutOfMemory(format!("not even {fewest} at a time fits: {}{advice}", reason(&e)))
        }
        Err(other) => other,
    })
}

/// Whether an error says that something is too large for the adapter.
fn is_of_size(e: &Error) -> bool {
    matches!(e, Error::OutOfMemory(_) | Error::Limit { .. })
}

/// The text of an error without the words for its kind.
fn reason(e: &Error) -> String {
    match e {
        Error::OutOfMemory(text) => text.trim_end().into(),
        other => other.to_string(),
    }
}

/// The largest number below `below` for which `fits` is true, 0 if there is none. Bisection: `fits` is true up to some
/// number and false from there on.
fn largest(below: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, below);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_found() {
        for fitting in [0, 1, 2, 63, 64, 98] {
            assert_eq!(largest(99, |n| n <= fitting), fitting);
        }
        assert_eq!(largest(5, |_| true), 4);
    }
}
