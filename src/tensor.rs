//! Tensors: a range of a buffer with a shape. Contiguous, row-major, no strides; elements of 32 bits, or f16 two in a word
//! where an operator says so.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Class, Gpu, Grid, Kernel, Readback, View, params, wgsl};

params! {
    /// Scalars of the primitives.
    pub struct Primitive { n: u32, value: f32 }
}

const SRC: &str = wgsl!("tensor", "grid", "half");
const FILL: Kernel = Kernel::new::<Primitive>("tensor.fill", SRC, &[Bind::Write(2)]);
const COPY: Kernel = Kernel::new::<Primitive>("tensor.copy", SRC, &[Bind::Read(1), Bind::Write(2)]);
const ADD_INTO: Kernel = Kernel::new::<Primitive>("tensor.add_into", SRC, &[Bind::Read(1), Bind::Update(2)]);
const PLUS: Kernel = Kernel::new::<Primitive>("tensor.plus", SRC, &[Bind::Read(1), Bind::Read(3), Bind::Write(2)]);

const HALVE: Kernel = Kernel::new::<Primitive>("tensor.halve", SRC, &[Bind::Read(1), Bind::Write(4)]);

/// The primitives as data, for the shader tests.
pub const KERNELS: &[&Kernel] = &[&FILL, &COPY, &ADD_INTO, &PLUS, &HALVE];

/// A shaped view of GPU memory: f32, or u32 where an operator says so. Cloning shares the memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    view: View,
    shape: Vec<usize>,
}

impl AsRef<View> for Tensor {
    fn as_ref(&self) -> &View {
        &self.view
    }
}

impl Tensor {
    /// An unwritten tensor in memory of the given class.
    pub fn new(class: Class, label: &'static str, shape: &[usize]) -> Self {
        let bytes = shape.iter().product::<usize>() as u64 * 4;
        Self { view: View::new(class, label, bytes), shape: shape.to_vec() }
    }

    /// An unwritten result of a launch; the program that records it assigns the memory.
    pub fn scratch(label: &'static str, shape: &[usize]) -> Self {
        Self::new(Class::Scratch, label, shape)
    }

    /// An unwritten result of a launch in f16; operators that take no such tensor refuse it.
    pub fn scratch_half(label: &'static str, shape: &[usize]) -> Self {
        let bytes = (shape.iter().product::<usize>() as u64 * 2).next_multiple_of(4);
        let view = View { half: true, ..View::new(Class::Scratch, label, bytes) };
        Self { view, shape: shape.to_vec() }
    }

    /// An unwritten result of a launch, in f16 if this tensor is.
    pub fn scratch_like(&self, label: &'static str, shape: &[usize]) -> Self {
        if self.is_half() { Self::scratch_half(label, shape) } else { Self::scratch(label, shape) }
    }

    /// A tensor that the host fills, now and again: batches, tables, step state.
    pub fn input(label: &'static str, shape: &[usize]) -> Self {
        Self::new(Class::Input, label, shape)
    }

    /// A range of an arena with a shape.
    pub fn from_view(view: View, shape: &[usize]) -> Self {
        debug_assert_eq!(view.bytes(), shape.iter().product::<usize>() as u64 * 4);
        Self { view, shape: shape.to_vec() }
    }

