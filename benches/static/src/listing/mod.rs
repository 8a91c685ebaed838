//! Assembly as blocks of classified instructions, and the loop in which a kernel spends its time.

mod aco;
mod nak;
mod sass;

use std::collections::{BTreeMap, BTreeSet};

/// What an instruction does. A multiply-add counts as one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Multiply-add of floats, one or two numbers.
    Fma,
    /// Other arithmetic of floats, and conversions.
    Float,
    /// exp2, log2, 1/x, √x.
    Special,
    /// Product of matrices: WMMA, HMMA.
    Matrix,
    /// Arithmetic and comparisons of integers, selections.
    Integer,
    /// Copies between registers.
    Move,
    /// Exchange between the invocations of a subgroup.
    Lane,
    /// Load from or store to workgroup memory.
    Shared,
    /// Load from or store to buffers.
    Buffer,
    /// Load from or store to memory that holds what has no register.
    Local,
    /// What a scalar unit does for the whole subgroup, constants of the uniform included.
    Scalar,
    /// Jump.
    Branch,
    /// Barrier of the workgroup.
    Barrier,
    /// Waits, hints and what is not known.
    Other,
}

/// Numbers of instructions by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mix(BTreeMap<Class, u32>);

impl Mix {
    /// Number of instructions of a class.
    pub fn of(&self, class: Class) -> u32 {
        self.0.get(&class).copied().unwrap_or_default()
    }
    /// Number of all instructions.
    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }
    /// Weight by which the hot loop is chosen: what computes counts most, as it is what the loop is for.
    fn weight(&self) -> u32 {
        10 * (self.of(Class::Fma) + self.of(Class::Special)) + 50 * self.of(Class::Matrix) + self.total()
    }
}

/// A straight run of instructions.
#[derive(Debug, Default)]
struct Block {
    instructions: Vec<Class>,
    /// Places of the blocks that may come after it.
    next: Vec<usize>,
}

/// The assembly of a kernel.
#[derive(Debug)]
pub struct Listing(Vec<Block>);

impl Listing {
    /// Reads AMD's assembly as ACO prints it.
    pub fn of_aco(text: &str) -> Self {
        Self(aco::blocks(text))
    }
    /// Reads NVIDIA's assembly as NAK prints it.
    pub fn of_nak(text: &str) -> Self {
        Self(nak::blocks(text))
    }
    /// Reads NVIDIA's assembly as nvdisasm prints it.
    pub fn of_sass(text: &str) -> Self {
        Self(sass::blocks(text))
    }

