//! What functions of Python and of known libraries give back, and which data goes through them.

use std::rc::Rc;

use super::attributes::{INSIDES, NAMESPACE};
use super::constants;
use super::expressions::{element_of, iterable_items, join_path};
use super::names;
use super::reader::Reader;
use super::rules::{CallSite, last_segment, network};
use super::scope::Frame;
use super::taint::{SourceKind, Taint, cleared};
use super::values::{UNKNOWN_PART, Value, What};

/// Functions whose result is text or data out of their arguments.
const PASSES: &[&str] = &[
    "builtins.str",
    "builtins.repr",
    "builtins.format",
    "builtins.ascii",
    "builtins.list",
    "builtins.tuple",
    "builtins.set",
    "builtins.dict",
    "builtins.sorted",
    "builtins.reversed",
    "builtins.zip",
    "builtins.enumerate",
    "builtins.iter",
    "builtins.next",
    "builtins.map",
    "builtins.filter",
    "builtins.max",
    "builtins.min",
    "builtins.sum",
    "builtins.bytes",
    "builtins.bytearray",
    "builtins.memoryview",
    "builtins.frozenset",
    "builtins.unicode",
    "json.loads",
    "json.load",
    "json.dumps",
    "copy.copy",
    "copy.deepcopy",
    "io.StringIO",
    "io.BytesIO",
    "urllib.parse.unquote",
    "urllib.parse.quote",
    "urllib.parse.unquote_plus",
    "urllib.parse.urljoin",
    "urllib.parse.urlparse",
    "urllib.parse.urlsplit",
    "urllib.parse.parse_qs",
    "urllib.parse.urlencode",
    "urllib.parse.quote_plus",
    "urllib.parse.urlunparse",
    "re.sub",
    "re.split",
    "re.findall",
    "re.search",
    "re.match",
    "os.path.join",
    "os.path.abspath",
    "os.path.realpath",
    "os.path.normpath",
    "os.path.expanduser",
    "os.path.expandvars",
    "os.path.dirname",
    "os.path.splitext",
    "os.path.split",
    "os.path.relpath",
    "os.path.normcase",
    "os.fspath",
    "os.fsdecode",
    "os.fsencode",
    "pathlib.Path",
    "pathlib.PurePath",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "textwrap.dedent",
    "shlex.split",
    "string.Template",
    "html.unescape",
    "itertools.chain",
    "operator.add",
    "yaml.safe_load",
    "yaml.load",
    "types.SimpleNamespace",
    "ast.literal_eval",
    "folder_paths.get_annotated_filepath",
    "urllib.request.Request",
    "builtins.compile",
    "types.FunctionType",
    "pickle.dumps",
    "base64.b64encode",
    "zlib.compress",
    "base64.urlsafe_b64encode",
    "collections.OrderedDict",
    "collections.deque",
    "collections.defaultdict",
    "glob.escape",
    "simplejson.loads",
    "orjson.loads",
    "ujson.loads",
    "io.TextIOWrapper",
    "asyncio.wait_for",
    "os.path.commonprefix",
    "email.message.EmailMessage",
    "codecs.getencoder()",
    "urllib.parse.urlunsplit",
    "str.join",
    "builtins.str.join",
    "builtins.str.format",
    "jinja2.Template",
    "tempfile.mkstemp",
    "builtins.getattr",
    "asyncio.run",
    "asyncio.gather",
    "types.CodeType",
    "bytes.decode",
    "json5.loads",
    "sys.intern",
    "unicodedata.normalize",
];

/// Functions that check a path, or give one that cannot lead elsewhere.
const CLEARS_PATH: &[&str] = &[
    "os.path.basename",
    "ntpath.basename",
    "werkzeug.utils.secure_filename",
    "pathvalidate.sanitize_filename",
    "folder_paths.get_full_path",
    "folder_paths.get_full_path_or_raise",
    "folder_paths.get_save_image_path",
    "slugify.slugify",
    "werkzeug.security.safe_join",
    "werkzeug.utils.safe_join",
    "flask.safe_join",
    "django.utils.text.slugify",
    "aiohttp.web.normalize_path_middleware",
];

