//! What an adopted installation loses, for people.

use std::collections::BTreeSet;

use crate::adopt::{Adopted, Loss};
use crate::cli::lock::summary_of_pins;
use crate::lock::Lock;
use crate::lock::python::public_version;
use crate::manifest::ShareAccess;
use crate::problem::Problem;
use crate::project::MANIFEST;
use crate::render;
use crate::text::{count_of, escape_lines};

/// The message without the place in a file that does not exist yet.
pub(super) fn without_place(p: &Problem) -> String {
    let text = p.message.as_str();
    let place = text
        .split_once(": ")
        .filter(|(at, _)| at.contains(MANIFEST));
    place.map_or(text, |(_, rest)| rest).to_string()
}

/// A node that could not be locked; `folder` is where it lies.
pub(super) fn refused_node(name: &str, p: &Problem, folder: Option<&str>) -> Loss {
    let text = without_place(p);
    let text = text.strip_prefix(&format!("{name}: ")).unwrap_or(&text);
    let as_folder = folder.map_or_else(String::new, |f| {
        format!(", or path = \"{f}\" instead, which installs the folder as it is")
    });
    let way = if p.hints.is_empty() || text.contains("does not have commit") {
        "push the commit to a repository of yours and write that as `repo`, or a `ref` that is there"
            .to_string()
    } else {
        p.hints.join("; ")
    };
    Loss::new(
        format!("node {name}: {text}"),
        format!(
            "its section is a comment in comfy.toml: {way}{as_folder}; uncomment the section and run \
             `comfy lock`"
        ),
    )
}

/// Tells which packs have a version of which the registry says something else than that it is fine.
pub(super) fn note_registry_status(adopted: &mut Adopted, lock: &Lock) {
    for (name, pin) in &lock.nodes {
        let Some(archive) = pin.archive.as_ref().filter(|a| a.status != "active") else {
            continue;
        };
        adopted.lose(
            format!(
                "node {name}: the registry says that version {} is {}, without a reason",
                archive.version, archive.status
            ),
            "look at it before you run it (`comfy scan`), or write another `version` and run `comfy lock`",
        );
    }
}

/// Tells of folders that ComfyUI writes to, and that comfy does not change.
pub(super) fn note_write_shares(adopted: &mut Adopted) {
    let written = adopted.shares.iter();
    let written = written.filter(|s| s.adopted && s.access == ShareAccess::Write);
    let names: Vec<&str> = written.map(|s| s.name.as_str()).collect();
    if !names.is_empty() {
        let what = format!(
            "shares {}: ComfyUI runs as another user now, who can write there only if their modes let \
             everybody",
            names.join(", ")
        );
        adopted.lose(
            what,
            "remove `manage = false` from them: comfy then sets the group and the modes that it needs",
        );
    }
}

/// Tells which packages are at other versions than in the installation, and which are not there.
pub(super) fn note_packages(adopted: &mut Adopted, lock: &Lock) {
    let packages = lock.python.as_ref().map_or(&[][..], |p| &p.packages);
    let (mut moved, mut gone, mut builds) = (Vec::new(), Vec::new(), BTreeSet::new());
    let installed = adopted.packages.clone();
    for (name, version) in &installed {
        let locked: Vec<&str> = packages
            .iter()
            .filter(|p| p.name == *name)
            .map(|p| p.version.as_str())
            .collect();
        if locked.is_empty() {
            gone.push(name.as_str());
        } else if !locked
            .iter()
            .any(|l| public_version(l) == public_version(version))
        {
            moved.push(format!("{name} {version} -> {}", locked.join(" and ")));
        } else if let Some((_, build)) = version.split_once('+')
            && !locked.contains(&version.as_str())
        {
            builds.insert(build.to_string());
        }
    }
    if !moved.is_empty() {
        adopted.lose(
            format!(
                "{} at another version: {}",
                count_of(moved.len(), "Python package"),
                moved.join(", ")
            ),
            "nothing, if ComfyUI starts; `overrides` in [python] holds one at its version",
        );
    }
    if !gone.is_empty() {
        let lines = gone
            .iter()
            .map(|n| format!("{n}=={}", public_version(&installed[*n])));
        let lines: Vec<String> = lines.collect();
        adopted.lose(
            format!(
                "{} that neither ComfyUI nor a node asks for: {}",
                count_of(gone.len(), "Python package"),
                gone.join(", ")
            ),
            format!(
                "nothing; or, with those that you use, [python] requirements = {}",
                crate::manifest::quoted_list(&lines)
            ),
        );
    }
    for build in builds {
        adopted.lose(
            format!("torch for {build}: comfy.lock has the build of the default index"),
            format!(
                "[python] indexes = [{{ name = \"{build}\", url = \
                 \"https://download.pytorch.org/whl/{build}\", packages = [\"torch\", \
                 \"torchvision\", \"torchaudio\"] }}], then `comfy lock`"
            ),
        );
    }
}

/// Prints what was pinned, and every loss.
pub(super) fn print_summary(adopted: &Adopted, lock: &Lock) {
    render::print_stdout(&format!(
        "Adopted {}: {}, {}.",
        adopted.format,
        summary_of_pins(lock),
        count_of(adopted.shares.len(), "share")
    ));
    let mut losses: Vec<&Loss> = adopted.losses.iter().collect();
    losses.sort();
    losses.dedup();
    if losses.is_empty() {
        render::print_stdout("Everything in it is pinned.");
        return;
    }
    render::print_stdout(&format!(
        "\nNot reproduced, or not as it was ({}):",
        losses.len()
    ));
    // What is settled in one way is told together.
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for loss in losses {
        match groups.iter_mut().find(|(remedy, _)| *remedy == loss.remedy) {
            Some((_, whats)) => whats.push(&loss.what),
            None => groups.push((&loss.remedy, vec![&loss.what])),
        }
    }
    for (remedy, whats) in groups {
        for what in whats {
            print_entry("- ", what);
        }
        print_entry("  to settle it: ", remedy);
    }
}

/// Prints a text that may have several lines, each escaped.
fn print_entry(head: &str, text: &str) {
    let lines = escape_lines(text);
    render::print_wrapped_stdout(&format!("{head}{}", lines.trim_end().replace('\n', "\n  ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_that_the_registry_flagged_is_told() {
        let id = "1".repeat(40);
        let pack = |name: &str, status: &str| {
            format!(
                "\n[nodes.{name}]\nrepo = \"registry:{name}\"\nref = \"1.0.5\"\ncommit = \"{id}\"\ntree = \
                 \"{id}\"\nregistry_version = \"1.0.5\"\nurl = \"https://h.test/{name}.zip\"\nsha256 = \
                 \"{}\"\nstatus = \"{status}\"\n",
                "2".repeat(64)
            )
        };
        let text = format!(
            "version = 2\n\n[comfyui]\nrepo = \"https://github.com/o/c\"\nref = \"main\"\ncommit = \
             \"{id}\"\ntree = \"{id}\"\n{}{}",
            pack("good", "active"),
            pack("kj", "flagged")
        );
        let lock = Lock::parse(std::path::Path::new("comfy.lock"), &text.into()).unwrap();
        let mut adopted = Adopted::default();
        note_registry_status(&mut adopted, &lock);
        let told: Vec<&str> = adopted.losses.iter().map(|l| l.what.as_str()).collect();
        assert_eq!(
            told,
            ["node kj: the registry says that version 1.0.5 is flagged, without a reason"]
        );
    }
}
