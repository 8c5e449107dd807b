//! Pages about models: people copy their addresses from the browser where the file's own address
//! belongs.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::values;
use crate::problem::{Problem, Result};

/// The servers of the two hubs, without `/` at the end.
pub(crate) const HUGGING_FACE: &str = "https://huggingface.co";
pub(crate) const CIVITAI: &str = "https://civitai.com";

/// Names of Hugging Face that stand before a repository's own two (its "Hub API Endpoints").
const KINDS: [&str; 2] = ["datasets", "spaces"];

/// Splits `org/repo/rest` of Hugging Face, where `org/repo` may begin with a [`KINDS`].
pub(crate) fn split_repository(path: &str) -> Option<(&str, &str)> {
    let of_kind = KINDS
        .iter()
        .any(|k| path.strip_prefix(k).is_some_and(|r| r.starts_with('/')));
    let (at, _) = path.match_indices('/').nth(if of_kind { 2 } else { 1 })?;
    Some((&path[..at], &path[at + 1..]))
}

/// `%20` as the character that it means (RFC 3986, 2.1).
pub(crate) fn percent_decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text)
        .decode_utf8()
        .unwrap_or(Cow::Borrowed(text))
}

/// Returns what to write instead of `address`, if that is a page of a hub; the hubs are at these
/// servers.
pub(crate) fn remedy_for_page(address: &str, hugging_face: &str, civitai: &str) -> Option<String> {
    let below = |server: &str| {
        let rest = address.strip_prefix(server)?.strip_prefix('/')?;
        Some(rest.split_once(['?', '#']).unwrap_or((rest, "")))
    };
    // A mirror may serve both.
    let of_civitai = [civitai, CIVITAI, "https://www.civitai.com"];
    if let Some((path, query)) = of_civitai.iter().find_map(|s| below(s))
        && path.starts_with("models/")
    {
        return Some(civitai_remedy(query));
    }
    let of_hub = [hugging_face, HUGGING_FACE, "https://hf.co"];
    if let Some((path, _)) = of_hub.iter().find_map(|s| below(s)) {
        return hugging_face_remedy(path);
    }
    let (path, _) = below("https://github.com")?;
    let (repo, rest) = split_repository(path)?;
    let file = rest.strip_prefix("blob/")?;
    Some(format!(
        "write source = \"https://github.com/{repo}/raw/{file}\""
    ))
}

fn hugging_face_remedy(path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let Some((repo, rest)) = split_repository(path) else {
        return path.contains('/').then(|| which_file(path));
    };
    let (verb, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match verb {
        // The raw text of a large file is its pointer.
        "blob" | "raw" => {
            let (revision, file) = rest.split_once('/')?;
            Some(format!(
                "write source = \"{}\"",
                hub_source(repo, revision, file)
            ))
        }
        "tree" | "discussions" | "commits" | "edit" => Some(which_file(repo)),
        _ => None,
    }
}

fn which_file(repo: &str) -> String {
    format!(
        "it shows a repository, not one file: write source = \"hf://{repo}/FILE\", with FILE as \
         the page lists it"
    )
}

fn civitai_remedy(query: &str) -> String {
    let version = query
        .split('&')
        .find_map(|q| q.strip_prefix("modelVersionId="))
        .filter(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()));
    match version {
        Some(version) => format!("write source = \"civitai:{version}\""),
        None => "choose a version on that page: its address then ends in modelVersionId=NUMBER; \
                 write source = \"civitai:NUMBER\""
            .into(),
    }
}

fn hub_source(repo: &str, revision: &str, file: &str) -> String {
    match percent_decoded(revision).as_ref() {
        "main" => format!("hf://{repo}/{file}"),
        other => format!("hf://{repo}/{file}@{other}"),
    }
}

/// Returns what to write instead of a `source` of the wrong form, if that is clear.
pub(crate) fn remedy_for_source(text: &str) -> Option<String> {
    if let Some(rest) = text.strip_prefix("civitai:") {
        // An AIR (Civitai's "AI Resource identifiers") has the version after the model.
        let (_, version) = rest.rsplit_once('@')?;
        let number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
        return number.then(|| format!("write source = \"civitai:{version}\""));
    }
    if let Some(path) = text.strip_prefix("hf://") {
        let (repo, rest) = split_repository(path)?;
        let rest = ["blob/", "resolve/", "raw/"]
            .iter()
            .find_map(|verb| rest.strip_prefix(verb))?;
        let (revision, file) = rest.split_once('/')?;
        return Some(format!(
            "write source = \"{}\"",
            hub_source(repo, revision, file)
        ));
    }
    remedy_for_page(text, HUGGING_FACE, CIVITAI)
}

