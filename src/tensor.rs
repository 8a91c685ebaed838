//! Tensors: ranges of GPU memory with a shape and an element type. Always contiguous and row-major: there are no
//! strides.

use crate::error::{Error, Result};
use crate::gpu::{
    Bind, Class, Const, DType, Gpu, Grid, Kernel, Operand, Readback, Recording, View, params, read, scalars, update,
    wgsl, write,
};

params! {
    /// Scalars of the kernels in `shaders/tensor.wgsl`.
    pub(crate) struct Primitive { n: u32, value: f32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    const CONSTS: &[Const] = &[Const::flag("X16"), Const::flag("Z16"), Const::flag("O16")];
    Kernel::new::<Primitive>(name, wgsl!("tensor", "grid", "half", "element"), binds).rounds().consts(CONSTS)
}
const FILL: Kernel = kernel("tensor.fill", &[write(4, "filled")]);
const COPY: Kernel = kernel("tensor.copy", &[read(1, "x").f16_if("X16"), write(2, "out").f16_if("O16")]);
const ADD_INTO: Kernel = kernel("tensor.add_into", &[read(1, "x").f16_if("X16"), update(2, "out").f16_if("O16")]);
const PLUS: Kernel =
    kernel("tensor.plus", &[read(1, "x").f16_if("X16"), read(3, "z").f16_if("Z16"), write(2, "out").f16_if("O16")]);

/// The kernels of this file, for the shader tests.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FILL, &COPY, &ADD_INTO, &PLUS];

/// A range of GPU memory with a shape and an element type: PyTorch's contiguous tensor. Clones share the memory.
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
    /// An uninitialized f32 tensor in memory of the given class.
    pub fn new(class: Class, label: &'static str, shape: &[usize]) -> Self {
        Self::of(DType::F32, class, label, shape)
    }

    /// An uninitialized tensor of this element type in memory of the given class. f16 takes two elements to a word; the
    /// size is rounded up to whole words.
    pub fn of(dtype: DType, class: Class, label: &'static str, shape: &[usize]) -> Self {
        let bytes = (shape.iter().product::<usize>() as u64 * dtype.size()).next_multiple_of(4);
        Self { view: View::new(class, label, bytes).of(dtype), shape: shape.to_vec() }
    }

    /// An uninitialized f32 tensor for the result of a launch: `torch.empty`. The program that records the launch
    /// assigns its memory.
    pub fn scratch(label: &'static str, shape: &[usize]) -> Self {
        Self::scratch_of(DType::F32, label, shape)
    }

    /// [`Tensor::scratch`] of another element type.
    pub fn scratch_of(dtype: DType, label: &'static str, shape: &[usize]) -> Self {
        Self::of(dtype, Class::Scratch, label, shape)
    }

    /// [`Tensor::scratch`] of this tensor's element type: `torch.empty(shape, dtype=self.dtype)`.
    pub fn scratch_like(&self, label: &'static str, shape: &[usize]) -> Self {
        Self::scratch_of(self.dtype(), label, shape)
    }

    /// An f32 tensor that the host writes before a program runs, such as a batch.
    pub fn input(label: &'static str, shape: &[usize]) -> Self {
        Self::new(Class::Input, label, shape)
    }

    /// A u32 tensor of indices that the host writes before a program runs.
    pub fn indices(label: &'static str, shape: &[usize]) -> Self {
        Self::of(DType::U32, Class::Input, label, shape)
    }

    /// A tensor of this shape in a range of an [`Arena`](crate::gpu::Arena). Elements take 4 bytes.
    pub(crate) fn from_view(view: View, shape: &[usize]) -> Self {
        debug_assert_eq!(view.bytes(), shape.iter().product::<usize>() as u64 * 4);
        Self { view, shape: shape.to_vec() }
    }

    /// An f32 tensor with these values: `torch.tensor(values).reshape(shape)`.
    ///
    /// # Errors
    /// If `shape` does not have as many elements as `values`.
    pub fn from_slice(g: &Gpu, shape: &[usize], values: &[f32]) -> Result<Self> {
        let tensor = Self::input("tensor", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// [`Tensor::from_slice`] for indices, as u32.
    pub fn from_indices(g: &Gpu, shape: &[usize], values: &[u32]) -> Result<Self> {
        let tensor = Self::indices("indices", shape);
        tensor.write(g, values)?;
        Ok(tensor)
    }

    /// The memory range of the elements.
    pub fn memory(&self) -> &View {
        &self.view
    }

    /// Size of each dimension, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements: `numel()`.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape as an array of `N` sizes. `what` names the tensor in the error.
    ///
    /// # Errors
    /// If the tensor does not have `N` dimensions.
    pub fn dims<const N: usize>(&self, what: &str) -> Result<[usize; N]> {
        let expected = || Error::argument(what.to_owned(), format!("{:?}", self.shape), format!("{N} dimensions"));
        self.shape.as_slice().try_into().map_err(|_| expected())
    }

    /// Rows and columns of the tensor as a matrix: the product of all dimensions but the last, and the last.
    pub fn rows_cols(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.len() / cols.max(1), cols)
    }

    /// Checks the shape. `what` names the tensor in the error.
    ///
    /// # Errors
    /// If the tensor does not have this shape.
    pub fn expect_shape(&self, what: &str, shape: &[usize]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        Err(Error::argument(what.to_owned(), format!("{:?}", self.shape), format!("{shape:?}")))
    }

    /// The same memory with another shape: `tensor.view(shape)`.
    ///
    /// # Errors
    /// If the new shape has another number of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::argument("reshape", format!("{shape:?}"), format!("{} elements", self.len())));
        }
        Ok(Self { view: self.view.clone(), shape: shape.to_vec() })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.view.dtype()
    }

    /// Whether the element type is f16.
    pub fn is_f16(&self) -> bool {
        self.dtype() == DType::F16
    }

    /// The same memory with another element type and shape: `tensor.view(dtype)`.
    ///
    /// # Errors
    /// If the new shape takes another number of bytes.
    pub fn viewed_as(&self, dtype: DType, shape: &[usize]) -> Result<Self> {
        let bytes = (shape.iter().product::<usize>() as u64 * dtype.size()).next_multiple_of(4);
        if bytes != self.view.bytes() {
            let got = format!("{shape:?} of {dtype}, {bytes} bytes");
            return Err(Error::argument("viewed_as", got, format!("{} bytes", self.view.bytes())));
        }
        Ok(Self { view: self.view.clone().of(dtype), shape: shape.to_vec() })
    }

    /// A tensor of this shape whose first element is element `start` of this one, in the same memory. A launch can bind
    /// it only if its offset in the buffer is a multiple of 256 bytes: 64 elements, or 128 of f16.
    ///
    /// # Errors
    /// If it would reach past the end of this tensor.
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

    /// Overwrites all elements with values from the host, after all programs that were run before. `T` must have the
    /// size of the element type.
    ///
    /// # Errors
    /// If `values` does not have the size of this tensor in bytes.
    pub fn write<T: bytemuck::Pod>(&self, g: &Gpu, values: &[T]) -> Result<()> {
        g.write(&self.view, bytemuck::cast_slice(values))
    }

    /// Starts copying the elements to the host.
    pub fn read(&self, g: &Gpu) -> Result<Readback> {
        g.read(&self.view)
    }

    /// The values as f32, once the GPU has computed them: `tensor.float().cpu()`. u32 elements keep their bits.
    pub async fn to_vec_async(&self, g: &Gpu) -> Result<Vec<f32>> {
        Ok(self.values(&self.read(g)?.await?))
    }

    /// [`Tensor::to_vec_async`] that blocks until the GPU has computed the values.
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

    /// Launches `self.copy_(other)`. `other` may have another shape with the same number of elements, and hold f16
    /// where this tensor holds f32, or f32 where it holds f16: then its values are rounded to the nearest.
    pub fn copy_from(&self, r: &mut Recording, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        r.launch(&COPY, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches `self.add_(other)`, with the shapes and types of [`Tensor::copy_from`].
    pub fn add_into(&self, r: &mut Recording, other: &Self) -> Result<()> {
        other.reshape(&self.shape)?;
        r.launch(&ADD_INTO, self.items(), &self.primitive(0.0), &[other, self])
    }

    /// Launches `self + other` into a new tensor of this tensor's element type, with the shapes and types of
    /// [`Tensor::copy_from`].
    pub fn plus(&self, r: &mut Recording, other: &Self) -> Result<Self> {
        let sum = self.scratch_like("sum", &self.shape);
        r.launch(&PLUS, self.items(), &self.primitive(0.0), &[self, &other.reshape(&self.shape)?, &sum])?;
        Ok(sum)
    }

    /// This tensor in another float type: `x.to(dtype)`. Launches the conversion, rounded to nearest, into a new
    /// tensor; nothing if it has the type already.
    pub fn to_dtype(&self, r: &mut Recording, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        let converted = Self::scratch_of(dtype, "converted", &self.shape);
        converted.copy_from(r, self)?;
        Ok(converted)
    }

    /// An invocation for each word.
    fn items(&self) -> Grid {
        Grid::items(if self.is_f16() { self.len().div_ceil(2) } else { self.len() }, 256)
    }

    fn primitive(&self, value: f32) -> Primitive {
        scalars!(Primitive { n: self.len(), value })
    }
}