/// Functions that decode what nobody can read.
const DECODES: &[&str] = &[
    "base64.b64decode",
    "base64.standard_b64decode",
    "base64.urlsafe_b64decode",
    "base64.b32decode",
    "base64.b16decode",
    "base64.b85decode",
    "base64.a85decode",
    "base64.decodebytes",
    "base64.decodestring",
    "binascii.unhexlify",
    "binascii.a2b_base64",
    "binascii.a2b_hex",
    "builtins.bytes.fromhex",
    "builtins.bytearray.fromhex",
    "zlib.decompress",
    "lzma.decompress",
    "bz2.decompress",
    "gzip.decompress",
    "marshal.loads",
    "marshal.load",
    "codecs.decode",
    "cryptography.fernet.Fernet().decrypt",
    "Crypto.Cipher.AES.new().decrypt",
    "zlib.decompressobj().decompress",
    "uu.decode",
    "?decode",
    "?.decrypt",
    "nacl.secret.SecretBox().decrypt",
    "brotli.decompress",
    "zstandard.decompress",
    "base91.decode",
];

/// Functions that tell who the machine and its user are.
const HOST_INFO: &[&str] = &[
    "socket.gethostname",
    "socket.getfqdn",
    "getpass.getuser",
    "os.getlogin",
    "platform.node",
    "platform.uname",
    "uuid.getnode",
    "os.uname",
    "pwd.getpwuid",
    "socket.gethostbyname",
    "os.getcwd",
    "platform.platform",
    "psutil.users",
    "platform.release",
    "platform.version",
    "platform.system",
    "getmac.get_mac_address",
];

/// Of those, what honest programs send as well: it is no fact about the user.
const PLAIN_FACTS: &[&str] = &[
    "os.getcwd",
    "platform.platform",
    "platform.release",
    "platform.version",
    "platform.system",
    "socket.gethostbyname",
];

