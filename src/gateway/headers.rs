//! Filters an answer's headers, and limits what a browser may keep of it.
//!
//! A node answers in ComfyUI's name. So the list contains the headers that pass, not those that do
//! not: a header that browsers learn tomorrow is dropped. A report of a violated policy, a
//! preconnect and a network error log are requests that no policy governs (CSP 3, 6.8.1), and a
//! copy in the browser outlives its node.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The headers that ComfyUI's answers need: for the body and how to read it (RFC 9110, 8), parts of
/// files (14), downloads (RFC 6266), conditions (13), and retries after a refusal. ComfyUI does not
/// set cookies, and its frontend does not read headers of ComfyUI's own.
const PASS: &[&str] = &[
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "location",
    "retry-after",
    "vary",
    "x-content-type-options",
];

/// The headers that a switch to a web socket needs (RFC 6455, 4.2.2).
const SWITCH: &[&str] = &[
    "connection",
    "date",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "upgrade",
];

/// The filter for the headers of one launch.
pub(crate) struct HeaderFilter {
    /// The prefix of every entity tag. What a browser kept from an earlier launch, or from another
    /// program on the port, is therefore never reported as unchanged, whatever tag a node gave it.
    tag: String,
}

impl HeaderFilter {
    pub(crate) fn new(tag: String) -> HeaderFilter {
        HeaderFilter { tag }
    }

    /// Filters the conditions of a request: tags of this launch are restored to ComfyUI's own;
    /// other tags, and dates, which anybody can have written, are removed.
    pub(crate) fn filter_request(&self, headers: &mut HeaderMap) {
        headers.remove(header::IF_MODIFIED_SINCE);
        for name in [header::IF_NONE_MATCH, header::IF_RANGE] {
            let own: Vec<String> = headers
                .get_all(&name)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .flat_map(|v| v.split(','))
                .filter_map(|t| self.untagged(t))
                .collect();
            headers.remove(&name);
            if let Some(value) = HeaderValue::from_str(&own.join(", "))
                .ok()
                .filter(|_| !own.is_empty())
            {
                headers.insert(name, value);
            }
        }
    }

    /// Turns `"TAG-x"` into `"x"`.
    fn untagged(&self, tag: &str) -> Option<String> {
        let (weak, opaque) = split_etag(tag)?;
        let rest = opaque.strip_prefix(self.tag.as_str())?.strip_prefix('-')?;
        Some(format!("{weak}\"{rest}\""))
    }

    /// Filters the headers of an answer. `host` is the Host of the request.
    pub(crate) fn filter_response(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        host: Option<&HeaderValue>,
    ) {
        let host = host.and_then(|h| h.to_str().ok()).unwrap_or_default();
        let switched = status == StatusCode::SWITCHING_PROTOCOLS;
        let passes = if switched { SWITCH } else { PASS };
        let other: Vec<HeaderName> = headers
            .keys()
            .filter(|n| !passes.contains(&n.as_str()))
            .cloned()
            .collect();
        other.iter().for_each(|name| drop(headers.remove(name)));
        if switched {
            return;
        }
        if headers
            .get(header::LOCATION)
            .is_some_and(|to| !to.to_str().is_ok_and(|to| leads_here(to, host)))
        {
            headers.remove(header::LOCATION);
        }
        let tagged = |t: &HeaderValue| {
            let (weak, opaque) = split_etag(t.to_str().ok()?)?;
            HeaderValue::from_str(&format!("{weak}\"{}-{opaque}\"", self.tag)).ok()
        };
        let tagged = headers.get(header::ETAG).and_then(tagged);
        headers.remove(header::ETAG);
        if let Some(tag) = tagged {
            headers.insert(header::ETAG, tag);
        }
        // A kept answer is validated each time, which costs an answer without a body; a redirect or
        // an error is not kept at all. This applies to pictures too: a script that fetches the same
        // address can read them as anything.
        let kept = status.is_success() || status == StatusCode::NOT_MODIFIED;
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static(if kept { "no-cache" } else { "no-store" }),
        );
        set_security_headers(headers, host);
    }
}

/// Returns the optional `W/` and the text between the quotes (RFC 9110, 8.8.3).
fn split_etag(tag: &str) -> Option<(&'static str, &str)> {
    let tag = tag.trim();
    let (weak, rest) = tag.strip_prefix("W/").map_or(("", tag), |r| ("W/", r));
    let opaque = rest.strip_prefix('"')?.strip_suffix('"')?;
    // A tag with a comma cannot be distinguished from two tags.
    (!opaque.contains(['"', ','])).then_some((weak, opaque))
}

/// Returns whether a redirect stays with this ComfyUI, as browsers read an address: a backslash is
/// a slash, and two of them begin a host.
fn leads_here(to: &str, host: &str) -> bool {
    let plain = !to.is_empty() && to.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let path = |p: &str| p.is_empty() || (p.starts_with(['/', '?', '#']) && !p.starts_with("//"));
    let scheme = to
        .split(['/', '?', '#'])
        .next()
        .is_some_and(|first| first.contains(':'));
    let relative = !scheme && !to.starts_with("//");
    let absolute = !host.is_empty()
        && to
            .strip_prefix("http://")
            .and_then(|r| r.strip_prefix(host))
            .is_some_and(path);
    plain && (relative || absolute)
}

