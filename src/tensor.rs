//! Tensors: a range of a buffer with a shape. Contiguous, row-major, no strides; elements of 32 bits, or f16 two in a
//! word where an operator says so.

use crate::error::{Error, Result};
use crate::gpu::{
    Bind, Class, DType, Gpu, Grid, Kernel, Operand, Readback, Recording, View, params, read, update, wgsl, write,
};

params! {
    /// Scalars of the primitives.
    pub struct Primitive { n: u32, value: f32 }
}

const SRC: &str = wgsl!("tensor", "grid", "half");
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Primitive>(name, SRC, binds).rounds()
}
const FILL: Kernel = kernel("tensor.fill", &[write(2, "out")]);
const COPY: Kernel = kernel("tensor.copy", &[read(1, "x"), write(2, "out")]);
const ADD_INTO: Kernel = kernel("tensor.add_into", &[read(1, "x"), update(2, "out")]);
const PLUS: Kernel = kernel("tensor.plus", &[read(1, "x"), read(3, "z"), write(2, "out")]);
const HALVE: Kernel = kernel("tensor.halve", &[read(1, "x"), write(4, "words").f16()]);

/// The kernels of this file, for the shader tests.
pub const KERNELS: &[&Kernel] = &[&FILL, &COPY, &ADD_INTO, &PLUS, &HALVE];

/// A shaped view of GPU memory with elements of one type. Contiguous, row-major; cloning shares the memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    view: View,
    shape: Vec<usize>,
}

impl Operand for Tensor {
    fn view(&self) -> Option<&View> {
        Some(&self.view)
    }
}

impl Tensor {
    /// An unwritten tensor of f32 in memory of the given class.
    pub fn new(class: Class, label: &'static str, shape: &[usize]) -> Self {
        Self::of(DType::F32, class, label, shape)
    }

    /// An unwritten tensor in memory of the given class.
    pub fn of(dtype: DType, class: Class, label: &'static str, shape: &[usize]) -> Self {
        let bytes = (shape.iter().product::<usize>() as u64 * dtype.size()).next_multiple_of(4);
        Self { view: View::new(class, label, bytes).of(dtype), shape: shape.to_vec() }
    }

    /// An unwritten result of a launch; the program that records it assigns the memory: `torch.empty`.
    pub fn scratch(label: &'static str, shape: &[usize]) -> Self {
        Self::scratch_of(DType::F32, label, shape)
    }

    /// [`Tensor::scratch`] with elements of any type.
    pub fn scratch_of(dtype: DType, label: &'static str, shape: &[usize]) -> Self {
        Self::of(dtype, Class::Scratch, label, shape)
    }

    /// An unwritten result of a launch with elements of this tensor's type: `torch.empty_like`.
    pub fn scratch_like(&self, label: &'static str, shape: &[usize]) -> Self {
        Self::scratch_of(self.dtype(), label, shape)
    }

    /// A tensor that the host writes before a program runs: batches, tables, step state.
    pub fn input(label: &'static str, shape: &[usize]) -> Self {
        Self::new(Class::Input, label, shape)
    }

    /// A table of indices that the host fills, now and again.
    pub fn indices(label: &'static str, shape: &[usize]) -> Self {
        Self::of(DType::U32, Class::Input, label, shape)
    }

    /// A range of an arena with a shape.
    pub fn from_view(view: View, shape: &[usize]) -> Self {
        debug_assert_eq!(view.bytes(), shape.iter().product::<usize>() as u64 * 4);
        Self { view, shape: shape.to_vec() }
    }