impl<'a> Reader<'a> {
    /// What a call of a library's function gives back.
    pub(super) fn result_of(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        callee: &Value,
        call: &CallSite<'_>,
    ) -> Value {
        if let Some(value) = self.reflected(frame, offset, name, call) {
            return value;
        }
        if let Some(value) = self.beginning(frame, offset, name, call) {
            return value;
        }
        if let Some(value) = worked_out(name, call) {
            if is_spelled_out(name, call) {
                let made = Self::source(
                    frame,
                    offset,
                    SourceKind::Decoded,
                    "characters become a text",
                );
                return value.with_taint(&made);
            }
            return value;
        }
        let own = call.receiver.map_or(&callee.taint, |r| &r.taint);
        let short = last_segment(name);
        if is_number(name) {
            return Value::UNKNOWN;
        }
        let mut taint = own.clone();
        let arguments = || Taint::join_all(call.all().map(|v| &v.taint));
        let method = call.receiver.is_some() && (name.starts_with('?') || name.contains("()"));
        let texts = matches!(
            short,
            ".join"
                | ".format"
                | ".replace"
                | ".format_map"
                | ".substitute"
                | ".safe_substitute"
                | ".render"
                | ".strip"
                | ".union"
                | ".joinpath"
                | ".with_name"
                | ".get"
                | ".setdefault"
                | ".write"
                | ".dumps"
        );
        if PASSES.contains(&name) || method && texts {
            taint = taint.join(&arguments());
        }
        if CLEARS_PATH.contains(&name) || short == ".basename" || short == ".secure_filename" {
            taint = arguments().clear(cleared::PATH);
        }
        if name == "shlex.quote" || name == "pipes.quote" {
            taint = arguments().clear(cleared::COMMAND);
        }
        if matches!(name, "re.escape" | "io.BytesIO" | "io.StringIO")
            || takes_out_slashes(name, short, call)
        {
            taint = arguments().join(own).clear(cleared::PATH);
        }
        match name {
            "os.path.join"
            | "pathlib.Path"
            | "pathlib.PurePath"
            | "pathlib.PosixPath"
            | "pathlib.WindowsPath" => join_path(call.positional).with_taint(&taint),
            "os.path.basename" => {
                let text = call.text(0, "p");
                let last = text
                    .as_deref()
                    .map(|t| t.rsplit('/').next().unwrap_or("").to_string());
                last.map_or(Value::UNKNOWN, |t| Value::text(&t, true))
                    .with_taint(&taint)
            }
            "os.path.expanduser"
            | "os.path.abspath"
            | "os.path.realpath"
            | "os.path.normpath"
            | "os.path.expandvars"
            | "os.fspath"
            | "urllib.request.Request"
            | "builtins.iter"
            | "copy.copy"
            | "copy.deepcopy"
            | "asyncio.wait_for"
            | "asyncio.run"
            | "builtins.memoryview" => {
                let first = call.positional.first().cloned().unwrap_or(Value::UNKNOWN);
                Value {
                    what: first.what,
                    taint,
                }
            }
            "builtins.list" | "builtins.tuple" | "builtins.set" | "builtins.frozenset"
            | "builtins.sorted" => {
                let items = call.positional.first().and_then(iterable_items);
                items.map_or(Value::unknown_with(taint), Value::list)
            }
            "builtins.dict" if call.positional.is_empty() => {
                let pairs = call
                    .named
                    .iter()
                    .map(|(k, v)| (Value::literal(k), v.clone()));
                Value::dict(pairs.collect())
            }
            "pathlib.Path.home" | "pathlib.Path.cwd" => {
                Value::text(&UNKNOWN_PART.to_string(), true)
            }
            _ => Value::named(&format!("{name}()")).with_taint(&taint),
        }
    }

    /// Functions that reach others by name.
    fn reflected(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let first = call.positional.first();
        match name {
            "builtins.getattr" | "inspect.getattr_static" | "builtins.object.__getattribute__" => {
                let base = first?;
                let key = call.positional.get(1)?;
                let fallback = call.positional.get(2).cloned();
                let value = self.attribute_by_text(frame, offset, base, key)?;
                Some(fallback.map_or(value.clone(), |f| value.join(&f)))
            }
            "builtins.globals" | "builtins.locals" => Some(Value::named(NAMESPACE)),
            "builtins.vars" => match first {
                None => Some(Value::named(NAMESPACE)),
                Some(of) => of.name().map(|n| Value::named(&format!("{n}.__dict__"))),
            },
            "builtins.__import__" | "importlib.import_module" | "importlib.reload" => {
                let key = first?;
                if let Some(module) = key.name() {
                    return Some(Value::named(module));
                }
                self.imported_by_text(frame, offset, name, key)
            }
            "pkgutil.resolve_name"
            | "pydoc.locate"
            | "django.utils.module_loading.import_string"
            | "werkzeug.utils.import_string" => {
                let text = first?.as_whole_text()?;
                let full = names::canonical(&text.replace(':', "."));
                self.tell_hidden(frame, offset, &full, first?);
                Some(Value::named(&full))
            }
            "functools.partial" | "functools.partialmethod" => Some(Value::partial(
                first?.clone(),
                call.positional[1..].to_vec(),
            )),
            "operator.attrgetter" | "operator.itemgetter" | "operator.methodcaller" => Some(
                Value::partial(Value::named(&format!("{name}()")), call.positional.to_vec()),
            ),
            "operator.attrgetter()" | "operator.itemgetter()" => {
                let [key, base] = call.positional else {
                    return None;
                };
                self.attribute_by_text(frame, offset, base, key)
            }
            "operator.methodcaller()" => {
                let (base, rest) = call.positional.split_last()?;
                let method = self.attribute_by_text(frame, offset, base, rest.first()?)?;
                let arguments = super::calls::Arguments::of(rest[1..].to_vec());
                Some(self.invoke(frame, offset, &method, None, &arguments, true))
            }
            "operator.call" => {
                let arguments = super::calls::Arguments::of(call.positional[1..].to_vec());
                Some(self.invoke(frame, offset, first?, None, &arguments, true))
            }
            _ => self.reflected_by_method(frame, offset, name, call),
        }
    }

