//! The identities that comfy names things by: what a string says is found out here, once.

use std::fmt;
use std::str::FromStr;

/// One part of a generation that has a pin of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// ComfyUI itself.
    Comfyui,
    /// The node pack of this name.
    Node(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Part::Comfyui => f.write_str("comfyui"),
            Part::Node(name) => write!(f, "node.{name}"),
        }
    }
}

impl FromStr for Part {
    type Err = UnknownAddress;
    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        match text.split_once('.') {
            None if text == "comfyui" => Ok(Part::Comfyui),
            Some(("node", name)) => Ok(Part::Node(name.into())),
            _ => Err(UnknownAddress(text.into())),
        }
    }
}

impl serde::Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Part {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The name of a resource in a plan: `node.impact-pack`, `share.models`.
///
/// What follows the first dot is kept as it is written: names of accounts may have dots too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Address {
    /// A group.
    Group(String),
    /// An account.
    User(String),
    /// `member.USER` of the shared group, or `member.USER.GROUP`.
    Member(String),
    /// Whether an account has jobs of its own.
    Cron(String),
    /// One of comfy's sets of folders.
    Dir(String),
    /// A share by its name, or `share.NAME.PATH` where it was before.
    Share(String),
    /// A folder above a share.
    Traverse(String),
    /// A link, by its name or by its path.
    Link(String),
    /// `network.egress` and `network.clients`.
    Network(String),
    /// How ComfyUI is launched.
    Run,
    /// The launcher and the files in folders of the system.
    Service(String),
    /// `comfyui` or `node.NAME`.
    Part(Part),
    /// The virtual environment.
    Python,
    /// A model, by the path in its share.
    Model(String),
    /// `generation`: steps that serve every part of the code.
    Generation,
    /// `models`: the step that fetches all of them.
    Models,
    /// `generation.ID`: one that `gc` removes.
    OldGeneration(String),
    /// `venv.ID`: one that `gc` removes.
    OldVenv(String),
    /// `interpreter.VERSION`: one that `gc` removes.
    OldInterpreter(String),
}

/// The text is not the address of anything that comfy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownAddress(String);

impl fmt::Display for UnknownAddress {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?} is not an address", self.0)
    }
}

impl std::error::Error for UnknownAddress {}

/// A family of resources that `--only` knows by one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    User,
    Comfyui,
    Nodes,
    Python,
    Models,
    Shares,
    Network,
}

impl Family {
    /// Every family with its word.
    pub(crate) const ALL: [(Family, &str); 7] = [
        (Family::User, "user"),
        (Family::Comfyui, "comfyui"),
        (Family::Nodes, "nodes"),
        (Family::Python, "python"),
        (Family::Models, "models"),
        (Family::Shares, "shares"),
        (Family::Network, "network"),
    ];

    /// The family of that word.
    pub(crate) fn from_word(word: &str) -> Option<Family> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(f, _)| *f)
    }
}

impl Address {
    /// The address of a node pack.
    pub(crate) fn node(name: &str) -> Address {
        Address::Part(Part::Node(name.into()))
    }

    /// The address of ComfyUI itself.
    pub(crate) const COMFYUI: Address = Address::Part(Part::Comfyui);

    /// The word before the first dot, and what follows it.
    fn split(&self) -> (&'static str, Option<&str>) {
        match self {
            Address::Group(rest) => ("group", Some(rest)),
            Address::User(rest) => ("user", Some(rest)),
            Address::Member(rest) => ("member", Some(rest)),
            Address::Cron(rest) => ("cron", Some(rest)),
            Address::Dir(rest) => ("dir", Some(rest)),
            Address::Share(rest) => ("share", Some(rest)),
            Address::Traverse(rest) => ("traverse", Some(rest)),
            Address::Link(rest) => ("link", Some(rest)),
            Address::Network(rest) => ("network", Some(rest)),
            Address::Run => ("run", None),
            Address::Service(rest) => ("service", Some(rest)),
            Address::Part(Part::Comfyui) => ("comfyui", None),
            Address::Part(Part::Node(rest)) => ("node", Some(rest)),
            Address::Python => ("python", None),
            Address::Model(rest) => ("model", Some(rest)),
            Address::Generation => ("generation", None),
            Address::Models => ("models", None),
            Address::OldGeneration(rest) => ("generation", Some(rest)),
            Address::OldVenv(rest) => ("venv", Some(rest)),
            Address::OldInterpreter(rest) => ("interpreter", Some(rest)),
        }
    }

    /// The word before the first dot.
    pub(crate) fn prefix(&self) -> &'static str {
        self.split().0
    }

    /// The family that it is selected with; none is selected by its address alone.
    pub(crate) fn family(&self) -> Option<Family> {
        match self {
            Address::Group(_) | Address::User(_) | Address::Member(_) | Address::Cron(_) => {
                Some(Family::User)
            }
            Address::Part(Part::Comfyui) => Some(Family::Comfyui),
            Address::Part(Part::Node(_)) => Some(Family::Nodes),
            Address::Python => Some(Family::Python),
            Address::Model(_) => Some(Family::Models),
            Address::Share(_) | Address::Traverse(_) => Some(Family::Shares),
            // The owner's view and the one in the sandbox user's home lead to the code.
            Address::Link(name) if name == "view" || name == "home" => None,
            Address::Link(_) => Some(Family::Shares),
            Address::Network(_) => Some(Family::Network),
            Address::Dir(_)
            | Address::Run
            | Address::Service(_)
            | Address::Generation
            | Address::Models
            | Address::OldGeneration(_)
            | Address::OldVenv(_)
            | Address::OldInterpreter(_) => None,
        }
    }

    /// Whether it is a resource of comfy.toml, and not a step or something that `gc` removes.
    pub(crate) fn is_resource(&self) -> bool {
        !matches!(
            self,
            Address::Generation
                | Address::Models
                | Address::OldGeneration(_)
                | Address::OldVenv(_)
                | Address::OldInterpreter(_)
        )
    }

    /// Whether it is part of the code that a generation holds or needs.
    pub(crate) fn is_code(&self) -> bool {
        matches!(self, Address::Part(_) | Address::Python)
    }

    /// Whether it is a model.
    pub(crate) fn is_model(&self) -> bool {
        matches!(self, Address::Model(_))
    }
}

