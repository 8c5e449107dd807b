//! What a pickle may name: exact pairs of module and name, each with what it may be given.
//!
//! Three answers. *Allowed*: data is made, nothing else happens, whatever the arguments that pass
//! the check. *Hostile*: the name runs code, starts programs, reads or writes files, or gets at
//! names that do. *Unknown*: everything else, classes of packages above all.

use super::{allowed, hostile};

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

/// The name that Python 3 imports where a pickle of protocol 2 or less says one of Python 2
/// (CPython, `Lib/_compat_pickle.py`), and NumPy 1 where it says one of NumPy 2.
pub(super) fn present_module(module: &str) -> std::borrow::Cow<'_, str> {
    match module {
        "__builtin__" => "builtins".into(),
        "copy_reg" => "copyreg".into(),
        "commands" => "subprocess".into(),
        "exceptions" => "builtins".into(),
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
    let mut listed = false;
    for (other, allowed, names) in allowed::TABLES.into_iter().flatten() {
        if *other == module {
            listed = true;
            if names.split(' ').any(|n| n == name) {
                return Standing::Allowed(*allowed);
            }
        }
    }
    // Protocol 4 resolves a name with points attribute by attribute: `torch`, `os.system`. In
    // a module whose names are known, it is none of them.
    let through = name.contains('.') && listed;
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
        for (module, _, names) in allowed::TABLES.into_iter().flatten() {
            for name in names.split(' ') {
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
        insta::assert_snapshot!(rows.join("\n"), @"
        os system: Hostile
        __builtin__ set: Allowed(Call(Elements))
        __builtin__ eval: Hostile
        commands getoutput: Hostile
        torch os.system: Hostile
        torch.library torch.utils.collect_env.run: Hostile
        pathlib Path.touch: Hostile
        collections OrderedDict: Allowed(Class(Dict))
        collections OrderedDict.__init__: Hostile
        numpy._core.multiarray _reconstruct: Allowed(Class(Plain))
        numpy.core.multiarray fromfile: Hostile
        ultralytics.nn.tasks DetectionModel: Unknown
        some.package Outer.Inner: Unknown
        some.package Outer.__globals__: Hostile
        some.package os.popen: Hostile
        ");
    }
}