    /// `x.__dict__.get(key)`, `x.__getattribute__(key)`, `loader.load_module(key)`.
    fn reflected_by_method(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let key = call.positional.first()?;
        let (of, method) = name.rsplit_once('.')?;
        match method {
            "__getattribute__" | "__getattr__" => {
                let base = call.receiver.cloned().unwrap_or_else(|| Value::named(of));
                self.attribute_by_text(frame, offset, &base, key)
            }
            "get" | "__getitem__" | "pop" | "setdefault" => {
                if matches!(of, "os.environ" | "os.environb") {
                    let text = key.as_whole_text();
                    return Some(self.variable_of_environment(frame, offset, text.as_deref()));
                }
                let keeps = of.ends_with(".__dict__")
                    || matches!(of, NAMESPACE | INSIDES)
                    || of == "sys.modules"
                    || of == "builtins";
                if keeps {
                    return Some(self.item_of(frame, offset, &Value::named(of), key));
                }
                let base = call.receiver?;
                let holds = matches!(base.what, What::Dict(..) | What::List(..));
                if let (false, Some(field)) =
                    (holds || name.starts_with("aiohttp."), key.as_whole_text())
                {
                    if base.taint.has(SourceKind::Request) {
                        let default = call.positional.get(1).map_or(&Taint::NONE, |d| &d.taint);
                        let taint = base.taint.field(&field).join(default);
                        return Some(Value::named("?field").with_taint(&taint));
                    }
                }
                (holds && method != "pop").then(|| {
                    let value = self.item_of(frame, offset, base, key);
                    let other = call.positional.get(1).map_or(&Taint::NONE, |d| &d.taint);
                    value.with_taint(other)
                })
            }
            "load_module" | "import_module" if key.as_whole_text().is_some() => {
                self.imported_by_text(frame, offset, name, key)
            }
            "__call__" if of.starts_with('?') => None,
            _ => None,
        }
    }

    fn attribute_by_text(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        base: &Value,
        key: &Value,
    ) -> Option<Value> {
        let Some(text) = key.as_whole_text() else {
            let module = base.name().is_some_and(|n| {
                matches!(n, "os" | "subprocess" | "builtins" | "ctypes" | "posix")
            });
            if module {
                let hit = super::source::Hit::of(
                    &super::rules::obfuscation::PY_HIDDEN_NAME,
                    "A function of a dangerous module is reached by a name that is made at run time.",
                );
                self.tell(
                    frame.module,
                    offset,
                    hit.at(crate::scan::finding::Severity::Medium),
                    Vec::new(),
                );
            }
            return None;
        };
        let value = self.attribute_of(frame, offset, base, &text);
        for name in value.alternatives().iter().filter_map(|w| match w {
            What::Name(name) => Some(name.clone()),
            _ => None,
        }) {
            self.tell_hidden(frame, offset, &name, key);
        }
        Some(value)
    }

    fn imported_by_text(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        function: &str,
        key: &Value,
    ) -> Option<Value> {
        let text = key.as_whole_text()?;
        let full = names::canonical(&text);
        self.tell_hidden(frame, offset, &full, key);
        let plain = function == "builtins.__import__";
        let shown = if plain {
            full.split('.').next().unwrap_or(&full)
        } else {
            &full
        };
        Some(Value::named(shown))
    }

