//! The place of a process among those that train or evaluate together.

/// The place of a process among those that work together: PyTorch's rank and world size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub ranks: usize,
}

impl Place {
    /// The only process.
    pub const ALL: Self = Self { rank: 0, ranks: 1 };

    /// How many of `parts` parts each process takes. Those of rank r follow those of rank r − 1.
    pub fn of(self, parts: usize) -> usize {
        parts / self.ranks.max(1)
    }

    /// The positions among `len` that belong to this process.
    pub fn range(self, len: usize) -> std::ops::Range<usize> {
        let each = self.of(len);
        self.rank * each..(self.rank + 1) * each
    }

    /// The process whose positions are this one's counted from the end.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self { rank: self.ranks - 1 - self.rank, ..self }
    }
}
