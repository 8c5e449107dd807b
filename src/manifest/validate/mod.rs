//! From the wire form to the model: defaults, rules, and every mistake with its place and its
//! remedy.

mod models;
mod run;
mod shares;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytestring::ByteString;

use super::{wire, *};
use crate::problem::Problem;
use crate::text::did_you_mean;

const KNOWN_VERSION: i64 = 1;
const DEFAULT_REPO: &str = "https://github.com/comfyanonymous/ComfyUI";
/// More than anyone has, and few enough that no later step can be made slow by it.
const MAX_NODES: usize = 2_000;
const MAX_FILE: usize = 32 << 20;
/// Mistakes that are told one by one.
const SHOWN: usize = 100;

pub(super) fn parse_manifest(path: &Path, text: &ByteString, hostname: &str) -> Result<Manifest> {
    let source = TomlSource::new(path, text, None);
    if text.len() > MAX_FILE {
        return Err(
            Problem::new(format!("{}: larger than 32 MiB", source.file_name()))
                .with_hint("this is no manifest; is it the right file?"),
        );
    }
    let (rest, models) =
        model_tables::extract(text, &["share", "source", "sha256"], model_from_fields);
    if !models.is_empty()
        && let Ok(manifest) = read_source(&source, &rest, models, hostname)
    {
        return Ok(manifest);
    }
    // All of it by the parser: mistakes are told as it sees them, with their places in the text as
    // it stands.
    read_source(&source, text, Table::new_vec(), hostname)
}

/// `text` is all of `source`, or what is left of it without `models`.
fn read_source(
    source: &TomlSource,
    text: &str,
    mut models: Table<wire::TomlModel>,
    hostname: &str,
) -> Result<Manifest> {
    // Once as it stands; then merged for this machine.
    let plain: wire::TomlManifest =
        toml::from_str(text).map_err(|e| located_problem(source, &e))?;
    let overlay = plain
        .hosts
        .keys()
        .find(|h| h.eq_ignore_ascii_case(hostname))
        .cloned();
    let mut wire = match &overlay {
        None => plain,
        Some(name) => merge_host(source, text, name)?,
    };
    let source = TomlSource::new(&source.path, &source.text, overlay.as_deref());
    let mut check = ManifestCheck {
        source,
        problems: Vec::new(),
        more: 0,
    };
    let others = std::mem::take(&mut wire.models);
    if models.is_empty() {
        models = others
            .into_iter()
            .map(|(path, m)| (path.into(), m))
            .collect();
    } else if !others.is_empty() {
        check.report_mistake(&["models"], "models in two forms", "write them in one");
    }
    let manifest = check.check_manifest(wire, models);
    if check.more > 0 {
        check
            .problems
            .push(Problem::new(format!("and {} more", check.more)));
    }
    if check.problems.is_empty() {
        Ok(manifest)
    } else {
        Err(Problem::from_many(check.problems))
    }
}

fn model_from_fields(
    _: &str,
    fields: [Option<model_tables::FieldValue>; 3],
) -> Option<wire::TomlModel> {
    // A number is the parser's to refuse.
    let [share, source, sha256] = fields.map(model_tables::optional_text);
    Some(wire::TomlModel {
        share: share?,
        source: source?,
        sha256: sha256?,
    })
}

fn merge_host(source: &TomlSource, text: &str, name: &str) -> Result<wire::TomlManifest> {
    let mut whole: toml::Table = toml::from_str(text).map_err(|e| located_problem(source, &e))?;
    let over = whole
        .get("hosts")
        .and_then(|h| h.get(name))
        .and_then(|h| h.as_table())
        .cloned()
        .unwrap_or_default();
    deep_merge(&mut whole, over);
    toml::Value::Table(whole)
        .try_into()
        .map_err(|e: toml::de::Error| {
            Problem::new(format!(
                "{}: [hosts.{name}]: {}",
                source.file_name(),
                e.message()
            ))
        })
}

fn deep_merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(b)), toml::Value::Table(o)) => deep_merge(b, o),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A parse error of the toml crate, with file:line:column and, for an unknown key, the key that was
/// meant.
fn located_problem(source: &TomlSource, e: &toml::de::Error) -> Problem {
    let place = source.place_of_offset(e.span().map_or(0, |s| s.start));
    let message = e.message().replace('\n', "; ");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") && !quoted.is_empty() {
        let known = &quoted[1..];
        let p = Problem::new(format!("{place}: unknown key `{}`", quoted[0]));
        return match did_you_mean(quoted[0], known.iter().copied()) {
            Some(k) => p.with_hint(format!("did you mean `{k}`?")),
            None => p.with_hint(format!("known here: {}", known.join(", "))),
        };
    }
    Problem::new(format!("{place}: {message}"))
}

