//! What a model file can do when it is loaded.
//!
//! A rule that is critical makes the file hostile; every other has it reviewed.

use super::super::finding::{Category, Severity};
use super::super::rules::Rule;

/// A rule about what loading does (`Deser`), or about what is hidden in a file (`Carrier`).
const fn rule(
    id: &'static str,
    category: Category,
    severity: Severity,
    reason: &'static str,
    why: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        id,
        category,
        severity,
        intent: None,
        reason,
        why,
        fix,
        examples: &[],
    }
}

macro_rules! rules {
    ($($name:ident = ($id:literal, $category:ident, $severity:ident, $reason:literal, $why:literal, $fix:literal);)+) => {
        $(pub(super) static $name: &Rule = &RULES[Position::$name as usize];)+

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Position { $($name),+ }

        pub(crate) const RULES: &[Rule] = &[
            $(rule($id, Category::$category, Severity::$severity, $reason, $why, $fix)),+
        ];
    };
}

rules! {
    RUNS_CODE = (
        "pickle-runs-code", Deser, Critical,
        "loading the file runs code",
        "a pickle calls what it names while it is loaded, before anybody looks at its tensors",
        "delete the file; take a safetensors file from the model's own source"
    );
    IMPORTS_CODE = (
        "pickle-imports-code", Deser, Critical,
        "loading the file brings in a function that runs code",
        "data has no need of such a function; whoever uses the loaded object calls it",
        "delete the file; take a safetensors file from the model's own source"
    );
    HIDES_NAME = (
        "pickle-hides-name", Deser, Critical,
        "the file computes what it calls",
        "what is called cannot be known without loading the file; no library writes such a pickle",
        "delete the file; take a safetensors file from the model's own source"
    );
    PATCHES_CODE = (
        "pickle-patches-code", Deser, Critical,
        "loading the file changes a class, a function or a module",
        "a changed function runs later, in ComfyUI itself; no library writes such a pickle",
        "delete the file; take a safetensors file from the model's own source"
    );
    PICKLE_EXPANDS = (
        "pickle-expands", Deser, Critical,
        "a small pickle becomes something huge",
        "lists that hold each other twice, or a huge memo, take all memory of whoever reads them",
        "delete the file"
    );
    UNKNOWN_GLOBAL = (
        "pickle-unknown-global", Deser, Medium,
        "loading the file needs code that is not known to be harmless",
        "the package that the name stands for is imported, and its class is made from the file's data",
        "convert the file to safetensors, or accept the finding if you know the package"
    );
    ODD_PICKLE = (
        "pickle-unreadable", Deser, Medium,
        "a pickle cannot be read to its end",
        "loaders differ in what they do with a broken pickle, and what comes before its fault has run by then",
        "fetch the file again and compare its hash with the source's"
    );
    TRAILING_BYTES = (
        "trailing-bytes", Carrier, Medium,
        "bytes belong to nothing in the file",
        "another program may read them: a file can be two formats at once",
        "fetch the file again and compare its hash with the source's"
    );
    HEADERS_DISAGREE = (
        "zip-headers-disagree", Carrier, Critical,
        "the two headers of a zip entry differ",
        "one loader reads another name or other bytes than the next, so that a check sees what is not loaded",
        "delete the file; no tool that saves models writes it"
    );
    DUPLICATE_NAME = (
        "zip-duplicate-name", Carrier, Critical,
        "a zip holds a name twice",
        "one loader takes the first, another the last",
        "delete the file; no tool that saves models writes it"
    );
    ODD_FLAGS = (
        "zip-odd-flags", Carrier, Medium,
        "a zip entry is marked as encrypted or patched",
        "PyTorch ignores the mark and loads the entry, while checkers stop at it (CVE-2025-1945)",
        "fetch the file from its source again; PyTorch never writes the mark"
    );
    EXTRA_BYTES = (
        "zip-extra-bytes", Carrier, Medium,
        "a zip has bytes before, between or behind its entries",
        "another program may read them: a file can be two formats at once",
        "fetch the file again and compare its hash with the source's"
    );
    UNREADABLE_ARCHIVE = (
        "archive-unreadable", Carrier, Medium,
        "an archive cannot be read to its end",
        "what it holds is not known",
        "fetch the file again and compare its hash with the source's"
    );
    UNOPENED_ARCHIVE = (
        "archive-unopened", Carrier, Medium,
        "an archive of a kind that comfy does not open",
        "what it holds is not known; 7z under the name of a checkpoint was used to hide pickles (nullifAI)",
        "unpack it yourself in a safe place and scan what comes out"
    );
    ARCHIVE_BOMB = (
        "archive-bomb", Carrier, Medium,
        "an archive grows far beyond its size",
        "unpacking it can fill memory or disk",
        "delete the file unless you know why it is that way"
    );
    DEEP_ARCHIVE = (
        "archive-too-deep", Carrier, Medium,
        "archives inside of archives, deeper than anybody needs",
        "what the innermost holds was not read",
        "unpack it yourself in a safe place and scan what comes out"
    );
    ARCHIVE_ESCAPES = (
        "archive-escapes", PathTraversal, Critical,
        "an archive writes outside of the folder that it is unpacked in",
        "whoever unpacks it overwrites files elsewhere",
        "delete the file"
    );
    HOLDS_CODE = (
        "archive-holds-code", Carrier, Medium,
        "an archive holds code beside its data",
        "TorchScript and torch.package run it when the model is loaded or used",
        "use weights alone, or read the code"
    );
    KERAS_LAMBDA = (
        "keras-lambda", Deser, Critical,
        "a Keras model holds a Lambda layer",
        "its code is in the file and runs when the model is loaded or used",
        "delete the file, or use weights alone"
    );
    KERAS_CODE = (
        "keras-runs-code", Deser, Critical,
        "a Keras model names a function that runs code",
        "Keras imports and calls what the file names when the model is loaded (CVE-2025-1550)",
        "delete the file, or use weights alone"
    );
    KERAS_CUSTOM = (
        "keras-unknown-class", Deser, Medium,
        "a Keras model names a class or function outside of Keras",
        "Keras imports what the file names (CVE-2025-1550)",
        "use weights alone, or accept the finding if you know the package"
    );
    TEMPLATE_CODE = (
        "template-runs-code", Deser, Critical,
        "the chat template reaches into Python",
        "a template that walks attributes of attributes gets at os.system (CVE-2024-34359)",
        "delete the file; take the model from its own source"
    );
    ODD_TEMPLATE = (
        "template-unusual", Deser, Medium,
        "the chat template does what no chat template needs",
        "escaped names, imports and private attributes are how a template hides what it does",
        "read the template before you load the model"
    );
    ODD_GGUF = (
        "gguf-unreadable", Deser, Medium,
        "a GGUF file is not consistent",
        "parsers of GGUF trust its counts and offsets: wrong ones hang or corrupt them",
        "fetch the file again and compare its hash with the source's"
    );
    ODD_SAFETENSORS = (
        "safetensors-ambiguous", Carrier, Medium,
        "two readers could read the safetensors file differently",
        "a checker may see other tensors than the loader, or bytes may hide in the file",
        "fetch the file again and compare its hash with the source's"
    );
    METADATA_ESCAPES = (
        "metadata-escapes", Carrier, Medium,
        "metadata holds control characters",
        "whoever prints it lets it move the cursor, hide text or retitle the terminal",
        "do not print the metadata raw; tell whoever published the file"
    );
    ODD_NUMPY = (
        "numpy-unreadable", Deser, Medium,
        "the header of a NumPy array is not what NumPy writes",
        "whether objects follow, which are pickles, is not known",
        "fetch the file again and compare its hash with the source's"
    );
    ONNX_ESCAPES = (
        "onnx-external-path", PathTraversal, Critical,
        "an ONNX model reads its weights from outside of its folder",
        "loading it reads any file that ComfyUI may read (CVE-2024-27318)",
        "delete the file"
    );
    ONNX_CODE = (
        "onnx-python-operator", Deser, Medium,
        "an ONNX model calls Python",
        "operators of this kind are functions that somebody registers; the model decides what they get",
        "accept the finding if you know the package that registers them"
    );
    ODD_ONNX = (
        "onnx-unreadable", Deser, Medium,
        "an ONNX model cannot be read to its end",
        "what it holds is not known",
        "fetch the file again and compare its hash with the source's"
    );
    HDF5_LAMBDA = (
        "hdf5-lambda", Deser, Medium,
        "an HDF5 file holds what looks like code of a Keras Lambda layer",
        "its code is in the file and runs when the model is loaded or used",
        "delete the file, or use weights alone"
    );
}
