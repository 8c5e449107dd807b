//! A repository that is at another address by now, as its own server says.

use crate::lock::part_address;
use crate::text::escape_text;

/// Says where a part's repository is now; one that has another owner may have other code.
pub(crate) fn moved_remark(name: &str, repo: &str, to: &str) -> String {
    let address = part_address(name);
    let key = match name {
        "comfyui" => "comfyui.repo".to_string(),
        node => format!("nodes.{node}.repo"),
    };
    let to = escape_text(to);
    let moved = format!("{address}: {} has moved to {to}", escape_text(repo));
    match (owner_of(repo), owner_of(&to)) {
        (Some(old), Some(new)) if !old.eq_ignore_ascii_case(new) => format!(
            "{moved}, so its owner is `{new}` and not `{}` any more: find out who that is before \
             you update it",
            escape_text(old)
        ),
        _ => format!("{moved}; to follow it: comfy set {key} {to}"),
    }
}

/// The folder of the repository on its server.
fn owner_of(address: &str) -> Option<&str> {
    let (_, path) = address.split_once("://")?;
    let mut parts = path.trim_end_matches('/').rsplit('/');
    parts.next()?;
    parts.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_owner_is_told_apart_from_a_new_name() {
        let told = [
            moved_remark("a", "https://github.com/o/a", "https://github.com/O/b"),
            moved_remark(
                "comfyui",
                "https://github.com/o/a",
                "https://github.com/p/a",
            ),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        node.a: https://github.com/o/a has moved to https://github.com/O/b; to follow it: comfy set nodes.a.repo https://github.com/O/b
        comfyui: https://github.com/o/a has moved to https://github.com/p/a, so its owner is `p` and not `o` any more: find out who that is before you update it
        ");
    }
}
