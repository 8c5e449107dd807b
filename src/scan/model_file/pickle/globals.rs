//! What a pickle may name: exact pairs of module and name, each with what it may be given.
//!
//! Three answers. *Allowed*: data is made, nothing else happens, whatever the arguments that pass
//! the check. *Hostile*: the name runs code, starts programs, reads or writes files, or gets at
//! names that do. *Unknown*: everything else, classes of packages above all.

use super::hostile;

/// What a global is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Standing {
    Allowed(Allowed),
    Hostile,
    Unknown,
}

/// What may be done with an allowed global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Allowed {
    /// It may be named, as the type of something, and is never called.
    Named,
    /// A type of torch's storages; the bytes that an element takes.
    Storage(u8),
    /// It is called with data, and becomes an object that can be added to in this way.
    Class(Shape),
    /// It is called with arguments of this form.
    Call(Check),
}

/// How elements are put into an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Shape {
    /// It exists once, for all: nothing is put into it.
    Fixed,
    Plain,
    List,
    Dict,
    Set,
}

/// The form that arguments have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Check {
    /// `_codecs.encode`: a text and a codec that only encodes.
    Encode,
    /// Nothing, or one list, tuple or set.
    Elements,
    /// Nothing, bytes, a list, or a text with latin-1.
    Buffer,
    /// A class that makes defaults, or None.
    Factory,
    /// `copyreg._reconstructor`: a class, its base, a state.
    Reconstructor,
    /// `copyreg.__newobj__`: a class and its arguments.
    NewObject,
    /// `builtins.type` of None, Ellipsis or NotImplemented.
    TypeOf,
    /// `torch._tensor._rebuild_from_type_v2`: a function, a type, its arguments, a state.
    RebuildFrom,
    /// `torch.storage._load_from_bytes`: a model file as bytes.
    NestedModel,
    /// `builtins.getattr` of a class and a public name, as Python pickles bound methods.
    Attribute,
}

use Allowed::{Call, Class, Named, Storage};

const PLAIN: Allowed = Class(Shape::Plain);
const DICT: Allowed = Class(Shape::Dict);

