//! A [`Recording`]: the list of launches that a [`Program`](super::Program) will replay. Launching appends to it;
//! nothing runs yet.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::buffer::{Class, Node, View};
use super::caps::{Caps, Tiers};
use super::choice::Choice;
use super::device::Gpu;
use super::kernel::{Access, Grid, Kernel};
use super::work::{LaunchArgs, Work};

/// Which part of a training step a launch belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// From inputs to loss.
    #[default]
    Forward,
    /// From loss to gradients.
    Backward,
    /// From gradients to weights.
    Update,
}

/// How matrix products are computed. Everything else is always computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Operands and sums in f32.
    #[default]
    F32,
    /// Operands rounded to f16 and sums in f32, like PyTorch's `autocast`. Products run on cooperative matrices if the
    /// adapter has them. Without these, linear layers round their operands all the same, and attention stays in f32.
    Mixed,
    /// Nearly as exact as f32, like `torch.set_float32_matmul_precision("high")`: each operand is split into two f16
    /// numbers, for products on cooperative matrices. Without these, products are in f32.
    High,
}

impl Precision {
    /// Whether products are computed in f32 on every adapter.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Mixed => "mixed",
            Self::High => "high",
        })
    }
}

/// One dispatch: kernel, constants, workgroups, scalars and buffers.
#[derive(Debug, Clone)]
pub struct Launch {
    pub(crate) kernel: &'static Kernel,
    pub(crate) consts: Vec<u32>,
    pub(crate) grid: Grid,
    pub(crate) params: Vec<u8>,
    pub(crate) args: Vec<View>,
    /// Name of the module that launched it, as in a checkpoint: `layers.3`.
    pub scope: Arc<str>,
    /// Part of the training step that it belongs to.
    pub phase: Phase,
    /// Number of marks before it in its recording ([`Recording::mark`]).
    pub(crate) part: u32,
}

impl Launch {
    /// `family.entry` of the kernel.
    pub fn name(&self) -> &'static str {
        self.kernel.name
    }
    /// The kernel.
    pub fn kernel(&self) -> &'static Kernel {
        self.kernel
    }
    /// The values of the kernel's constants, in order.
    pub fn values(&self) -> &[u32] {
        &self.consts
    }
    /// The ranges that it writes.
    pub fn written(&self) -> impl Iterator<Item = &View> {
        self.args.iter().zip(self.kernel.binds).filter(|(_, bind)| bind.writes()).map(|(view, _)| view)
    }
    /// Complete WGSL for a device with these tiers and this [`Caps::nearest`].
    pub fn wgsl(&self, tiers: Tiers, nearest: bool) -> String {
        self.kernel.wgsl(tiers, nearest, &self.consts)
    }

    /// The least work of this launch: the kernel's own formula, or else each bound element moved once.
    pub fn work(&self) -> Work {
        match self.kernel.least {
            Some(formula) => self.with_args(formula),
            None => Work { bytes: self.bytes(), ..Work::default() },
        }
    }

    /// Bytes of all bound ranges. A range that is bound twice counts once; one that is updated counts twice, because it
    /// is read and written.
    pub fn bytes(&self) -> u64 {
        let args = self.args.iter().zip(self.kernel.binds).enumerate();
        let first = args.filter(|(i, (view, _))| !self.args[..*i].iter().any(|before| before.same(view)));
        first.map(|(_, (view, bind))| if bind.access == Access::Update { 2 * view.bytes } else { view.bytes }).sum()
    }

    pub(super) fn choice(&self) -> Choice<'_> {
        Choice { consts: self.kernel.consts, values: &self.consts }
    }

    /// Calls `formula` with this launch's argument lengths, constants and scalars.
    pub(crate) fn with_args<T>(&self, formula: impl FnOnce(&LaunchArgs<'_>) -> T) -> T {
        let Self { kernel, params, args, .. } = self;
        let lens = kernel.binds.iter().zip(args).map(|(bind, view)| (bind.name, view.len()));
        let lens: Vec<_> = lens.collect();
        formula(&LaunchArgs { lens: &lens, choice: self.choice(), params, bytes: self.bytes() })
    }
}

/// A list of launches, and the module, phase and precision that the next launch gets.
#[derive(Debug)]
pub struct Recording {
    pub(super) gpu: Gpu,
    pub(crate) launches: Vec<Launch>,
    /// Number of marks so far.
    pub(crate) marks: u32,
    pub(super) scope: Arc<str>,
    pub(super) phase: Phase,
    pub(super) precision: Precision,
}

