//! What this project is built from, read from its lock files. cargo-deny says more (deny.toml), where it is installed;
//! this holds everywhere.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The registry of crates.io, as Cargo.lock spells it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The floors that this project was given. deny.toml has the same.
const FLOORS: [(&str, [u64; 3]); 2] = [("nostr", [0, 44, 7]), ("nostr-relay-pool", [0, 44, 3])];

/// Crates whose minor versions change what we lean on: taken up on purpose, never by `cargo update`.
const PINNED: [&str; 3] = ["nostr-sdk", "nostr-relay-builder", "nostr-lmdb"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn parsed(path: &str) -> toml::Table {
    read(path).parse().unwrap()
}

fn version(text: &str) -> [u64; 3] {
    let core = text.split(['-', '+']).next().unwrap();
    let parts: Vec<u64> = core.split('.').map(|part| part.parse().unwrap()).collect();
    parts.try_into().unwrap()
}

/// What is wrong with the packages of a Cargo.lock.
fn objections(lock: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
        let (name, number) = (text("name").unwrap(), text("version").unwrap());
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        match text("source") {
            Some(REGISTRY) if text("checksum").is_some_and(|sum| sum.len() == 64) => {}
            source => found.push(format!("{name} {number} is from {source:?}, or has no checksum")),
        }
        for (floor, least) in FLOORS.iter().filter(|(floor, _)| *floor == name) {
            if version(number) < *least {
                found.push(format!("{floor} {number} is below its floor"));
            }
        }
    }
    found
}

#[test]
fn every_crate_is_from_the_registry_with_its_checksum_and_at_its_floor() {
    let lock = parsed("Cargo.lock");
    assert_eq!(objections(&lock), [""; 0]);
    let names: Vec<_> =
        lock["package"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(
        FLOORS.iter().all(|(name, _)| names.contains(name)),
        "a floor of a crate that is not used is no floor"
    );
}

#[test]
fn a_planted_package_is_found() {
    let package =
        |more: &str| format!("[[package]]\nname = \"nostr\"\n{more}\n").parse::<toml::Table>().unwrap();
    let sum = "0".repeat(64);
    for planted in [
        format!("version = \"0.44.6\"\nsource = \"{REGISTRY}\"\nchecksum = \"{sum}\""),
        format!("version = \"0.44.8\"\nsource = \"git+https://example.org/nostr\"\nchecksum = \"{sum}\""),
        format!("version = \"0.44.8\"\nsource = \"{REGISTRY}\""),
        "version = \"0.44.8\"".to_owned(),
    ] {
        assert_eq!(objections(&package(&planted)).len(), 1, "{planted}");
    }
    let good = format!("version = \"0.44.8\"\nsource = \"{REGISTRY}\"\nchecksum = \"{sum}\"");
    assert_eq!(objections(&package(&good)), [""; 0]);
}

#[test]
fn what_is_pinned_is_named_by_its_whole_version() {
    let manifest = parsed("Cargo.toml");
    for name in PINNED {
        let dependency = &manifest["dependencies"][name];
        let version = dependency.as_str().or_else(|| dependency.get("version")?.as_str()).unwrap();
        assert!(version.starts_with('='), "{name} {version}");
    }
}

#[test]
fn deny_toml_has_the_same_floors_and_dates_each_exception() {
    let deny = parsed("deny.toml");
    let banned: Vec<_> =
        deny["bans"]["deny"].as_array().unwrap().iter().map(|ban| ban["crate"].as_str().unwrap()).collect();
    for (name, [major, minor, patch]) in FLOORS {
        let floor = format!("{name}@<={major}.{minor}.{}", patch - 1);
        assert!(banned.contains(&floor.as_str()), "{floor}");
    }
    for (table, key) in
        [("sources", "unknown-registry"), ("sources", "unknown-git"), ("advisories", "yanked")]
    {
        assert_eq!(deny[table][key].as_str(), Some("deny"), "{table}.{key}");
    }
    let text = read("deny.toml");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_date = |word: &str| word.len() == 11 && word.ends_with(':') && word[..4].parse::<u16>().is_ok();
    let list = lines.iter().position(|line| line.starts_with("exceptions")).unwrap();
    let exceptions: Vec<usize> = (list..lines.len()).filter(|at| lines[*at].contains("allow = [")).collect();
    assert_eq!(exceptions.len(), deny["licenses"]["exceptions"].as_array().unwrap().len());
    for at in exceptions {
        let reason = lines[at - 1].strip_prefix("# ").unwrap_or_default();
        assert!(reason.split(' ').next().is_some_and(is_date), "{}", lines[at]);
    }
}

#[test]
fn node_parts_are_locked_by_their_hash_and_by_no_address() {
    let lock: Value = serde_json::from_str(&read("tests/interop/package-lock.json")).unwrap();
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 1);
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        assert!(package["integrity"].as_str().is_some_and(|hash| hash.starts_with("sha512-")), "{path}");
        assert!(package.get("resolved").is_none(), "{path}: another registry may serve it");
    }
    let wanted: Value = serde_json::from_str(&read("tests/interop/package.json")).unwrap();
    for (name, version) in wanted["dependencies"].as_object().unwrap() {
        assert!(version.as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()), "{name} {version}");
    }
}

#[test]
fn python_tools_are_pinned_with_all_that_they_need() {
    for list in [
        "requirements-dev.txt",
        "tests/python/parts/a2a.txt",
        "tests/python/parts/nostr-relay.txt",
        "tests/python/parts/nostr-sdk.txt",
        "tests/python/parts/prometheus-client.txt",
    ] {
        let text = read(list);
        let lines: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(!lines.is_empty(), "{list}");
        for line in lines {
            let requirement = line.split(';').next().unwrap().trim();
            let pinned = requirement.split_once("==").is_some_and(|(name, version)| {
                !name.contains(['<', '>', '~', '@']) && version.starts_with(|c: char| c.is_ascii_digit())
            });
            assert!(pinned, "{list}: {line}");
        }
    }
}
