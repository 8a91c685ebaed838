//! The exchange of gradients between processes by itself: no forward or backward pass around it.

use std::time::Instant;

use serde_json::json;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::run::world::World;
use crate::tensor::Tensor;
use crate::train::cuts::segments;

/// Times each exchange is repeated; the shortest counts.
const REPEATS: usize = 5;

/// Passes of an exchange over the gradients in host memory that any transport has: from the GPU's buffer, into and out
/// of the all-to-all, the sum, into and out of the all-gather, back to the GPU.
const PASSES: f64 = 7.0;

/// One measured exchange.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Numbers that were added up.
    pub numbers: usize,
    /// Seconds, the shortest of several.
    pub seconds: f64,
    /// Bytes that each process sent.
    pub sent: u64,
    /// Seconds that the passes over host memory take by themselves.
    pub floor: f64,
    /// Whether every sum was right.
    pub right: bool,
}

/// Number i of process `rank`: small multiples of a quarter, whose sums are exact.
fn number(rank: usize, i: usize) -> f32 {
    ((i * 7 + rank * 13) % 1000) as f32 * 0.25
}

/// Seconds per byte of a copy in host memory.
fn copying() -> f64 {
    let from = vec![1.0f32; 8 << 20];
    let mut to = vec![0.0f32; from.len()];
    let once = |_| {
        let since = Instant::now();
        to.copy_from_slice(&from);
        std::hint::black_box(&mut to);
        since.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(once).fold(f64::INFINITY, f64::min) / (4 * from.len()) as f64
}

/// Measures exchanges of so many numbers each between the processes of `world`, and tells each.
///
/// # Errors
/// One process alone; those of the device and of the transport.
pub fn exchange(
    world: &World, g: &Gpu, counts: &[usize], mut tell: impl FnMut(String) -> Result<()>,
) -> Result<Vec<Measured>> {
    let Some(mut exchange) = world.exchange(g)? else {
        let expected = "several processes: start with mpirun, srun, or the number of GPUs";
        return Err(Error::argument("family exchange", "one process", expected));
    };
    let (ranks, per_byte) = (world.size(), copying());
    let mut all = Vec::new();
    for &numbers in counts {
        let values: Vec<f32> = (0..numbers).map(|i| number(world.rank(), i)).collect();
        let tensor = Tensor::from_slice(g, &[numbers], &values)?;
        let parts = segments(std::slice::from_ref(&tensor))?;
        let (mut seconds, mut right) = (f64::INFINITY, true);
        let before = world.exchanged().bytes;
        for _ in 0..REPEATS {
            tensor.write(g, &values)?;
            tensor.range(0, &[1])?.to_vec(g)?; // the upload is not part of it
            world.any(false)?; // nor is waiting for the others
            let since = Instant::now();
            parts.iter().try_for_each(|part| exchange.begin(part))?;
            exchange.complete()?;
            seconds = seconds.min(since.elapsed().as_secs_f64());
            let sum = |i: usize| (0..ranks).map(|rank| number(rank, i)).sum::<f32>();
            right &= tensor.to_vec(g)?.iter().enumerate().all(|(i, found)| *found == sum(i));
        }
        let sent = (world.exchanged().bytes - before) / REPEATS as u64;
        let measured = Measured { numbers, seconds, sent, floor: PASSES * per_byte * (4 * numbers) as f64, right };
        let speed = sent as f64 / seconds * 1e-9;
        let verdict = if world.any(!right)? { "WRONG" } else { "right" };
        tell(format!(
            "exchange of {:>6.1} M numbers on {ranks} processes: {:>8.1} ms, {verdict}; each sends {speed:.2} GB/s; \
             {:.0} % of the floor, {PASSES} passes over host memory at {:.1} GB/s",
            numbers as f64 * 1e-6,
            seconds * 1e3,
            100.0 * measured.floor / seconds,
            1e-9 / per_byte,
        ))?;
        all.push(measured);
    }
    Ok(all)
}

/// The measurements for `--json`.
pub fn to_json(world: &World, all: &[Measured]) -> serde_json::Value {
    let row = |m: &Measured| {
        let Measured { numbers, seconds, sent, floor, right } = m;
        json!({ "numbers": numbers, "seconds": seconds, "sent_bytes": sent, "floor_seconds": floor, "right": right })
    };
    json!({ "ranks": world.size(), "exchange": all.iter().map(row).collect::<Vec<_>>() })
}
