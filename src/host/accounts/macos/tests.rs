//! Transcripts of the real tools, and what comfy makes of them.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;

/// Answers calls in order. A call that is not the next one, or one that never came, fails the
/// test.
struct Transcript {
    next: Mutex<VecDeque<(String, ProgramOutput)>>,
    log: Mutex<Vec<String>>,
}

impl ProgramRunner for Transcript {
    fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput> {
        let line = argv
            .iter()
            .map(|a| {
                if a.contains([' ', '*']) {
                    format!("'{a}'")
                } else {
                    (*a).to_string()
                }
            })
            .collect::<Vec<_>>()
            .join(" ");
        let (expected, out) = self
            .next
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or_else(|| panic!("nothing more was expected, but: {line}"));
        assert!(
            line == expected
                || expected
                    .strip_suffix('…')
                    .is_some_and(|start| line.starts_with(start)),
            "expected {expected}\nbut got  {line}"
        );
        self.log.lock().unwrap().push(if out.status == 0 {
            line
        } else {
            format!("{line} -> {}", out.status)
        });
        Ok(out)
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        let left = self.next.get_mut().unwrap();
        assert!(
            std::thread::panicking() || left.is_empty(),
            "never called: {left:?}"
        );
    }
}

/// Each call whole, or its start and `…`.
fn mac<'a>(calls: impl IntoIterator<Item = (&'a str, ProgramOutput)>) -> MacAccounts<Transcript> {
    MacAccounts(Transcript {
        next: Mutex::new(
            calls
                .into_iter()
                .map(|(line, out)| (line.to_string(), out))
                .collect(),
        ),
        log: Mutex::default(),
    })
}

fn log(mac: &MacAccounts<Transcript>) -> String {
    mac.0.log.lock().unwrap().join("\n")
}

fn ok(stdout: &str) -> ProgramOutput {
    ProgramOutput {
        stdout: stdout.into(),
        ..ProgramOutput::default()
    }
}

fn err(status: i32, stderr: &str) -> ProgramOutput {
    ProgramOutput {
        status,
        stderr: stderr.into(),
        ..ProgramOutput::default()
    }
}

fn absent() -> ProgramOutput {
    err(56, "<dscl_cmd> DS Error: -14136 (eDSRecordNotFound)\n")
}

fn record(attributes: &[(&str, &[&str])]) -> ProgramOutput {
    let mut body = String::new();
    for (key, values) in attributes {
        let values: String = values
            .iter()
            .map(|v| format!("\t\t<string>{v}</string>\n"))
            .collect();
        body += &format!("\t<key>{key}</key>\n\t<array>\n{values}\t</array>\n");
    }
    ok(&format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple//DTD \
         PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n{body}</dict>\n</plist>\n"
    ))
}

fn sandbox() -> ProgramOutput {
    record(&[
        ("dsAttrTypeNative:_writers_passwd", &["comfyui_sandbox"]),
        (
            "dsAttrTypeStandard:AppleMetaNodeLocation",
            &["/Local/Default"],
        ),
        (
            "dsAttrTypeStandard:GeneratedUID",
            &["D6515614-B56A-4943-AA41-18D17DE9F899"],
        ),
        (
            "dsAttrTypeStandard:NFSHomeDirectory",
            &["/Users/comfyui_sandbox"],
        ),
        ("dsAttrTypeStandard:Password", &["********"]),
        ("dsAttrTypeStandard:PrimaryGroupID", &["441"]),
        ("dsAttrTypeStandard:RecordName", &["comfyui_sandbox"]),
        ("dsAttrTypeStandard:UniqueID", &["441"]),
        ("dsAttrTypeStandard:UserShell", &["/usr/bin/false"]),
    ])
}

fn nobody() -> ProgramOutput {
    record(&[
        ("dsAttrTypeStandard:NFSHomeDirectory", &["/var/empty"]),
        ("dsAttrTypeStandard:PrimaryGroupID", &["-2"]),
        ("dsAttrTypeStandard:RecordName", &["nobody"]),
        ("dsAttrTypeStandard:UniqueID", &["-2"]),
        ("dsAttrTypeStandard:UserShell", &["/usr/bin/false"]),
    ])
}

fn shared(gid: &str) -> ProgramOutput {
    record(&[
        (
            "dsAttrTypeStandard:GroupMembership",
            &["alice", "comfyui_sandbox"],
        ),
        ("dsAttrTypeStandard:PrimaryGroupID", &[gid]),
        ("dsAttrTypeStandard:RealName", &["ComfyUI (comfy)"]),
        ("dsAttrTypeStandard:RecordName", &["comfyshared"]),
    ])
}