    /// Data that begins with this call.
    fn beginning(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let result = Value::named(&format!("{name}()"));
        let source = |kind: SourceKind, message: &str| Self::source(frame, offset, kind, message);
        let receives = name.starts_with("socket.")
            && (name.ends_with(".recv")
                || name.ends_with(".recvfrom")
                || name.ends_with(".makefile"))
            || name.ends_with("()") && name.contains("websocket") && name.ends_with(".recv");
        if receives {
            return Some(result.with_taint(&source(SourceKind::Peer, "a socket receives")));
        }
        if network::is_network(name)
            && !network::is_download(name)
            && name != "urllib.request.Request"
        {
            return Some(result.with_taint(&source(
                SourceKind::Remote,
                "a reply comes from the network",
            )));
        }
        if DECODES.contains(&name) {
            let first = call.argument(0, "s");
            let known = first.and_then(|v| constants::decode_with(name, v));
            let coding = call.text(1, "encoding");
            let known = known.or_else(|| match (name, &coding) {
                ("codecs.decode", Some(coding)) => constants::recode(first?, coding),
                _ => None,
            });
            let plain = coding
                .as_deref()
                .is_some_and(|c| c.to_ascii_lowercase().starts_with("utf"));
            if name == "codecs.decode" && plain {
                return None;
            }
            let passed = Taint::join_all(call.all().map(|v| &v.taint));
            let made = source(SourceKind::Decoded, "data is decoded");
            return Some(
                known
                    .unwrap_or(result)
                    .with_taint(&passed)
                    .with_taint(&made),
            );
        }
        if HOST_INFO.contains(&name) && !PLAIN_FACTS.contains(&name) {
            return Some(result.with_taint(&source(
                SourceKind::HostInfo,
                "the machine or its user is asked for",
            )));
        }
        match name {
            "builtins.open" => {
                let path = call
                    .positional
                    .first()
                    .map_or_else(String::new, Value::as_part);
                let secret = super::rules::credentials::secret_file(&path).is_some();
                let kind = if secret {
                    SourceKind::Credential
                } else {
                    SourceKind::FileContent
                };
                Some(result.with_taint(&source(kind, "a file is read")))
            }
            "os.getenv" => {
                let text = call.text(0, "key");
                Some(self.variable_of_environment(frame, offset, text.as_deref()))
            }
            "builtins.input"
            | "builtins.raw_input"
            | "argparse.ArgumentParser().parse_args"
            | "argparse.ArgumentParser().parse_known_args" => {
                Some(result.with_taint(&source(SourceKind::Argument, "an argument comes in")))
            }
            "keyring.get_password"
            | "browser_cookie3.load"
            | "browser_cookie3.chrome"
            | "PIL.ImageGrab.grab"
            | "pyperclip.paste"
            | "win32crypt.CryptUnprotectData"
            | "pyautogui.screenshot" => Some(
                result.with_taint(&source(SourceKind::Credential, "something private is read")),
            ),
            _ if name.ends_with(".read_text") || name.ends_with(".read_bytes") => {
                let path = call.receiver.map_or_else(String::new, Value::as_part);
                let secret = super::rules::credentials::secret_file(&path).is_some();
                let kind = if secret {
                    SourceKind::Credential
                } else {
                    SourceKind::FileContent
                };
                Some(result.with_taint(&source(kind, "a file is read")))
            }
            _ if name.ends_with(".decode") && call.receiver.is_some() => {
                self.decoded_text(frame, offset, call)
            }
            _ => None,
        }
    }

    /// `value.decode(coding)`
    fn decoded_text(
        &mut self,
        frame: &Frame<'a>,
        offset: u32,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let receiver = call.receiver?;
        let coding = call
            .text(0, "encoding")
            .unwrap_or_else(|| Rc::from("utf-8"));
        let known = constants::recode(receiver, &coding);
        let plain: String = coding.to_ascii_lowercase().replace(['-', '_'], "");
        let usual = plain.starts_with("utf")
            || plain.starts_with("ascii")
            || plain.starts_with("latin")
            || plain.starts_with("iso8859")
            || coding.contains(UNKNOWN_PART);
        let value = known.unwrap_or(Value::UNKNOWN).with_taint(&receiver.taint);
        if usual {
            return Some(value);
        }
        let made = Self::source(frame, offset, SourceKind::Decoded, "data is decoded");
        Some(value.with_taint(&made))
    }
}

