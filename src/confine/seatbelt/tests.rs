//! Whole profiles, as macOS gets them, and what holds for all of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::expressions::{parameters, read_all, written_paths};
use super::*;
use crate::confine::{PathRule, places};
use crate::desired::launch::{FORMAT, InnerPorts, LaunchSpec};
use crate::desired::{GenerationSpec, InstancePaths};
use crate::manifest::platforms::OperatingSystem;
use crate::manifest::{ClientPolicy, NetworkSettings};

const CACHES: [&str; 2] = ["/private/var/folders/zz/x/C", "/private/var/folders/zz/x/T"];

fn caches() -> Vec<PathBuf> {
    CACHES.map(PathBuf::from).into()
}

fn only() -> EgressPolicy {
    EgressPolicy::Only(vec!["huggingface.co:443".into()])
}

/// The confinement of a launch with a share behind two links, as the launcher finds them.
fn launch(account: bool, egress: EgressPolicy) -> Confinement {
    let paths = InstancePaths {
        prefix: "/opt/comfy".into(),
        base: "/opt/comfy/s".into(),
        records: "/Library/Application Support/comfy/s".into(),
        home: account.then(|| "/Users/s".into()),
    };
    let network = NetworkSettings {
        egress,
        clients: ClientPolicy::Primary,
    };
    let share = |name: &str, path: &str, access: &str| {
        serde_json::json!({
            "name": name, "path": path, "access": access, "requires_mount": null, "owner": 501, "owner_gid": 20,
            "sandbox": 441, "gid": 504, "setgid": false, "modes": account, "manage": true
        })
    };
    let spec: LaunchSpec = serde_json::from_value(serde_json::json!({
        "format": FORMAT, "paths": paths, "account": account, "macos": true, "owner": 501, "user": "s", "uid": 441,
        "gid": 441, "listen": "127.0.0.1", "port": 8188, "args": [], "env": {}, "open_files": 256, "reserve": 0,
        "front": 442, "network": network, "remote": false, "strict": true, "input": "/opt/comfy/s/state/input",
        "output": "/Users/alice/out", "shares": [
            share("models", "/Volumes/ai/models", "read"), share("output", "/Users/alice/out", "write"),
        ], "links": [["/Users/alice/models", "/Volumes/ai/models"]]
    }))
    .unwrap();
    let generation: GenerationSpec = serde_json::from_value(serde_json::json!({
        "layout": 1, "nodes": {}, "mounts": {}, "state": "/opt/comfy/s/state",
        "comfyui": {
            "repo": "https://github.com/o/r", "git_ref": "main", "commit": "0".repeat(40), "tree": "0".repeat(40), "submodules": []
        },
        "venv": {
            "layout": 2, "packages": [],
            "interpreter": { "path": "/opt/comfy/s/python/3.12.9/bin/python3.12", "version": "3.12.9" }
        }
    }))
    .unwrap();
    let ports = match account {
        true => InnerPorts {
            comfyui: 49200,
            proxy: Some(49201),
        },
        false => InnerPorts {
            comfyui: 8188,
            proxy: None,
        },
    };
    let mut c = Confinement::for_launch(&spec, "0123456789ab", &generation, false, ports);
    let links = [
        ("/Users/alice/models", "/Volumes/ai/models"),
        ("/Volumes/ai", "/Volumes/ai/models"),
        ("/opt/comfy/s/current", "/opt/comfy/s/gen/0123456789ab"),
    ];
    c.links = links.map(|(at, to)| (at.into(), to.into())).into();
    c
}

fn profile_of_launch(account: bool, egress: EgressPolicy) -> SeatbeltProfile {
    let caches = caches();
    let places = LaunchPlaces {
        caches: &caches,
        terminal: None,
    };
    SeatbeltProfile::for_launch(&launch(account, egress), places)
}

fn shell() -> SeatbeltProfile {
    let places = LaunchPlaces {
        caches: &[],
        terminal: Some(Path::new("/dev/ttys004")),
    };
    SeatbeltProfile::for_launch(&launch(true, EgressPolicy::Deny), places)
}

fn build(fetches: bool) -> SeatbeltProfile {
    let rule = |path: &str, may| PathRule {
        path: path.into(),
        may,
        whose: PathOwner::System,
        why: String::new(),
    };
    let resolver = places::for_fetching(OperatingSystem::MacOs).filter(|_| fetches);
    let mut rules: Vec<PathRule> = places::for_builds(OperatingSystem::MacOs)
        .chain(resolver)
        .map(|(path, may, _)| rule(path, may))
        .collect();
    rules.push(rule("/opt/comfy/s/.staging/job", PathAccess::Write));
    let c = Confinement {
        rules,
        ..Confinement::default()
    };
    SeatbeltProfile::for_build(&c, fetches, &caches())
}

fn gateway(egress: &EgressPolicy) -> SeatbeltProfile {
    let ports = GatewayPorts {
        listen: Some(8188),
        comfyui: 49200,
        proxy: 49201,
    };
    SeatbeltProfile::for_gateway(egress, &ports)
}