    fn mix<'a>(&self, blocks: impl IntoIterator<Item = &'a usize>) -> Mix {
        let mut mix = Mix::default();
        for class in blocks.into_iter().flat_map(|&at| &self.0[at].instructions) {
            *mix.0.entry(*class).or_default() += 1;
        }
        mix
    }

    /// The instructions of the loop that computes most, each counted once, without those of loops inside it. `None`
    /// without a loop.
    pub fn hot_loop(&self) -> Option<Mix> {
        let loops = self.loops();
        let inside = |body: &BTreeSet<usize>, at: usize| {
            loops.iter().any(|other| other != body && other.is_subset(body) && other.contains(&at))
        };
        let own = |body: &BTreeSet<usize>| self.mix(body.iter().filter(|at| !inside(body, **at)));
        loops.iter().map(own).max_by_key(Mix::weight)
    }

    /// The natural loops: for each jump back to a block that dominates it, the blocks from which the jump is reached
    /// without passing that block. Loops with one head are one loop.
    fn loops(&self) -> Vec<BTreeSet<usize>> {
        let before = self.predecessors();
        let dominators = self.dominators(&before);
        let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (at, block) in self.0.iter().enumerate() {
            for &head in block.next.iter().filter(|head| dominators[at].contains(head)) {
                let body = loops.entry(head).or_insert_with(|| BTreeSet::from([head]));
                let mut open = vec![at];
                while let Some(at) = open.pop() {
                    if body.insert(at) {
                        open.extend(&before[at]);
                    }
                }
            }
        }
        loops.into_values().collect()
    }

    fn predecessors(&self) -> Vec<Vec<usize>> {
        let mut before = vec![Vec::new(); self.0.len()];
        for (at, block) in self.0.iter().enumerate() {
            block.next.iter().for_each(|&next| before[next].push(at));
        }
        before
    }

    /// For each block, the blocks through which every path from the first block to it goes, itself included. Empty for
    /// blocks that are not reached.
    fn dominators(&self, before: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
        let mut known: Vec<Option<BTreeSet<usize>>> = vec![None; self.0.len()];
        if let Some(first) = known.first_mut() {
            *first = Some(BTreeSet::from([0]));
        }
        loop {
            let mut changed = false;
            for at in 1..self.0.len() {
                let reached = before[at].iter().filter_map(|&earlier| known[earlier].as_ref());
                let common = reached.cloned().reduce(|a, b| a.intersection(&b).copied().collect());
                let Some(mut common) = common else { continue };
                common.insert(at);
                if known[at].as_ref() != Some(&common) {
                    known[at] = Some(common);
                    changed = true;
                }
            }
            if !changed {
                return known.into_iter().map(Option::unwrap_or_default).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hot_loop_of_a_listing_of_aco() {
        let text = "BB0:\n\ts_mov_b32 s0, 0 ; be800080\nBB1:\n\tv_fma_f32 v0, v1, v2, v0 ; 00\n\
            \tv_exp_f32_e32 v3, v3 ; 01\n\tbuffer_load_b128 v[0:3], v4, s[0:3], 0 offen ; 02\n\
            \ts_cbranch_scc1 BB1 ; 03\nBB2:\n\ts_endpgm ; 04\n";
        let hot = Listing::of_aco(text).hot_loop().unwrap();
        let classes = [Class::Fma, Class::Special, Class::Buffer, Class::Branch].map(|class| hot.of(class));
        assert_eq!((classes, hot.total()), ([1, 1, 1, 1], 4));
    }

    #[test]
    fn the_hot_loop_of_a_listing_of_nak() {
        let text = "block 0 [] {\n    r0 = mov 0x0 // delay=1\n} -> [1]\nblock 1 [0, 1] {\n\
            \x20   r0 = ffma r1 r2 r0 // 2\n    ur1 = iadd3 ur1 0x1 // 3\n    @p0 bra L1 // 4\n\
            } -> [2, 1]\nblock 2 [1] {\n    exit // 5\n} -> []\n";
        let hot = Listing::of_nak(text).hot_loop().unwrap();
        assert_eq!([Class::Fma, Class::Scalar, Class::Branch].map(|class| hot.of(class)), [1, 1, 1]);
    }

    #[test]
    fn the_hot_loop_of_a_listing_of_nvdisasm() {
        let text = "//--- .text.k ---\n        /*0000*/                   MOV R1, c[0x0][0x28] ;\n.L_x_1:\n\
            \t/*0010*/  FFMA R0, R2, R3, R0 ;\n\t/*0020*/  IADD3 R4, R4, 0x1, RZ ;\n\
            \t/*0030*/  @!P0 BRA `(.L_x_2) ;\n\t/*0040*/  LDS R2, [R5] ;\n\t/*0050*/  @P1 BRA `(.L_x_1) ;\n\
            .L_x_2:\n\t/*0060*/  EXIT ;\n.L_x_3:\n\t/*0070*/  BRA `(.L_x_3) ;\n\t/*0080*/  NOP ;\n";
        let hot = Listing::of_sass(text).hot_loop().unwrap();
        let classes = [Class::Fma, Class::Integer, Class::Shared, Class::Branch].map(|class| hot.of(class));
        assert_eq!((classes, hot.total()), ([1, 1, 1, 2], 5));
    }

    #[test]
    fn the_hot_one_of_nested_loops_is_the_one_that_computes() {
        let block = |fma: usize, next: &[usize]| Block { instructions: vec![Class::Fma; fma], next: next.to_vec() };
        let nested = |inner: usize| {
            Listing(vec![block(1, &[1]), block(2, &[2]), block(inner, &[2, 3]), block(4, &[1, 4]), block(5, &[])])
        };
        assert_eq!(nested(9).hot_loop().unwrap().of(Class::Fma), 9);
        assert_eq!(nested(3).hot_loop().unwrap().of(Class::Fma), 2 + 4); // of the outer loop, without the inner one
    }

    #[test]
    fn without_a_loop_nothing_is_hot() {
        assert_eq!(Listing::of_aco("BB0:\n\ts_endpgm ; 04\n").hot_loop(), None);
        assert_eq!(Listing::of_nak("").hot_loop(), None);
    }
}
