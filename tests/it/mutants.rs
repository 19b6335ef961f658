//! Planted bugs stay where they belong: in builds with the feature `mutants`, which nothing but `make mutants` makes.

use std::fs;
use std::path::Path;

use crate::support::PROGRAM;

/// The variable that names the planted bug, in every program that can have one.
const MARK: &str = "MUTANT_OF_P2P_COMM";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn only_a_build_with_the_feature_has_a_trace_of_them() {
    let program = fs::read(PROGRAM).unwrap();
    let traces = program.windows(MARK.len()).filter(|piece| *piece == MARK.as_bytes()).count();
    assert_eq!(traces > 0, cfg!(feature = "mutants"), "{traces}");
}

#[test]
fn nothing_turns_the_feature_on_by_itself() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    assert_eq!(features["mutants"], toml::Value::Array(Vec::new()));
    for (feature, implied) in features {
        let implied = implied.as_array().unwrap();
        assert!(!implied.iter().any(|one| one.as_str() == Some("mutants")), "{feature}");
    }
    let package: toml::Table = read("pyproject.toml").parse().unwrap();
    assert_eq!(package["tool"]["maturin"]["features"], toml::Value::Array(vec!["python".into()]));
}
