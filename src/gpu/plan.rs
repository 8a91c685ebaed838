//! The memory plan of a recording. It is made before anything is allocated, and needs no GPU.
//!
//! A scratch buffer is alive from its first write to its last use. Each slot is one physical buffer, shared by scratch
//! buffers that are never alive at the same time. Placement is greedy: the largest scratch buffer first, into the
//! smallest slot that is free for its whole life.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::buffer::{Class, Node};
use super::caps::Caps;
use super::record::{Phase, Recording};
use crate::error::{Error, Result};

/// Bytes by category, and the slot of each scratch buffer.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Bytes of weights.
    pub parameters: u64,
    /// Bytes of the weights' gradients.
    pub gradients: u64,
    /// Bytes of optimizer moments.
    pub optimizer: u64,
    /// Bytes of batches, tables and step state.
    pub inputs: u64,
    /// Bytes of scratch that is alive when the backward pass begins.
    pub activations: u64,
    /// Bytes of all slots minus `activations`.
    pub scratch: u64,
    /// Bytes of results that stay alive after the recording: a tensor handle outside of it exists.
    pub outputs: u64,
    /// Bytes of read-back buffers.
    pub staging: u64,
    /// Number of launches in one replay.
    pub launches: usize,
    /// Bytes of each slot.
    pub(crate) slots: Vec<u64>,
    /// Slot of each scratch buffer, by node id.
    pub(crate) slot_of: HashMap<u64, usize>,
    /// Node ids of `outputs` that have no memory yet.
    pub(crate) kept: Vec<u64>,
}

/// First and last launch that uses a buffer, and the number of arguments that are views of it.
struct Life {
    node: Arc<Node>,
    first: usize,
    last: usize,
    uses: usize,
}

impl Plan {
    /// Plans a recording. A scratch buffer that has a handle outside of the recording becomes an output: it shares no
    /// slot.
    ///
    /// # Errors
    /// If a launch reads scratch that no launch before it writes.
    pub fn new(recording: &Recording) -> Result<Self> {
        let mut plan = Self { launches: recording.launches.len(), staging: 4096, ..Self::default() };
        let mut lives: HashMap<u64, Life> = HashMap::new();
        let mut backward = None;
        for (at, launch) in recording.launches.iter().enumerate() {
            if launch.phase != Phase::Forward {
                backward.get_or_insert(at);
            }
            for (view, bind) in launch.args.iter().zip(launch.kernel.binds) {
                let node = &view.node;
                if let Some(life) = lives.get_mut(&node.id) {
                    life.last = at;
                    life.uses += 1;
                    continue;
                }
                if node.class == Class::Scratch && node.cell.get().is_none() && bind.reads() {
                    let what = format!("{}: `{}` ({})", launch.kernel.name, bind.name, node.label);
                    return Err(Error::argument(what, "a tensor nothing has written", "a written tensor"));
                }
                lives.insert(node.id, Life { node: node.clone(), first: at, last: at, uses: 1 });
            }
        }
        let mut scratch = Vec::new();
        for (id, life) in lives {
            let bytes = life.node.bytes();
            match life.node.class {
                Class::Parameter => plan.parameters += bytes,
                Class::Gradient => plan.gradients += bytes,
                Class::Optimizer => plan.optimizer += bytes,
                Class::Input => plan.inputs += bytes,
                Class::Scratch if life.node.cell.get().is_some() => plan.outputs += bytes,
                // `lives` holds one handle and the recording `life.uses` handles: any other belongs to a caller
                Class::Scratch if Arc::strong_count(&life.node) > life.uses + 1 => {
                    plan.outputs += bytes;
                    plan.kept.push(id);
                }
                Class::Scratch => scratch.push(life),
            }
        }
        plan.place(scratch, backward.unwrap_or(usize::MAX));
        Ok(plan)
    }

    fn place(&mut self, mut scratch: Vec<Life>, backward: usize) {
        scratch.sort_by_key(|l| (std::cmp::Reverse(l.node.bytes()), l.first, l.node.id));
        let mut taken: Vec<Vec<(usize, usize)>> = Vec::new();
        for life in &scratch {
            let fits =
                |spans: &Vec<(usize, usize)>| spans.iter().all(|&(first, last)| life.last < first || last < life.first);
            // slots are sorted by size, largest first, and are all large enough: the last free one is the smallest
            let slot = taken.iter().rposition(fits).unwrap_or_else(|| {
                taken.push(Vec::new());
                self.slots.push(life.node.bytes());
                taken.len() - 1
            });
            taken[slot].push((life.first, life.last));
            self.slot_of.insert(life.node.id, slot);
            if life.first < backward && backward <= life.last {
                self.activations += life.node.bytes();
            }
        }
        self.scratch = self.slots.iter().sum::<u64>().saturating_sub(self.activations);
    }

    /// Bytes that do not depend on the batch size: weights, gradients and moments.
    pub fn fixed(&self) -> u64 {
        self.parameters + self.gradients + self.optimizer
    }

    /// Least bytes that a training step moves, however its launches are fused. Inputs are read once; activations are
    /// written and read; weights are read in both passes, then read and written by the optimizer; gradients are written
    /// and read; moments are read and written.
    pub fn least_traffic(&self) -> u64 {
        self.inputs + 2 * self.activations + 4 * self.parameters + 2 * self.gradients + 2 * self.optimizer
    }

    /// Sum of all categories, in bytes.
    pub fn total(&self) -> u64 {
        self.fixed() + self.inputs + self.activations + self.scratch + self.outputs + self.staging
    }

    /// Checks that the plan fits an adapter.
    ///
    /// # Errors
    /// [`Error::Limit`] if a slot is larger than the largest buffer, [`Error::OutOfMemory`] if the total is more than
    /// the device memory.
    pub fn fits(&self, caps: &Caps) -> Result<()> {
        if self.largest() > caps.max_buffer {
            let what = "the largest activation buffer".into();
            return Err(Error::Limit { what, needed: self.largest(), allowed: caps.max_buffer });
        }
        match caps.memory {
            Some(memory) if self.total() > memory => {
                let (needed, has) = (human_bytes(self.total()), human_bytes(memory));
                Err(Error::OutOfMemory(format!("the plan needs {needed}, {} has {has}\n{self}", caps.name)))
            }
            _ => Ok(()),
        }
    }

    /// Size of the largest slot in bytes.
    pub fn largest(&self) -> u64 {
        self.slots.iter().copied().max().unwrap_or(0)
    }
}

/// Bytes as text, in decimal units: `7.60 GB`, `12.3 MB`, `0.5 kB`.
pub fn human_bytes(bytes: u64) -> String {
    match bytes {
        1_000_000_000.. => format!("{:.2} GB", bytes as f64 / 1e9),
        1_000_000.. => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} kB", bytes as f64 / 1e3),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("parameters", self.parameters),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("inputs", self.inputs),
            ("activations", self.activations),
            ("scratch", self.scratch),
            ("outputs", self.outputs),
            ("staging", self.staging),
            ("total", self.total()),
        ];
        rows.iter().try_for_each(|(name, bytes)| writeln!(f, "  {name:<12} {:>12}", human_bytes(*bytes)))
    }
}
