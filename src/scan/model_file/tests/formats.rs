use super::*;

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    join(&[&length, header.as_bytes(), &vec![0; data]])
}

fn numpy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    join(&[b"\x93NUMPY\x01\0", &length, header.as_bytes(), data])
}

fn gguf_text(text: &str) -> Vec<u8> {
    join(&[&(text.len() as u64).to_le_bytes(), text.as_bytes()])
}

/// A GGUF file with texts as metadata and one tensor of 8 floats.
fn gguf(texts: &[(&str, &str)]) -> Vec<u8> {
    let count = (texts.len() as u64 + 1).to_le_bytes();
    let mut out = join(&[b"GGUF\x03\0\0\0", &1_u64.to_le_bytes(), &count]);
    for (key, value) in texts {
        out.extend(join(&[
            &gguf_text(key),
            &8_u32.to_le_bytes(),
            &gguf_text(value),
        ]));
    }
    out.extend(join(&[
        &gguf_text("general.alignment"),
        &4_u32.to_le_bytes(),
        &32_u32.to_le_bytes(),
    ]));
    out.extend(join(&[
        &gguf_text("w"),
        &1_u32.to_le_bytes(),
        &8_u64.to_le_bytes(),
        &[0; 12],
    ]));
    out.resize(out.len().next_multiple_of(32) + 32, 0);
    out
}

/// A field of a protocol buffer.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 0x4000);
    let length = [(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8];
    // Numbers above 15 take two bytes.
    let tag = u16::from(number) << 3 | 2;
    let tag = [(tag & 0x7f) as u8 | 0x80, (tag >> 7) as u8];
    join(&[&tag, &length, bytes])
}

fn onnx(location: Option<&str>, operator: &str) -> Vec<u8> {
    let tensor = match location {
        None => field(9, &[0; 16]),
        Some(path) => {
            let pair = join(&[&field(1, b"location"), &field(2, path.as_bytes())]);
            field(13, &pair)
        }
    };
    let node = join(&[&field(1, b"x"), &field(4, operator.as_bytes())]);
    let graph = join(&[&field(1, &node), &field(2, b"g"), &field(5, &tensor)]);
    join(&[
        &[8, 8],
        &field(2, b"pytorch"),
        &field(7, &graph),
        &field(8, &[16, 17]),
    ])
}

fn keras(config: &str) -> Vec<u8> {
    archives::zip(
        &[("config.json", config.as_bytes()), ("metadata.json", b"{}")],
        archives::Shape::default(),
    )
}

fn hdf5(text: &str) -> Vec<u8> {
    join(&[b"\x89HDF\r\n\x1a\n", &[0; 90], text.as_bytes(), &[0; 90]])
}

/// joblib's array of floats: the pickle, and the numbers between its opcodes.
fn joblib(array: &[u8], shape: &[u8], after: &[u8]) -> Vec<u8> {
    let dtype = join(&[
        &global("numpy", "dtype"),
        &text("f4"),
        b"\x89\x88\x87R(K\x03",
        &text("<"),
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb",
    ]);
    join(&[
        b"\x80\x04}",
        &text("a"),
        &global("joblib.numpy_pickle", "NumpyArrayWrapper"),
        b")\x81}(",
        &text("shape"),
        shape,
        &text("dtype"),
        &dtype,
        &text("numpy_array_alignment_bytes"),
        b"K\x10ub\x03\xff\xff\xff",
        array,
        b"s",
        after,
        b".",
    ])
}

/// An array whose bytes are opcodes to whoever does not know joblib: its padding is none.
fn joblib_padded(array: &[u8], shape: &[u8]) -> Vec<u8> {
    let mut bytes = joblib(b"", shape, b"");
    let at = bytes.len() - 2 - 4;
    // As many bytes of padding as the letter that begins GLOBAL says.
    let hidden = join(&[array, &[0; 0x63 + 20]]);
    bytes.splice(at..at + 4, hidden[..1 + 0x63 + 20].to_vec());
    bytes
}