impl Recording {
    /// An empty recording. Its next launch is in the forward pass, in f32, and in no module.
    pub fn new(gpu: &Gpu) -> Self {
        let (scope, phase, precision) = ("".into(), Phase::default(), Precision::default());
        Self { gpu: gpu.clone(), launches: Vec::new(), marks: 0, scope, phase, precision }
    }
    /// The device that this recording is for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
    /// Identity, limits and tiers of the device.
    pub fn caps(&self) -> &Caps {
        self.gpu.caps()
    }
    /// Precision of the matrix products that are launched from now on.
    pub fn precision(&self) -> Precision {
        self.precision
    }
    /// Sets the precision of the matrix products that are launched from now on.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }
    /// Module name of the next launch, as in a checkpoint: `layers.3`. Empty outside of all modules.
    pub fn scope(&self) -> &Arc<str> {
        &self.scope
    }
    /// Sets the module name of the next launch, and returns the previous one.
    pub fn set_scope(&mut self, scope: Arc<str>) -> Arc<str> {
        std::mem::replace(&mut self.scope, scope)
    }
    /// Sets the phase of the next launch, and returns the previous one.
    pub fn set_phase(&mut self, phase: Phase) -> Phase {
        std::mem::replace(&mut self.phase, phase)
    }
    /// Adds a mark after the last launch. [`Recording::split_at_marks`] cuts at the marks.
    pub fn mark(&mut self) {
        self.marks += 1;
    }
    /// Adds marks after the launches at these positions, in ascending order, to those that are there.
    pub fn mark_after(&mut self, places: &[usize]) {
        for (at, launch) in self.launches.iter_mut().enumerate() {
            launch.part += places.partition_point(|place| *place < at) as u32;
        }
        self.marks += places.len() as u32;
    }
    /// Moves the launches and marks out into a new recording. This one keeps its module, phase and precision.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let rest = Self { launches: Vec::new(), marks: 0, scope: self.scope.clone(), gpu: self.gpu.clone(), ..*self };
        std::mem::replace(self, rest)
    }
    /// The launches, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }
    /// Appends the launches and marks of another recording, if there is one.
    pub fn then(mut self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let before = self.marks;
        self.launches.extend(other.launches.into_iter().map(|l| Launch { part: l.part + before, ..l }));
        self.marks += other.marks;
        self
    }
    /// Cuts the recording at its marks ([`Recording::mark`]): n marks give n + 1 recordings. The host can then read
    /// values and write inputs between them. Make their programs in order, so that a tensor that a later part reads
    /// keeps its memory when the earlier part has run.
    pub fn split_at_marks(self) -> Vec<Self> {
        let mut parts: Vec<Self> = (0..=self.marks).map(|_| Self::new(&self.gpu)).collect();
        for launch in self.launches {
            let at = launch.part as usize;
            parts[at].launches.push(Launch { part: 0, ..launch });
        }
        parts
    }
    /// Drops launches whose results are dead: no later launch reads them, and no tensor handle outside of this
    /// recording exists. A segment that is recomputed for the backward pass (activation checkpointing) ends with such
    /// launches.
    pub fn drop_unread(&mut self) {
        let mut uses: HashMap<u64, usize> = HashMap::new();
        let nodes = || self.launches.iter().flat_map(|l| &l.args).map(|view| &view.node);
        nodes().for_each(|node| *uses.entry(node.id).or_default() += 1);
        let stays = |node: &&Arc<Node>| {
            node.class != Class::Scratch || node.cell.get().is_some() || Arc::strong_count(node) > uses[&node.id]
        };
        let mut wanted: HashSet<u64> = nodes().filter(stays).map(|node| node.id).collect();
        let mut read = Vec::with_capacity(self.launches.len());
        for launch in self.launches.drain(..).rev() {
            let mut written = launch.args.iter().zip(launch.kernel.binds).filter(|(_, bind)| bind.writes());
            if written.any(|(view, _)| wanted.contains(&view.node.id)) {
                wanted.extend(launch.args.iter().map(|view| view.node.id));
                read.push(launch);
            }
        }
        read.reverse();
        self.launches = read;
    }
    /// Keeps the launches of this phase only.
    pub fn keep(&mut self, phase: Phase) {
        self.launches.retain(|launch| launch.phase == phase);
    }
    /// Number of launches in a module and its submodules: (forward pass, all phases).
    pub fn count(&self, scope: &str) -> (usize, usize) {
        let inside =
            |l: &&Launch| l.scope.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let all = self.launches.iter().filter(inside);
        (all.clone().filter(|l| l.phase == Phase::Forward).count(), all.count())
    }
    /// Sum of the least work of all launches.
    pub fn work(&self) -> Work {
        self.launches.iter().map(Launch::work).sum()
    }
}
