//! Sums over the micro-batches of a step, in an order that does not depend on how many processes share them.
//!
//! The sum of M summands is a balanced binary tree over their index: that of the largest power of two below M of them,
//! plus that of the rest. Four are (0 + 1) + (2 + 3), three are (0 + 1) + 2. Processes that take aligned powers of two
//! of the micro-batches each compute a branch of this tree, so the bits are the same for one process and for many.
//! Added one after the other they would not be.

use crate::error::Result;
use crate::gpu::{Class, Gpu, Program, Recording};
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// The sum of several tensors over the micro-batches of a step.
///
/// Sums that are not complete lie in slots, one set of tensors each: after n summands there are as many as n has ones
/// in binary, the largest sum first. A number of ⌊log₂ parts⌋ is enough, because the last summand is added where it is.
#[derive(Debug)]
pub struct Sums {
    g: Gpu,
    parts: usize,
    /// Where a micro-batch leaves its summands.
    summands: Vec<Tensor>,
    slots: Vec<Vec<Tensor>>,
    programs: Option<Programs>,
}

/// One small program for each thing that happens to a slot.
#[derive(Debug)]
struct Programs {
    /// The summands become slot k.
    store: Vec<Program>,
    /// The summands are added to slot k.
    add: Vec<Program>,
    /// Slot k + 1 is added to slot k.
    merge: Vec<Program>,
}

/// What happens after a micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fold {
    Store(usize),
    Add(usize),
    Merge(usize),
}

/// What happens after summand `part` of `parts`, both counted from 0: a binary counter whose digits are slots.
fn folds(part: usize, parts: usize) -> Vec<Fold> {
    let (depth, last) = (part.count_ones() as usize, part + 1 == parts);
    let ones = part.trailing_ones() as usize;
    match (parts, ones, last) {
        (1, ..) => Vec::new(),
        (_, 0, false) => vec![Fold::Store(depth)],
        _ => {
            let merges = if last { depth } else { ones } - 1;
            std::iter::once(Fold::Add(depth - 1)).chain((0..merges).map(|k| Fold::Merge(depth - 2 - k))).collect()
        }
    }
}

impl Sums {
    /// Sums of `parts` summands, which each micro-batch leaves in `summands`.
    pub fn new(g: &Gpu, parts: usize, summands: Vec<Tensor>) -> Self {
        let like = |t: &Tensor| Tensor::new(Class::Gradient, "sums of gradients", t.shape());
        let slot = |_| summands.iter().map(like).collect();
        let slots = (0..parts.max(1).ilog2()).map(slot).collect();
        Self { g: g.clone(), parts, summands, slots, programs: None }
    }

    /// Where the sums are after the last micro-batch, in the order of the summands.
    pub fn totals(&self) -> &[Tensor] {
        self.slots.first().unwrap_or(&self.summands)
    }

    fn record(&self, fold: Fold) -> Result<Recording> {
        let mut r = Recorder::inference(&self.g);
        let (to, from) = match fold {
            Fold::Store(k) | Fold::Add(k) => (&self.slots[k], &self.summands),
            Fold::Merge(k) => (&self.slots[k], &self.slots[k + 1]),
        };
        for (to, from) in to.iter().zip(from) {
            match fold {
                Fold::Store(_) => to.copy_from(&mut r, from)?,
                Fold::Add(_) | Fold::Merge(_) => to.add_into(&mut r, from)?,
            }
        }
        Ok(r.finish())
    }

    /// Every recording, one behind the other: for the memory plan.
    pub fn recordings(&self) -> Result<Option<Recording>> {
        let slots = self.slots.len();
        let all =
            (0..slots).flat_map(|k| [Some(Fold::Store(k)), Some(Fold::Add(k)), (k > 0).then(|| Fold::Merge(k - 1))]);
        let mut joined: Option<Recording> = None;
        for fold in all.flatten() {
            let next = self.record(fold)?;
            joined = Some(match joined {
                Some(before) => before.then(Some(next)),
                None => next,
            });
        }
        Ok(joined)
    }

    /// Builds the programs, if they were not built before.
    pub fn prepare(&mut self) -> Result<()> {
        if self.programs.is_some() {
            return Ok(());
        }
        let slots = self.slots.len();
        let build = |folds: &mut dyn Iterator<Item = Fold>| -> Result<Vec<Program>> {
            folds.map(|fold| Program::new(self.record(fold)?)).collect()
        };
        self.programs = Some(Programs {
            store: build(&mut (0..slots).map(Fold::Store))?,
            add: build(&mut (0..slots).map(Fold::Add))?,
            merge: build(&mut (1..slots).map(|k| Fold::Merge(k - 1)))?,
        });
        Ok(())
    }

    /// Adds the summands of micro-batch `part`, counted from 0. Call it after each, in order.
    pub fn add(&self, part: usize) -> Result<()> {
        let Some(programs) = &self.programs else { return Ok(()) };
        folds(part, self.parts).into_iter().try_for_each(|fold| match fold {
            Fold::Store(k) => programs.store[k].run(),
            Fold::Add(k) => programs.add[k].run(),
            Fold::Merge(k) => programs.merge[k].run(),
        })
    }
}

/// The place where the tree over `count` summands, at least two, is cut: those before it are added up by themselves,
/// and so is the rest.
pub fn middle(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree as text: what is added to what.
    fn tree(from: usize, to: usize) -> String {
        if to - from == 1 {
            return from.to_string();
        }
        let middle = from + middle(to - from);
        format!("({}+{})", tree(from, middle), tree(middle, to))
    }

    #[test]
    fn slots_make_the_tree() {
        assert_eq!(tree(0, 7), "(((0+1)+(2+3))+((4+5)+6))");
        for parts in 1..=70usize {
            let mut slots: Vec<String> = vec![String::new(); parts.ilog2() as usize];
            let mut total = "0".to_owned();
            for part in 0..parts {
                for fold in folds(part, parts) {
                    match fold {
                        Fold::Store(k) => slots[k] = part.to_string(),
                        Fold::Add(k) => slots[k] = format!("({}+{part})", slots[k]),
                        Fold::Merge(k) => slots[k] = format!("({}+{})", slots[k], slots[k + 1]),
                    }
                }
                total = slots.first().cloned().unwrap_or(total);
            }
            assert_eq!(total, tree(0, parts), "{parts}");
        }
    }

    /// Each rank adds up its own share, then the ranks' sums are added: the tree of one process, where the shares are
    /// powers of two.
    #[test]
    fn ranks_compute_branches_of_the_tree() {
        fn over(ranks: &[String]) -> String {
            match ranks {
                [one] => one.clone(),
                _ => {
                    let (left, right) = ranks.split_at(middle(ranks.len()));
                    format!("({}+{})", over(left), over(right))
                }
            }
        }
        for (ranks, each) in (1..=9).flat_map(|ranks| [1, 2, 4, 8].map(|each| (ranks, each))) {
            let shares: Vec<String> = (0..ranks).map(|rank| tree(rank * each, (rank + 1) * each)).collect();
            assert_eq!(over(&shares), tree(0, ranks * each), "{ranks} ranks of {each}");
        }
    }
}
