//! The ways past scanners that were found on Hugging Face (protectai/modelscan#338,
//! google/saferpickle#18), each rebuilt without an effect.

use super::*;

/// `os.system('true')`, and then something that a scanner stumbles over.
fn stumble(protocol: u8, tail: &[u8]) -> Vec<u8> {
    join(&[
        &[0x80, protocol],
        &global("os", "system"),
        &text(COMMAND),
        b"\x85R0",
        tail,
        b".",
    ])
}

fn evasions() -> Vec<(&'static str, Vec<u8>)> {
    let short = |s: &str| join(&[&[0x8c, u8::try_from(s.len()).unwrap()], s.as_bytes()]);
    let code = join(&[
        &global("types", "FunctionType"),
        &global("types", "CodeType"),
        b"(K\0K\0K\0K\x01K\x03K\x43C\x02d\0NtR}\x86R",
    ]);
    let donor = join(&[
        &global("builtins", "type"),
        &global("copy", "copy"),
        b"\x85R",
        &global("operator", "methodcaller"),
        &text("__getattribute__"),
        &text("__code__"),
        b"\x86R",
        &global("copy", "copy"),
        b"\x85R",
    ]);
    let extension = join(&[
        &global("copyreg", "add_extension"),
        &text("multiprocessing.util"),
        &text("spawnv_passfds"),
        b"M\x69\x7a\x87R0\x83\x69\x7a",
        &text(COMMAND),
        b"\x85R",
    ]);
    let inst = join(&[
        b"(",
        &short("os"),
        b"ibuiltins\nstr\nq\x000h\x00",
        &short("system"),
        b"\x93",
        &text(COMMAND),
        b"\x85R",
    ]);
    let chain = join(&[
        &global("builtins", "__setattr__"),
        b"\x94",
        &global("builtins", "print.__class__.__base__.__subclasses__"),
        b")R\x94h\0",
        &short("subclasses"),
        b"h\x01\x86R0",
        &global("builtins", "subclasses.__getitem__"),
        b"K\x89\x85R",
    ]);
    let yaml = join(&[
        &global("yaml", "load"),
        &text("!!python/object/apply:os.system [\"true\"]"),
        &global("yaml.loader", "UnsafeLoader"),
        b"\x86R",
    ]);
    let inner = join(&[
        &global("torch.storage", "_load_from_bytes"),
        &binary(&pickle(&call("builtins", "exec"))),
        b"\x85R",
    ]);
    let indirect = join(&[
        &global(
            "transformers.models.auto.auto_factory",
            "getattribute_from_module",
        ),
        &global(
            "transformers.models.auto.tokenization_auto",
            "AutoTokenizer",
        ),
        &text("from_pretrained"),
        b"\x86R",
        &text("a/b"),
        b"\x85R",
    ]);
    let unzip = join(&[
        &global("builtins", "exec"),
        &global("zlib", "decompress"),
        b"C\x02x\xda\x85R\x85R",
    ]);
    vec![
        (
            "1 another function, dotted",
            pickle(&call("torch.library", "torch.utils.collect_env.run")),
        ),
        (
            "1 another function, spawnv",
            pickle(&call("multiprocessing.util", "spawnv_passfds")),
        ),
        (
            "1 another function, mlflow",
            pickle(&call("mlflow.projects.backend.local", "_run_entry_point")),
        ),
        (
            "1 a connection, pandas",
            pickle(&call("pandas.io.parsers.readers", "read_csv")),
        ),
        (
            "1 a download, urllib",
            pickle(&call("urllib.request", "urlretrieve")),
        ),
        ("1 YAML inside", pickle(&yaml)),
        ("1 a pickle inside", pickle(&inner)),
        ("2 the zip's headers differ", archives::renamed()),
        ("3 a truncated opcode", stumble(2, b"X")),
        (
            "4 no such place in the memo",
            stumble(4, b"\x8c\x02os\x94h\x03h\0\x93K\x42"),
        ),
        (
            "5 bytes as a name",
            stumble(4, b"C\x02osp1\n\x8c\x06systemp2\ng1\ng2\n\x93"),
        ),
        (
            "5 a number as a name",
            stumble(4, b"K\x42J\x2a\0\0\0\x94\x8c\x02os\x94h\0h\x01\x93"),
        ),
        (
            "5 a bytearray as a name",
            stumble(
                5,
                b"\x96\x06\0\0\0\0\0\0\0systemp1\n\x8c\x02osp2\ng2\ng1\n\x93",
            ),
        ),
        ("6 decoded code", pickle(&unzip)),
        (
            "7 a module of Python 2",
            join(&[b"\x80\x02", &call("commands", "run"), b"."]),
        ),
        ("8 a code object", pickle(&code)),
        ("8 a code object from a donor", pickle(&donor)),
        (
            "8 a code object from marshal",
            pickle(&call("marshal", "loads")),
        ),
        ("9 EXT2 and the registry", pickle(&extension)),
        ("9 INST and the memo", pickle(&inst)),
        ("10 attributes of attributes", pickle(&chain)),
        ("11 another model", pickle(&indirect)),
        ("11 a pickle named .pt", payload()),
        ("11 the old tar", archives::tar(&[("pickle", &payload())])),
    ]
}