const TENSOR: &str = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
const CHAT: &str =
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content | trim }}{% endfor %}";
const DENSE: &str = r#"{"module":"keras","class_name":"Sequential","config":{"layers":[
    {"module":"keras.layers","class_name":"Dense","config":{"units":3}}]}}"#;

pub(super) fn safetensors_samples() -> Vec<Vec<u8>> {
    let metadata = format!(r#"{{"__metadata__":{{"format":"pt"}},{TENSOR}}}  "#);
    vec![
        safetensors(&metadata, 4),
        safetensors(&format!("{{{TENSOR}}}"), 4),
    ]
}

pub(super) fn gguf_samples() -> Vec<Vec<u8>> {
    vec![
        gguf(&[]),
        gguf(&[
            ("general.architecture", "llama"),
            ("tokenizer.chat_template", CHAT),
        ]),
    ]
}

/// What is changed at random.
pub(super) fn samples() -> Vec<Vec<u8>> {
    vec![
        numpy("[('a', '<i4'), ('b', '|S3', (2,))]", "(1,)", &[0; 10]),
        numpy("'|O'", "(1,)", &payload()),
        onnx(Some("weights/a.bin"), "Conv"),
        onnx(None, "Conv"),
        keras(DENSE),
        DENSE.as_bytes().to_vec(),
        hdf5(r#"{"class_name": "Lambda"}"#),
        joblib(&[0xff; 8], b"K\x02\x85", b""),
    ]
}

#[test]
fn data_is_safe() {
    let metadata = format!(r#"{{"__metadata__":{{"format":"pt","note":"a\nb"}},{TENSOR}}}  "#);
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("safetensors", safetensors(&metadata, 4)),
        ("numpy", numpy("'<f4'", "(2, 3)", &[0; 24])),
        (
            "numpy of a record",
            numpy("[('a', '<i4'), ('b', '|S3', (2,))]", "(1,)", &[0; 10]),
        ),
        ("numpy of objects", numpy("'|O'", "(1,)", &pickle(b"]"))),
        (
            "npz",
            archives::zip(
                &[("a.npy", &numpy("'<f4'", "(1,)", &[0; 4]))],
                archives::Shape {
                    deflate: true,
                    ..Default::default()
                },
            ),
        ),
        (
            "gguf",
            gguf(&[
                ("general.architecture", "llama"),
                ("tokenizer.chat_template", CHAT),
            ]),
        ),
        ("onnx", onnx(None, "Conv")),
        (
            "onnx with weights beside it",
            onnx(Some("weights/a.bin"), "Conv"),
        ),
        ("keras", keras(DENSE)),
        ("weights of Keras", hdf5(r#"{"class_name": "Dense"}"#)),
        ("joblib", joblib(&[0xff; 8], b"K\x02\x85", b"")),
        (
            "joblib in zlib",
            archives::zlib(&joblib(&[0xff; 8], b"K\x02\x85", b"")),
        ),
    ];
    for (name, bytes) in &files {
        assert_eq!(
            verdict(name, bytes),
            (Some(Verdict::Safe), String::new()),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_data_is_found() {
    let st = |json: String, data| safetensors(&json, data);
    let evil = "{{ cycler.__init__.__globals__.os.popen('true') }}";
    let layer = |class: &str| {
        format!(
            r#"{{"class_name":"Sequential","config":{{"layers":[{{"class_name":"{class}","config":{{}}}}]}}}}"#
        )
    };
    let function = |module: &str, name: &str| {
        format!(r#"{{"module":"{module}","class_name":"function","config":"{name}"}}"#)
    };
    let mut cut = gguf(&[("a", "b")]);
    cut.truncate(cut.len() - 1);
    let call_after = join(&[&text("z"), &call("posix", "system"), b"s"]);
    let files: Vec<(&str, Vec<u8>)> = vec![
        (
            "safetensors with a name twice",
            st(format!("{{{TENSOR},{TENSOR}}}"), 4),
        ),
        (
            "safetensors with more behind",
            join(&[&st(format!("{{{TENSOR}}}"), 4), &payload()]),
        ),
        (
            "safetensors with a gap",
            st(format!("{{{}}}", TENSOR.replace("[0,4]", "[4,8]")), 8),
        ),
        (
            "safetensors with escapes",
            st(
                format!(r#"{{"__metadata__":{{"t":"\u001b[2J"}},{TENSOR}}}"#),
                4,
            ),
        ),
        (
            "safetensors that breaks off in its header",
            safetensors(&format!("{{{TENSOR}}}"), 4)[..60].to_vec(),
        ),
        (
            "safetensors with a huge header",
            join(&[&(40_u64 << 20).to_le_bytes(), b"{", &vec![b' '; 40 << 20]]),
        ),
        ("numpy of objects", numpy("'|O'", "(1,)", &payload())),
        (
            "numpy of objects in a record",
            numpy("[('a', '<i4'), ('b', '|O')]", "(1,)", &payload()),
        ),
        (
            "numpy with a header that is code",
            numpy("__import__('os')", "(1,)", &payload()),
        ),
        (
            "numpy with more behind",
            numpy("'<f4'", "(1,)", &join(&[&[0; 4], &payload()])),
        ),
        ("numpy that breaks off", numpy("'<f4'", "(9,)", &[0; 4])),
        (
            "gguf with a template",
            gguf(&[("tokenizer.chat_template", evil)]),
        ),
        (
            "gguf with a template for tools",
            gguf(&[("tokenizer.chat_template.tool_use", "{{ x|attr('a') }}")]),
        ),
        ("gguf that breaks off", cut),
        (
            "gguf with huge counts",
            join(&[b"GGUF\x03\0\0\0", &[0x7f; 16], &[0; 19]]),
        ),
        ("gguf with more behind", join(&[&gguf(&[]), &payload()])),
        ("onnx that climbs", onnx(Some("../../x"), "Conv")),
        (
            "onnx with an absolute path",
            onnx(Some("/etc/passwd"), "Conv"),
        ),
        ("onnx that calls Python", onnx(None, "PyOp")),
        ("onnx that breaks off", onnx(None, "Conv")[..60].to_vec()),
        ("keras with a Lambda", keras(&layer("Lambda"))),
        ("keras with code", keras(&layer("__lambda__"))),
        ("keras with an escape", layer("\\u004cambda").into_bytes()),
        (
            "keras with an escaped key",
            layer("Lambda")
                .replace("class_name", "cl\\u0061ss_n\\u0061me")
                .into_bytes(),
        ),
        (
            "keras with a function of os",
            keras(&function("os", "system")),
        ),
        (
            "keras with a function of a package",
            keras(&function("my_package", "act")),
        ),
        (
            "keras that fetches",
            keras(&function("keras.utils", "get_file")),
        ),
        ("hdf5 with a Lambda", hdf5(r#"{"class_name": "Lambda"}"#)),
        (
            "hdf5 with an escape",
            hdf5(r#"{"class_name": "\u004cambda"}"#),
        ),
        (
            "joblib with a call behind an array",
            joblib(&[0xff; 8], b"K\x02\x85", &call_after),
        ),
        (
            "joblib with a call as an array",
            joblib_padded(&call("posix", "system"), b"K\x05\x85"),
        ),
        (
            "joblib with an array of no size",
            joblib(&[0xff; 8], b"N", b""),
        ),
        (
            "joblib that breaks off",
            joblib(&[0xff; 8], b"K\x7f\x85", b""),
        ),
    ];
    for (name, bytes) in &files {
        assert!(verdict(name, bytes).0 > Some(Verdict::Safe), "{name}");
    }
    insta::assert_snapshot!(verdicts(&files), @r#"
    safetensors with a name twice: review safetensors-ambiguous: readers would not agree on its header: "a" exists twice at line 1 column 57
    safetensors with more behind: hostile safetensors-ambiguous: 28 bytes at its end belong to no tensor;  pickle-runs-code: loading it calls posix.system('true')
    safetensors with a gap: review safetensors-ambiguous: tensor "a" leaves a gap behind the one before it
    safetensors with escapes: review metadata-escapes: its metadata "t" holds control characters
    safetensors that breaks off in its header: review safetensors-ambiguous: its header would have 54 bytes
    safetensors with a huge header: review safetensors-ambiguous: its header would have 41943040 bytes
    numpy of objects: hostile pickle-runs-code: loading it calls posix.system('true')
    numpy of objects in a record: hostile pickle-runs-code: loading it calls posix.system('true')
    numpy with a header that is code: hostile numpy-unreadable: the array's header is not what NumPy writes;  pickle-runs-code: loading it calls posix.system('true')
    numpy with more behind: hostile trailing-bytes: 28 bytes behind the array belong to nothing;  pickle-runs-code: loading it calls posix.system('true')
    numpy that breaks off: review numpy-unreadable: the array is cut off
    gguf with a template: hostile template-runs-code: tokenizer.chat_template uses __globals__
    gguf with a template for tools: review template-unusual: tokenizer.chat_template.tool_use uses |attr
    gguf that breaks off: review gguf-unreadable: the GGUF file is not consistent: a tensor lies outside of the file
    gguf with huge counts: review gguf-unreadable: the GGUF file is not consistent: it announces more than it can hold
    gguf with more behind: hostile trailing-bytes: 28 bytes behind its tensors belong to nothing;  pickle-runs-code: loading it calls posix.system('true')
    onnx that climbs: hostile onnx-external-path: the model reads its weights from ../../x
    onnx with an absolute path: hostile onnx-external-path: the model reads its weights from /etc/passwd
    onnx that calls Python: review onnx-python-operator: the model calls PyOp of ""
    onnx that breaks off: review onnx-unreadable: the ONNX model cannot be read to its end: a field is longer than what holds it
    keras with a Lambda: hostile !config.json keras-lambda: the model holds Lambda, whose code is in the file
    keras with code: hostile !config.json keras-lambda: the model holds __lambda__, whose code is in the file
    keras with an escape: hostile keras-lambda: the model holds Lambda, whose code is in the file
    keras with an escaped key: hostile keras-lambda: the model holds Lambda, whose code is in the file
    keras with a function of os: hostile !config.json keras-runs-code: the model names os.system
    keras with a function of a package: review !config.json keras-unknown-class: the model names act of my_package
    keras that fetches: review !config.json keras-unknown-class: the model names get_file of keras.utils
    hdf5 with a Lambda: review hdf5-lambda: it names what looks like a Lambda layer of Keras
    hdf5 with an escape: review hdf5-lambda: it names what looks like a Lambda layer of Keras
    joblib with a call behind an array: hostile pickle-runs-code: loading it calls posix.system('true')
    joblib with a call as an array: hostile pickle-runs-code: loading it calls posix.system('true')
    joblib with an array of no size: review pickle-unreadable: the pickle cannot be read to its end: an array of joblib's has no size
    joblib that breaks off: review pickle-unreadable: the pickle cannot be read to its end: it ends too early
    "#);
}

#[test]
fn other_formats_are_none() {
    for bytes in [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(),
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"{\"3\": {\"class_type\": \"KSampler\", \"inputs\": {}}}",
        b"# a text\n",
        b"\x7fELF\x02\x01\x01\0",
        b"ID3\x04\0\0\0",
    ] {
        assert_eq!(verdict("x", bytes), (None, String::new()), "{bytes:?}");
    }
}
