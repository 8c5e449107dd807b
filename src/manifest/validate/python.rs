//! The rules for `[python]`.

use super::ManifestCheck;
use crate::manifest::platforms::{ACCELERATORS, list_words};
use crate::manifest::wheel_sources::WHEELS_INDEX;
use crate::manifest::{wire, *};

impl ManifestCheck {
    pub(super) fn check_python(&mut self, w: wire::TomlPython) -> PythonSettings {
        let version = w.version.unwrap_or_else(|| "3.12".into());
        let minor = version
            .strip_prefix("3.")
            .filter(|m| m.bytes().all(|b| b.is_ascii_digit()) && !m.starts_with('0'))
            .and_then(|m| m.parse::<u8>().ok());
        if !minor.is_some_and(|m| (9..=30).contains(&m)) {
            self.report_mistake(
                &["python", "version"],
                format!("version \"{version}\" is not a minor version of Python 3"),
                "write \"3.12\"",
            );
        }
        let age = w.minimum_age.unwrap_or_else(|| "3 days".into());
        let minimum_age = values::parse_duration(&age).unwrap_or_else(|| {
            self.report_mistake(
                &["python", "minimum_age"],
                format!("minimum_age \"{age}\" is not a duration"),
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
                        format!("\"{line}\" is not a plain requirement"),
                        "write `name==1.2`; declare another index in `indexes`",
                    );
                }
            }
        }
        let platforms = match w.platforms {
            None => LockPlatform::defaults(),
            Some(words) => {
                if words.is_empty() {
                    self.report_mistake(
                        &["python", "platforms"],
                        "platforms is empty",
                        known_platforms(),
                    );
                }
                self.check_platforms(&["python", "platforms"], &words)
            }
        };
        let indexes = self.check_indexes(w.indexes.unwrap_or_default(), &platforms);
        let wheels = self.check_wheels(w.wheels);
        let allow_pth = w.allow_pth.unwrap_or_default();
        for (i, name) in allow_pth.iter().enumerate() {
            if !is_plain_name(name) {
                self.report_mistake(
                    &["python", "allow_pth", &i.to_string()],
                    format!("\"{name}\" is not a package's name"),
                    "write the name alone",
                );
            }
        }
        let allow_pth = allow_pth.iter().map(|n| names::normalize_name(n)).collect();
        PythonSettings {
            version,
            requirements,
            overrides,
            minimum_age,
            platforms,
            indexes,
            wheels,
            allow_pth,
        }
    }

    fn check_wheels(&mut self, wheels: Option<wire::OneOrMany>) -> Vec<WheelSource> {
        let (entries, single) = match wheels {
            None => (Vec::new(), true),
            Some(wire::OneOrMany::One(entry)) => (vec![entry], true),
            Some(wire::OneOrMany::Some(list)) => (list, false),
        };
        let mut out = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let i = i.to_string();
            let at = ["python", "wheels", i.as_str()];
            let at = if single { &at[..2] } else { &at[..] };
            match WheelSource::parse(entry) {
                Ok(source) if out.contains(&source) => self.report_mistake(
                    at,
                    format!("wheels names \"{}\" twice", crate::text::escape_text(entry)),
                    "remove one of them",
                ),
                Ok(source) => out.push(source),
                Err((why, hint)) => self.report_mistake(
                    at,
                    format!("wheels: \"{}\" {why}", crate::text::escape_text(entry)),
                    hint,
                ),
            }
        }
        out
    }

    /// Returns the platforms of these words, sorted.
    fn check_platforms(&mut self, at: &[&str], words: &[String]) -> Vec<LockPlatform> {
        let mut out = Vec::new();
        for (i, word) in words.iter().enumerate() {
            match LockPlatform::parse(word) {
                Some(p) => out.push(p),
                None => self.report_mistake(
                    &[at, &[&i.to_string()]].concat(),
                    format!("platform \"{word}\" is unknown"),
                    known_platforms(),
                ),
            }
        }
        out.sort();
        out.dedup();
        out
    }

    fn check_indexes(
        &mut self,
        indexes: Vec<wire::TomlIndex>,
        platforms: &[LockPlatform],
    ) -> Vec<PackageIndex> {
        let mut out: Vec<PackageIndex> = Vec::new();
        for (i, x) in indexes.into_iter().enumerate() {
            let i = i.to_string();
            let at = ["python", "indexes", i.as_str()];
            self.check_index_names(&at, &x, &out);
            let own = x.platforms.unwrap_or_default();
            let own = self.check_platforms(&[&at[..], &["platforms"]].concat(), &own);
            if let Some(p) = own.iter().find(|p| !platforms.contains(p)) {
                self.report_mistake(
                    &[&at[..], &["platforms"]].concat(),
                    format!(
                        "index \"{}\" is for {p}, but [python] platforms does not contain it",
                        x.name
                    ),
                    format!("add \"{p}\" to [python] platforms, or remove it here"),
                );
            }
            let words = x.accelerators.unwrap_or_default();
            let accelerators = self.check_accelerators(&at, &x.name, &words);
            let index = PackageIndex {
                name: x.name,
                url: x.url,
                packages: x.packages,
                platforms: own,
                accelerators,
            };
            if index.platforms.is_empty()
                && !platforms.is_empty()
                && !platforms.iter().any(|p| index.serves_platform(*p))
            {
                self.report_mistake(
                    &at,
                    format!(
                        "index \"{}\" serves none of [python] platforms: with `accelerators` it \
                         is for Linux",
                        index.name
                    ),
                    "add \"linux-x86_64\" to [python] platforms, or remove the index",
                );
            }
            out.push(index);
        }
        self.refuse_overlaps(&out, platforms);
        out
    }

    /// Name, address and packages of one index; `others` come before it.
    fn check_index_names(&mut self, at: &[&str], x: &wire::TomlIndex, others: &[PackageIndex]) {
        if !is_plain_name(&x.name) {
            self.report_mistake(
                at,
                format!("\"{}\" is not a name for an index", x.name),
                "use letters, digits, `-`, `_` and `.`, with a letter or digit at both ends",
            );
        }
        if x.name == WHEELS_INDEX {
            self.report_mistake(
                at,
                format!("\"{WHEELS_INDEX}\" is what comfy.lock calls [python] wheels"),
                "give the index another name",
            );
        }
        if let Some(first) = others.iter().position(|o| o.name == x.name) {
            let first = first.to_string();
            let place = self.source.place_of_key(&["python", "indexes", &first]);
            self.report_mistake(
                at,
                format!("another index is also called \"{}\" ({place})", x.name),
                "give each index its own name",
            );
        }
        if let Err(why) = values::model_source(&x.url).and_then(|()| {
            if x.url.starts_with("http") {
                Ok(())
            } else {
                Err("is not an https:// address".into())
            }
        }) {
            self.report_mistake(
                at,
                format!("index \"{}\": \"{}\" {why}", x.name, x.url),
                "use https://",
            );
        }
        if x.packages.is_empty() {
            self.report_mistake(
                at,
                format!("index \"{}\" lists no packages", x.name),
                "list the packages that come from it, so that no others can",
            );
        }
        for (n, package) in x.packages.iter().enumerate() {
            if !is_plain_name(package) {
                self.report_mistake(
                    &[at, &["packages", &n.to_string()]].concat(),
                    format!(
                        "index \"{}\": \"{package}\" is not a package's name",
                        x.name
                    ),
                    "write the name alone; a version belongs in [python] requirements",
                );
            }
        }
    }

    /// Returns the accelerators of these words, sorted.
    fn check_accelerators(
        &mut self,
        at: &[&str],
        index: &str,
        words: &[String],
    ) -> Vec<Accelerator> {
        let mut out = Vec::new();
        for (n, word) in words.iter().enumerate() {
            let n = n.to_string();
            let at = [at, &["accelerators", n.as_str()]].concat();
            match Accelerator::parse(word) {
                Some(a) if a.is_mps() => self.report_mistake(
                    &at,
                    format!("index \"{index}\": a Mac's packages are those without an accelerator"),
                    "leave out `accelerators` and write platforms = [\"macos-arm64\"]",
                ),
                Some(a) => out.push(a),
                None => self.report_mistake(
                    &at,
                    format!("index \"{index}\": accelerator \"{word}\" is unknown"),
                    ACCELERATORS,
                ),
            }
        }
        out.sort();
        out.dedup();
        out
    }

    /// A package that would come from two indexes on one machine.
    fn refuse_overlaps(&mut self, indexes: &[PackageIndex], platforms: &[LockPlatform]) {
        for (j, later) in indexes.iter().enumerate() {
            for (i, first) in indexes[..j].iter().enumerate() {
                let Some(package) = later
                    .packages
                    .iter()
                    .find(|p| first.has_package(&names::normalize_name(p)))
                else {
                    continue;
                };
                let Some(shared) = shared_machines(first, later, platforms) else {
                    continue;
                };
                let place = self
                    .source
                    .place_of_key(&["python", "indexes", &i.to_string()]);
                self.report_mistake(
                    &["python", "indexes", &j.to_string()],
                    format!(
                        "{package} comes from index \"{}\" and from index \"{}\" ({place}) {shared}",
                        later.name, first.name
                    ),
                    "remove it from one of them, or give them different `platforms` or \
                     `accelerators`",
                );
            }
        }
    }
}

/// The machines that both indexes serve, for people: `on linux-x86_64 with "cuda-12.8"`.
fn shared_machines(
    a: &PackageIndex,
    b: &PackageIndex,
    platforms: &[LockPlatform],
) -> Option<String> {
    let with = if a.accelerators.is_empty() && b.accelerators.is_empty() {
        String::new()
    } else {
        let both = a.accelerators.iter().find(|x| b.accelerators.contains(x))?;
        format!(" with \"{}\"", both.word())
    };
    let on: Vec<&str> = platforms
        .iter()
        .filter(|p| a.serves_platform(**p) && b.serves_platform(**p))
        .map(|p| p.word())
        .collect();
    (!on.is_empty()).then(|| format!("on {}{with}", list_words(on)))
}

fn known_platforms() -> String {
    format!(
        "known: {}",
        list_words(LockPlatform::ALL.map(LockPlatform::word))
    )
}

/// A name of a package or an index: letters, digits and `-_.`, a letter or digit at both ends (the
/// core metadata specification, "Name").
fn is_plain_name(name: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(name.chars().next())
        && end(name.chars().next_back())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}