const READ_USER: &str = "/usr/bin/dscl -plist . -read /Users/comfyui_sandbox";
const READ_GROUP: &str = "/usr/bin/dscl -plist . -read /Groups/comfyshared";
const READ_NOBODY: &str = "/usr/bin/dscl -plist . -read /Users/nobody";
const PROBE: &str = "/usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty";
const ID: &str = "/usr/bin/id -G comfyui_sandbox";
const ID_NOBODY: &str = "/usr/bin/id -G nobody";
const LIST_GROUPS: &str = "/usr/bin/dscl . -list /Groups PrimaryGroupID";
const SESSION: &str = "/bin/launchctl managername";
const CREATE: &str = "/usr/bin/dscl . -create /Users/comfyui_sandbox…";
const HIDE: &str = "/usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1";
const DELETE: &str = "/usr/bin/dscl . -delete /Users/comfyui_sandbox";
const CHECK: &str = "/usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared";
const STAT: &str = "/usr/bin/stat -f '%u %g %Lp' /Users/alice";
const LS: &str = "/bin/ls -led /Users/alice";
const SLEEP: &str = "/bin/sleep 0.5";
const DENIED: &str = "<main> attribute status: eDSPermissionError\n<dscl_cmd> DS Error: -14120 \
    (eDSPermissionError)\n";
const LATER: &str = "<main> attribute status: eNotYetImplemented\n<dscl_cmd> DS Error: -14988 \
    (eNotYetImplemented)\n";
const HOME: &str = "/Users/comfyui_sandbox";

fn create(mac: &MacAccounts<Transcript>) -> Result<()> {
    mac.create_user("comfyui_sandbox", 441, 441, Path::new(HOME))
}

// Reading.

