//! Values with their own grammar: durations, sizes, model sources, ComfyUI arguments.

use core::net::IpAddr;
use std::path::Path;

use super::hub_pages;

/// Parses `3 days`, `12 hours` or `0`.
pub(crate) fn parse_duration(text: &str) -> Option<chrono::Duration> {
    let (n, unit) = number_and_unit(text)?;
    let n = i64::try_from(n).ok().filter(|n| *n <= 10_000)?;
    match unit.strip_suffix('s').unwrap_or(unit) {
        "" if n == 0 => Some(chrono::Duration::zero()),
        "hour" => Some(chrono::Duration::hours(n)),
        "day" => Some(chrono::Duration::days(n)),
        "week" => Some(chrono::Duration::weeks(n)),
        _ => None,
    }
}

/// Parses `4 GiB`, `512 MiB` or `4 GB` and returns bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (n, unit) = number_and_unit(text)?;
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" if n < 1024 => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" if n < 1024 => 1_000_000_000_000,
        "" if n == 0 => 1,
        _ => return None,
    };
    n.checked_mul(factor)
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// Returns whether `host` (without port) can only mean this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Returns whether the text is `host:port`, as in an egress rule.
pub(crate) fn host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    !name.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|p| p > 0)
        && (name == host || name.contains('.'))
        && !name.split('.').any(str::is_empty)
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        && !name.starts_with(['-', '.'])
}

/// Returns what is wrong with an address to fetch a file from, if anything; plain http is allowed
/// only for this machine.
pub(crate) fn model_address(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once("://").ok_or("is not an address")?;
    if scheme != "https" && scheme != "http" {
        return Err("is not an https:// address".into());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    if authority.contains('@') {
        return Err("must not contain a user name or token".into());
    }
    let host = match authority.rsplit_once(':') {
        Some((h, p)) if p.bytes().all(|b| b.is_ascii_digit()) => h,
        _ => authority,
    };
    if host.is_empty() {
        return Err("does not name a host".into());
    }
    if scheme == "http" && !is_loopback(host) {
        return Err("is plain http to another machine; use https://".into());
    }
    Ok(())
}

/// Returns what is wrong with a model's `source`, if anything.
pub(crate) fn model_source(text: &str) -> Result<(), String> {
    // Names of files and objects may contain spaces; addresses do not.
    let spaces = ["file:", "hf:", "s3:", "gs:", "az:"]
        .iter()
        .any(|s| text.starts_with(s));
    if text
        .chars()
        .any(|c| c.is_control() || (c.is_whitespace() && !spaces))
    {
        return Err("has white space or a control character".into());
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(
            "has no scheme; known: hf://, https://, civitai:, s3://, gs://, az://, file:".into(),
        );
    };
    match scheme {
        "hf" => {
            let path = rest
                .strip_prefix("//")
                .map(|p| p.rsplit_once('@').unwrap_or((p, "main")));
            let good = path.is_some_and(|(path, revision)| {
                hub_pages::split_repository(path).is_some_and(|(repo, file)| {
                    let file = hub_pages::percent_decoded(file);
                    !repo.contains(char::is_whitespace)
                        && super::names::check_relative(repo).is_ok()
                        && super::names::check_relative(&file).is_ok()
                }) && super::names::git_ref(revision).is_ok()
                    && !path.contains(['?', '#'])
            });
            if good && hub_pages::remedy_for_source(text).is_none() {
                Ok(())
            } else {
                Err("must look like hf://org/repo/file@revision".into())
            }
        }
        "https" | "http" => {
            let secret = |k: &str| {
                let name = k.split('=').next().unwrap_or("").to_ascii_lowercase();
                [
                    "token",
                    "access_token",
                    "api_key",
                    "apikey",
                    "key",
                    "sig",
                    "signature",
                    "x-amz-signature",
                    "x-amz-security-token",
                ]
                .contains(&name.as_str())
            };
            if rest
                .split_once('?')
                .is_some_and(|(_, query)| query.split('&').any(secret))
            {
                return Err("must not contain a user name or token".into());
            }
            if hub_pages::remedy_for_source(text).is_some() {
                return Err("is a page about the file, not the file".into());
            }
            model_address(text)
        }
        "civitai" if !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        "civitai" => Err("must look like civitai:VERSION, a number".into()),
        "s3" | "gs" | "az" => match rest.strip_prefix("//").and_then(|r| r.split_once('/')) {
            Some((bucket, key))
                if plain_name(bucket) && super::names::check_relative(key).is_ok() =>
            {
                Ok(())
            }
            _ => Err(format!("must look like {scheme}://bucket/key")),
        },
        "file"
            if (rest.starts_with('/') || rest.starts_with("~/"))
                && !rest.split('/').any(|c| c == "..") =>
        {
            let why = super::reserved_paths::model_file(
                super::platforms::OperatingSystem::Linux,
                Path::new("~"),
                Path::new(rest),
            );
            why.map_or(Ok(()), |why| Err(why.into()))
        }
        "file" => Err("must be file:/an/absolute/path or file:~/path".into()),
        _ => Err(format!(
            "has an unknown scheme `{scheme}`; known: hf://, https://, civitai:, s3://, gs://, \
             az://, file:"
        )),
    }
}

/// Returns whether the name of a bucket or container is plain: it becomes part of a host name.
fn plain_name(bucket: &str) -> bool {
    bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// ComfyUI flags that comfy sets itself (comfy/cli_args.py of ComfyUI); argparse also accepts every
/// prefix of them.
pub(crate) const RESERVED_FLAGS: &[&str] = &[
    "--listen",
    "--port",
    "--base-directory",
    "--user-directory",
    "--temp-directory",
    "--input-directory",
    "--output-directory",
    "--database-url",
    "--extra-model-paths-config",
    "--disable-all-custom-nodes",
    "--whitelist-custom-nodes",
    "--quick-test-for-ci",
    "--auto-launch",
    "--disable-auto-launch",
    "--tls-keyfile",
    "--tls-certfile",
    "--enable-cors-header",
];

/// Returns the reserved flag that `arg` sets or could abbreviate.
pub(crate) fn reserved_flag(arg: &str) -> Option<&'static str> {
    let name = arg.split('=').next().unwrap_or(arg);
    if !name.starts_with("--") || name == "--" {
        return None;
    }
    RESERVED_FLAGS.iter().find(|f| f.starts_with(name)).copied()
}
