//! A page of a package index: where a file of a package is.

use super::package_address::percent_decode;

/// The file's name at the end of an address.
fn names_file(href: &str, file: &str) -> bool {
    let path = href.split(['#', '?']).next().unwrap_or(href);
    percent_decode(path.rsplit('/').next().unwrap_or(path)) == file
}

#[derive(serde::Deserialize)]
struct IndexPage {
    files: Vec<PageFile>,
}

#[derive(serde::Deserialize)]
struct PageFile {
    filename: String,
    url: String,
}

/// The link to `file`, relative to the page: of one in JSON, or in HTML.
pub(super) fn find_on_page(json: bool, text: &str, file: &str) -> Option<String> {
    if json {
        in_json(text, file)
    } else {
        in_html(text, file)
    }
}

fn in_json(text: &str, file: &str) -> Option<String> {
    let page: IndexPage = serde_json::from_str(text).ok()?;
    page.files
        .into_iter()
        .find(|f| f.filename == file)
        .map(|f| f.url)
}

/// The `href` of an anchor, without its fragment.
fn in_html(text: &str, file: &str) -> Option<String> {
    let mut hrefs = text.split(['"', '\'']).filter(|h| h.contains(".whl"));
    let href = hrefs.find(|h| names_file(h, file))?;
    Some(href.split('#').next().unwrap_or(href).replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::net::http;

    #[test]
    fn a_file_is_found_on_both_forms_of_a_page() {
        let file = "torch-2.1+cpu-cp312-cp312-linux_x86_64.whl";
        let html = r#"<a href="../../whl/torch-2.1%2Bcu128-cp312-cp312-linux_x86_64.whl#sha256=ab">x</a>
            <a href='../../whl/torch-2.1%2Bcpu-cp312-cp312-linux_x86_64.whl?a=1&amp;b=2#sha256=cd' data-core-metadata="true">y</a>"#;
        let json = format!(
            r#"{{"meta": {{}}, "files": [{{"filename": "x.tar.gz", "url": "/x"}}, {{"filename": "{file}", "url": "/files/y"}}]}}"#
        );
        let page = "https://index.test/root/simple/torch/";
        let told = [
            in_html(html, file),
            in_json(&json, file),
            in_html(html, "other.whl"),
            in_json("[]", file),
        ]
        .map(|h| h.map_or("none".into(), |h| http::absolute_link(page, &h)));
        insta::assert_snapshot!(told.join("\n"), @"
        https://index.test/root/whl/torch-2.1%2Bcpu-cp312-cp312-linux_x86_64.whl?a=1&b=2
        https://index.test/files/y
        none
        none
        ");
    }
}