pub(super) struct ManifestCheck {
    source: TomlSource,
    problems: Vec<Problem>,
    /// Beyond [`SHOWN`].
    more: usize,
}

impl ManifestCheck {
    pub(super) fn report_mistake(
        &mut self,
        at: &[&str],
        message: impl AsRef<str>,
        hint: impl Into<String>,
    ) {
        if self.problems.len() == SHOWN {
            self.more += 1;
            return;
        }
        let place = self.source.place_of_key(at);
        self.problems.push(
            Problem::new(format!(
                "{place}: {}",
                crate::text::escape_text(message.as_ref())
            ))
            .with_hint(hint),
        );
    }

    pub(super) fn one_of<'a>(
        &mut self,
        at: &[&str],
        value: Option<String>,
        default: &'a str,
        known: &'a [&'a str],
    ) -> String {
        let value = value.unwrap_or_else(|| default.to_string());
        if !known.contains(&value.as_str()) {
            let hint = match did_you_mean(&value, known.iter().copied()) {
                Some(k) => format!("did you mean \"{k}\"?"),
                None => format!("known: {}", known.join(", ")),
            };
            self.report_mistake(
                at,
                format!("{} \"{value}\" is unknown", at.last().unwrap_or(&"value")),
                hint,
            );
        }
        value
    }

    fn check_manifest(
        &mut self,
        w: wire::TomlManifest,
        models: Table<wire::TomlModel>,
    ) -> Manifest {
        match w.version {
            Some(KNOWN_VERSION) => {}
            Some(v) if v > KNOWN_VERSION => {
                self.report_mistake(
                    &["version"],
                    format!("version {v} is newer than this comfy knows ({KNOWN_VERSION})"),
                    "install a newer comfy",
                );
            }
            Some(v) => self.report_mistake(
                &["version"],
                format!("version {v} is unknown"),
                "write `version = 1`",
            ),
            None => {
                self.report_mistake(&[], "no `version`", "write `version = 1` as the first line")
            }
        }
        let hosts = w.hosts.into_keys().collect();
        let host = self.check_host(w.host);
        let comfyui = self.check_comfyui(w.comfyui);
        let python = self.check_python(w.python);
        let nodes = self.check_nodes(w.nodes, &comfyui.repo);
        let shares = self.check_shares(w.shares);
        let models = self.check_models(models, &shares);
        let run = self.check_run(w.run);
        let plain = |p: &Path| {
            p.to_str().is_some_and(|p| {
                p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
            })
        };
        if let Some(prefix) = host
            .prefix
            .as_ref()
            .filter(|p| (run.passwordless || run.boot) && !plain(p))
        {
            let message = format!(
                "sudo and the system read {} in their own way, which [run] passwordless and boot \
                 need",
                prefix.display()
            );
            self.report_mistake(
                &["host", "prefix"],
                message,
                "use letters, digits, `.`, `_`, `-` and `/`",
            );
        }
        let network = self.check_network(w.network, comfyui.allow_remote);
        let policy = self.check_policy(w.policy, &nodes);
        Manifest {
            source: self.source.clone(),
            hosts,
            host,
            comfyui,
            python,
            nodes,
            models,
            shares,
            run,
            network,
            policy,
        }
    }

    fn check_host(&mut self, w: wire::TomlHost) -> HostSettings {
        let sandbox_user = w.sandbox_user.unwrap_or_else(|| "comfyui_sandbox".into());
        let group = w.group.unwrap_or_else(|| "comfyshared".into());
        for (key, name) in [
            ("primary_user", w.primary_user.as_deref()),
            ("sandbox_user", Some(&sandbox_user)),
            ("group", Some(&group)),
        ] {
            if let Some(name) = name
                && let Err(why) = names::check_account(name)
            {
                self.report_mistake(
                    &["host", key],
                    format!("{key} \"{name}\" {why}"),
                    "choose another name",
                );
            }
        }
        if names::SYSTEM_USERS.contains(&sandbox_user.as_str()) {
            self.report_mistake(
                &["host", "sandbox_user"],
                format!("sandbox_user \"{sandbox_user}\" is an account of the system"),
                "choose a name of its own, such as comfyui_sandbox",
            );
        }
        if names::PRIVILEGED_GROUPS.contains(&group.as_str()) {
            self.report_mistake(
                &["host", "group"],
                format!("group \"{group}\" carries rights of its own, which the sandbox would get"),
                "choose a name of its own, such as comfyshared",
            );
        }
        if group == sandbox_user {
            self.report_mistake(
                &["host", "group"],
                "group and sandbox_user have the same name; the sandbox user's own group has it \
                 already",
                "choose another name for the group",
            );
        }
        if w.primary_user.as_deref() == Some(&sandbox_user) {
            self.report_mistake(
                &["host", "sandbox_user"],
                "sandbox_user and primary_user are the same account",
                "isolation needs two accounts; for none write `isolation = \"none\"`",
            );
        }
        if w.primary_user.as_deref() == Some("root") {
            self.report_mistake(
                &["host", "primary_user"],
                "primary_user is root",
                "name the account of the person who uses ComfyUI",
            );
        }
        let gid = w.gid.and_then(|g| match u32::try_from(g) {
            Ok(g) if (100..=2_000_000_000).contains(&g) => Some(g),
            _ => {
                self.report_mistake(
                    &["host", "gid"],
                    format!("gid {g} is not between 100 and 2000000000"),
                    "leave it out and comfy takes a free one",
                );
                None
            }
        });
        let isolation = match self
            .one_of(
                &["host", "isolation"],
                w.isolation,
                "account",
                &["account", "none"],
            )
            .as_str()
        {
            "none" => IsolationMode::None,
            _ => IsolationMode::Account,
        };
        let prefix = w.prefix.and_then(|p| {
            self.check_path(&["host", "prefix"], &p)
                .map(|()| PathBuf::from(p))
        });
        HostSettings {
            primary_user: w.primary_user,
            sandbox_user,
            group,
            gid,
            adopt: w.adopt.unwrap_or(false),
            isolation,
            prefix,
        }
    }

    /// Absolute or below `~`, clean, without anything that could hide.
    pub(super) fn check_path(&mut self, at: &[&str], path: &str) -> Option<()> {
        let key = at.last().copied().unwrap_or("path");
        if path.trim_matches('/').is_empty() {
            self.report_mistake(
                at,
                format!("{key} \"{path}\" is the whole disk"),
                "name a folder of its own",
            );
            return None;
        }
        let inner = path.strip_prefix("~/").or(path.strip_prefix('/'));
        let Some(inner) = inner else {
            let hint = if path == "~" {
                "name a folder of its own"
            } else {
                "write an absolute path, or one that starts with ~/"
            };
            self.report_mistake(
                at,
                format!("{key} \"{path}\" is not a path that comfy manages"),
                hint,
            );
            return None;
        };
        match names::check_relative(inner.trim_end_matches('/')) {
            Ok(()) => Some(()),
            Err(why) => {
                self.report_mistake(
                    at,
                    format!("{key} \"{path}\" {why}"),
                    "write the path in full, without `.` and `..`",
                );
                None
            }
        }
    }

    fn repo_and_ref(
        &mut self,
        at: &[&str],
        repo: Option<String>,
        git_ref: Option<String>,
    ) -> (String, String) {
        let repo = repo.unwrap_or_default();
        if repo.is_empty() {
            self.report_mistake(
                at,
                format!("[{}] names no `repo`", at.join(".")),
                "add `repo = \"https://github.com/OWNER/NAME\"`",
            );
        } else if let Err(why) = names::repo_url(&repo) {
            self.report_mistake(
                &[at, &["repo"]].concat(),
                format!("repo \"{repo}\" {why}"),
                "write it as https://github.com/OWNER/NAME",
            );
        }
        let git_ref = git_ref.unwrap_or_default();
        if git_ref.is_empty() {
            self.report_mistake(
                at,
                format!("[{}] names no `ref`", at.join(".")),
                "add `ref = \"main\"`, a tag, or a commit of 40 digits",
            );
        } else if let Err(why) = names::git_ref(&git_ref) {
            self.report_mistake(
                &[at, &["ref"]].concat(),
                format!("ref \"{git_ref}\" {why}"),
                "name a branch, a tag, or a commit of 40 digits",
            );
        }
        (repo, git_ref)
    }

    fn check_comfyui(&mut self, w: Option<wire::TomlComfyui>) -> ComfyuiSettings {
        if w.is_none() {
            self.report_mistake(
                &[],
                "no [comfyui] section",
                "add `[comfyui]` with `ref = \"v0.3.64\"`, or run `comfy init`",
            );
        }
        let absent = w.is_none();
        let w = w.unwrap_or_default();
        let (repo, git_ref) = if absent {
            (DEFAULT_REPO.into(), "master".into())
        } else {
            self.repo_and_ref(
                &["comfyui"],
                w.repo.or(Some(DEFAULT_REPO.into())),
                w.git_ref,
            )
        };
        if let Some(view) = &w.view {
            self.check_path(&["comfyui", "view"], view);
        }
        let listen = w.listen.unwrap_or_else(|| "127.0.0.1".into());
        let allow_remote = w.allow_remote.unwrap_or(false);
        if listen != "localhost"
            && listen
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_err()
        {
            self.report_mistake(
                &["comfyui", "listen"],
                format!("listen \"{listen}\" is no address"),
                "write \"127.0.0.1\"",
            );
        } else if !values::is_loopback(&listen) && !allow_remote {
            self.report_mistake(
                &["comfyui", "listen"],
                format!("listen \"{listen}\" would let other machines in"),
                "write \"127.0.0.1\", or add `allow_remote = true` if that is what you want",
            );
        }
        let port = match w.port.unwrap_or(8188) {
            p @ 1024..=65535 => p as u16,
            p => {
                self.report_mistake(
                    &["comfyui", "port"],
                    format!("port {p} is not between 1024 and 65535"),
                    "8188 is ComfyUI's own",
                );
                8188
            }
        };
        let args = w.args.unwrap_or_default();
        for (i, a) in args.iter().enumerate() {
            if let Some(flag) = values::reserved_flag(a) {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    format!("`{a}` in args sets {flag}, which comfy sets itself"),
                    "leave it out; address and port are `listen` and `port`, folders are shares",
                );
            }
            if a.is_empty() || a == "--" || a == "-h" {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    format!("`{a}` is no argument for ComfyUI"),
                    "leave it out",
                );
            }
            if a.chars().any(char::is_control) {
                self.report_mistake(
                    &["comfyui", "args", &i.to_string()],
                    "an argument has a control character",
                    "leave it out",
                );
            }
        }
        let writable = self.check_writable(&["comfyui"], w.writable);
        for (i, p) in writable
            .iter()
            .enumerate()
            .filter(|(_, p)| *p != "web" && !p.starts_with("web/"))
        {
            // Beside main.py every folder is a package that Python would find first.
            let hint = "nodes that put files into ComfyUI itself put them into web/extensions; \
                everything else stays sealed";
            self.report_mistake(
                &["comfyui", "writable", &i.to_string()],
                format!("writable \"{p}\" lies where ComfyUI's code is"),
                hint,
            );
        }
        ComfyuiSettings {
            repo,
            git_ref,
            view: w.view,
            listen,
            allow_remote,
            port,
            args,
            writable,
        }
    }

    fn check_python(&mut self, w: wire::TomlPython) -> PythonSettings {
        let version = w.version.unwrap_or_else(|| "3.12".into());
        let minor = version
            .strip_prefix("3.")
            .filter(|m| m.bytes().all(|b| b.is_ascii_digit()) && !m.starts_with('0'))
            .and_then(|m| m.parse::<u8>().ok());
        if !minor.is_some_and(|m| (9..=30).contains(&m)) {
            self.report_mistake(
                &["python", "version"],
                format!("version \"{version}\" is no minor version of Python 3"),
                "write \"3.12\"",
            );
        }
        let age = w.minimum_age.unwrap_or_else(|| "3 days".into());
        let minimum_age = values::parse_duration(&age).unwrap_or_else(|| {
            self.report_mistake(
                &["python", "minimum_age"],
                format!("minimum_age \"{age}\" is no duration"),
                "write \"3 days\", \"12 hours\" or \"0\"",
            );
            chrono::Duration::days(3)
        });
        let requirements = w.requirements.unwrap_or_default();
        let overrides = w.overrides.unwrap_or_default();
        for (key, list) in [("requirements", &requirements), ("overrides", &overrides)] {
            for (i, line) in list.iter().enumerate() {
                if line.trim_start().starts_with('-') || line.contains("://") || line.contains('\n')
                {
                    self.report_mistake(
                        &["python", key, &i.to_string()],
                        format!("\"{line}\" is no plain requirement"),
                        "write `name==1.2`; another index goes into `indexes`",
                    );
                }
            }
        }
        let mut indexes = Vec::new();
        for (i, x) in w.indexes.unwrap_or_default().into_iter().enumerate() {
            let i = i.to_string();
            if let Err(why) = values::model_source(&x.url).and_then(|()| {
                if x.url.starts_with("http") {
                    Ok(())
                } else {
                    Err("is no https:// address".into())
                }
            }) {
                self.report_mistake(
                    &["python", "indexes", &i],
                    format!("index \"{}\": \"{}\" {why}", x.name, x.url),
                    "use https://",
                );
            }
            if x.packages.is_empty() {
                self.report_mistake(
                    &["python", "indexes", &i],
                    format!("index \"{}\" names no packages", x.name),
                    "name the packages that come from it, so that no other can",
                );
            }
            indexes.push(PackageIndex {
                name: x.name,
                url: x.url,
                packages: x.packages,
            });
        }
        PythonSettings {
            version,
            requirements,
            overrides,
            minimum_age,
            indexes,
        }
    }

    fn check_nodes(
        &mut self,
        w: BTreeMap<String, wire::TomlNode>,
        core: &str,
    ) -> BTreeMap<String, NodeSettings> {
        let mut nodes = BTreeMap::new();
        let mut by_repo: BTreeMap<String, String> = BTreeMap::new();
        if w.len() > MAX_NODES {
            self.report_mistake(
                &["nodes"],
                format!("{} nodes; comfy takes up to {MAX_NODES}", w.len()),
                "is this the right file?",
            );
        }
        self.folder_names("nodes", "node", w.keys());
        for (name, n) in w {
            let at = ["nodes", name.as_str()];
            let (repo, git_ref) = self.repo_and_ref(&at, n.repo, n.git_ref);
            if !repo.is_empty() {
                if let Some(other) = by_repo.insert(names::repo_key(&repo), name.clone()) {
                    self.report_mistake(
                        &[at[0], at[1], "repo"],
                        format!("nodes `{other}` and `{name}` are the same repository"),
                        "remove one of them: ComfyUI would load its classes twice",
                    );
                }
                if names::repo_key(&repo) == names::repo_key(core) {
                    self.report_mistake(
                        &[at[0], at[1], "repo"],
                        format!("node `{name}` is ComfyUI itself"),
                        "ComfyUI goes into [comfyui]",
                    );
                }
            }
            let writable = self.check_writable(&at, n.writable);
            nodes.insert(
                name,
                NodeSettings {
                    repo,
                    git_ref,
                    enabled: n.enabled.unwrap_or(true),
                    note: n.note,
                    writable,
                    ignore_requirements: n.ignore_requirements.unwrap_or_default(),
                },
            );
        }
        nodes
    }

    pub(super) fn folder_names<'a>(
        &mut self,
        section: &str,
        what: &str,
        all: impl Iterator<Item = &'a String>,
    ) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for name in all {
            if let Err(why) = names::check_folder(name) {
                self.report_mistake(
                    &[section, name],
                    format!("{what} name \"{}\" {why}", crate::text::escape_text(name)),
                    "choose another name",
                );
            }
            if let Some(other) = seen.insert(names::folded_name(name), name) {
                self.report_mistake(
                    &[section, name],
                    format!("`{other}` and `{name}` are one name on a Mac's disk"),
                    "rename one of them",
                );
            }
        }
    }

    /// The `writable` paths of ComfyUI or of a node.
    fn check_writable(&mut self, at: &[&str], list: Option<Vec<String>>) -> Vec<String> {
        let all: Vec<String> = list
            .unwrap_or_default()
            .iter()
            .map(|p| p.trim_end_matches('/').to_string())
            .collect();
        for (i, p) in all.iter().enumerate() {
            let number = i.to_string();
            let at = [at, &["writable", &number]].concat();
            if let Err(why) = names::check_relative(p) {
                self.report_mistake(
                    &at,
                    format!("writable \"{p}\" {why}"),
                    "name a file or folder inside the node",
                );
            } else if names::is_code(p) {
                self.report_mistake(
                    &at,
                    format!("writable \"{p}\" is code"),
                    "code stays sealed; name the data file or folder that the node writes",
                );
            } else if all
                .iter()
                .enumerate()
                .any(|(j, q)| j != i && format!("{p}/").starts_with(&format!("{q}/")))
            {
                self.report_mistake(
                    &at,
                    format!("writable \"{p}\" lies in another writable path"),
                    "name the outer one only",
                );
            }
        }
        all
    }
}