/// Returns the `source` of a model at an address that a third party wrote down, in the form that
/// tells its hash where a hub has it; `None` if comfy does not fetch from there. A file of this
/// machine, a server on it, and a bucket that is read with the owner's credentials are for the owner
/// alone to name.
pub(crate) fn source_of_address(address: &str) -> Option<String> {
    let path = address.split(['?', '#']).next().unwrap_or(address);
    for server in [HUGGING_FACE, "https://hf.co"] {
        let rest = path.strip_prefix(server).and_then(|p| p.strip_prefix('/'));
        if let Some((repo, rest)) = rest.and_then(split_repository)
            && let Some((verb, rest)) = rest.split_once('/')
            && ["resolve", "blob", "raw"].contains(&verb)
            && let Some((revision, file)) = rest.split_once('/')
        {
            let file = percent_decoded(file);
            return Some(hub_source(repo, revision, &file));
        }
    }
    for server in [CIVITAI, "https://www.civitai.com"] {
        if let Some(rest) = path.strip_prefix(server) {
            let version = rest.strip_prefix("/api/download/models/")?;
            let is_number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            return is_number.then(|| format!("civitai:{version}"));
        }
    }
    let is_public = ["https://", "hf://", "civitai:"]
        .iter()
        .any(|scheme| address.starts_with(scheme));
    (is_public && check_source(address).is_ok()).then(|| address.to_string())
}

/// Checks a model's `source`.
///
/// # Errors
/// What is wrong with it, with what to write.
pub(crate) fn check_source(text: &str) -> Result<()> {
    values::model_source(text).map_err(|why| {
        let shown = crate::text::escape_text(text);
        Problem::new(format!("source \"{shown}\" {why}")).with_hint(
            remedy_for_source(text).unwrap_or_else(|| {
                "write hf://org/repo/file@revision, https://…, civitai:VERSION, s3://bucket/key \
                 or file:/path; an existing file needs no source"
                    .into()
            }),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_party_names_no_file_server_or_bucket_of_the_owner_s() {
        for address in [
            "file:/srv/private/m.safetensors",
            "http://127.0.0.1:8080/m.safetensors",
            "s3://private/m.safetensors",
            "https://u:p@example.com/m.safetensors",
            "https://example.com/m.safetensors?token=x",
        ] {
            assert_eq!(source_of_address(address), None, "{address}");
        }
        assert_eq!(
            source_of_address("https://example.com/m.safetensors").as_deref(),
            Some("https://example.com/m.safetensors")
        );
    }

    #[test]
    fn a_page_is_answered_with_the_line_to_write() {
        let said = [
            "https://huggingface.co/o/r/blob/main/a%20b/m.safetensors?download=true",
            "https://huggingface.co/o/r/blob/refs%2Fpr%2F1/m.safetensors",
            "https://huggingface.co/datasets/o/r/blob/main/m.bin",
            "https://hf.co/o/r/raw/v1/m.bin",
            "https://huggingface.co/o/r",
            "https://huggingface.co/o/r/tree/main/unet",
            "https://huggingface.co/o/r/resolve/main/m.bin",
            "https://civitai.com/models/599757/a-name?modelVersionId=753053",
            "https://civitai.com/models/599757",
            "https://civitai.com/api/download/models/9",
            "https://github.com/o/r/blob/main/a.pth",
            "https://github.com/o/r/releases/download/v1/a.pth",
            "hf://o/r/blob/main/m.bin",
            "hf://o/r/m.bin",
            "civitai:101055@128078",
        ]
        .map(|text| format!("{text}\n  {}", remedy_for_source(text).unwrap_or_default()));
        insta::assert_snapshot!(said.join("\n"), @r#"
        https://huggingface.co/o/r/blob/main/a%20b/m.safetensors?download=true
          write source = "hf://o/r/a%20b/m.safetensors"
        https://huggingface.co/o/r/blob/refs%2Fpr%2F1/m.safetensors
          write source = "hf://o/r/m.safetensors@refs/pr/1"
        https://huggingface.co/datasets/o/r/blob/main/m.bin
          write source = "hf://datasets/o/r/m.bin"
        https://hf.co/o/r/raw/v1/m.bin
          write source = "hf://o/r/m.bin@v1"
        https://huggingface.co/o/r
          it shows a repository, not one file: write source = "hf://o/r/FILE", with FILE as the page lists it
        https://huggingface.co/o/r/tree/main/unet
          it shows a repository, not one file: write source = "hf://o/r/FILE", with FILE as the page lists it
        https://huggingface.co/o/r/resolve/main/m.bin
          
        https://civitai.com/models/599757/a-name?modelVersionId=753053
          write source = "civitai:753053"
        https://civitai.com/models/599757
          choose a version on that page: its address then ends in modelVersionId=NUMBER; write source = "civitai:NUMBER"
        https://civitai.com/api/download/models/9
          
        https://github.com/o/r/blob/main/a.pth
          write source = "https://github.com/o/r/raw/main/a.pth"
        https://github.com/o/r/releases/download/v1/a.pth
          
        hf://o/r/blob/main/m.bin
          write source = "hf://o/r/m.bin"
        hf://o/r/m.bin
          
        civitai:101055@128078
          write source = "civitai:128078"
        "#);
    }
}
