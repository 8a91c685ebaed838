//! Buffers before and after they exist: a `Node` is a promise of bytes, a `View` a range of one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::counters::Counters;
use super::dtype::DType;

/// What a buffer is for; decides who owns its memory and under which heading the plan counts it.
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
    /// Results of launches: memory is assigned by the program that records them.
    Scratch,
}

/// A physical buffer that reports its birth and death to the counters.
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
            self.raw.destroy(); // the browser would wait for its garbage collector
        }
    }
}

/// A buffer by identity. It owns memory once somebody needs it.
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

/// A range of a buffer: what a launch binds.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) node: Arc<Node>,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// What the elements are; a kernel's bindings say which types they take.
    pub(crate) dtype: DType,
}

impl View {
    /// Buffers and bindings end at multiples of this many bytes, so that a shader may read any of them as vec4.
    pub(crate) const QUAD: u64 = 16;

    /// A new buffer of its own, of f32.
    pub fn new(class: Class, label: &'static str, bytes: u64) -> Self {
        Self { node: Node::new(class, label, bytes), offset: 0, bytes, dtype: DType::F32 }
    }
    /// The same memory with elements of another type.
    pub fn of(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Its elements; of an odd number of f16 one more than were asked for.
    pub fn len(&self) -> usize {
        (self.bytes / self.dtype.size()) as usize
    }
    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
    /// A range of this view, from `offset` bytes; bindable only where `offset` is a multiple of 256.
    pub fn range(&self, offset: u64, bytes: u64) -> Self {
        debug_assert!(offset + bytes <= self.bytes);
        Self { offset: self.offset + offset, bytes, ..self.clone() }
    }
    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Start within the buffer in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }
    /// What the buffer is for.
    pub fn class(&self) -> Class {
        self.node.class
    }
    /// Whether two views lie in the same buffer.
    pub fn same_buffer(&self, other: &Self) -> bool {
        self.node.id == other.node.id
    }
    /// Whether two views are the same range of the same buffer.
    pub fn same(&self, other: &Self) -> bool {
        self.same_buffer(other) && self.offset == other.offset && self.bytes == other.bytes
    }
}

/// What a launch binds: a view, or nothing where an operand is absent and the kernel does not read it.
pub trait Operand {
    /// The view, if it is there.
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

/// A growing arena: ranges are handed out one after the other until the first use fixes its size.
#[derive(Debug)]
pub struct Arena {
    view: View,
    limit: u64,
}

impl Arena {
    /// Ranges start at multiples of this many bytes, so that each can be bound on its own.
    pub const ALIGN: u64 = 256;

    /// An empty arena that will not grow past `limit` bytes.
    pub fn new(class: Class, label: &'static str, limit: u64) -> Self {
        Self { view: View::new(class, label, 0), limit }
    }
    /// The next range of `bytes`, or `None` when the arena is full.
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
    /// The whole arena as it stands.
    pub fn view(&self) -> &View {
        &self.view
    }
}
