use super::*;

/// A pickle, its description in front.
type File = (&'static str, Vec<u8>);

fn protocol(number: u8, body: &[u8]) -> Vec<u8> {
    join(&[&[0x80, number], body, b"."])
}

fn safe() -> Vec<File> {
    let encode = join(&[
        &global("_codecs", "encode"),
        &text("\u{0}\u{ff}"),
        &text("latin1"),
        b"\x86R",
    ]);
    let array = join(&[
        &global("numpy.core.multiarray", "_reconstruct"),
        &global("numpy", "ndarray"),
        b"K\x00\x85C\x01b\x87R(K\x01K\x01\x85",
        &global("numpy", "dtype"),
        &text("f4"),
        b"\x89\x88\x87R(K\x03",
        &text("<"),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x04\0\0\0\0tb",
    ]);
    let defaults = join(&[
        &global("collections", "defaultdict"),
        &global("__builtin__", "list"),
        b"\x85R",
        &text("a"),
        b"]s",
    ]);
    let old_object = join(&[
        &global("copy_reg", "_reconstructor"),
        b"(",
        &global("argparse", "Namespace"),
        &global("__builtin__", "object"),
        b"NtR(dVa\nI1\nsb",
    ]);
    vec![
        ("numbers", protocol(2, b"(I1\nI01\nL5L\nF1.5\nK\x01M\x01\x02J\x01\0\0\0\x8a\x01\x05G\0\0\0\0\0\0\0\0N\x88\x89t")),
        ("texts", protocol(4, b"(S'a\\x00'\nVb\\u0041\nU\x01c\x8c\x01dT\x01\0\0\0eC\x01ft")),
        ("containers", protocol(4, b"(](K\x01e}(K\x01K\x02u\x8f(K\x01\x90(K\x01\x91)l")),
        ("bytearray of protocol 5", protocol(5, b"\x96\x02\0\0\0\0\0\0\0ab")),
        ("bytes of protocol 2", protocol(2, &encode)),
        ("a list that holds itself", protocol(2, b"]q\0h\0a")),
        ("array", protocol(2, &array)),
        ("defaultdict", protocol(2, &defaults)),
        ("object of protocol 0", join(&[&old_object, b"."])),
        ("set of protocol 0", b"c__builtin__\nset\np0\n((lp1\nI1\natR.".to_vec()),
        ("set", protocol(2, &join(&[&global("__builtin__", "set"), b"]\x85R"]))),
        ("complex", protocol(2, &join(&[&global("__builtin__", "complex"), b"G\0\0\0\0\0\0\0\0K\0\x86R"]))),
        ("date", protocol(2, &join(&[&global("datetime", "date"), b"U\x04\x07\xe4\x01\x01\x85R"]))),
        ("decimal", protocol(2, &join(&[&global("decimal", "Decimal"), &text("1.5"), b"\x85R"]))),
        ("path", protocol(4, &join(&[&global("pathlib", "PurePosixPath"), &text("a"), b"\x85R"]))),
        ("type of None", protocol(2, &join(&[&global("__builtin__", "type"), b"N\x85R"]))),
        ("callback of Lightning", protocol(2, &join(&[b"}", &global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"), b"}s"]))),
        ("state dict", state_dict()),
        ("texts that look like payloads", protocol(4, &text("os.system('x') cposix\nsystem\n"))),
        ("two pickles", join(&[&protocol(2, b"N"), &protocol(2, b"N")])),
        ("a wrong FRAME", protocol(4, b"\x95\xff\0\0\0\0\0\0\0N")),
    ]
}

/// What is changed at random.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let all = [safe(), hostile(), unknown()].concat();
    all.into_iter()
        .map(|file| file.1)
        .filter(|b| b.len() < 2000)
        .collect()
}

#[test]
fn what_only_makes_data_is_safe() {
    let files = safe();
    for (name, bytes) in &files {
        assert_eq!(
            verdict(name, bytes),
            (Some(Verdict::Safe), String::new()),
            "{name}"
        );
    }
}

fn hostile() -> Vec<File> {
    let run = text(COMMAND);
    let memo = join(&[
        &text("os"),
        b"\x94",
        &text("system"),
        b"\x9400h\0h\x01\x93",
        &run,
        b"\x85R",
    ]);
    let names = |module: &str, name: &str| join(&[&text(module), &text(name), b"\x93"]);
    vec![
        ("REDUCE", payload()),
        (
            "protocol 0",
            format!("cposix\nsystem\n(S'{COMMAND}'\ntR.").into_bytes(),
        ),
        (
            "STACK_GLOBAL",
            pickle(&join(&[&names("os", "system"), &run, b"\x85R"])),
        ),
        ("names in the memo", pickle(&memo)),
        (
            "names with escapes",
            pickle(&join(&[
                b"S'\\x6f\\163'\nV\\u0073ystem\n\x93",
                &run,
                b"\x85R",
            ])),
        ),
        (
            "INST",
            format!("(S'{COMMAND}'\niposix\nsystem\n.").into_bytes(),
        ),
        (
            "INST without STOP",
            format!("(S'{COMMAND}'\niposix\nsystem\n").into_bytes(),
        ),
        (
            "OBJ",
            pickle(&join(&[b"(", &global("posix", "system"), &run, b"o"])),
        ),
        (
            "NEWOBJ",
            pickle(&join(&[&global("subprocess", "Popen"), &run, b"\x85\x81"])),
        ),
        (
            "NEWOBJ_EX",
            pickle(&join(&[
                &global("subprocess", "Popen"),
                b")}",
                &text("args"),
                &run,
                b"s\x92",
            ])),
        ),
        (
            "__newobj__",
            pickle(&join(&[
                &global("copyreg", "__newobj__"),
                b"(",
                &global("subprocess", "Popen"),
                &run,
                b"tR",
            ])),
        ),
        (
            "_reconstructor",
            pickle(&join(&[
                &global("copyreg", "_reconstructor"),
                b"(",
                &global("subprocess", "Popen"),
                &global("builtins", "object"),
                b"NtR",
            ])),
        ),
        (
            "a function of torch that calls one",
            pickle(&join(&[
                &global("torch._tensor", "_rebuild_from_type_v2"),
                b"(",
                &global("posix", "system"),
                &global("torch", "Tensor"),
                &run,
                b"\x85NtR",
            ])),
        ),
        (
            "a factory",
            pickle(&join(&[
                &global("collections", "defaultdict"),
                &global("os", "getcwd"),
                b"\x85R",
            ])),
        ),
        ("a reference alone", pickle(&global("posix", "system"))),
        (
            "a dotted name",
            pickle(&join(&[&names("torch", "os.system"), &run, b"\x85R"])),
        ),
        ("a name of Python 2", pickle(&call("commands", "getoutput"))),
        (
            "what popped it",
            pickle(&join(&[&call("posix", "system"), b"0N"])),
        ),
        (
            "DUP",
            pickle(&join(&[&global("posix", "system"), b"2", &run, b"\x85R0"])),
        ),
        (
            "POP_MARK",
            pickle(&join(&[b"(N1", &call("posix", "system")])),
        ),
        (
            "PROTO again",
            pickle(&join(&[b"\x80\x02\x80\x05", &call("posix", "system")])),
        ),
        (
            "a protocol of the future",
            protocol(6, &call("posix", "system")),
        ),
        ("no STOP", payload()[..payload().len() - 1].to_vec()),
        (
            "a broken tail",
            join(&[&payload()[..payload().len() - 1], b"\xff\xff"]),
        ),
        (
            "a text that is cut off",
            join(&[&payload()[..payload().len() - 1], b"X\xff\xff\0\0ab"]),
        ),
        ("the second pickle", join(&[&pickle(b"}"), &payload()])),
        (
            "far behind",
            pickle(&join(&[&b"N0".repeat(50_000), &call("posix", "system")])),
        ),
        (
            "far behind without PROTO",
            join(&[&b"N0".repeat(50_000), &call("posix", "system"), b"."]),
        ),
        (
            "builtins.getattr",
            pickle(&join(&[
                &global("builtins", "getattr"),
                &global("torch", "Tensor"),
                &text("__class__"),
                b"\x86R",
            ])),
        ),
        (
            "a computed function",
            pickle(&join(&[
                &global("collections", "OrderedDict"),
                b")R",
                &run,
                b"\x85R",
            ])),
        ),
        (
            "a class is changed",
            pickle(&join(&[
                &global("collections", "OrderedDict"),
                b"N}",
                &text("get"),
                b"Ns\x86b",
            ])),
        ),
        (
            "attributes that Python calls",
            pickle(&join(&[
                &global("argparse", "Namespace"),
                b")\x81}",
                &text("__setstate__"),
                &global("collections", "OrderedDict"),
                b"sb",
            ])),
        ),
        (
            "elements of what holds none",
            pickle(&join(&[&global("argparse", "Namespace"), b")\x81N", b"a"])),
        ),
        (
            "bytes that torch loads",
            pickle(&join(&[
                &global("torch.storage", "_load_from_bytes"),
                &binary(&payload()),
                b"\x85R",
            ])),
        ),
        (
            "lists in lists",
            pickle(&join(&[
                b"]q\0",
                &(1..40_u8)
                    .flat_map(|n| [b']', b'q', n, b'(', b'h', n - 1, b'h', n - 1, b'e'])
                    .collect::<Vec<_>>(),
            ])),
        ),
        (
            "tuples in tuples",
            pickle(&join(&[b")", &b"2\x86".repeat(60)])),
        ),
        ("a huge memo", pickle(b"Nr\xff\xff\xff\x7f")),
    ]
}

#[test]
fn what_runs_code_is_hostile_however_it_is_written() {
    let files = hostile();
    for (name, bytes) in &files {
        assert_eq!(verdict(name, bytes).0, Some(Verdict::Hostile), "{name}");
    }
    insta::assert_snapshot!(verdicts(&files), @"
    REDUCE: hostile pickle-runs-code: loading it calls posix.system('true')
    protocol 0: hostile pickle-runs-code: loading it calls posix.system('true')
    STACK_GLOBAL: hostile pickle-runs-code: loading it calls os.system('true')
    names in the memo: hostile pickle-runs-code: loading it calls os.system('true')
    names with escapes: hostile pickle-runs-code: loading it calls os.system('true')
    INST: hostile pickle-runs-code: loading it calls posix.system('true')
    INST without STOP: hostile pickle-runs-code: loading it calls posix.system('true');  pickle-unreadable: the pickle cannot be read to its end: it ends too early
    OBJ: hostile pickle-runs-code: loading it calls posix.system('true')
    NEWOBJ: hostile pickle-runs-code: loading it calls subprocess.Popen('true')
    NEWOBJ_EX: hostile pickle-runs-code: loading it calls subprocess.Popen(…)
    __newobj__: hostile pickle-runs-code: loading it calls subprocess.Popen('true')
    _reconstructor: hostile pickle-runs-code: loading it calls subprocess.Popen()
    a function of torch that calls one: hostile pickle-runs-code: loading it calls posix.system('true')
    a factory: hostile pickle-imports-code: loading it imports os.getcwd;  pickle-unknown-global: loading it calls collections.defaultdict(os.getcwd) as no library does
    a reference alone: hostile pickle-imports-code: loading it imports posix.system
    a dotted name: hostile pickle-runs-code: loading it calls torch.os.system('true')
    a name of Python 2: hostile pickle-runs-code: loading it calls commands.getoutput('true')
    what popped it: hostile pickle-runs-code: loading it calls posix.system('true')
    DUP: hostile pickle-runs-code: loading it calls posix.system('true')
    POP_MARK: hostile pickle-runs-code: loading it calls posix.system('true')
    PROTO again: hostile pickle-runs-code: loading it calls posix.system('true')
    a protocol of the future: hostile pickle-unreadable: the pickle cannot be read to its end: its protocol is 6;  pickle-runs-code: loading it calls posix.system('true')
    no STOP: hostile pickle-runs-code: loading it calls posix.system('true');  pickle-unreadable: the pickle cannot be read to its end: it ends too early
    a broken tail: hostile pickle-runs-code: loading it calls posix.system('true');  pickle-unreadable: the pickle cannot be read to its end: byte 0xff is no opcode
    a text that is cut off: hostile pickle-runs-code: loading it calls posix.system('true');  pickle-unreadable: the pickle cannot be read to its end: a text in it is cut off
    the second pickle: hostile pickle-runs-code: loading it calls posix.system('true')
    far behind: hostile pickle-runs-code: loading it calls posix.system('true')
    far behind without PROTO: hostile pickle-runs-code: loading it calls posix.system('true')
    builtins.getattr: hostile pickle-unknown-global: loading it imports builtins.getattr;  pickle-runs-code: loading it calls builtins.getattr(torch.Tensor, …)
    a computed function: hostile pickle-hides-name: loading it calls something that the file computes
    a class is changed: hostile pickle-patches-code: loading it changes collections.OrderedDict
    attributes that Python calls: hostile pickle-patches-code: loading it changes what Python itself uses of argparse.Namespace
    elements of what holds none: hostile pickle-patches-code: it adds elements to argparse.Namespace, which holds none
    bytes that torch loads: hostile pickle-runs-code: loading it calls posix.system('true')
    lists in lists: hostile pickle-expands: its lists hold each other so often that walking them never ends
    tuples in tuples: hostile pickle-expands: its lists hold each other so often that walking them never ends
    a huge memo: hostile pickle-expands: its memo has a place 2147483647, for which memory is taken
    ");
}

fn unknown() -> Vec<File> {
    vec![
        (
            "a class of a package",
            pickle(&join(&[
                &global("ultralytics.nn.tasks", "DetectionModel"),
                b")\x81}b",
            ])),
        ),
        ("a class by name", pickle(&global("some.package", "Thing"))),
        ("EXT", pickle(b"\x82\x05")),
        ("an id", pickle(&join(&[&text("x"), b"Q"]))),
        (
            "a codec",
            pickle(&join(&[
                &global("_codecs", "encode"),
                &text("a"),
                &text("zip"),
                b"\x86R",
            ])),
        ),
        ("a type that is called", pickle(&call("numpy", "float32"))),
        (
            "a bound method",
            pickle(&join(&[
                &global("builtins", "getattr"),
                &global("some.package", "Thing"),
                b")R",
                &text("forward"),
                b"\x86R",
            ])),
        ),
        ("a buffer", pickle(b"\x97")),
        ("cut off", pickle(b"(NNNNNNNNNNtX\xff\0\0\0")),
        ("bytes behind it", join(&[&pickle(b"N"), b"\0\0\0"])),
        ("enough pickles", pickle(b"N").repeat(1001)),
    ]
}

#[test]
fn what_nobody_knows_is_to_be_reviewed() {
    let files = unknown();
    for (name, bytes) in &files {
        assert_eq!(verdict(name, bytes).0, Some(Verdict::Review), "{name}");
    }
    insta::assert_snapshot!(verdicts(&files), @"
    a class of a package: review pickle-unknown-global: loading it calls ultralytics.nn.tasks.DetectionModel, which comfy does not know
    a class by name: review pickle-unknown-global: loading it imports some.package.Thing, which comfy does not know
    EXT: review pickle-unknown-global: loading it takes class 5 of a registry that the file lacks
    an id: review pickle-unknown-global: loading it asks for an object by an id that comfy does not know
    a codec: review pickle-unknown-global: loading it calls _codecs.encode('a', …) as no library does
    a type that is called: review pickle-unknown-global: loading it calls numpy.float32('true') as no library does
    a bound method: review pickle-unknown-global: loading it calls some.package.Thing, which comfy does not know;  pickle-unknown-global: loading it calls builtins.getattr(…) as no library does
    a buffer: review pickle-unknown-global: loading it takes a buffer that is not in the file
    cut off: review pickle-unreadable: the pickle cannot be read to its end: a text in it is cut off
    bytes behind it: review trailing-bytes: 3 bytes behind its pickles belong to nothing
    enough pickles: review pickle-unreadable: it holds more than 1000 pickles
    ");
}

#[test]
fn text_and_numbers_are_no_pickles() {
    let texts = [
        "",
        ".",
        "cat\ndog\nrat\n",
        "cos\nsin\ntan\n",
        "(icon)\nfoo\nbar\n",
        "(import\nfoo\nbar)\n",
        "import os\nos.system('x')\n",
        "# a comment\n",
        "class A:\n    pass\n",
        "]\n",
        "I am.\n",
        "No.\n",
        "copyright\nfoo\nbar\n",
        "S'x",
        "{\"1\": {\"class_type\": \"KSampler\"}}",
        "a: b\n",
    ];
    for text in texts {
        assert_eq!(verdict("x.txt", text.as_bytes()).0, None, "{text:?}");
    }
    let floats: Vec<u8> = (0..4000)
        .flat_map(|n| (n as f32).sin().to_le_bytes())
        .collect();
    assert_eq!(verdict("0", &floats).0, None);
    assert_eq!(verdict("0", b"\x89PNG\r\n\x1a\n0000").0, None);
    assert_eq!(verdict("0", &[0; 1000]).0, None);
}
