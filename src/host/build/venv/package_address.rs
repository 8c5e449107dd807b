//! Addresses of packages, which may have a password: for requests, and for people.

use crate::text::escape_text;

/// An address without what it has of a password, and that as a header's value (RFC 7617).
pub(super) fn split_credentials(address: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = address.split_once("://") else {
        return (address.into(), None);
    };
    let whole = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let Some((user, _)) = whole.rsplit_once('@') else {
        return (address.into(), None);
    };
    use base64::Engine;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let key = base64::prelude::BASE64_STANDARD.encode(format!(
        "{}:{}",
        percent_decode(name),
        percent_decode(password)
    ));
    (
        format!("{scheme}://{}", &rest[user.len() + 1..]),
        Some(format!("Basic {key}")),
    )
}

/// Without a password, and without a query, which may hold a signature.
pub(super) fn public_address(address: &str) -> String {
    let (bare, _) = split_credentials(address);
    escape_text(bare.split(['?', '#']).next().unwrap_or(&bare))
}

/// `%2B` as `+`.
pub(super) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = text
            .get(at + 1..at + 3)
            .filter(|_| bytes[at] == b'%')
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        out.push(pair.unwrap_or(bytes[at]));
        at += if pair.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_header_and_is_never_shown() {
        let (bare, key) = split_credentials("https://me:p%40ss@index.test:8443/simple/x/?q=1");
        assert_eq!(
            (bare.as_str(), key.as_deref()),
            (
                "https://index.test:8443/simple/x/?q=1",
                Some("Basic bWU6cEBzcw==")
            )
        );
        assert_eq!(
            public_address("https://me:pass@index.test/simple?signature=s"),
            "https://index.test/simple"
        );
        assert_eq!(split_credentials("https://index.test/a@b").1, None);
    }
}
