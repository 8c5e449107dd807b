//! What functions of Python and of known libraries give back, and which data goes through them.

use std::sync::LazyLock;

use rustc_hash::FxHashSet as HashSet;

use super::expressions::{iterable_items, join_path};
use super::reader::Reader;
use super::rules::{CallSite, last_segment};
use super::scope::Frame;
use super::taint::{SourceKind, Taint, cleared};
use super::texts::{is_spelled_out, worked_out};
use super::values::{UNKNOWN_PART, Value};

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
    "base64.b32encode",
    "base64.b16encode",
    "base64.b85encode",
    "binascii.hexlify",
    "binascii.b2a_base64",
    "gzip.compress",
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

/// [`PASSES`], to look a name up.
static PASSING: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| PASSES.iter().copied().collect());

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
        if call.facts.is_number {
            return Value::UNKNOWN;
        }
        let taint = passed_taint(name, callee, call);
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
            "pathlib.Path.home" => Value::text("~", true),
            "shutil.which" => call.positional.first().cloned().unwrap_or(Value::UNKNOWN),
            "pathlib.Path.cwd" => Value::text(&UNKNOWN_PART.to_string(), true),
            _ => self.names.called(name).with_taint(&taint),
        }
    }
}

/// Whether a call takes what leads elsewhere out of a path: `re.sub(r"[^\w.-]", "", name)`.
fn takes_out_slashes(name: &str, short: &str, call: &CallSite<'_>) -> bool {
    if call.facts.sanitizes {
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

pub(super) fn sanitizes(name: &str) -> bool {
    let last = last_segment(name).to_ascii_lowercase();
    let words = ["sanitize", "secure_filename", "safe_filename"];
    words.iter().any(|w| last.contains(w))
}

pub(super) fn passes(name: &str) -> bool {
    PASSING.contains(name)
}

pub(super) fn clears_path(name: &str) -> bool {
    CLEARS_PATH.contains(&name) || matches!(last_segment(name), ".basename" | ".secure_filename")
}

/// Functions that give numbers, hashes and answers, which carry nothing on.
pub(super) fn is_number(name: &str) -> bool {
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

/// The data that comes back from a call, less what the call makes harmless.
fn passed_taint(name: &str, callee: &Value, call: &CallSite<'_>) -> Taint {
    let own = call.receiver.map_or(&callee.taint, |r| &r.taint);
    let short = last_segment(name);
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
    if call.facts.passes || method && texts {
        taint = taint.join(&arguments());
    }
    if call.facts.clears_path {
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
    taint
}