/// Every kind of profile, by its name.
fn all() -> Vec<(&'static str, SeatbeltProfile)> {
    vec![
        ("launch", profile_of_launch(true, EgressPolicy::Deny)),
        ("launch-egress-list", profile_of_launch(true, only())),
        (
            "launch-egress-allow",
            profile_of_launch(true, EgressPolicy::Allow),
        ),
        ("shell", shell()),
        ("isolation-none", profile_of_launch(false, only())),
        (
            "isolation-none-allow",
            profile_of_launch(false, EgressPolicy::Allow),
        ),
        ("build", build(false)),
        ("build-fetches", build(true)),
        ("gateway", gateway(&EgressPolicy::Deny)),
        ("gateway-egress-list", gateway(&only())),
        ("gateway-egress-allow", gateway(&EgressPolicy::Allow)),
    ]
}

fn with_values(p: &SeatbeltProfile) -> String {
    let values = p.values.iter();
    let values = values.map(|(name, path)| format!("{name} {}\n", path.display()));
    format!("{}\n{}", values.collect::<String>(), p.text)
}

/// The lines that another profile of the kind lacks, and those that it has beside, with the values
/// of their parameters.
fn difference(from: &SeatbeltProfile, to: &SeatbeltProfile) -> String {
    let lines = |p: &SeatbeltProfile| -> Vec<String> {
        let put = |text: String, (name, path): &(String, PathBuf)| {
            text.replace(
                &format!("(param \"{name}\")"),
                &format!("{{{}}}", path.display()),
            )
        };
        let text = p.values.iter().fold(p.text.clone(), put);
        text.lines()
            .map(|l| l.trim_end_matches(')').to_string())
            .collect()
    };
    let (from, to) = (lines(from), lines(to));
    let gone = from.iter().filter(|l| !to.contains(l));
    let new = to.iter().filter(|l| !from.contains(l));
    gone.map(|l| format!("- {l}\n"))
        .chain(new.map(|l| format!("+ {l}\n")))
        .collect()
}

#[test]
fn profiles_as_macos_gets_them() {
    let launch = profile_of_launch(true, EgressPolicy::Deny);
    insta::assert_snapshot!("launch", with_values(&launch));
    insta::assert_snapshot!("build", with_values(&build(false)));
    insta::assert_snapshot!("gateway", with_values(&gateway(&EgressPolicy::Deny)));
    let all: Vec<String> = all()
        .into_iter()
        .filter_map(|(name, p)| {
            let of = match name.split('-').next()? {
                "build" => build(false),
                "gateway" => gateway(&EgressPolicy::Deny),
                _ => launch.clone(),
            };
            (p != of).then(|| format!("{name}:\n{}", difference(&of, &p)))
        })
        .collect();
    insta::assert_snapshot!("others", all.join("\n"));
}

#[test]
fn every_profile_is_well_formed() {
    let fixed: Vec<&str> = "/ /System /bin/launchctl /dev/ptmx /dev/tty /etc /private \
        /private/var/run/mDNSResponder /private/var/run/syslog /private/var/select/sh /tmp /usr/bin/open \
        /usr/bin/osascript /usr/bin/security /var"
        .split(' ')
        .filter(|p| !p.is_empty())
        .collect();
    for (name, p) in all() {
        let read = read_all(&p.text).unwrap_or_else(|why| panic!("{name}: {why}"));
        let given: BTreeSet<String> = p.values.iter().map(|(n, _)| n.clone()).collect();
        assert_eq!(parameters(&read), given, "{name}: named and given");
        assert_eq!(given.len(), p.values.len(), "{name}: given once");
        assert!(p.text.is_ascii() && !p.text.contains('\t'), "{name}");
        for path in written_paths(&read) {
            assert!(fixed.contains(&&*path), "{name}: {path} is no parameter");
        }
        let arguments = p.sandbox_exec_args();
        assert_eq!(arguments.len(), 3 + 2 * p.values.len(), "{name}");
        assert_eq!(arguments.last().unwrap(), "--");
    }
}

#[test]
fn no_path_and_no_word_of_comfy_toml_is_a_rule() {
    let hostile = "a\n(allow default)\r\u{2028}(allow default) \"ü";
    let c = Confinement {
        rules: vec![PathRule {
            path: "/Users/alice/a\") (allow default) (\"".into(),
            may: PathAccess::Read,
            whose: PathOwner::Share,
            why: format!("share {hostile}: ComfyUI reads"),
        }],
        ..Confinement::default()
    };
    let p = SeatbeltProfile::for_launch(&c, LaunchPlaces::default());
    assert!(p.text.is_ascii());
    let comment = p.text.lines().find(|l| l.starts_with("; share")).unwrap();
    insta::assert_snapshot!(comment, @r#"; share a\u{a}(allow default)\u{d}\u{2028}(allow default) "?: ComfyUI reads"#);
    let default = read_all(&p.text).unwrap().iter().any(|e| {
        matches!(e, expressions::Expression::List(l) if l.contains(&expressions::Expression::Atom("default".into()))
            && l.contains(&expressions::Expression::Atom("allow".into())))
    });
    assert!(!default, "{}", p.text);
    assert!(
        p.sandbox_exec_args()
            .iter()
            .any(|a| { a.to_string_lossy() == "P0=/Users/alice/a\") (allow default) (\"" })
    );
}