/// Whether a call takes what leads elsewhere out of a path: `re.sub(r"[^\w.-]", "", name)`.
fn takes_out_slashes(name: &str, short: &str, call: &CallSite<'_>) -> bool {
    let last = short.trim_start_matches('.').to_ascii_lowercase();
    if last.contains("sanitize")
        || last.contains("secure_filename")
        || last.contains("safe_filename")
    {
        return true;
    }
    let pattern = match (name, short) {
        ("re.sub", _) => call.text(0, "pattern"),
        (_, ".replace") => call.text(0, "old").filter(|t| t.len() == 1),
        _ => None,
    };
    pattern.is_some_and(|p| {
        let class = p.trim_end_matches(['+', '*']);
        let one_class =
            class.starts_with('[') && class.ends_with(']') && class.matches(']').count() == 1;
        let slash = p.contains('/') || p.contains('\\') && name != "re.sub";
        (one_class || name != "re.sub") && (p.starts_with("[^") != slash)
    })
}

/// Functions that give numbers, hashes and answers, which carry nothing on.
fn is_number(name: &str) -> bool {
    matches!(
        name,
        "builtins.int"
            | "builtins.float"
            | "builtins.len"
            | "builtins.bool"
            | "builtins.hash"
            | "builtins.id"
            | "builtins.abs"
            | "builtins.round"
            | "builtins.isinstance"
            | "builtins.hasattr"
            | "builtins.callable"
            | "builtins.complex"
            | "builtins.any"
            | "builtins.all"
            | "builtins.ord"
            | "uuid.UUID"
            | "os.path.exists"
            | "os.path.isfile"
            | "os.path.isdir"
            | "os.path.getsize"
            | "os.path.getmtime"
            | "hashlib.sha256"
            | "hashlib.md5"
            | "hashlib.sha1"
            | "datetime.datetime.strptime"
            | "time.strftime"
    ) || name.ends_with(".hexdigest")
        || name.ends_with(".isdigit")
        || name.ends_with(".startswith")
        || name.ends_with(".endswith")
        || name.ends_with(".exists")
        || name.ends_with(".count")
        || name.ends_with(".index")
        || name.ends_with(".is_file")
        || name.ends_with(".is_dir")
}

/// Whether a text is joined out of single characters that were numbers.
fn is_spelled_out(name: &str, call: &CallSite<'_>) -> bool {
    let items = call
        .positional
        .last()
        .and_then(iterable_items)
        .unwrap_or_default();
    let single = |v: &Value| v.is_built() && v.as_text().is_some_and(|t| t.chars().count() == 1);
    name.ends_with(".join") && items.len() >= 4 && items.iter().all(single)
}