    /// A tensor with these values.
    pub fn from_slice(g: &Gpu, shape: &[usize], values: &[f32]) -> Result<Self> {
        let tensor = Self::input("tensor", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// A table of indices.
    pub fn from_indices(g: &Gpu, shape: &[usize], values: &[u32]) -> Result<Self> {
        let tensor = Self::input("indices", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape as an array, or an error that names the tensor.
    pub fn dims<const N: usize>(&self, what: &str) -> Result<[usize; N]> {
        let expected = || Error::argument(what.to_owned(), format!("{:?}", self.shape), format!("{N} dimensions"));
        self.shape.as_slice().try_into().map_err(|_| expected())
    }

    /// Rows and columns of the tensor seen as a matrix: all dimensions but the last, and the last.
    pub fn rows_cols(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.len() / cols.max(1), cols)
    }

    /// An error that names the tensor unless it has this shape.
    pub fn expect_shape(&self, what: &str, shape: &[usize]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        Err(Error::argument(what.to_owned(), format!("{:?}", self.shape), format!("{shape:?}")))
    }

    /// The same memory with another shape of equal length.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::argument("reshape", format!("{shape:?}"), format!("{} elements", self.len())));
        }
        Ok(Self { view: self.view.clone(), shape: shape.to_vec() })
    }

    /// Whether elements are f16.
    pub fn is_half(&self) -> bool {
        self.view.half
    }

    /// The first word: what to bind where nothing is read.
    pub fn unread(&self) -> Self {
        Self { view: View { half: false, ..self.view.range(0, 4) }, shape: vec![1] }
    }

    /// Elements `start..start + shape.product()` as a tensor; bindable where `start` is a multiple of 64, of 128 in f16.
    pub fn range(&self, start: usize, shape: &[usize]) -> Result<Self> {
        let len = shape.iter().product::<usize>();
        if start.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(Error::argument(
                "range",
                format!("{len} elements from {start}"),
                format!("at most {}", self.len()),
            ));
        }
        let view = if self.view.half {
            self.view.range(start as u64 * 2, (len as u64 * 2).next_multiple_of(4))
        } else {
            self.view.range(start as u64 * 4, len as u64 * 4)
        };
        Ok(Self { view, shape: shape.to_vec() })
    }

    /// f16 elements in the words from `start` on of a tensor of words; bindable where `start` is a multiple of 64.
    pub fn halves_at(&self, start: usize, shape: &[usize]) -> Result<Self> {
        let len = shape.iter().product::<usize>();
        let words = self.range(start, &[len.div_ceil(2)])?;
        if self.is_half() {
            return Err(Error::argument("halves_at: elements", "f16", "words"));
        }
        Ok(Self { view: View { half: true, ..words.view }, shape: shape.to_vec() })
    }

    /// Overwrites the values from the host (f32 or u32), after everything launched so far.
    pub fn write<T: bytemuck::Pod>(&self, g: &Gpu, values: &[T]) -> Result<()> {
        g.write(&self.view, bytemuck::cast_slice(values))
    }

    /// Starts reading the values back.
    pub fn read(&self, g: &Gpu) -> Result<Readback> {
        g.read(&self.view)
    }

    /// The values, as soon as the GPU has them.
    pub async fn to_vec_async(&self, g: &Gpu) -> Result<Vec<f32>> {
        Ok(self.values(&self.read(g)?.await?))
    }

    /// The values; blocks.
    #[cfg(feature = "blocking")]
    pub fn to_vec(&self, g: &Gpu) -> Result<Vec<f32>> {
        Ok(self.values(&self.read(g)?.wait()?))
    }

    fn values(&self, bytes: &[u8]) -> Vec<f32> {
        if !self.view.half {
            return bytemuck::pod_collect_to_vec(bytes);
        }
        let halves = bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes);
        halves.into_iter().take(self.len()).map(half::f16::to_f32).collect()
    }

    /// Launches: every element becomes `value`.
    pub fn fill(&self, g: &Gpu, value: f32) -> Result<()> {
        g.launch(&FILL, self.items(), &self.primitive(value), &[self])
    }

    /// Launches: the values of `other`, which has as many elements.
    pub fn copy_from(&self, g: &Gpu, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        g.launch(&COPY, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches: adds `other` element by element.
    pub fn add_into(&self, g: &Gpu, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        g.launch(&ADD_INTO, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches: the sum with `other`, element by element, as a new tensor.
    pub fn plus(&self, g: &Gpu, other: &Self) -> Result<Self> {
        let sum = Self::scratch("sum", &self.shape);
        g.launch(&PLUS, self.items(), &self.primitive(0.0), &[self, &other.reshape(&self.shape)?, &sum])?;
        Ok(sum)
    }

    /// Launches: the same values in f16, each the nearest, as a new tensor.
    pub fn to_half(&self, g: &Gpu) -> Result<Self> {
        let words = Self::scratch("half", &[self.len().div_ceil(2)]);
        g.launch(&HALVE, Grid::items(words.len(), 256), &self.primitive(0.0), &[self, &words])?;
        words.halves_at(0, &self.shape)
    }

    fn items(&self) -> Grid {
        Grid::items(self.len(), 256)
    }

    fn primitive(&self, value: f32) -> Primitive {
        Primitive { n: self.len() as u32, value }
    }
}
