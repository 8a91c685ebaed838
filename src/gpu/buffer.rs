//! Buffers, and ranges of them. A `Node` is a buffer whose memory may not be allocated yet; a `View` is a range of a
//! node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::counters::Counters;
use super::dtype::DType;

/// Purpose of a buffer. It decides who owns the memory and under which category the plan counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Weights.
    Parameter,
    /// Gradients of weights.
    Gradient,
    /// Moments of the optimizer.
    Optimizer,
    /// Batches, tables and step state that the host writes.
    Input,
    /// Results of launches: the program that records them assigns the memory.
    Scratch,
}

/// A physical buffer. It reports its creation and its release to the counters.
#[derive(Debug)]
pub(crate) struct Physical {
    pub raw: wgpu::Buffer,
    counters: Arc<Counters>,
}

impl Physical {
    pub fn new(
        device: &wgpu::Device, counters: &Arc<Counters>, bytes: u64, usage: wgpu::BufferUsages, label: &str,
    ) -> Arc<Self> {
        let size = bytes.next_multiple_of(View::QUAD).max(View::QUAD);
        let raw = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        });
        counters.buffer_made(size);
        Arc::new(Self { raw, counters: counters.clone() })
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        self.counters.buffer_freed(self.raw.size());
        if cfg!(target_arch = "wasm32") {
            self.raw.destroy(); // else the memory would stay until the browser's garbage collector runs
        }
    }
}

/// A buffer with an identity. `cell` holds its memory once that is allocated.
#[derive(Debug)]
pub(crate) struct Node {
    pub id: u64,
    pub class: Class,
    pub label: &'static str,
    bytes: AtomicU64,
    pub cell: OnceLock<Arc<Physical>>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub fn new(class: Class, label: &'static str, bytes: u64) -> Arc<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { id, class, label, bytes: AtomicU64::new(bytes), cell: OnceLock::new() })
    }
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A range of a buffer. Launches bind views.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) node: Arc<Node>,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// Element type. A kernel's bindings declare which types they take.
    pub(crate) dtype: DType,
}

impl View {
    /// Sizes of buffers and bindings are rounded up to a multiple of this many bytes, so that a shader may read any of
    /// them as vec4.
    pub(crate) const QUAD: u64 = 16;

    /// A view of a whole new buffer of f32.
    pub fn new(class: Class, label: &'static str, bytes: u64) -> Self {
        Self { node: Node::new(class, label, bytes), offset: 0, bytes, dtype: DType::F32 }
    }
    /// The same range with another element type: `tensor.view(dtype)`.
    pub fn of(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Number of elements. For f16 it is rounded up to an even number, because ranges consist of whole words.
    pub fn len(&self) -> usize {
        (self.bytes / self.dtype.size()) as usize
    }
    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    /// A range of `bytes` bytes that begins `offset` bytes into this view. A launch can bind it only if its offset in
    /// the buffer is a multiple of 256.
    pub fn range(&self, offset: u64, bytes: u64) -> Self {
        debug_assert!(offset + bytes <= self.bytes);
        Self { offset: self.offset + offset, bytes, ..self.clone() }
    }
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Offset of the first byte within the buffer.
    pub fn offset(&self) -> u64 {
        self.offset
    }
    /// Purpose of the buffer.
    pub fn class(&self) -> Class {
        self.node.class
    }
    /// Whether two views are ranges of the same buffer.
    pub fn same_buffer(&self, other: &Self) -> bool {
        self.node.id == other.node.id
    }
    /// Whether two views are the same range of the same buffer.
    pub fn same(&self, other: &Self) -> bool {
        self.same_buffer(other) && self.offset == other.offset && self.bytes == other.bytes
    }
}

/// An argument of a launch: a view, a tensor, or an `Option` of one. `None` is an absent operand, which the kernel does
/// not read.
pub trait Operand {
    /// The view to bind, or `None` for an absent operand.
    fn view(&self) -> Option<&View>;
}

impl Operand for View {
    fn view(&self) -> Option<&View> {
        Some(self)
    }
}

impl<T: Operand + ?Sized> Operand for &T {
    fn view(&self) -> Option<&View> {
        (**self).view()
    }
}

impl<T: Operand> Operand for Option<T> {
    fn view(&self) -> Option<&View> {
        self.as_ref().and_then(T::view)
    }
}

/// One buffer from which ranges are allocated one after the other, as for parameters. It grows until its memory is
/// allocated, at the first use.
#[derive(Debug)]
pub struct Arena {
    view: View,
    limit: u64,
}

impl Arena {
    /// Ranges start at multiples of this many bytes, so that each can be bound by itself.
    pub const ALIGN: u64 = 256;

    /// An empty arena of at most `limit` bytes.
    pub fn new(class: Class, label: &'static str, limit: u64) -> Self {
        Self { view: View::new(class, label, 0), limit }
    }
    /// The next range of `bytes` bytes. `None` if the arena is full or its memory is already allocated.
    pub fn push(&mut self, bytes: u64) -> Option<View> {
        let offset = self.view.bytes;
        let end = (offset + bytes).next_multiple_of(Self::ALIGN);
        if end > self.limit || self.view.node.cell.get().is_some() {
            return None;
        }
        self.view.bytes = end;
        self.view.node.bytes.store(end, Ordering::Relaxed);
        Some(self.view.range(offset, bytes))
    }
    /// All ranges allocated so far, as one view.
    pub fn view(&self) -> &View {
        &self.view
    }
}