/// What is changed at random.
pub(super) fn samples() -> Vec<Vec<u8>> {
    evasions().into_iter().map(|file| file.1).collect()
}

#[test]
fn none_gets_past() {
    let files = evasions();
    for (name, bytes) in &files {
        assert_eq!(verdict(name, bytes).0, Some(Verdict::Hostile), "{name}");
    }
    insta::assert_snapshot!(verdicts(&files), @r#"
    1 another function, dotted: hostile pickle-runs-code: loading it calls torch.library.torch.utils.collect_env.run('true')
    1 another function, spawnv: hostile pickle-runs-code: loading it calls multiprocessing.util.spawnv_passfds('true')
    1 another function, mlflow: hostile pickle-runs-code: loading it calls mlflow.projects.backend.local._run_entry_point('true')
    1 a connection, pandas: hostile pickle-runs-code: loading it calls pandas.io.parsers.readers.read_csv('true')
    1 a download, urllib: hostile pickle-runs-code: loading it calls urllib.request.urlretrieve('true')
    1 YAML inside: hostile pickle-imports-code: loading it imports yaml.loader.UnsafeLoader;  pickle-runs-code: loading it calls yaml.load('!!python/object/apply:os.system ["true"]', …)
    1 a pickle inside: hostile pickle-runs-code: loading it calls builtins.exec('true')
    2 the zip's headers differ: hostile !archive/data.txt zip-headers-disagree: its name differs between the zip's directory and its own header: its own header says archive/data.pkl; !archive/data.txt pickle-runs-code: loading it calls posix.system('true')
    3 a truncated opcode: hostile pickle-runs-code: loading it calls os.system('true');  pickle-unreadable: the pickle cannot be read to its end: it ends too early
    4 no such place in the memo: hostile pickle-runs-code: loading it calls os.system('true');  pickle-unreadable: the pickle cannot be read to its end: its memo has no place 3
    5 bytes as a name: hostile pickle-runs-code: loading it calls os.system('true');  pickle-hides-name: it computes the name of what it loads
    5 a number as a name: hostile pickle-runs-code: loading it calls os.system('true');  pickle-hides-name: it computes the name of what it loads
    5 a bytearray as a name: hostile pickle-runs-code: loading it calls os.system('true');  pickle-hides-name: it computes the name of what it loads
    6 decoded code: hostile pickle-unknown-global: loading it calls zlib.decompress, which comfy does not know;  pickle-runs-code: loading it calls builtins.exec(…)
    7 a module of Python 2: hostile pickle-runs-code: loading it calls commands.run('true')
    8 a code object: hostile pickle-runs-code: loading it calls types.CodeType(0, …);  pickle-runs-code: loading it calls types.FunctionType(…)
    8 a code object from a donor: hostile pickle-unknown-global: loading it imports copy.copy, which comfy does not know;  pickle-unknown-global: loading it calls builtins.type(copy.copy) as no library does;  pickle-runs-code: loading it calls operator.methodcaller('__getattribute__', …);  pickle-hides-name: loading it calls something that the file computes
    8 a code object from marshal: hostile pickle-runs-code: loading it calls marshal.loads('true')
    9 EXT2 and the registry: hostile pickle-runs-code: loading it calls copyreg.add_extension('multiprocessing.util', …);  pickle-unknown-global: loading it takes class 31337 of a registry that the file lacks;  pickle-hides-name: loading it calls something that the file computes
    9 INST and the memo: hostile pickle-unknown-global: loading it calls builtins.str('os') as no library does;  pickle-hides-name: it computes the name of what it loads;  pickle-hides-name: loading it calls something that the file computes
    10 attributes of attributes: hostile pickle-runs-code: loading it calls builtins.print.__class__.__base__.__subclasses__();  pickle-runs-code: loading it calls builtins.__setattr__('subclasses', …);  pickle-runs-code: loading it calls builtins.subclasses.__getitem__(137)
    11 another model: hostile pickle-unknown-global: loading it imports transformers.models.auto.tokenization_auto.AutoTokenizer, which comfy does not know;  pickle-unknown-global: loading it calls transformers.models.auto.auto_factory.getattribute_from_module, which comfy does not know;  pickle-hides-name: loading it calls something that the file computes
    11 a pickle named .pt: hostile pickle-runs-code: loading it calls posix.system('true')
    11 the old tar: hostile !pickle pickle-runs-code: loading it calls posix.system('true')
    "#);
}