/// Texts that are known.
fn worked_out(name: &str, call: &CallSite<'_>) -> Option<Value> {
    let first = call.positional.first();
    let taint = |value: Value| {
        let all = Taint::join_all(call.all().map(|v| &v.taint));
        let own = call.receiver.map_or(Taint::NONE, |r| r.taint.clone());
        value.with_taint(&all).with_taint(&own)
    };
    let value = match name {
        "builtins.chr" => {
            first?.as_int()?;
            Value::text(&constants::character(first?).to_string(), true)
        }
        "builtins.ord" => {
            let text = first?.as_whole_text()?;
            Value::of(What::Int(i64::from(u32::from(text.chars().next()?))))
        }
        "builtins.int" => {
            let text = first?.as_whole_text();
            let base = call.positional.get(1).and_then(Value::as_int).unwrap_or(10);
            let radix = u32::try_from(base).ok().filter(|r| (2..=36).contains(r))?;
            match text {
                Some(text) => {
                    let digits = text.trim().trim_start_matches("0x").replace('_', "");
                    Value::of(What::Int(i64::from_str_radix(&digits, radix).ok()?))
                }
                None => Value::of(What::Int(first?.as_int()?)),
            }
        }
        "builtins.str" => {
            let text = first?.as_text().filter(|_| call.positional.len() == 1);
            match text {
                Some(text) => Value::text(&text, first?.is_built()),
                None => Value::of(What::Text(Rc::from(first?.as_int()?.to_string()), true)),
            }
        }
        "builtins.bytes" | "builtins.bytearray" => match constants::to_bytes(first?) {
            Value {
                what: What::Unknown,
                ..
            } => return None,
            value => value,
        },
        "builtins.reversed" => constants::slice_of(first?, None, None, Some(-1)),
        "builtins.map" => {
            let function = first?.name()?;
            let items = iterable_items(call.positional.get(1)?)?;
            if function != "builtins.chr" || !items.iter().all(|v| v.as_int().is_some()) {
                return None;
            }
            let all = items
                .iter()
                .map(|v| Value::text(&constants::character(v).to_string(), true));
            Value::list(all.collect())
        }
        "builtins.str.join" => constants::join_texts(
            &first?.as_text()?,
            &iterable_items(call.positional.get(1)?)?,
        ),
        "builtins.max" | "builtins.min" | "builtins.next" => element_of(first?),
        _ => return text_method(name, call).map(taint),
    };
    Some(taint(value))
}

/// Methods of a text that is known.
fn text_method(name: &str, call: &CallSite<'_>) -> Option<Value> {
    let receiver = call.receiver?;
    let first = call.positional.first();
    let method = last_segment(name);
    if method == ".encode" {
        return constants::recode(
            receiver,
            &call
                .text(0, "encoding")
                .unwrap_or_else(|| Rc::from("utf-8")),
        );
    }
    let text = receiver.as_text()?;
    let value = match method {
        ".join" => constants::join_texts(&text, &iterable_items(first?)?),
        ".format" => {
            let named: Vec<(&str, Value)> =
                call.named.iter().map(|(k, v)| (&**k, v.clone())).collect();
            constants::brace_format(&text, call.positional, &named)
        }
        ".replace" => {
            let from = first?.as_text()?;
            let to = call.positional.get(1)?.as_part();
            if text.len().saturating_mul(to.len().max(1)) > super::values::LONGEST_TEXT * 16 {
                return None;
            }
            Value::text(&text.replace(&*from, &to), true)
        }
        ".lower" | ".casefold" => Value::text(&text.to_lowercase(), true),
        ".upper" => Value::text(&text.to_uppercase(), true),
        ".title" | ".capitalize" | ".swapcase" => return None,
        ".strip" | ".lstrip" | ".rstrip" => {
            let set = first.and_then(Value::as_text);
            let cut = |c: char| set.as_deref().map_or(c.is_whitespace(), |s| s.contains(c));
            let cut_text = match method {
                ".lstrip" => text.trim_start_matches(cut),
                ".rstrip" => text.trim_end_matches(cut),
                _ => text.trim_matches(cut),
            };
            Value::text(cut_text, receiver.is_built())
        }
        ".split" => {
            let separator = first
                .and_then(Value::as_whole_text)
                .filter(|s| !s.is_empty());
            let parts: Vec<Value> = match separator {
                Some(separator) => text.split(&*separator).map(Value::literal).collect(),
                None => text.split_whitespace().map(Value::literal).collect(),
            };
            Value::list(parts)
        }
        ".joinpath" => {
            let mut parts = vec![receiver.clone()];
            parts.extend(call.positional.iter().cloned());
            join_path(&parts)
        }
        ".expanduser" | ".resolve" | ".absolute" | ".as_posix" => receiver.clone(),
        ".with_suffix" | ".with_name" => Value::text(&format!("{text}{UNKNOWN_PART}"), true),
        _ => return None,
    };
    Some(value)
}
