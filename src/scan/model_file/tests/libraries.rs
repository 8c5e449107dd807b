//! What libraries write.

use super::*;

#[test]
fn what_libraries_of_data_write_is_safe() {
    for (module, name) in [
        ("sklearn.cluster._dbscan", "DBSCAN"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas", "Series"),
        ("torch.nn.modules.rnn", "LSTM"),
        ("random", "Random"),
        ("exceptions", "ValueError"),
    ] {
        let made = pickle(&join(&[&global(module, name), b")R}b"]));
        assert_eq!(verdict("a", &made).0, Some(Verdict::Safe), "{name}");
    }
    let zone = |method: &str| {
        let class = global("zoneinfo", "ZoneInfo");
        let found = join(&[
            &global("builtins", "getattr"),
            &class,
            &text(method),
            b"\x86R",
        ]);
        verdict("a", &pickle(&join(&[&found, &text("UTC"), b"K\x01\x86R"])))
    };
    assert_eq!(zone("_unpickle"), (Some(Verdict::Safe), String::new()));
    assert_eq!(zone("_file").0, Some(Verdict::Hostile));
}

#[test]
fn a_broken_pickle_that_names_what_runs_code_is_one_and_a_list_of_words_is_none() {
    let broken = b"cbuiltins\nexec\n(X>\nf = open('x', 'a')tRX.";
    assert_eq!(verdict("a.pkl", broken).0, Some(Verdict::Hostile));
    assert_eq!(verdict("a.txt", b"cos\nsin\ntan\n").0, None);
}