    /// A tensor with these values: `torch.tensor(values).reshape(shape)`.
    pub fn from_slice(g: &Gpu, shape: &[usize], values: &[f32]) -> Result<Self> {
        let tensor = Self::input("tensor", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// A table of indices, u32.
    pub fn from_indices(g: &Gpu, shape: &[usize], values: &[u32]) -> Result<Self> {
        let tensor = Self::indices("indices", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// Where its elements lie.
    pub fn memory(&self) -> &View {
        &self.view
    }

    /// Sizes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements: `numel()`.
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

    /// The same memory with another shape of as many elements: `view(shape)`.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::argument("reshape", format!("{shape:?}"), format!("{} elements", self.len())));
        }
        Ok(Self { view: self.view.clone(), shape: shape.to_vec() })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.view.dtype()
    }

    /// Whether the elements are f16.
    pub fn is_f16(&self) -> bool {
        self.dtype() == DType::F16
    }

    /// The same memory with elements of another type, as many as fit.
    pub fn viewed_as(&self, dtype: DType, shape: &[usize]) -> Result<Self> {
        let bytes = (shape.iter().product::<usize>() as u64 * dtype.size()).next_multiple_of(4);
        if bytes != self.view.bytes() {
            let got = format!("{shape:?} of {dtype}, {bytes} bytes");
            return Err(Error::argument("viewed_as", got, format!("{} bytes", self.view.bytes())));
        }
        Ok(Self { view: self.view.clone().of(dtype), shape: shape.to_vec() })
    }

    /// Elements `start..start + shape.product()` as a tensor; bindable where `start` is a multiple of 64, of 128 in
    /// f16.
    pub fn range(&self, start: usize, shape: &[usize]) -> Result<Self> {
        let len = shape.iter().product::<usize>();
        if start.checked_add(len).is_none_or(|end| end > self.len()) {
            return Err(Error::argument(
                "range",
                format!("{len} elements from {start}"),
                format!("at most {}", self.len()),
            ));
        }
        let size = self.dtype().size();
        let view = self.view.range(start as u64 * size, (len as u64 * size).next_multiple_of(4));
        Ok(Self { view, shape: shape.to_vec() })
    }

    /// Overwrites the values from the host (f32 or u32), after every program that was run.
    pub fn write<T: bytemuck::Pod>(&self, g: &Gpu, values: &[T]) -> Result<()> {
        g.write(&self.view, bytemuck::cast_slice(values))
    }

    /// Starts reading the values back.
    pub fn read(&self, g: &Gpu) -> Result<Readback> {
        g.read(&self.view)
    }

    /// The values, once the GPU has computed them: `tensor.cpu()`.
    pub async fn to_vec_async(&self, g: &Gpu) -> Result<Vec<f32>> {
        Ok(self.values(&self.read(g)?.await?))
    }

    /// The values. Blocks until the GPU has computed them.
    #[cfg(feature = "blocking")]
    pub fn to_vec(&self, g: &Gpu) -> Result<Vec<f32>> {
        Ok(self.values(&self.read(g)?.wait()?))
    }

    fn values(&self, bytes: &[u8]) -> Vec<f32> {
        if self.dtype() != DType::F16 {
            return bytemuck::pod_collect_to_vec(bytes);
        }
        let halves = bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes);
        halves.into_iter().take(self.len()).map(half::f16::to_f32).collect()
    }

    /// Launches `self.fill_(value)`.
    pub fn fill(&self, r: &mut Recording, value: f32) -> Result<()> {
        r.launch(&FILL, self.items(), &self.primitive(value), &[self])
    }

    /// Launches `self.copy_(other)`. `other` has as many elements.
    pub fn copy_from(&self, r: &mut Recording, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        r.launch(&COPY, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches `self.add_(other)`, element by element.
    pub fn add_into(&self, r: &mut Recording, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        r.launch(&ADD_INTO, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches `self + other`, element by element, as a new tensor.
    pub fn plus(&self, r: &mut Recording, other: &Self) -> Result<Self> {
        let sum = Self::scratch("sum", &self.shape);
        r.launch(&PLUS, self.items(), &self.primitive(0.0), &[self, &other.reshape(&self.shape)?, &sum])?;
        Ok(sum)
    }

    /// Launches: the same values in f16, each the nearest, as a new tensor: `x.half()`.
    pub fn to_f16(&self, r: &mut Recording) -> Result<Self> {
        let halves = Self::scratch_of(DType::F16, "f16", &self.shape);
        r.launch(&HALVE, Grid::items(self.len().div_ceil(2), 256), &self.primitive(0.0), &[self, &halves])?;
        Ok(halves)
    }

    fn items(&self) -> Grid {
        Grid::items(self.len(), 256)
    }

    fn primitive(&self, value: f32) -> Primitive {
        Primitive { n: self.len() as u32, value }
    }
}