/// Sets what a node's JavaScript may do in the owner's browser: everything with this ComfyUI,
/// nothing with other servers.
///
/// It is the only policy of the answer, and has no report address. ComfyUI's page evaluates code
/// and works with blobs. `ws:` is listed because not every browser includes it in `'self'`. No
/// policy can forbid navigation to another address.
fn set_security_headers(headers: &mut HeaderMap, host: &str) {
    let policy = format!(
        "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; \
         style-src 'self' 'unsafe-inline'; connect-src 'self' ws://{host} data: blob:; worker-src \
         'self' blob:; frame-src 'self' data: blob:; object-src 'none'; base-uri 'self'; \
         form-action 'self'; frame-ancestors 'self'; webrtc 'block'"
    );
    if let Ok(value) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
        ("x-dns-prefetch-control", "off"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(k, v)| {
                (
                    k.parse::<HeaderName>().unwrap(),
                    v.parse::<HeaderValue>().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_redirect_stays_with_this_comfyui() {
        let cases = [
            "/",
            "/a?b=c",
            "a/b",
            "?x=1",
            "./a:b",
            "http://127.0.0.1:8188/x",
            "http://127.0.0.1:8188",
            "//evil.test/",
            "/\\evil.test",
            "\\\\evil.test",
            "http://evil.test/",
            "HTTP://evil.test",
            "https:evil.test",
            "http:evil.test",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://127.0.0.1:8188.evil.test/",
            "http://127.0.0.1:81880/",
            "http://127.0.0.1:8188@evil.test/",
            "http://127.0.0.1:8188//x",
            "\t//evil.test",
            "",
        ];
        let told: Vec<String> = cases
            .iter()
            .map(|c| {
                format!(
                    "{} {c:?}",
                    if leads_here(c, "127.0.0.1:8188") {
                        "passes"
                    } else {
                        "left out"
                    }
                )
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        passes "/"
        passes "/a?b=c"
        passes "a/b"
        passes "?x=1"
        passes "./a:b"
        passes "http://127.0.0.1:8188/x"
        passes "http://127.0.0.1:8188"
        left out "//evil.test/"
        left out "/\\evil.test"
        left out "\\\\evil.test"
        left out "http://evil.test/"
        left out "HTTP://evil.test"
        left out "https:evil.test"
        left out "http:evil.test"
        left out "javascript:alert(1)"
        left out "data:text/html,x"
        left out "http://127.0.0.1:8188.evil.test/"
        left out "http://127.0.0.1:81880/"
        left out "http://127.0.0.1:8188@evil.test/"
        left out "http://127.0.0.1:8188//x"
        left out "\t//evil.test"
        left out ""
        "#);
    }

    #[test]
    fn nothing_is_kept_without_being_asked_for_again() {
        let told = [200, 206, 301, 304, 308, 404, 410].map(|status| {
            let mut h = map(&[
                ("content-type", "image/png"),
                ("cache-control", "public, max-age=31536000, immutable"),
                ("expires", "Fri, 01 Jan 2100 00:00:00 GMT"),
            ]);
            HeaderFilter::new("t".into()).filter_response(
                StatusCode::from_u16(status).unwrap(),
                &mut h,
                None,
            );
            format!(
                "{status}: {} {}",
                h["cache-control"].to_str().unwrap(),
                h.contains_key("expires")
            )
        });
        insta::assert_snapshot!(told.join("\n"), @r"
        200: no-cache false
        206: no-cache false
        301: no-store false
        304: no-cache false
        308: no-store false
        404: no-store false
        410: no-store false
        ");
    }

    #[test]
    fn a_copy_of_another_launch_is_never_said_to_be_unchanged() {
        let (before, now) = (
            HeaderFilter::new("aa".into()),
            HeaderFilter::new("bb".into()),
        );
        let mut answer = map(&[
            ("etag", "W/\"1-2\""),
            ("last-modified", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ]);
        before.filter_response(StatusCode::OK, &mut answer, None);
        assert_eq!(
            (
                answer["etag"].to_str().unwrap(),
                answer.get("last-modified")
            ),
            ("W/\"aa-1-2\"", None)
        );
        let ask = |f: &HeaderFilter| {
            let mut h = map(&[
                ("if-none-match", "W/\"aa-1-2\", \"1-2\", *"),
                ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT"),
                ("if-range", "\"aa-x\""),
            ]);
            f.filter_request(&mut h);
            format!(
                "{:?} {:?} {:?}",
                h.get("if-none-match"),
                h.get("if-range"),
                h.get("if-modified-since")
            )
        };
        assert_eq!(
            ask(&before),
            "Some(\"W/\\\"1-2\\\"\") Some(\"\\\"x\\\"\") None"
        );
        assert_eq!(ask(&now), "None None None");
    }
}
