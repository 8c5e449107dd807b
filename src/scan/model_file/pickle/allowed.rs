//! The names that a pickle may have, as a table: each was read in its own library, and makes data
//! whatever it is given.

use super::estimators::SKLEARN;
use super::globals::Allowed::{self, Call, Class, Named, Storage};
use super::globals::{Check, Shape};
use super::torch_modules::MODULES;

pub(super) const PLAIN: Allowed = Class(Shape::Plain);
pub(super) const DICT: Allowed = Class(Shape::Dict);

/// A module, what its names are, and the names with spaces between them.
pub(super) type Row = (&'static str, Allowed, &'static str);

/// The names of Python itself. Sources: CPython's `Lib/copyreg.py`, `Lib/pickle.py` and the
/// `__reduce__` of each class.
const PYTHON: &[Row] = &[
    (
        "builtins",
        Named,
        "int float str bool dict NoneType Ellipsis NotImplemented unicode long basestring",
    ),
    ("builtins", Call(Check::TypeOf), "type"),
    ("builtins", PLAIN, "object complex slice range xrange"),
    (
        "builtins",
        Call(Check::Elements),
        "list tuple set frozenset",
    ),
    ("builtins", Call(Check::Buffer), "bytes bytearray"),
    ("builtins", Call(Check::Attribute), "getattr"),
    ("_codecs", Call(Check::Encode), "encode"),
    ("copyreg", Call(Check::Reconstructor), "_reconstructor"),
    ("copyreg", Call(Check::NewObject), "__newobj__"),
    ("collections", DICT, "OrderedDict Counter"),
    ("collections", Class(Shape::List), "deque"),
    (
        "collections",
        PLAIN,
        "ChainMap UserDict UserList UserString",
    ),
    ("time", PLAIN, "struct_time"),
    (
        "builtins",
        PLAIN,
        "Exception ValueError TypeError KeyError IndexError RuntimeError StopIteration",
    ),
    ("collections", Call(Check::Factory), "defaultdict"),
    ("datetime", PLAIN, "date datetime time timedelta timezone"),
    ("decimal", PLAIN, "Decimal"),
    ("fractions", PLAIN, "Fraction"),
    ("uuid", PLAIN, "UUID"),
    ("uuid", Class(Shape::Fixed), "SafeUUID"),
    ("array", PLAIN, "array _array_reconstructor"),
    ("argparse", PLAIN, "Namespace"),
    ("types", PLAIN, "SimpleNamespace"),
    ("http", Class(Shape::Fixed), "HTTPStatus"),
    ("re", Class(Shape::Fixed), "_compile RegexFlag"),
    (
        "ipaddress",
        PLAIN,
        "IPv4Address IPv6Address IPv4Network IPv6Network",
    ),
    (
        "pathlib",
        PLAIN,
        "PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath",
    ),
    (
        "pathlib._local",
        PLAIN,
        "PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath",
    ),
    ("random", PLAIN, "Random"),
    ("zoneinfo", PLAIN, "ZoneInfo ZoneInfo._unpickle"),
    ("enum", Named, "Enum IntEnum StrEnum Flag IntFlag"),
    ("typing", Named, "Any Dict List Tuple Optional Union"),
];