/// A module and its names.
type Row = (&'static str, Allowed, &'static [&'static str]);

/// The names of Python itself. Sources: CPython's `Lib/copyreg.py`, `Lib/pickle.py` and the
/// `__reduce__` of each class.
const PYTHON: &[Row] = &[
    (
        "builtins",
        Named,
        &[
            "int",
            "float",
            "str",
            "bool",
            "dict",
            "object",
            "NoneType",
            "Ellipsis",
            "NotImplemented",
            "unicode",
            "long",
            "basestring",
        ],
    ),
    ("builtins", Call(Check::TypeOf), &["type"]),
    ("builtins", PLAIN, &["complex", "slice", "range", "xrange"]),
    (
        "builtins",
        Call(Check::Elements),
        &["list", "tuple", "set", "frozenset"],
    ),
    ("builtins", Call(Check::Buffer), &["bytes", "bytearray"]),
    ("builtins", Call(Check::Attribute), &["getattr"]),
    ("_codecs", Call(Check::Encode), &["encode"]),
    ("copyreg", Call(Check::Reconstructor), &["_reconstructor"]),
    ("copyreg", Call(Check::NewObject), &["__newobj__"]),
    ("collections", DICT, &["OrderedDict", "Counter"]),
    ("collections", Class(Shape::List), &["deque"]),
    ("collections", Call(Check::Factory), &["defaultdict"]),
    (
        "datetime",
        PLAIN,
        &["date", "datetime", "time", "timedelta", "timezone"],
    ),
    ("decimal", PLAIN, &["Decimal"]),
    ("fractions", PLAIN, &["Fraction"]),
    ("uuid", PLAIN, &["UUID"]),
    ("uuid", Class(Shape::Fixed), &["SafeUUID"]),
    ("array", PLAIN, &["array", "_array_reconstructor"]),
    ("argparse", PLAIN, &["Namespace"]),
    ("types", PLAIN, &["SimpleNamespace"]),
    ("http", Class(Shape::Fixed), &["HTTPStatus"]),
    ("re", Class(Shape::Fixed), &["_compile", "RegexFlag"]),
    (
        "ipaddress",
        PLAIN,
        &["IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network"],
    ),
    (
        "pathlib",
        PLAIN,
        &[
            "PurePath",
            "PurePosixPath",
            "PureWindowsPath",
            "Path",
            "PosixPath",
            "WindowsPath",
        ],
    ),
    (
        "pathlib._local",
        PLAIN,
        &[
            "PurePath",
            "PurePosixPath",
            "PureWindowsPath",
            "Path",
            "PosixPath",
            "WindowsPath",
        ],
    ),
    (
        "typing",
        Named,
        &["Any", "Dict", "List", "Tuple", "Optional", "Union"],
    ),
];

/// The names of NumPy, SciPy, joblib and scikit-learn whose making is data alone. Sources: numpy's
/// `_core/src/multiarray/methods.c` (`array_reduce`), `_core/numeric.py`, `random/_pickle.py`;
/// joblib's `numpy_pickle.py`.
const NUMPY: &[Row] = &[
    ("numpy.core.multiarray", PLAIN, &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", PLAIN, &["_frombuffer"]),
    (
        "numpy.random._pickle",
        PLAIN,
        &[
            "__randomstate_ctor",
            "__generator_ctor",
            "__bit_generator_ctor",
        ],
    ),
    ("numpy.random._mt19937", PLAIN, &["MT19937"]),
    ("numpy.random._pcg64", PLAIN, &["PCG64", "PCG64DXSM"]),
    ("numpy.random._philox", PLAIN, &["Philox"]),
    ("numpy.random._sfc64", PLAIN, &["SFC64"]),
    ("numpy", PLAIN, &["dtype", "ndarray"]),
    ("numpy.ma.core", PLAIN, &["_mareconstruct"]),
    ("numpy.ma.core", Named, &["MaskedArray"]),
    ("numpy.ma", Named, &["MaskedArray"]),
    (
        "numpy.random.bit_generator",
        PLAIN,
        &["SeedSequence", "__pyx_unpickle_SeedSequence"],
    ),
    (
        "numpy",
        Named,
        &[
            "bool",
            "bool_",
            "bool8",
            "int8",
            "int16",
            "int32",
            "int64",
            "intc",
            "intp",
            "longlong",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "uintc",
            "uintp",
            "ulonglong",
            "float16",
            "float32",
            "float64",
            "longdouble",
            "complex64",
            "complex128",
            "clongdouble",
            "str_",
            "bytes_",
            "void",
            "object_",
            "datetime64",
            "timedelta64",
            "number",
            "integer",
            "floating",
            "generic",
        ],
    ),
    ("joblib.numpy_pickle", PLAIN, &["NumpyArrayWrapper"]),
    ("scipy.sparse._csr", PLAIN, &["csr_matrix", "csr_array"]),
    ("scipy.sparse._csc", PLAIN, &["csc_matrix", "csc_array"]),
    ("scipy.sparse._coo", PLAIN, &["coo_matrix", "coo_array"]),
    ("scipy.sparse.csr", PLAIN, &["csr_matrix"]),
    ("scipy.sparse.csc", PLAIN, &["csc_matrix"]),
];

/// Estimators of scikit-learn: a state of numbers, and no code of the file's.
const SKLEARN: &[Row] = &[
    ("sklearn.linear_model._base", PLAIN, &["LinearRegression"]),
    (
        "sklearn.linear_model._ridge",
        PLAIN,
        &["Ridge", "RidgeClassifier"],
    ),
    (
        "sklearn.linear_model._logistic",
        PLAIN,
        &["LogisticRegression"],
    ),
    (
        "sklearn.linear_model._coordinate_descent",
        PLAIN,
        &["Lasso", "ElasticNet"],
    ),
    (
        "sklearn.preprocessing._data",
        PLAIN,
        &["StandardScaler", "MinMaxScaler", "RobustScaler"],
    ),
    (
        "sklearn.preprocessing._label",
        PLAIN,
        &["LabelEncoder", "LabelBinarizer"],
    ),
    (
        "sklearn.preprocessing._encoders",
        PLAIN,
        &["OneHotEncoder", "OrdinalEncoder"],
    ),
    ("sklearn.decomposition._pca", PLAIN, &["PCA"]),
    (
        "sklearn.cluster._kmeans",
        PLAIN,
        &["KMeans", "MiniBatchKMeans"],
    ),
    (
        "sklearn.svm._classes",
        PLAIN,
        &["SVC", "SVR", "LinearSVC", "LinearSVR"],
    ),
    (
        "sklearn.tree._classes",
        PLAIN,
        &["DecisionTreeClassifier", "DecisionTreeRegressor"],
    ),
    ("sklearn.tree._tree", PLAIN, &["Tree"]),
    (
        "sklearn.ensemble._forest",
        PLAIN,
        &["RandomForestClassifier", "RandomForestRegressor"],
    ),
    (
        "sklearn.neighbors._classification",
        PLAIN,
        &["KNeighborsClassifier"],
    ),
    (
        "sklearn.naive_bayes",
        PLAIN,
        &["GaussianNB", "MultinomialNB"],
    ),
    ("sklearn.pipeline", PLAIN, &["Pipeline"]),
];

/// The names of torch that make tensors, and of what trainers leave in checkpoints. Sources:
/// torch's `_utils.py`, `_tensor.py`, `_weights_only_unpickler.py`, `storage.py`.
const TORCH: &[Row] = &[
    (
        "torch._utils",
        PLAIN,
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_sparse_csr_tensor",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_xla_tensor",
            "_rebuild_device_tensor_from_cpu_tensor",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_nested_tensor",
        ],
    ),
    (
        "torch._tensor",
        Call(Check::RebuildFrom),
        &["_rebuild_from_type_v2"],
    ),
    (
        "torch.storage",
        Call(Check::NestedModel),
        &["_load_from_bytes"],
    ),
    ("torch", PLAIN, &["Size", "device", "Tensor"]),
    ("torch.nn.parameter", PLAIN, &["Parameter", "Buffer"]),
    ("torch.torch_version", PLAIN, &["TorchVersion"]),
    ("torch.serialization", Class(Shape::Fixed), &["_get_layout"]),
    (
        "torch",
        Named,
        &[
            "float",
            "float16",
            "float32",
            "float64",
            "bfloat16",
            "half",
            "double",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "short",
            "int",
            "long",
            "bool",
            "complex32",
            "complex64",
            "complex128",
            "qint8",
            "quint8",
            "qint32",
            "quint4x2",
            "float8_e4m3fn",
            "float8_e5m2",
            "float8_e4m3fnuz",
            "float8_e5m2fnuz",
            "float8_e8m0fnu",
            "float4_e2m1fn_x2",
            "strided",
            "sparse_coo",
            "sparse_csr",
            "contiguous_format",
            "channels_last",
            "preserve_format",
            "per_tensor_affine",
            "per_channel_affine",
        ],
    ),
    (
        "torch",
        Storage(1),
        &[
            "ByteStorage",
            "CharStorage",
            "BoolStorage",
            "QInt8Storage",
            "QUInt8Storage",
            "UntypedStorage",
            "QUInt4x2Storage",
            "QUInt2x4Storage",
        ],
    ),
    (
        "torch",
        Storage(2),
        &["HalfStorage", "BFloat16Storage", "ShortStorage"],
    ),
    (
        "torch",
        Storage(4),
        &["FloatStorage", "IntStorage", "QInt32Storage"],
    ),
    (
        "torch",
        Storage(8),
        &["DoubleStorage", "LongStorage", "ComplexFloatStorage"],
    ),
    ("torch", Storage(16), &["ComplexDoubleStorage"]),
    (
        "torch.cuda",
        Storage(1),
        &["ByteStorage", "CharStorage", "BoolStorage"],
    ),
    (
        "torch.cuda",
        Storage(2),
        &["HalfStorage", "BFloat16Storage", "ShortStorage"],
    ),
    ("torch.cuda", Storage(4), &["FloatStorage", "IntStorage"]),
    ("torch.cuda", Storage(8), &["DoubleStorage", "LongStorage"]),
    (
        "torch.storage",
        Storage(1),
        &["UntypedStorage", "_UntypedStorage"],
    ),
    ("torch.storage", Named, &["TypedStorage", "_TypedStorage"]),
    (
        "pytorch_lightning.callbacks.model_checkpoint",
        Named,
        &["ModelCheckpoint"],
    ),
    (
        "pytorch_lightning.callbacks.early_stopping",
        Named,
        &["EarlyStopping"],
    ),
    (
        "pytorch_lightning.callbacks.lr_monitor",
        Named,
        &["LearningRateMonitor"],
    ),
    (
        "lightning.pytorch.callbacks.model_checkpoint",
        Named,
        &["ModelCheckpoint"],
    ),
    (
        "lightning.pytorch.callbacks.early_stopping",
        Named,
        &["EarlyStopping"],
    ),
    (
        "pytorch_lightning.utilities.parsing",
        DICT,
        &["AttributeDict"],
    ),
    ("lightning_fabric.utilities.data", DICT, &["AttributeDict"]),
    ("lightning.fabric.utilities.data", DICT, &["AttributeDict"]),
    ("omegaconf.dictconfig", PLAIN, &["DictConfig"]),
    ("omegaconf.listconfig", PLAIN, &["ListConfig"]),
    ("omegaconf.base", PLAIN, &["ContainerMetadata", "Metadata"]),
    (
        "omegaconf.nodes",
        PLAIN,
        &[
            "AnyNode",
            "StringNode",
            "IntegerNode",
            "FloatNode",
            "BooleanNode",
        ],
    ),
];

/// The name that Python 3 imports where a pickle of protocol 2 or less says one of Python 2
/// (CPython, `Lib/_compat_pickle.py`), and NumPy 1 where it says one of NumPy 2.
pub(super) fn present_module(module: &str) -> std::borrow::Cow<'_, str> {
    match module {
        "__builtin__" => "builtins".into(),
        "copy_reg" => "copyreg".into(),
        "commands" => "subprocess".into(),
        "cPickle" => "pickle".into(),
        _ => match module.strip_prefix("numpy._core") {
            Some(rest) => format!("numpy.core{rest}").into(),
            None => module.into(),
        },
    }
}

/// Says what a name of a module is.
pub(super) fn standing(module: &str, name: &str) -> Standing {
    let module = present_module(module);
    let rows = [PYTHON, NUMPY, TORCH, SKLEARN];
    let row = rows
        .iter()
        .flat_map(|table| table.iter())
        .find(|(m, _, names)| *m == module && names.contains(&name));
    if let Some((_, allowed, _)) = row {
        return Standing::Allowed(*allowed);
    }
    let listed = |m: &str| rows.iter().any(|t| t.iter().any(|row| row.0 == m));
    // Protocol 4 resolves a name with points attribute by attribute: `torch`, `os.system`. In
    // a module whose names are known, it is none of them.
    let through = name.contains('.') && listed(&module);
    if through || hostile::is_hostile(&module, name) {
        Standing::Hostile
    } else {
        Standing::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_row_and_none_is_hostile() {
        let mut seen = std::collections::BTreeSet::new();
        for (module, _, names) in [PYTHON, NUMPY, TORCH, SKLEARN].into_iter().flatten() {
            for name in *names {
                assert!(
                    seen.insert((module, name)),
                    "{module}.{name} is there twice"
                );
            }
        }
    }

    #[test]
    fn a_name_is_resolved_as_python_would() {
        let table = [
            ("os", "system"),
            ("__builtin__", "set"),
            ("__builtin__", "eval"),
            ("commands", "getoutput"),
            ("torch", "os.system"),
            ("torch.library", "torch.utils.collect_env.run"),
            ("pathlib", "Path.touch"),
            ("collections", "OrderedDict"),
            ("collections", "OrderedDict.__init__"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "fromfile"),
            ("ultralytics.nn.tasks", "DetectionModel"),
            ("some.package", "Outer.Inner"),
            ("some.package", "Outer.__globals__"),
            ("some.package", "os.popen"),
        ];
        let rows: Vec<String> = table
            .iter()
            .map(|(m, n)| format!("{m} {n}: {:?}", standing(m, n)))
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @"");
    }
}
