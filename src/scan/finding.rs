//! What a scan finds: one place that can do something, and what it is for where that can be seen.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rules::{self, Rule};

/// Defines an enum of words: `Display`, `FromStr`-like `from_word`, and serde as the word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum $name {
            $($(#[$each])* $variant),+
        }

        impl $name {
            /// Every one, in order.
            pub(crate) const ALL: &'static [$name] = &[$($name::$variant),+];

            pub(crate) const fn as_word(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }

            pub(crate) fn from_word(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|v| v.as_word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_word())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_word())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let word = String::deserialize(d)?;
                $name::from_word(&word)
                    .ok_or_else(|| serde::de::Error::custom(format!("unknown word \"{word}\"")))
            }
        }
    };
}

words!(
    /// What code can do.
    Category {
        /// Runs code that it makes or is given: `exec`, `eval`, `compile`, import by a name.
        CodeExec = "code-exec",
        /// Reads a format that can run code: pickle, unsafe YAML, `torch.load`.
        Deser = "deser",
        /// Starts programs.
        CmdExec = "cmd-exec",
        /// Installs packages.
        PkgInstall = "pkg-install",
        GitClone = "git-clone",
        /// Uses a path out of data that it does not check.
        PathTraversal = "path-traversal",
        /// Removes, moves or overwrites files.
        FileOp = "file-op",
        /// Connects to an address out of data that it does not check.
        Ssrf = "ssrf",
        /// Downloads without a hash or over plain HTTP.
        InsecureDownload = "insecure-download",
        TlsOff = "tls-off",
        /// Answers requests of the browser without asking who sends them.
        WebRoute = "web-route",
        /// Reads keys, tokens, passwords or the environment.
        CredRead = "cred-read",
        Obfuscation = "obfuscation",
        NetworkListener = "network-listener",
        /// Arranges to be started again.
        Persistence = "persistence",
        /// Code that nobody reads: compiled, hidden, linked or unparseable.
        Carrier = "carrier",
    }
);

words!(
    /// How much a finding matters.
    Severity {
        Low = "low",
        Medium = "medium",
        High = "high",
        Critical = "critical",
    }
);

words!(
    /// What code is for, where that can be seen.
    Intent {
        /// Sends data to a chat service or a catcher of requests.
        Webhook = "webhook",
        Miner = "miner",
        /// Reads a browser's profile: cookies, passwords, wallets.
        BrowserProfile = "browser-profile",
        Clipboard = "clipboard",
        /// Takes pictures of the screen.
        Screen = "screen",
        /// Records what is typed.
        Keylogger = "keylogger",
        /// Copies itself into other places.
        SelfPropagation = "self-propagation",
        /// Starts a program that nobody is to see.
        SilentSpawn = "silent-spawn",
        /// Fetches code and runs it.
        DownloadAndRun = "download-and-run",
        /// Takes commands from elsewhere.
        RemoteShell = "remote-shell",
    }
);

/// One step of the way from where data comes in to where it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowStep {
    pub path: String,
    /// Counted from 1.
    pub line: u32,
    pub column: u32,
    pub message: String,
}

/// One place that can do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    #[serde(serialize_with = "write_rule", deserialize_with = "read_rule")]
    pub rule: &'static Rule,
    /// The rule's own, or another where the place says more.
    pub severity: Severity,
    pub intent: Option<Intent>,
    /// Relative to what was scanned, with `/`; a member of an archive follows `!`.
    pub path: String,
    /// Counted from 1; 0 if the file has no lines.
    pub line: u32,
    /// In characters, counted from 1; 0 if the file has no lines.
    pub column: u32,
    /// One sentence about this place.
    pub message: String,
    /// The line of the source as it is, at most [`LONGEST_SNIPPET`] bytes of it; whoever prints it
    /// escapes it.
    pub snippet: String,
    /// From where data comes in to here; empty if no data was followed.
    pub steps: Vec<FlowStep>,
    /// Of the bytes of its file; empty where that is too long to be source.
    #[serde(default)]
    pub file_hash: String,
}

/// Bytes of a snippet.
pub(crate) const LONGEST_SNIPPET: usize = 240;

impl Finding {
    /// A finding about a file as a whole, with the rule's own severity.
    pub(crate) fn about_file(rule: &'static Rule, path: &str, message: String) -> Finding {
        Finding {
            rule,
            severity: rule.severity,
            intent: rule.intent,
            path: path.to_string(),
            line: 0,
            column: 0,
            message,
            snippet: String::new(),
            steps: Vec::new(),
            file_hash: String::new(),
        }
    }

    /// What it says of its place, else what its rule says of all of them.
    pub(crate) fn said(&self) -> &str {
        if self.message.is_empty() {
            self.rule.reason
        } else {
            &self.message
        }
    }

    pub(crate) fn category(&self) -> Category {
        self.rule.category
    }
}

fn write_rule<S: Serializer>(rule: &&'static Rule, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(rule.id)
}

fn read_rule<'de, D: Deserializer<'de>>(d: D) -> Result<&'static Rule, D::Error> {
    let id = String::deserialize(d)?;
    rules::find_rule(&id)
        .ok_or_else(|| serde::de::Error::custom(format!("there is no rule \"{id}\"")))
}

words!(
    /// What a model file is.
    Verdict {
        /// It holds data alone.
        Safe = "safe",
        /// It could not be read to its end, or asks for something that nobody knows.
        Review = "review",
        /// It runs code when it is loaded.
        Hostile = "hostile",
    }
);

/// What was seen of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileVerdict {
    pub path: String,
    pub verdict: Verdict,
}