impl From<Part> for Address {
    fn from(part: Part) -> Address {
        Address::Part(part)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.split() {
            (prefix, None) => f.write_str(prefix),
            (prefix, Some(rest)) => write!(f, "{prefix}.{rest}"),
        }
    }
}

impl FromStr for Address {
    type Err = UnknownAddress;
    fn from_str(text: &str) -> Result<Self, UnknownAddress> {
        let (prefix, rest) = match text.split_once('.') {
            Some((prefix, rest)) => (prefix, Some(rest.to_string())),
            None => (text, None),
        };
        Ok(match (prefix, rest) {
            ("group", Some(rest)) => Address::Group(rest),
            ("user", Some(rest)) => Address::User(rest),
            ("member", Some(rest)) => Address::Member(rest),
            ("cron", Some(rest)) => Address::Cron(rest),
            ("dir", Some(rest)) => Address::Dir(rest),
            ("share", Some(rest)) => Address::Share(rest),
            ("traverse", Some(rest)) => Address::Traverse(rest),
            ("link", Some(rest)) => Address::Link(rest),
            ("network", Some(rest)) => Address::Network(rest),
            ("run", None) => Address::Run,
            ("service", Some(rest)) => Address::Service(rest),
            ("comfyui", None) => Address::COMFYUI,
            ("node", Some(rest)) => Address::Part(Part::Node(rest)),
            ("python", None) => Address::Python,
            ("model", Some(rest)) => Address::Model(rest),
            ("generation", None) => Address::Generation,
            ("models", None) => Address::Models,
            ("generation", Some(rest)) => Address::OldGeneration(rest),
            ("venv", Some(rest)) => Address::OldVenv(rest),
            ("interpreter", Some(rest)) => Address::OldInterpreter(rest),
            _ => return Err(UnknownAddress(text.into())),
        })
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What an id of sixteen hexadecimal digits names, as a newtype with one parser.
macro_rules! content_id {
    ($(#[$doc:meta])* $name:ident, $folder:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id of a content with this hash.
            pub(crate) fn of_digest(content: sha2::Sha256) -> Self {
                use sha2::Digest as _;
                $name(base16ct::lower::encode_string(&content.finalize()[..8]))
            }

            /// The path below the instance's folder, as a link says it.
            pub(crate) fn relative_path(&self) -> String {
                format!(concat!($folder, "/{}"), self.0)
            }

        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = UnknownAddress;
            fn from_str(text: &str) -> Result<Self, UnknownAddress> {
                if text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    Ok($name(text.into()))
                } else {
                    Err(UnknownAddress(text.into()))
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

content_id!(
    /// The name of a generation: what its content amounts to.
    GenerationId,
    "gen"
);
content_id!(
    /// The name of a virtual environment: what its content amounts to.
    VenvId,
    "venv"
);

impl GenerationId {
    /// The generation that a link such as `current` leads to; `None` if it leads anywhere else.
    pub(crate) fn from_link(target: &std::path::Path) -> Option<GenerationId> {
        target.to_str()?.strip_prefix("gen/")?.parse().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_address_is_the_text_that_it_was_read_from() {
        for text in [
            "group.comfyshared",
            "user.a.b",
            "member.alice",
            "member.a.b.render",
            "cron.x",
            "dir.state",
            "share.models",
            "share.models./srv/a.b",
            "traverse./srv/a.b",
            "link.view",
            "network.egress",
            "run",
            "service.sudo",
            "comfyui",
            "node.a-b",
            "python",
            "model.loras/a.safetensors",
            "generation",
            "models",
            "generation.0123456789abcdef",
            "venv.0123456789abcdef",
            "interpreter.3.12.4",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "nodes", "node", "comfyui.x", "share", "../x", "Node.a"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    /// The compiler asks for a new address in `split`, and not where addresses are parsed.
    #[test]
    fn every_prefix_that_is_written_is_parsed() {
        let source = include_str!("ids.rs");
        let prefixes = |from: &str| -> std::collections::BTreeSet<String> {
            let body = source.split(from).nth(1).unwrap();
            let body = body.split("\n    }\n").next().unwrap();
            body.split("(\"")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap().to_string())
                .collect()
        };
        let written = prefixes("fn split(&self)");
        assert!(written.len() > 15, "{written:?}");
        assert_eq!(written, prefixes("FromStr for Address {"));
    }

    #[test]
    fn only_a_link_to_a_generation_leads_to_one() {
        let id = GenerationId::from_link(Path::new("gen/0123456789abcdef")).unwrap();
        assert_eq!(id.relative_path(), "gen/0123456789abcdef");
        for target in [
            "gen/../0123456789abcdef",
            "gen/0123456789abcde",
            "gen/gen/0123456789abcdef",
            "0123456789abcdef",
            "/opt/comfy/x/gen/0123456789abcdef",
            "gen/0123456789abcdeg",
        ] {
            assert_eq!(GenerationId::from_link(Path::new(target)), None, "{target}");
        }
    }
}
