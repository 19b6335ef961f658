//! File names from peers: made safe before anything touches a disk.

use crate::mutants::{Mutant, planted};

/// Longest name kept, characters.
pub const NAME_LIMIT: usize = 120;

/// A name that stays in its folder: the part after the last slash of either kind, without control, bidirectional or
/// reserved characters, leading dots or trailing blanks, at most [`NAME_LIMIT`] characters, its extension kept.
/// Never empty.
pub fn safe_file_name(name: &str) -> String {
    if planted(Mutant::NameJoined) {
        return name.to_owned();
    }
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().map(|c| if is_unsafe(c) { '_' } else { c }).collect();
    let trimmed = kept.trim_start_matches(['.', ' ', '~', '-']).trim_end_matches(['.', ' ']);
    let reserved = format!("file-{trimmed}");
    let trimmed = match trimmed {
        "" => return "file".to_owned(),
        _ if is_reserved(trimmed) => &reserved,
        _ => trimmed,
    };
    // 255 bytes is what file systems take; the margin is for a `-2` that tells two of the same name apart.
    let bytes_limit = 240;
    let (stem, extension) = match trimmed.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 16 => {
            (stem, format!(".{extension}"))
        }
        _ => (trimmed, String::new()),
    };
    let mut out = String::new();
    for c in stem.chars().take(NAME_LIMIT - extension.chars().count()) {
        if out.len() + c.len_utf8() + extension.len() > bytes_limit {
            break;
        }
        out.push(c);
    }
    if extension.is_empty() {
        // The cut may have left blanks at the end.
        out.truncate(out.trim_end_matches(['.', ' ']).len());
    }
    out + &extension
}

/// What a name must not hold: it would hide its end, reorder it on a screen, or mean something to a shell or to
/// another file system.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\u{ad}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

/// Names that are devices on some systems.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul")
        || (stem.len() == 4
            && (stem.starts_with("com") || stem.starts_with("lpt"))
            && stem.as_bytes()[3].is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_name_stays_as_it_is() {
        for name in ["report.json", "Übersicht 2026.pdf", "archive.tar.gz", "no-extension", "a.b.c"] {
            assert_eq!(safe_file_name(name), name);
        }
    }

    #[test]
    fn a_hostile_name_stays_in_its_folder() {
        for (hostile, safe) in [
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("/absolute", "absolute"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("...", "file"),
            (".ssh", "ssh"),
            ("-rf", "rf"),
            ("a\0b", "a_b"),
            ("a\n\u{1b}[2Jb", "a__[2Jb"),
            ("evil\u{202e}gpj.exe", "evil_gpj.exe"),
            ("nul.txt", "file-nul.txt"),
            ("COM1", "file-COM1"),
            ("x. ", "x"),
        ] {
            assert_eq!(safe_file_name(hostile), safe, "{hostile:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_keeps_its_extension() {
        let name = safe_file_name(&format!("{}.json", "é".repeat(500)));
        assert!(name.ends_with(".json") && name.chars().count() <= NAME_LIMIT && name.len() <= 240);
        for hostile in
            [format!("CON.{}", "x".repeat(500)), format!("{} {}", "x".repeat(119), "y".repeat(500))]
        {
            let name = safe_file_name(&hostile);
            assert!(name.chars().count() <= NAME_LIMIT, "{name}");
            assert_eq!(safe_file_name(&name), name);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_name_it_is_one_plain_component(name in ".{0,300}") {
            let safe = safe_file_name(&name);
            proptest::prop_assert!(!safe.is_empty() && safe.len() <= 255);
            let path = std::path::Path::new(&safe);
            proptest::prop_assert_eq!(path.components().count(), 1);
            proptest::prop_assert!(!safe.starts_with('.') && !safe.contains(['/', '\\']));
            proptest::prop_assert!(!safe.chars().any(is_unsafe));
            proptest::prop_assert_eq!(safe_file_name(&safe), safe.clone(), "making safe twice changes nothing");
        }
    }
}
