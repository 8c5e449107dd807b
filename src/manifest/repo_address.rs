//! Addresses of repositories as people and other tools write them, and the https address that each
//! of them means.

use super::names;

/// Returns the https address of the same repository for an address of another form: of ssh, of
/// `git://` and `http://`, without a scheme, or with a user.
pub(crate) fn https_address(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("git+").unwrap_or(text);
    let text = text.split(['?', '#']).next().unwrap_or(text);
    let (host, path) = match text.split_once("://") {
        Some(("https" | "http" | "git" | "ssh", rest)) => {
            let (host, path) = rest.split_once('/')?;
            // A port is that of the other protocol.
            let port = text.starts_with("https://") || !host.contains(':');
            (if port { host } else { host.split(':').next()? }, path)
        }
        Some(_) => return None,
        // git-clone(1): `user@host:path`, with no `/` before the colon.
        None if text.split('/').next().is_some_and(|t| t.contains(':')) => text.split_once(':')?,
        None if text.starts_with(['.', '/', '~']) => return None,
        None => match text.split_once('/')? {
            (host, path) if host.contains('.') && path.contains('/') => (host, path),
            (_, path) if !path.contains('/') => ("github.com", text),
            _ => return None,
        },
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let address = format!("https://{host}/{}", path.trim_start_matches('/'));
    names::repo_url(&address).is_ok().then_some(address)
}

/// Returns what to write instead of `text`, if it is clear which repository that means.
pub(crate) fn remedy_for_repo(text: &str) -> Option<String> {
    let shown = text.split(['?', '#']).next().unwrap_or(text);
    if let Some((repo, git_ref)) = page_of_repository(shown) {
        return Some(format!("write repo = \"{repo}\" and ref = \"{git_ref}\""));
    }
    Some(format!("write repo = \"{}\"", https_address(text)?))
}

/// The repository and the ref of a page that shows a repository at a ref; the hosts' repositories
/// have two names, and never these pages below them.
pub(crate) fn page_of_repository(address: &str) -> Option<(String, String)> {
    let rest = [
        "https://github.com/",
        "https://gitlab.com/",
        "https://codeberg.org/",
    ]
    .iter()
    .find_map(|host| address.strip_prefix(host))?;
    let host = &address[..address.len() - rest.len()];
    let mut parts = rest.trim_end_matches('/').splitn(3, '/');
    let (owner, name, page) = (parts.next()?, parts.next()?, parts.next()?);
    let page = page.strip_prefix("-/").unwrap_or(page);
    let git_ref = [
        "tree/",
        "commit/",
        "releases/tag/",
        "src/branch/",
        "src/tag/",
    ]
    .iter()
    .find_map(|verb| page.strip_prefix(verb))?;
    Some((format!("{host}{owner}/{name}"), git_ref.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_form_is_answered_with_the_https_one() {
        let said = [
            "git@github.com:o/r.git",
            "ssh://git@github.com:22/o/r",
            "git://github.com/o/r.git",
            "http://github.com/o/r",
            "git+https://github.com/o/r",
            "https://token@github.com/o/r",
            "https://github.com/o/r?tab=readme",
            "github.com/o/r",
            "o/r",
            "https://github.com/o/r/tree/a/b",
            "https://github.com/o/r/commit/0a1b",
            "https://gitlab.com/o/r/-/tree/main?x=1",
            "../r",
            "/srv/git/r",
            "file:///srv/git/r",
            "r",
        ]
        .map(|text| format!("{text}\n  {}", remedy_for_repo(text).unwrap_or_default()));
        insta::assert_snapshot!(said.join("\n"), @r#"
        git@github.com:o/r.git
          write repo = "https://github.com/o/r.git"
        ssh://git@github.com:22/o/r
          write repo = "https://github.com/o/r"
        git://github.com/o/r.git
          write repo = "https://github.com/o/r.git"
        http://github.com/o/r
          write repo = "https://github.com/o/r"
        git+https://github.com/o/r
          write repo = "https://github.com/o/r"
        https://token@github.com/o/r
          write repo = "https://github.com/o/r"
        https://github.com/o/r?tab=readme
          write repo = "https://github.com/o/r"
        github.com/o/r
          write repo = "https://github.com/o/r"
        o/r
          write repo = "https://github.com/o/r"
        https://github.com/o/r/tree/a/b
          write repo = "https://github.com/o/r" and ref = "a/b"
        https://github.com/o/r/commit/0a1b
          write repo = "https://github.com/o/r" and ref = "0a1b"
        https://gitlab.com/o/r/-/tree/main?x=1
          write repo = "https://gitlab.com/o/r" and ref = "main"
        ../r
          
        /srv/git/r
          
        file:///srv/git/r
          
        r
        "#);
    }
}
