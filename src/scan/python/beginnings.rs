//! Where data begins: replies, files, the environment, what is decoded.

use std::rc::Rc;
use std::sync::LazyLock;

use rustc_hash::FxHashSet as HashSet;

use super::constants;
use super::reader::Reader;
use super::rules::{CallSite, credentials, network};
use super::scope::Frame;
use super::taint::{SourceKind, Taint};
use super::unpacking;
use super::values::{UNKNOWN_PART, Value};

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

/// [`DECODES`], to look a name up.
static DECODING: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| DECODES.iter().copied().collect());

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

/// Which data comes back from a call of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    Peer,
    Remote,
    Decoded,
    HostInfo,
    /// `open(path)`
    OpenedFile,
    /// `path.read_text()`
    ReadFile,
    Variable,
    Argument,
    Private,
    Token,
    /// `value.decode(coding)`
    DecodedText,
}

impl Beginning {
    pub(super) fn of(name: &str) -> Option<Beginning> {
        let receives = name.starts_with("socket.")
            && (name.ends_with(".recv")
                || name.ends_with(".recvfrom")
                || name.ends_with(".makefile"))
            || name.ends_with("()") && name.contains("websocket") && name.ends_with(".recv");
        let remote = network::is_network(name)
            && !network::is_download(name)
            && name != "urllib.request.Request";
        Some(match name {
            _ if receives => Beginning::Peer,
            _ if remote => Beginning::Remote,
            _ if DECODING.contains(name) => Beginning::Decoded,
            _ if HOST_INFO.contains(&name) && !PLAIN_FACTS.contains(&name) => Beginning::HostInfo,
            "builtins.open" => Beginning::OpenedFile,
            "os.getenv" => Beginning::Variable,
            "builtins.input"
            | "builtins.raw_input"
            | "argparse.ArgumentParser().parse_args"
            | "argparse.ArgumentParser().parse_known_args" => Beginning::Argument,
            "keyring.get_password"
            | "browser_cookie3.load"
            | "browser_cookie3.chrome"
            | "PIL.ImageGrab.grab"
            | "pyperclip.paste"
            | "win32crypt.CryptUnprotectData"
            | "pyautogui.screenshot" => Beginning::Private,
            "huggingface_hub.get_token"
            | "huggingface_hub.utils.get_token"
            | "huggingface_hub.HfFolder.get_token" => Beginning::Token,
            _ if name.ends_with(".read_text") || name.ends_with(".read_bytes") => {
                Beginning::ReadFile
            }
            _ if name.ends_with(".decode") => Beginning::DecodedText,
            _ => return None,
        })
    }
}

impl<'a> Reader<'a> {
    /// Data that begins with this call.
    pub(super) fn beginning(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
    ) -> Option<Value> {
        let begins = call.facts.begins?;
        let result = self.names.called(name);
        let source = |kind: SourceKind, message: &str| Self::source(frame, offset, kind, message);
        let taint = match begins {
            Beginning::Peer => source(SourceKind::Peer, "a socket receives"),
            Beginning::Remote => source(SourceKind::Remote, "a reply comes from the network"),
            Beginning::HostInfo => {
                source(SourceKind::HostInfo, "the machine or its user is asked for")
            }
            Beginning::Argument => source(SourceKind::Argument, "an argument comes in"),
            Beginning::Private => source(SourceKind::Credential, "something private is read"),
            Beginning::OpenedFile | Beginning::ReadFile => {
                let named = match begins {
                    Beginning::OpenedFile => call.positional.first(),
                    _ => call.receiver,
                };
                let path = named.map_or_else(String::new, Value::as_part);
                let kind = if credentials::secret_file(&path).is_some() {
                    SourceKind::Credential
                } else {
                    SourceKind::FileContent
                };
                source(kind, "a file is read")
            }
            Beginning::Variable => {
                let text = call.text(0, "key");
                return Some(self.variable_of_environment(frame, offset, text.as_deref()));
            }
            Beginning::Token => source(SourceKind::Secret, "a token is read"),
            Beginning::DecodedText => {
                call.receiver?;
                return self.decoded_text(frame, offset, call);
            }
            Beginning::Decoded => return Self::decoded_data(frame, offset, name, call, result),
        };
        Some(result.with_taint(&taint))
    }

    /// `b64decode(data)`; `result` is what comes back if it is not worked out.
    fn decoded_data(
        frame: &Frame<'a>,
        offset: u32,
        name: &str,
        call: &CallSite<'_>,
        result: Value,
    ) -> Option<Value> {
        let first = call.argument(0, "s");
        let known = first.and_then(|v| {
            constants::decode_with(name, v).or_else(|| unpacking::unpack_with(name, v))
        });
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
        let made = Self::source(frame, offset, SourceKind::Decoded, "data is decoded");
        let value = known.unwrap_or(result);
        Some(value.with_taint(&passed).with_taint(&made))
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
