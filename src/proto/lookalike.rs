//! Names that a person would take for one another: `bob`, `B0b`, `bоb` with a Cyrillic о, `b.o.b`.
//!
//! Two names look alike if their skeletons are the same (the idea is that of Unicode's UTS #39; its table of 6,000 is
//! cut down to what letters of Latin, Greek and Cyrillic, digits and signs look like in a name).

/// What is left of a name when everything is folded that a glance does not tell apart. Only for comparison: it is no
/// name itself.
pub fn skeleton(name: &str) -> String {
    let folded: String = name.chars().flat_map(char::to_lowercase).filter_map(fold).collect();
    // What two letters next to each other are taken for.
    folded.replace("rn", "m").replace("vv", "w").replace("cl", "d")
}

/// A lower-case character as it is seen; nothing for what is not seen, or only parts words.
fn fold(c: char) -> Option<char> {
    let seen = match c {
        'а' | 'α' | 'à'..='å' | 'ā' | 'ă' | 'ą' | 'ɑ' | '@' | '4' => 'a',
        'в' | 'β' | 'ь' | 'ß' | '8' => 'b',
        'с' | 'ç' | 'ć' | 'č' | 'ϲ' => 'c',
        'ԁ' | 'ď' | 'đ' => 'd',
        'е' | 'ё' | 'ε' | 'è'..='ë' | 'ē' | 'ė' | 'ę' | 'ě' | 'є' | '3' => 'e',
        'ɡ' | 'ğ' | 'ģ' | '9' => 'g',
        'н' | 'һ' | 'η' => 'h',
        'і' | 'ї' | 'ι' | 'ì'..='ï' | 'ī' | 'į' | 'ı' | 'l' | 'ł' | 'ӏ' | '1' | '|' | '!' => 'i',
        'ј' | 'ϳ' => 'j',
        'к' | 'κ' => 'k',
        'м' | 'μ' => 'm',
        'ո' | 'ñ' | 'ń' | 'ň' | 'п' => 'n',
        'о' | 'ο' | 'σ' | 'ò'..='ö' | 'ø' | 'ō' | 'ő' | 'օ' | '0' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' | 'ř' => 'r',
        'ѕ' | 'ś' | 'š' | 'ş' | 'ș' | '5' | '$' => 's',
        'т' | 'τ' | 'ť' | 'ț' | '7' | '+' => 't',
        'υ' | 'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ս' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ω' | 'ш' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' | 'ζ' | '2' => 'z',
        // Letters of full width.
        '\u{ff41}'..='\u{ff5a}' => char::from_u32(u32::from(c) - 0xff41 + u32::from('a')).unwrap_or(c),
        '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}' => return None,
        _ if c.is_alphanumeric() => c,
        // Blanks, dashes, dots, and what is not seen at all. A sign that is not ASCII is seen.
        _ if c.is_ascii() || is_unseen(c) => return None,
        _ => c,
    };
    // The folds above may lead to what is folded itself.
    Some(if seen == 'l' { 'i' } else { seen })
}

fn is_unseen(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{2010}'..='\u{2015}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_alike(one: &str, other: &str) -> bool {
        one != other && skeleton(one) == skeleton(other)
    }

    #[test]
    fn what_a_glance_does_not_tell_apart_looks_alike() {
        for (one, other) in [
            ("bob", "Bob"),
            ("bob", "b0b"),
            ("bob", "bоb"),
            ("alice", "a1ice"),
            ("alice", "AIice"),
            ("alice", "al\u{200b}ice"),
            ("modern-bot", "modem_bot"),
            ("build agent", "build-agent"),
            ("paypal", "раураl"),
            ("bob", "ｂｏｂ"),
            ("jose", "josé"),
            ("jose", "jose\u{301}"),
        ] {
            assert!(look_alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn different_names_and_the_same_one_do_not() {
        for (one, other) in
            [("bob", "bob"), ("bob", "rob"), ("alice", "alice2b"), ("研究", "研发"), ("a", "b")]
        {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_skeleton_of_a_skeleton_is_itself_in_letters(name in "[a-zA-Z0-9 ._-]{0,40}") {
            let folded: String = name.chars().flat_map(char::to_lowercase).filter_map(fold).collect();
            let again: String = folded.chars().filter_map(fold).collect();
            proptest::prop_assert_eq!(folded, again);
        }
    }
}
