//! The classes and functions that pickles of weights name. Nothing that is not listed here is accepted, and nothing
//! that is listed is executed.

/// What stands for a class or function of Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// A dictionary: `OrderedDict`.
    Dictionary,
    /// `torch._utils._rebuild_tensor_v2` and the older `_rebuild_tensor`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: the tensor is its first argument.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a function, a type, and the function's arguments.
    RebuildFromType,
    /// The class of a storage, which says the type of its numbers.
    Storage(Number),
    /// Anything whose content is of no interest: the arguments of a training run, a type, a path. Calling it gives a
    /// value that nothing reads.
    Inert,
}

/// The type of the numbers of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F16,
    Bf16,
    F32,
    F64,
    /// An integer or truth value of so many bytes.
    Integer(usize),
}

impl Number {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Integer(size) => size,
        }
    }
}

/// Classes of PyTorch's storages.
const STORAGES: &[(&str, Number)] = &[
    ("FloatStorage", Number::F32),
    ("HalfStorage", Number::F16),
    ("BFloat16Storage", Number::Bf16),
    ("DoubleStorage", Number::F64),
    ("LongStorage", Number::Integer(8)),
    ("IntStorage", Number::Integer(4)),
    ("ShortStorage", Number::Integer(2)),
    ("CharStorage", Number::Integer(1)),
    ("ByteStorage", Number::Integer(1)),
    ("BoolStorage", Number::Integer(1)),
];

/// What training scripts keep beside the weights: options, paths, numbers of numpy, types of PyTorch.
const INERT: &[(&str, &[&str])] = &[
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("pathlib", &["Path", "PosixPath", "PurePosixPath", "PurePath", "WindowsPath", "PureWindowsPath"]),
    ("pathlib._local", &["Path", "PosixPath", "PurePosixPath", "PurePath", "WindowsPath", "PureWindowsPath"]),
    ("_codecs", &["encode"]),
    ("copyreg", &["_reconstructor"]),
    ("copy_reg", &["_reconstructor"]),
    ("builtins", &["object", "set", "frozenset", "complex", "slice", "range", "list", "tuple", "int", "float", "str"]),
    (
        "__builtin__",
        &["object", "set", "frozenset", "complex", "slice", "xrange", "list", "tuple", "int", "float", "str"],
    ),
    ("collections", &["Counter"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy.dtypes", &["Float32DType", "Float64DType", "Int32DType", "Int64DType", "BoolDType"]),
    ("torch", &["Size", "device"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.nn.parameter", &["Parameter"]),
    ("torch", TYPES),
];
/// PyTorch's types of numbers.
const TYPES: &[&str] = &[
    "Tensor", "float16", "bfloat16", "float32", "float64", "half", "float", "double", "int8", "int16", "int32",
    "int64", "uint8", "bool",
];

impl Global {
    /// `module.name`, if pickles may name it.
    pub fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") | ("builtins" | "__builtin__", "dict") => {
                Some(Self::Dictionary)
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Self::RebuildParameter),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            _ => {
                let storage = STORAGES.iter().find(|(class, _)| *class == name);
                let storage = storage.filter(|_| ["torch", "torch.cuda", "torch.storage"].contains(&module));
                let inert = || INERT.iter().any(|(m, names)| *m == module && names.contains(&name));
                storage.map(|(_, number)| Self::Storage(*number)).or_else(|| inert().then_some(Self::Inert))
            }
        }
    }
}
