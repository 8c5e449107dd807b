//! How comfy's git behaves, whatever a repository or a user configures.

/// git's settings, which no repository can override: no hooks, no helpers, only these protocols,
/// nothing in the background.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("safe.directory", "*"),
    ("protocol.allow", "never"),
    ("protocol.https.allow", "always"),
    ("protocol.http.allow", "always"),
    ("protocol.file.allow", "always"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "false"),
    ("core.alternateRefsCommand", "/usr/bin/false"),
    ("core.sshCommand", "/usr/bin/false"),
    ("core.askPass", "/usr/bin/false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    // Where a redirect of the same server leads, comfy itself asks ([`program::fetch`]).
    ("http.followRedirects", "false"),
    // Old faults of real repositories are no reason; what a tree may hold, [`read::snapshot`] says.
    ("transfer.fsckObjects", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("credential.helper", ""),
    ("submodule.recurse", "false"),
];

/// The same settings as a file, git-config(1), for programs that do not read them from the
/// environment: git before
/// 2.31, and the upload-pack of a mirror in a folder, which refuses another user's repository
/// without safe.directory.
pub(crate) fn config_text() -> String {
    let line = |(key, value): &(&str, &str)| {
        let (section, name) = key.rsplit_once('.').unwrap_or((key, ""));
        match section.split_once('.') {
            Some((section, part)) => format!("[{section} \"{part}\"]\n\t{name} = {value}\n"),
            None => format!("[{section}]\n\t{name} = {value}\n"),
        }
    };
    SETTINGS.iter().map(line).collect()
}