#[test]
fn a_user_is_read_from_its_record_and_its_groups_from_id() {
    let m = mac([
        (READ_USER, sandbox()),
        (ID, ok("441 12 61 504 100 701 99 777\n")),
        (ID_NOBODY, ok("4294967294 12 61 100 701\n")),
        (
            LIST_GROUPS,
            ok(
                "_lpoperator                 100\ncomfyshared                 504\nThe Family         \
                         99\nnobody                      -2\n",
            ),
        ),
    ]);
    insta::assert_debug_snapshot!(m.find_user("comfyui_sandbox").unwrap().unwrap(), @r#"
    UserAccount {
        name: "comfyui_sandbox",
        uid: 441,
        gid: 441,
        home: "/Users/comfyui_sandbox",
        shell: "/usr/bin/false",
        groups: [
            "comfyshared",
            "The Family",
            "777",
        ],
    }
    "#);
}

#[test]
fn groups_name_an_account_that_is_gone() {
    const LIST: &str = "/usr/bin/dscl . -list /Groups GroupMembership";
    let listed = "admin                    root alice comfyui_sandbox\n\
        com.apple.access_ssh     alice\nstaff                    root\n_www\n";
    let naming = |out| mac([(LIST, out)]).groups_naming("comfyui_sandbox");
    assert_eq!(naming(ok(listed)), Ok(vec!["admin".to_string()]));
    assert!(naming(err(40, DENIED)).is_err());
}

#[test]
fn a_user_that_id_does_not_know_yet_has_no_groups_and_a_silent_id_is_unknown() {
    let m = mac([
        (READ_USER, sandbox()),
        (ID, err(1, "id: comfyui_sandbox: no such user\n")),
    ]);
    assert_eq!(
        m.find_user("comfyui_sandbox").unwrap().unwrap().groups,
        Vec::<String>::new()
    );
    let m = mac([(READ_USER, sandbox()), (ID, ok("\n"))]);
    assert!(m.find_user("comfyui_sandbox").is_err());
}

#[test]
fn negative_ids_are_those_of_the_kernel() {
    let m = mac([
        (READ_NOBODY, nobody()),
        (ID_NOBODY, ok("4294967294 12\n")),
        (ID_NOBODY, ok("4294967294 12\n")),
    ]);
    assert_eq!(
        m.find_user("nobody").unwrap().map(|u| (u.uid, u.gid)),
        Some((4_294_967_294, 4_294_967_294))
    );
}

#[test]
fn a_group_is_read_with_or_without_prefixes_and_members() {
    let m = mac([(READ_GROUP, shared("504"))]);
    assert_eq!(
        m.find_group("comfyshared"),
        Ok(Some(GroupAccount {
            name: "comfyshared".into(),
            gid: 504,
            members: vec!["alice".into(), "comfyui_sandbox".into()]
        }))
    );
    let m = mac([(
        READ_GROUP,
        record(&[
            ("PrimaryGroupID", &["504"]),
            ("RecordName", &["comfyshared"]),
        ]),
    )]);
    assert_eq!(
        m.find_group("comfyshared"),
        Ok(Some(GroupAccount {
            name: "comfyshared".into(),
            gid: 504,
            members: vec![]
        }))
    );
}

#[test]
fn only_the_directory_s_own_word_makes_a_record_absent() {
    assert_eq!(
        mac([(READ_USER, absent())]).find_user("comfyui_sandbox"),
        Ok(None)
    );
    assert_eq!(
        mac([(READ_GROUP, absent())]).find_group("comfyshared"),
        Ok(None)
    );
    for out in [
        err(56, ""),
        err(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n"),
        err(139, ""),
        err(1, "eDSRecordNotFound"),
    ] {
        let seen = mac([(READ_USER, out.clone())]).find_user("comfyui_sandbox");
        assert!(seen.is_err(), "{out:?} gave {seen:?}");
    }
    // An account that comfy began to make: without a uid it is none.
    for begun in [
        record(&[("dsAttrTypeStandard:RecordName", &["comfyui_sandbox"])]),
        record(&[
            ("dsAttrTypeStandard:RealName", &["ComfyUI sandbox (comfy)"]),
            ("dsAttrTypeStandard:UserShell", &["/usr/bin/false"]),
        ]),
    ] {
        let m = mac([(READ_USER, begun)]);
        assert_eq!(m.find_user("comfyui_sandbox"), Ok(None));
    }
}

#[test]
fn what_is_garbled_is_unknown_and_says_why() {
    let good = sandbox().stdout;
    let cases = [
        String::new(),
        good[..good.len() / 2].into(),
        "<plist version=\"1.0\"><array/></plist>".into(),
        good.replace("<string>441</string>", "<string>4\u{9b}1</string>"),
        good.replace("UniqueID", "Unique"),
        good.replace("PrimaryGroupID", "Primary"),
        good.replace("NFSHomeDirectory", "Home"),
        good.replace("UserShell", "Shell"),
        good.replace("<string>/usr/bin/false</string>", "<integer>3</integer>"),
        good.replace(
            "<key>dsAttrTypeStandard:RecordName</key>\n\t<array>\n",
            "<key>dsAttrTypeStandard:RecordName</key>\n\t<array>\n\t\t<string>alice</string>\n",
        ),
    ];
    let said: Vec<String> = cases
        .iter()
        .map(|c| {
            mac([(READ_USER, ok(c))])
                .find_user("comfyui_sandbox")
                .unwrap_err()
                .reason
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    /Users/comfyui_sandbox: dscl printed no property list: UnexpectedEndOfEventStream
    /Users/comfyui_sandbox: dscl printed no property list: UnclosedXmlElement (offset 534)
    /Users/comfyui_sandbox: dscl printed a property list that is not a record
    /Users/comfyui_sandbox: UniqueID is `4\u{9b}1`, which is not an id
    /Users/comfyui_sandbox: the record has no UniqueID; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
    /Users/comfyui_sandbox: the record has no PrimaryGroupID; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
    /Users/comfyui_sandbox: the record has no NFSHomeDirectory; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
    /Users/comfyui_sandbox: the record has no UserShell; an apply that was cut short leaves such a record: if comfy made it, `sudo /usr/bin/dscl . -delete /Users/comfyui_sandbox`
    /Users/comfyui_sandbox: UserShell is not a list of strings
    /Users/comfyui_sandbox: this is another name of `alice`
    ");
}

#[test]
fn a_refused_read_is_one_that_root_can_make() {
    let seen = mac([(READ_USER, err(40, DENIED))])
        .find_user("comfyui_sandbox")
        .unwrap_err();
    assert!(seen.root_can, "{seen:?}");
    assert!(
        !mac([(READ_USER, err(1, "?"))])
            .find_user("comfyui_sandbox")
            .unwrap_err()
            .root_can
    );
}

#[test]
fn membership_is_what_checkmember_says() {
    let no = |status, stdout: &str, stderr: &str| ProgramOutput {
        status,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let cases = [
        (
            no(0, "yes comfyui_sandbox is a member of comfyshared\n", ""),
            Some(true),
        ),
        (
            no(
                67,
                "no comfyui_sandbox is NOT a member of comfyshared\n",
                "",
            ),
            Some(false),
        ),
        (no(64, "", "Group not found.\n"), Some(false)),
        (no(64, "", "Unable to find the user record\n"), Some(false)),
        (
            no(64, "", "getNodeRef failed to obtain a node reference\n"),
            None,
        ),
        (
            no(
                0,
                "***Username <-u username> must be explicitly provided in this shell***\n",
                "",
            ),
            None,
        ),
        (no(77, "", ""), None),
        (no(137, "", ""), None),
    ];
    for (out, expected) in cases {
        assert_eq!(
            mac([(CHECK, out.clone())])
                .is_member("comfyui_sandbox", "comfyshared")
                .ok(),
            expected,
            "{out:?}"
        );
    }
}

// Search permission.

fn search(stat: &str, listing: &str) -> Seen<Option<SearchPermission>> {
    mac([(STAT, ok(stat)), (LS, ok(listing))]).search_permission(
        Path::new("/Users/alice"),
        "comfyui_sandbox",
        441,
        &[504, 441],
    )
}

fn passes(stat: &str) -> bool {
    search(
        stat,
        "drwxr-x---  30 alice  staff  960 Aug  4 10:00 /Users/alice\n",
    )
    .unwrap()
    .unwrap()
    .passes
}

#[test]
fn the_mode_s_one_class_decides_where_no_entry_does() {
    let cases = [
        "501 20 750",
        "501 20 751",
        "501 504 750",
        "501 504 701",
        "441 20 700",
        "441 504 077",
        "501 20 1777",
    ];
    let said: Vec<String> = cases
        .iter()
        .map(|c| format!("{c}: {}", passes(&format!("{c}\n"))))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    501 20 750: false
    501 20 751: true
    501 504 750: true
    501 504 701: false
    441 20 700: true
    441 504 077: false
    501 20 1777: true
    ");
}

#[test]
fn acl_entries_are_judged_in_their_order() {
    let head = "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n";
    let cases = [
        " 0: group:everyone deny delete\n 1: user:comfyui_sandbox allow search\n",
        " 0: group:everyone deny delete\n",
        " 0: user:comfyui_sandbox deny list,search\n 1: user:comfyui_sandbox allow search\n",
        " 0: user:comfyui_sandbox allow search\n 1: user:comfyui_sandbox inherited deny search\n",
        " 0: user:comfyui_sandbox inherited allow list,search,file_inherit,directory_inherit\n",
        " 0: user:comfyui_sandbox allow search,directory_inherit,only_inherit\n",
        " 0: user:comfyui_sandbox allow list\n",
        " 0: user:comfyui_sandbox2 allow search\n",
        " 0: group:everyone allow search\n",
        " 0: D6515614-B56A-4943-AA41-18D17DE9F899 allow search\n",
    ];
    let said: Vec<String> = cases
        .iter()
        .map(|c| {
            format!(
                "{c}    {:?}",
                search("501 20 750\n", &format!("{head}{c}"))
                    .unwrap()
                    .unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    0: group:everyone deny delete
    1: user:comfyui_sandbox allow search
       SearchPermission { passes: true, entry: true }
    0: group:everyone deny delete
       SearchPermission { passes: false, entry: false }
    0: user:comfyui_sandbox deny list,search
    1: user:comfyui_sandbox allow search
       SearchPermission { passes: false, entry: true }
    0: user:comfyui_sandbox allow search
    1: user:comfyui_sandbox inherited deny search
       SearchPermission { passes: true, entry: true }
    0: user:comfyui_sandbox inherited allow list,search,file_inherit,directory_inherit
       SearchPermission { passes: true, entry: true }
    0: user:comfyui_sandbox allow search,directory_inherit,only_inherit
       SearchPermission { passes: false, entry: false }
    0: user:comfyui_sandbox allow list
       SearchPermission { passes: false, entry: false }
    0: user:comfyui_sandbox2 allow search
       SearchPermission { passes: false, entry: false }
    0: group:everyone allow search
       SearchPermission { passes: true, entry: false }
    0: D6515614-B56A-4943-AA41-18D17DE9F899 allow search
       SearchPermission { passes: false, entry: false }
    ");
}

#[test]
fn an_entry_for_a_group_counts_by_its_gid_or_by_membership() {
    let listing = "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n 0: \
        group:comfyshared deny search\n 1: user:comfyui_sandbox allow search\n";
    let ask = |m: MacAccounts<Transcript>| {
        m.search_permission(Path::new("/Users/alice"), "comfyui_sandbox", 441, &[504])
            .map(|s| s.map(|s| s.passes))
    };
    assert_eq!(
        ask(mac([
            (STAT, ok("501 20 750\n")),
            (LS, ok(listing)),
            (READ_GROUP, shared("504"))
        ])),
        Ok(Some(false))
    );
    assert_eq!(
        ask(mac([
            (STAT, ok("501 20 750\n")),
            (LS, ok(listing)),
            (READ_GROUP, shared("505")),
            (
                CHECK,
                ok("yes comfyui_sandbox is a member of comfyshared\n")
            )
        ])),
        Ok(Some(false))
    );
    assert_eq!(
        ask(mac([
            (STAT, ok("501 20 750\n")),
            (LS, ok(listing)),
            (READ_GROUP, shared("505")),
            (CHECK, err(67, ""))
        ])),
        Ok(Some(true))
    );
    assert!(
        ask(mac([
            (STAT, ok("501 20 750\n")),
            (LS, ok(listing)),
            (READ_GROUP, absent()),
            (CHECK, err(77, ""))
        ]))
        .is_err()
    );
}

#[test]
fn a_folder_that_is_not_there_is_absent_and_one_that_cannot_be_read_is_unknown() {
    let ask = |m: MacAccounts<Transcript>| {
        m.search_permission(Path::new("/Users/alice"), "comfyui_sandbox", 441, &[])
    };
    assert_eq!(
        ask(mac([(
            STAT,
            err(1, "stat: /Users/alice: stat: No such file or directory\n")
        )])),
        Ok(None)
    );
    assert_eq!(
        ask(mac([
            (STAT, ok("501 20 750\n")),
            (LS, err(1, "ls: /Users/alice: No such file or directory\n"))
        ])),
        Ok(None)
    );
    for why in ["Permission denied", "Operation not permitted"] {
        let seen = ask(mac([(
            STAT,
            err(1, &format!("stat: /Users/alice: stat: {why}\n")),
        )]))
        .unwrap_err();
        assert!(seen.root_can, "{seen:?}");
    }
    assert!(
        !ask(mac([(
            STAT,
            err(1, "stat: /Users/alice: stat: Input/output error\n")
        )]))
        .unwrap_err()
        .root_can
    );
}

#[test]
fn a_listing_that_comfy_cannot_read_is_unknown() {
    for listing in [
        "",
        "lrwxr-xr-x 1 root wheel 11 Aug 4 10:00 /Users/alice -> x\n",
        "drwxr-x---+ 30 alice staff 960 Aug 4 10:00 /Users/alice\n",
        "drwxr-x---+ 30 a s 9 x\n 0: user:a maybe search\n",
        "drwxr-x---+ 30 a s 9 x\nwhat\n",
    ] {
        assert!(search("501 20 750\n", listing).is_err(), "{listing}");
    }
    for stat in ["", "501 20\n", "alice staff 750\n", "501 20 999\n"] {
        assert!(
            mac([(STAT, ok(stat))])
                .search_permission(Path::new("/Users/alice"), "x", 441, &[])
                .is_err(),
            "{stat}"
        );
    }
    // A folder whose name would print a line of its own is never listed.
    assert!(
        mac([])
            .search_permission(
                Path::new("/Users/a\n 0: user:x allow search"),
                "x",
                441,
                &[]
            )
            .is_err()
    );
}

// Users.

#[test]
fn a_user_is_made_attribute_by_attribute_after_a_probe() {
    let c = || (CREATE, ok(""));
    let m = mac([
        (READ_USER, absent()),
        (READ_NOBODY, nobody()),
        (PROBE, ok("")),
        c(),
        c(),
        c(),
        c(),
        c(),
        c(),
        c(),
        c(),
    ]);
    create(&m).unwrap();
    insta::assert_snapshot!(log(&m), @"
    /usr/bin/dscl -plist . -read /Users/comfyui_sandbox -> 56
    /usr/bin/dscl -plist . -read /Users/nobody
    /usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty
    /usr/bin/dscl . -create /Users/comfyui_sandbox
    /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)'
    /usr/bin/dscl . -create /Users/comfyui_sandbox Password '*'
    /usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1
    /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
    /usr/bin/dscl . -create /Users/comfyui_sandbox NFSHomeDirectory /Users/comfyui_sandbox
    /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
    /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441
    ");
}

#[test]
fn making_a_user_goes_on_where_it_was_cut_short_and_stops_at_somebody_else() {
    let half = record(&[("dsAttrTypeStandard:RecordName", &["comfyui_sandbox"])]);
    for before in [half, sandbox()] {
        let c = || (CREATE, ok(""));
        create(&mac([
            (READ_USER, before),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
            c(),
        ]))
        .unwrap();
    }
    let other = record(&[("dsAttrTypeStandard:UniqueID", &["502"])]);
    insta::assert_snapshot!(create(&mac([(READ_USER, other)])).unwrap_err(), @r"user.comfyui_sandbox: it exists with uid 502, not 441 (hint: name another user, or ask for that uid)");
    assert!(create(&mac([(READ_USER, err(1, ""))])).is_err());
}

#[test]
fn staff_is_never_a_sandbox_s_group() {
    insta::assert_snapshot!(mac([]).create_user("comfyui_sandbox", 441, 20, Path::new(HOME)).unwrap_err(), @r"user.comfyui_sandbox: gid 20 is `staff`, whose members read the files of every owner on this Mac (hint: give it a group of its own)");
    assert!(
        mac([])
            .change_user("comfyui_sandbox", 20, Path::new(HOME))
            .is_err()
    );
}

#[test]
fn without_full_disk_access_nothing_is_made() {
    let m = mac([
        (READ_USER, absent()),
        (READ_NOBODY, nobody()),
        (PROBE, err(40, DENIED)),
        (SESSION, ok("System\n")),
    ]);
    insta::assert_snapshot!(create(&m).unwrap_err(), @"user.comfyui_sandbox: /usr/bin/dscl exited \
        with 40: <main> attribute status: eDSPermissionError; <dscl_cmd> DS Error: -14120 \
        (eDSPermissionError) (hint: over SSH, macOS changes accounts only with Full Disk Access: \
        System Settings > General > Sharing > Remote Login > (i) > Allow full disk access for \
        remote users; or run comfy in a terminal of a graphical session, and allow what macOS asks \
        for)");
    let at_the_screen = mac([
        (READ_USER, absent()),
        (READ_NOBODY, nobody()),
        (PROBE, err(40, DENIED)),
        (SESSION, ok("Aqua\n")),
    ]);
    let refused = create(&at_the_screen).unwrap_err().to_string();
    insta::assert_snapshot!(refused.split_once("(hint: ").unwrap().1, @"macOS asks once whether \
        this terminal may administer the computer, and it was not allowed: run `tccutil reset \
        SystemPolicySysAdminFiles`, repeat the command, and choose Allow)");
}

#[test]
fn what_passes_is_tried_again_after_a_pause() {
    let c = || (CREATE, ok(""));
    let again = [
        (CREATE, err(140, LATER)),
        (SLEEP, ok("")),
        (CREATE, err(137, "")),
        (SLEEP, ok("")),
        c(),
    ];
    let [a, b, d, e, f] = again;
    let m = mac([
        (READ_USER, absent()),
        (READ_NOBODY, nobody()),
        (PROBE, ok("")),
        c(),
        a,
        b,
        d,
        e,
        f,
        c(),
        c(),
        c(),
        c(),
        c(),
        c(),
    ]);
    create(&m).unwrap();
    insta::assert_snapshot!(log(&m), @"
    /usr/bin/dscl -plist . -read /Users/comfyui_sandbox -> 56
    /usr/bin/dscl -plist . -read /Users/nobody
    /usr/bin/dscl . -change /Users/nobody NFSHomeDirectory /var/empty /var/empty
    /usr/bin/dscl . -create /Users/comfyui_sandbox
    /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)' -> 140
    /bin/sleep 0.5
    /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)' -> 137
    /bin/sleep 0.5
    /usr/bin/dscl . -create /Users/comfyui_sandbox RealName 'ComfyUI sandbox (comfy)'
    /usr/bin/dscl . -create /Users/comfyui_sandbox Password '*'
    /usr/bin/dscl . -create /Users/comfyui_sandbox IsHidden 1
    /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
    /usr/bin/dscl . -create /Users/comfyui_sandbox NFSHomeDirectory /Users/comfyui_sandbox
    /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
    /usr/bin/dscl . -create /Users/comfyui_sandbox UniqueID 441
    ");
}

/// Eleven times killed, with the ten pauses between.
fn killed(line: &'static str) -> Vec<(&'static str, ProgramOutput)> {
    let mut calls: Vec<_> = (0..10)
        .flat_map(|_| [(line, err(137, "")), (SLEEP, ok(""))])
        .collect();
    calls.push((line, err(137, "")));
    calls
}

#[test]
fn a_kill_that_stays_is_borne_for_is_hidden_only() {
    let start = || {
        vec![
            (READ_USER, absent()),
            (READ_NOBODY, nobody()),
            (PROBE, ok("")),
        ]
    };
    let mut calls = start();
    calls.extend((0..3).map(|_| (CREATE, ok(""))));
    calls.extend(killed(HIDE));
    calls.extend((0..4).map(|_| (CREATE, ok(""))));
    create(&mac(calls)).unwrap();

    let mut calls = start();
    calls.extend(killed(CREATE));
    calls.push((DELETE, absent()));
    insta::assert_snapshot!(create(&mac(calls)).unwrap_err(), @"user.comfyui_sandbox, record: \
        /usr/bin/dscl exited with 137: it printed nothing");
}

#[test]
fn a_user_that_could_not_be_finished_is_taken_away_if_it_was_not_there_before() {
    let m = mac([
        (READ_USER, absent()),
        (READ_NOBODY, nobody()),
        (PROBE, ok("")),
        (CREATE, ok("")),
        (CREATE, err(1, "?\n")),
        (DELETE, ok("")),
    ]);
    assert!(create(&m).is_err());
    let m = mac([
        (READ_USER, sandbox()),
        (READ_NOBODY, nobody()),
        (PROBE, ok("")),
        (CREATE, ok("")),
        (CREATE, err(1, "?\n")),
    ]);
    assert!(create(&m).is_err());
}

#[test]
fn only_what_differs_of_a_user_is_changed() {
    let m = mac([(READ_USER, sandbox())]);
    m.change_user("comfyui_sandbox", 441, Path::new(HOME))
        .unwrap();
    let adopted = record(&[
        ("dsAttrTypeStandard:NFSHomeDirectory", &[HOME]),
        ("dsAttrTypeStandard:PrimaryGroupID", &["20"]),
        ("dsAttrTypeStandard:UserShell", &["/bin/zsh"]),
    ]);
    let m = mac([(READ_USER, adopted), (CREATE, ok("")), (CREATE, ok(""))]);
    m.change_user("comfyui_sandbox", 441, Path::new(HOME))
        .unwrap();
    insta::assert_snapshot!(log(&m), @r"
    /usr/bin/dscl -plist . -read /Users/comfyui_sandbox
    /usr/bin/dscl . -create /Users/comfyui_sandbox PrimaryGroupID 441
    /usr/bin/dscl . -create /Users/comfyui_sandbox UserShell /usr/bin/false
    ");
    assert!(
        mac([(READ_USER, absent())])
            .change_user("comfyui_sandbox", 441, Path::new(HOME))
            .is_err()
    );
}

#[test]
fn deleting_takes_every_word_for_gone_and_explains_a_refusal() {
    for out in [
        ok(""),
        absent(),
        err(185, "<dscl_cmd> DS Error: -14009 (eDSUnknownNodeName)\n"),
    ] {
        mac([(DELETE, out)]).delete_user("comfyui_sandbox").unwrap();
    }
    let refused = mac([
        (
            DELETE,
            err(
                40,
                "<main> delete status: eDSPermissionError\n<dscl_cmd> DS Error: -14120 \
                 (eDSPermissionError)\n",
            ),
        ),
        (SESSION, err(1, "?\n")),
    ])
    .delete_user("comfyui_sandbox")
    .unwrap_err();
    insta::assert_snapshot!(refused, @"user.comfyui_sandbox: /usr/bin/dscl exited with 40: <main> \
        delete status: eDSPermissionError; <dscl_cmd> DS Error: -14120 (eDSPermissionError) (hint: \
        over SSH, macOS changes accounts only with Full Disk Access: System Settings > General > \
        Sharing > Remote Login > (i) > Allow full disk access for remote users; or run comfy in a \
        terminal of a graphical session, and allow what macOS asks for) (hint: macOS deletes a \
        user only for somebody with a secure token who is logged in graphically: log in at the \
        screen, then repeat)");
    for out in [err(185, ""), err(1, ""), err(56, "")] {
        assert!(mac([(DELETE, out)]).delete_user("comfyui_sandbox").is_err());
    }
    mac([("/usr/bin/dscl . -delete /Groups/comfyshared", ok(""))])
        .delete_group("comfyshared")
        .unwrap();
}

// Groups and members.

#[test]
fn a_group_is_made_only_where_there_is_none_and_read_afterwards() {
    const MAKE: &str = "/usr/sbin/dseditgroup -o create…";
    let make = |m: &MacAccounts<Transcript>| m.create_group("comfyshared", 504);
    let m = mac([
        (READ_GROUP, absent()),
        (MAKE, ok("")),
        (READ_GROUP, shared("504")),
    ]);
    make(&m).unwrap();
    insta::assert_snapshot!(log(&m), @r"
    /usr/bin/dscl -plist . -read /Groups/comfyshared -> 56
    /usr/sbin/dseditgroup -o create -r 'ComfyUI (comfy)' -i 504 comfyshared
    /usr/bin/dscl -plist . -read /Groups/comfyshared
    ");
    make(&mac([(READ_GROUP, shared("504"))])).unwrap();
    let problems = [
        mac([(READ_GROUP, shared("505"))]),
        mac([(READ_GROUP, err(1, "?"))]),
        mac([
            (READ_GROUP, absent()),
            (MAKE, ok("")),
            (READ_GROUP, absent()),
        ]),
        mac([
            (READ_GROUP, absent()),
            (MAKE, ok("")),
            (READ_GROUP, shared("505")),
        ]),
        mac([
            (READ_GROUP, absent()),
            (MAKE, err(64, "GID already exists\n")),
            ("/usr/bin/dscl . -delete /Groups/comfyshared", ok("")),
        ]),
    ];
    let said: Vec<String> = problems
        .iter()
        .map(|m| make(m).unwrap_err().to_string())
        .collect();
    insta::assert_snapshot!(said.join("\n"), @"
    group.comfyshared: it exists with gid 505, not 504 (hint: name another group, or ask for that \
        gid)
    group.comfyshared: /Groups/comfyshared: /usr/bin/dscl exited with 1: ?
    group.comfyshared: /usr/sbin/dseditgroup reported that it created the group, but the group \
        does not exist
    group.comfyshared: /usr/sbin/dseditgroup was asked for gid 504 but created gid 505
    group.comfyshared: /usr/sbin/dseditgroup exited with 64: GID already exists
    ");
}

#[test]
fn members_are_added_and_removed_once_and_checked() {
    const EDIT: &str = "/usr/sbin/dseditgroup -o edit…";
    let (yes, no) = (
        || {
            (
                CHECK,
                ok("yes comfyui_sandbox is a member of comfyshared\n"),
            )
        },
        || (CHECK, err(67, "")),
    );
    let m = mac([no(), (EDIT, ok("")), yes(), yes(), (EDIT, ok("")), no()]);
    m.add_member("comfyui_sandbox", "comfyshared").unwrap();
    m.remove_member("comfyui_sandbox", "comfyshared").unwrap();
    insta::assert_snapshot!(log(&m), @r"
    /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared -> 67
    /usr/sbin/dseditgroup -o edit -a comfyui_sandbox -t user comfyshared
    /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared
    /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared
    /usr/sbin/dseditgroup -o edit -d comfyui_sandbox -t user comfyshared
    /usr/sbin/dseditgroup -o checkmember -m comfyui_sandbox comfyshared -> 67
    ");
    mac([yes()])
        .add_member("comfyui_sandbox", "comfyshared")
        .unwrap();
    mac([no()])
        .remove_member("comfyui_sandbox", "comfyshared")
        .unwrap();
    let said = [
        mac([no(), (EDIT, ok("")), no()])
            .add_member("comfyui_sandbox", "comfyshared")
            .unwrap_err(),
        mac([yes(), (EDIT, ok("")), yes()])
            .remove_member("comfyui_sandbox", "comfyshared")
            .unwrap_err(),
        mac([
            no(),
            (EDIT, err(64, "Username and password must be provided.\n")),
        ])
        .add_member("comfyui_sandbox", "comfyshared")
        .unwrap_err(),
        mac([no(), (EDIT, ok("")), (CHECK, err(77, "?\n"))])
            .add_member("comfyui_sandbox", "comfyshared")
            .unwrap_err(),
    ];
    insta::assert_snapshot!(said.map(|p| p.to_string()).join("\n"), @"
    member.comfyui_sandbox: /usr/sbin/dseditgroup added comfyui_sandbox to comfyshared, but it is \
        not a member (hint: both must exist: `dscl . -read /Users/comfyui_sandbox` and `dscl . \
        -read /Groups/comfyshared`)
    member.comfyui_sandbox: /usr/sbin/dseditgroup removed comfyui_sandbox from comfyshared, but it \
        is still a member (hint: it may be in a group that is in comfyshared, or have it as its \
        primary group: `dscl . -read /Groups/comfyshared`)
    member.comfyui_sandbox: /usr/sbin/dseditgroup exited with 64: Username and password must be \
        provided.
    member.comfyui_sandbox: comfyui_sandbox in comfyshared: /usr/sbin/dseditgroup exited with 77: ?
    ");
}

// ACL entries.

#[test]
fn an_entry_is_set_and_taken_away_once() {
    const EDIT: &str = "/bin/chmod…";
    let without = || {
        (
            LS,
            ok("drwxr-x---  30 alice  staff  960 Aug  4 10:00 /Users/alice\n"),
        )
    };
    let with = || {
        (
            LS,
            ok(
                "drwxr-x---+ 30 alice  staff  960 Aug  4 10:00 /Users/alice\n 0: \
                 user:comfyui_sandbox allow search\n",
            ),
        )
    };
    let gone = || (LS, err(1, "ls: /Users/alice: No such file or directory\n"));
    let alice = Path::new("/Users/alice");
    let m = mac([
        without(),
        (EDIT, ok("")),
        with(),
        with(),
        (EDIT, ok("")),
        without(),
        gone(),
    ]);
    m.grant_search(alice, "comfyui_sandbox", 441).unwrap();
    m.grant_search(alice, "comfyui_sandbox", 441).unwrap();
    m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
    m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
    m.revoke_search(alice, "comfyui_sandbox", 441).unwrap();
    insta::assert_snapshot!(log(&m), @r"
    /bin/ls -led /Users/alice
    /bin/chmod +a 'user:comfyui_sandbox allow search' /Users/alice
    /bin/ls -led /Users/alice
    /bin/ls -led /Users/alice
    /bin/chmod -a 'user:comfyui_sandbox allow search' /Users/alice
    /bin/ls -led /Users/alice
    /bin/ls -led /Users/alice -> 1
    ");
    let said = [
        mac([gone()])
            .grant_search(alice, "comfyui_sandbox", 441)
            .unwrap_err(),
        mac([(LS, err(1, "ls: /Users/alice: Operation not permitted\n"))])
            .grant_search(alice, "comfyui_sandbox", 441)
            .unwrap_err(),
        mac([
            without(),
            (
                EDIT,
                err(
                    1,
                    "chmod: Failed to set ACL on file '/Users/alice': Operation not supported\n",
                ),
            ),
        ])
        .grant_search(alice, "comfyui_sandbox", 441)
        .unwrap_err(),
    ];
    insta::assert_snapshot!(said.map(|p| p.to_string()).join("\n"), @"
    traverse./Users/alice: the folder does not exist
    traverse./Users/alice: /Users/alice: /bin/ls exited with 1: ls: /Users/alice: Operation not \
        permitted
    traverse./Users/alice: /bin/chmod exited with 1: chmod: Failed to set ACL on file \
        '/Users/alice': Operation not supported (hint: the file system must support ACLs; or move \
        the share out of this folder)
    ");
}