/// The names of NumPy, SciPy, joblib whose making is data alone. Sources: numpy's
/// `_core/src/multiarray/methods.c` (`array_reduce`), `_core/numeric.py`, `random/_pickle.py`;
/// joblib's `numpy_pickle.py`.
const NUMPY: &[Row] = &[
    ("numpy.core.multiarray", PLAIN, "_reconstruct scalar"),
    ("numpy.core.numeric", PLAIN, "_frombuffer"),
    (
        "numpy.random._pickle",
        PLAIN,
        "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    ),
    ("numpy.random._mt19937", PLAIN, "MT19937"),
    ("numpy.random._pcg64", PLAIN, "PCG64 PCG64DXSM"),
    ("numpy.random._philox", PLAIN, "Philox"),
    ("numpy.random._sfc64", PLAIN, "SFC64"),
    ("numpy", PLAIN, "dtype ndarray"),
    ("numpy.ma.core", PLAIN, "_mareconstruct"),
    ("numpy.ma.core", Named, "MaskedArray"),
    ("numpy.ma", Named, "MaskedArray"),
    ("numpy", Named, "matrix recarray record"),
    ("numpy.rec", Named, "recarray record"),
    ("numpy.polynomial.polynomial", PLAIN, "Polynomial"),
    ("numpy.polynomial.chebyshev", PLAIN, "Chebyshev"),
    ("numpy.polynomial.legendre", PLAIN, "Legendre"),
    ("numpy.matrixlib.defmatrix", Named, "matrix"),
    (
        "numpy.random.bit_generator",
        PLAIN,
        "SeedSequence __pyx_unpickle_SeedSequence",
    ),
    (
        "numpy",
        Named,
        "bool bool_ bool8 int8 int16 int32 int64 intc intp longlong uint8 uint16 uint32 uint64 \
         uintc uintp ulonglong float16 float32 float64 longdouble complex64 complex128 \
         clongdouble str_ bytes_ void object_ datetime64 timedelta64 number integer floating \
         generic add subtract multiply divide maximum minimum exp log log1p expm1 sqrt square abs \
         mean median sum std var max min",
    ),
    ("joblib.numpy_pickle", PLAIN, "NumpyArrayWrapper"),
    ("scipy.sparse._csr", PLAIN, "csr_matrix csr_array"),
    ("scipy.sparse._csc", PLAIN, "csc_matrix csc_array"),
    ("scipy.sparse._coo", PLAIN, "coo_matrix coo_array"),
    ("scipy.sparse._lil", PLAIN, "lil_matrix lil_array"),
    ("scipy.sparse._dok", DICT, "dok_matrix dok_array"),
    ("scipy.sparse._dia", PLAIN, "dia_matrix dia_array"),
    ("scipy.sparse._bsr", PLAIN, "bsr_matrix bsr_array"),
    ("scipy.sparse.csr", PLAIN, "csr_matrix"),
    ("scipy.sparse.csc", PLAIN, "csc_matrix"),
];

/// What pandas makes frames, indexes and times of. Sources: `_libs/internals.pyx`
/// (`_unpickle_block`), `core/indexes/base.py` (`_new_Index`), `core/generic.py`
/// (`NDFrame.__setstate__`), and the `__reduce__` of `_libs/tslibs`.
const PANDAS: &[Row] = &[
    (
        "pandas",
        PLAIN,
        "DataFrame Series Index MultiIndex RangeIndex CategoricalIndex DatetimeIndex \
         TimedeltaIndex PeriodIndex IntervalIndex Categorical CategoricalDtype DatetimeTZDtype \
         IntervalDtype PeriodDtype SparseDtype StringDtype BooleanDtype Int8Dtype Int16Dtype \
         Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype Float32Dtype \
         Float64Dtype Interval Period",
    ),
    ("pandas", Class(Shape::Fixed), "NA NaT"),
    (
        "pandas.arrays",
        PLAIN,
        "BooleanArray IntegerArray FloatingArray DatetimeArray TimedeltaArray IntervalArray \
         PeriodArray SparseArray StringArray NumpyExtensionArray",
    ),
    ("pandas.core.frame", PLAIN, "DataFrame"),
    ("pandas.core.series", PLAIN, "Series"),
    (
        "pandas.core.internals.managers",
        PLAIN,
        "BlockManager SingleBlockManager",
    ),
    ("pandas.core.internals.blocks", PLAIN, "new_block"),
    (
        "pandas._libs.internals",
        PLAIN,
        "_unpickle_block BlockPlacement",
    ),
    ("pandas.core.indexes.base", PLAIN, "Index _new_Index"),
    ("pandas.core.indexes.multi", PLAIN, "MultiIndex"),
    ("pandas.core.indexes.range", PLAIN, "RangeIndex"),
    (
        "pandas.core.indexes.numeric",
        PLAIN,
        "Int64Index Float64Index UInt64Index",
    ),
    (
        "pandas.core.indexes.datetimes",
        PLAIN,
        "DatetimeIndex _new_DatetimeIndex",
    ),
    ("pandas.core.indexes.category", PLAIN, "CategoricalIndex"),
    ("pandas.core.arrays.categorical", PLAIN, "Categorical"),
    ("pandas.core.arrays.datetimes", PLAIN, "DatetimeArray"),
    (
        "pandas.core.arrays.integer",
        PLAIN,
        "IntegerArray Int64Dtype Int32Dtype",
    ),
    (
        "pandas.core.arrays.boolean",
        PLAIN,
        "BooleanArray BooleanDtype",
    ),
    (
        "pandas.core.arrays.string_",
        PLAIN,
        "StringArray StringDtype",
    ),
    (
        "pandas.core.dtypes.dtypes",
        PLAIN,
        "CategoricalDtype DatetimeTZDtype PeriodDtype IntervalDtype",
    ),
    ("pandas._libs.arrays", PLAIN, "__pyx_unpickle_NDArrayBacked"),
    (
        "pandas._libs.interval",
        PLAIN,
        "__pyx_unpickle_IntervalMixin",
    ),
    ("pandas._libs.sparse", PLAIN, "IntIndex BlockIndex"),
    ("pandas._libs.tslibs.nattype", PLAIN, "_nat_unpickle"),
    (
        "pandas._libs.tslibs.timedeltas",
        PLAIN,
        "_timedelta_unpickle",
    ),
    (
        "pandas._libs.tslibs.timestamps",
        PLAIN,
        "_unpickle_timestamp",
    ),
    (
        "pandas._libs.tslibs.offsets",
        PLAIN,
        "Day Hour Minute Second Week MonthEnd MonthBegin QuarterEnd QuarterBegin YearEnd \
         YearBegin BusinessDay",
    ),
];

/// The names of torch that make tensors, and of what trainers leave in checkpoints. Sources:
/// torch's `_utils.py`, `_tensor.py`, `_weights_only_unpickler.py`, `storage.py`.
const TORCH: &[Row] = &[
    (
        "torch._utils",
        PLAIN,
        "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter \
         _rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor \
         _rebuild_sparse_csr_tensor _rebuild_device_tensor_from_numpy _rebuild_xla_tensor \
         _rebuild_device_tensor_from_cpu_tensor _rebuild_meta_tensor_no_storage \
         _rebuild_nested_tensor",
    ),
    (
        "torch._tensor",
        Call(Check::RebuildFrom),
        "_rebuild_from_type_v2",
    ),
    (
        "torch.storage",
        Call(Check::NestedModel),
        "_load_from_bytes",
    ),
    ("torch", PLAIN, "Size device Tensor"),
    ("torch.nn.parameter", PLAIN, "Parameter Buffer"),
    ("torch.torch_version", PLAIN, "TorchVersion"),
    ("torch.serialization", Class(Shape::Fixed), "_get_layout"),
    (
        "torch",
        Named,
        "float float16 float32 float64 bfloat16 half double int8 int16 int32 int64 uint8 uint16 \
         uint32 uint64 short int long bool complex32 complex64 complex128 qint8 quint8 qint32 \
         quint4x2 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu \
         float4_e2m1fn_x2 strided sparse_coo sparse_csr contiguous_format channels_last \
         preserve_format per_tensor_affine per_channel_affine",
    ),
    (
        "torch",
        Storage(1),
        "ByteStorage CharStorage BoolStorage QInt8Storage QUInt8Storage UntypedStorage \
         QUInt4x2Storage QUInt2x4Storage",
    ),
    (
        "torch",
        Storage(2),
        "HalfStorage BFloat16Storage ShortStorage",
    ),
    ("torch", Storage(4), "FloatStorage IntStorage QInt32Storage"),
    (
        "torch",
        Storage(8),
        "DoubleStorage LongStorage ComplexFloatStorage",
    ),
    ("torch", Storage(16), "ComplexDoubleStorage"),
    (
        "torch.cuda",
        Storage(1),
        "ByteStorage CharStorage BoolStorage",
    ),
    (
        "torch.cuda",
        Storage(2),
        "HalfStorage BFloat16Storage ShortStorage",
    ),
    ("torch.cuda", Storage(4), "FloatStorage IntStorage"),
    ("torch.cuda", Storage(8), "DoubleStorage LongStorage"),
    (
        "torch.storage",
        Storage(1),
        "UntypedStorage _UntypedStorage",
    ),
    ("torch.storage", Named, "TypedStorage _TypedStorage"),
    (
        "pytorch_lightning.callbacks.model_checkpoint",
        Named,
        "ModelCheckpoint",
    ),
    (
        "pytorch_lightning.callbacks.early_stopping",
        Named,
        "EarlyStopping",
    ),
    (
        "pytorch_lightning.callbacks.lr_monitor",
        Named,
        "LearningRateMonitor",
    ),
    (
        "lightning.pytorch.callbacks.model_checkpoint",
        Named,
        "ModelCheckpoint",
    ),
    (
        "lightning.pytorch.callbacks.early_stopping",
        Named,
        "EarlyStopping",
    ),
    ("pytorch_lightning.utilities.parsing", DICT, "AttributeDict"),
    ("lightning_fabric.utilities.data", DICT, "AttributeDict"),
    ("lightning.fabric.utilities.data", DICT, "AttributeDict"),
    ("omegaconf.dictconfig", PLAIN, "DictConfig"),
    ("omegaconf.listconfig", PLAIN, "ListConfig"),
    ("omegaconf.base", PLAIN, "ContainerMetadata Metadata"),
    (
        "omegaconf.nodes",
        PLAIN,
        "AnyNode StringNode IntegerNode FloatNode BooleanNode",
    ),
];

/// All of them.
pub(super) const TABLES: [&[Row]; 6] = [PYTHON, NUMPY, PANDAS, TORCH, MODULES, SKLEARN];
