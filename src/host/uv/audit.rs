//! `uv audit`: packages compared with the advisories of a service that speaks OSV's API.

use std::path::Path;
use std::time::Duration;

use super::UvRunner;
use crate::advisory::packages::{self, AuditedPackages};
use crate::host::fs::edit;
use crate::host::net::http::host_and_port;
use crate::lock::uv::UvError;
use crate::problem::{Context, Problem, ProblemKind, Result};

/// uv's exit code where it found something.
const FOUND: i32 = 1;

impl UvRunner {
    /// Asks the service, for no longer than `limit`; returns uv's answer.
    ///
    /// # Errors
    /// It does not answer, or uv cannot ask it.
    pub(crate) fn audit_packages(
        &self,
        packages: &AuditedPackages,
        service: &str,
        limit: Duration,
    ) -> Result<String> {
        let uv = self.program_path()?;
        let folder = self.cache.join(format!("audit-{}", std::process::id()));
        let result = self.audit_in(&uv, packages, service, limit, &folder);
        edit::remove_path(&folder).with_context(|| format!("clear {}", folder.display()))?;
        result.map_err(|e| match e {
            UvError::Own(p) => p,
            UvError::Said { text, .. } => {
                // The first line is what happened, those that follow are its causes.
                let text = text.lines().last().unwrap_or(&text).to_string();
                Problem::new(text).about(ProblemKind::Unreachable)
            }
        })
    }

    fn audit_in(
        &self,
        uv: &Path,
        packages: &AuditedPackages,
        service: &str,
        limit: Duration,
        folder: &Path,
    ) -> Result<String, UvError> {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let index = self.default_index();
        for (name, text) in packages::workspace_files(packages.iter(), &index) {
            let at = folder.join(name);
            edit::write_file(&at, text.as_bytes(), 0o600, None)
                .with_context(|| format!("write {}", at.display()))?;
        }
        let mut command = self.uv_command(uv);
        // An index that says nothing is left out, and there is time left for the service.
        let silence = (limit.as_secs() / 2).clamp(1, 10).to_string();
        command
            .current_dir(folder)
            .args(["audit", "--frozen", "--no-python-downloads"])
            .args(["--output-format", "json", "--service-url", service])
            .args(["--preview-features", "audit,json-output"])
            .env("UV_HTTP_TIMEOUT", silence)
            .env("UV_HTTP_RETRIES", "0");
        let ended = self.run_until(command, &|| {}, Some(limit))?;
        match ended.code {
            Some(0 | FOUND) if ended.stdout.trim_start().starts_with('{') => Ok(ended.stdout),
            code => Err(super::read_error(&ended.stderr, code)),
        }
    }

    /// The index that is asked where a package names none, without a password.
    fn default_index(&self) -> String {
        let address = self.net.default_index();
        match address.split_once("://") {
            Some((scheme, rest)) => {
                let path = rest.find('/').map_or("", |at| &rest[at..]);
                format!("{scheme}://{}{path}", host_and_port(address))
            }
            None => address.to_string(),
        }
    }
}
