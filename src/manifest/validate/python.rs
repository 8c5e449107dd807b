//! The rules for `[python]`.

use super::ManifestCheck;
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
        let mut indexes = Vec::new();
        for (i, x) in w.indexes.unwrap_or_default().into_iter().enumerate() {
            let i = i.to_string();
            if let Err(why) = values::model_source(&x.url).and_then(|()| {
                if x.url.starts_with("http") {
                    Ok(())
                } else {
                    Err("is not an https:// address".into())
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
                    format!("index \"{}\" lists no packages", x.name),
                    "list the packages that come from it, so that no others can",
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
}
