//! The backstop of `network.egress`: nftables (nft(8)) rejects what the sandbox's uid sends outside
//! a launch, to other services of this machine too. It is a table of comfy's own; other rules are
//! neither read nor changed.
//!
//! Tables do not survive a reboot, and only root can list them: a record says in which boot it was
//! loaded.

use std::path::Path;

use super::process::ProgramRunner;
use super::tools;
use crate::host::fs::edit;
use crate::plan::observed::EgressFilter;
use crate::problem::{Context, Problem, Result};

/// The paths where distributions install it.
fn nft_path() -> Option<&'static str> {
    tools::first_existing(tools::NFT)
}

fn table_name(uid: u32) -> String {
    format!("comfy_{uid}")
}

/// What answers a connection passes: only who begins one is refused. Where a launch has no network
/// of its own, ComfyUI's answers to the front are such.
fn table_script(uid: u32) -> String {
    let t = table_name(uid);
    format!(
        "add table inet {t}; delete table inet {t}; add table inet {t}; add chain inet {t} output \
         {{ type filter hook output priority filter; policy accept; }}; add rule inet {t} output \
         meta skuid {uid} tcp flags & (fin | syn | rst | ack) != syn accept; add rule inet {t} \
         output meta skuid {uid} reject"
    )
}

/// Returns whether a listing has exactly the two rules; their format differs between versions of
/// nft.
fn is_complete(listing: &str, uid: u32) -> bool {
    let rules: Vec<&str> = listing
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("meta skuid"))
        .collect();
    let own = format!("meta skuid {uid} ");
    let chain = listing.contains("type filter hook output") && listing.contains("policy accept");
    chain
        && matches!(rules[..], [answers, rest] if answers.starts_with(&own) && answers.ends_with("accept") && rest.starts_with(&own) && rest.contains("reject"))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .into()
}

/// Reads the record, and as root the rules themselves.
pub(crate) fn read_state(uid: u32, record: &Path, run: &dyn ProgramRunner) -> EgressFilter {
    let noted = std::fs::read_to_string(record).unwrap_or_default();
    let Some(nft) = nft_path().filter(|_| noted.trim() != format!("unusable {}", boot_id())) else {
        return EgressFilter::Unusable;
    };
    let listed = || {
        let t = table_name(uid);
        run.run_program(&[nft, "list", "table", "inet", &t])
            .is_ok_and(|o| o.status == 0 && is_complete(&o.stdout, uid))
    };
    let there = noted.trim() == format!("{uid} {}", boot_id())
        && (!nix::unistd::geteuid().is_root() || listed());
    if there {
        EgressFilter::There
    } else {
        EgressFilter::Absent
    }
}

/// Returns whether an apply loaded the rules for `uid`, in this boot or an earlier one.
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only a launch on Linux asks")
)]
pub(crate) fn was_loaded(uid: u32, record: &Path) -> bool {
    std::fs::read_to_string(record).is_ok_and(|noted| {
        noted
            .split_once(' ')
            .is_some_and(|(u, _)| u == uid.to_string())
    })
}

/// Loads the rules, in one piece. Where nft does not work, as in many containers, that is noted
/// until the next boot, and the plan says it: what a launch has of its own does not rest on this.
///
/// # Errors
/// The disk.
pub(crate) fn install_rules(uid: u32, record: &Path, run: &dyn ProgramRunner) -> Result<()> {
    let done = match nft_path() {
        Some(nft) => {
            run.run_program(&[nft, &table_script(uid)])
                .context("run nft")?
                .status
                == 0
        }
        None => false,
    };
    let word = if done {
        uid.to_string()
    } else {
        "unusable".into()
    };
    edit::write_file(
        record,
        format!("{word} {}\n", boot_id()).as_bytes(),
        0o644,
        None,
    )
    .with_context(|| format!("write {}", record.display()))
}

/// Removes the rules; a missing table is not an error.
///
/// # Errors
/// If nft fails.
pub(crate) fn remove_rules(uid: u32, record: &Path, run: &dyn ProgramRunner) -> Result<()> {
    let what = || format!("remove the nftables rules for uid {uid}");
    if let Some(nft) = nft_path() {
        let t = table_name(uid);
        let out = run
            .run_program(&[nft, &format!("add table inet {t}; delete table inet {t}")])
            .with_context(what)?;
        if out.status != 0 {
            return Err(Problem::new(format!(
                "could not {}: {}",
                what(),
                crate::text::escape_text(out.stderr.trim())
            )));
        }
    }
    edit::remove_path(record).with_context(|| format!("remove {}", record.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_known_in_the_words_of_several_versions() {
        for words in [
            "tcp flags != syn / fin,syn,rst,ack accept",
            "tcp flags & (fin | syn | rst | ack) != syn accept",
        ] {
            let listing = format!(
                "table inet comfy_471 {{\n\tchain output {{\n\t\ttype filter hook output priority \
                 filter; policy accept;\n\t\tmeta skuid 471 {words}\n\t\tmeta skuid 471 reject \
                 with icmpx port-unreachable\n\t}}\n}}\n"
            );
            assert!(
                is_complete(&listing, 471) && !is_complete(&listing, 47),
                "{words}"
            );
            assert!(!is_complete(&listing.replace("reject", "accept"), 471));
            assert!(!is_complete(
                &listing.replace(
                    "\t\tmeta skuid 471 tcp",
                    "\t\tmeta skuid 471 accept\n\t\tmeta skuid 471 tcp"
                ),
                471
            ));
        }
    }
}
