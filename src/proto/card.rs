//! What an agent says that it does, in the words of an A2A 1.0 agent card: a description, and skills. Part of its
//! announcement, so everybody who announces may write anything here: it is cut to a size, and is a claim.

use serde::{Deserialize, Serialize};

use super::legacy::cut;

/// Longest description, characters.
pub const DESCRIPTION_LIMIT: usize = 500;
/// Most skills.
pub const SKILLS_LIMIT: usize = 16;
/// Longest id or name of a skill, and longest description of one, characters.
pub const SKILL_NAME_LIMIT: usize = 64;
/// See [`SKILL_NAME_LIMIT`].
pub const SKILL_WORDS_LIMIT: usize = 200;
/// Most tags of a skill, and characters of each.
const TAGS_LIMIT: usize = 8;
const TAG_LIMIT: usize = 32;
/// Largest card announced or kept, bytes of JSON: with names, capabilities and rotations it has to fit into an
/// announcement of 8 KiB.
pub const CARD_LIMIT: usize = 3 * 1_024;

/// A description, and skills.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Card {
    /// What the agent is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<Skill>,
}

/// One thing that an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skill {
    /// A short name, unique for the agent.
    pub id: String,
    /// The name for people, if it is another.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

impl Card {
    /// A card as it is kept: cut to its limits. None if nothing is left, or it is still too large.
    pub fn kept(mut self) -> Option<Self> {
        self.description = cut(self.description, DESCRIPTION_LIMIT);
        self.skills.retain(|skill| !skill.id.trim().is_empty());
        self.skills.truncate(SKILLS_LIMIT);
        for skill in &mut self.skills {
            for (text, limit) in [
                (&mut skill.id, SKILL_NAME_LIMIT),
                (&mut skill.name, SKILL_NAME_LIMIT),
                (&mut skill.description, SKILL_WORDS_LIMIT),
            ] {
                *text = cut(std::mem::take(text), limit);
            }
            skill.tags.truncate(TAGS_LIMIT);
            skill.tags.iter_mut().for_each(|tag| *tag = cut(std::mem::take(tag), TAG_LIMIT));
        }
        let is_something = !self.description.is_empty() || !self.skills.is_empty();
        (is_something && self.size() <= CARD_LIMIT).then_some(self)
    }

    /// Bytes of its JSON.
    pub fn size(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |json| json.len())
    }
}

/// Reads a skill as the setting `skills` writes it: `translate: German to English and back`.
///
/// # Errors
/// What it takes.
pub fn read_skill(text: &str) -> Result<Skill, String> {
    let (id, words) = text.split_once(':').unwrap_or((text, ""));
    let (id, words) = (id.trim(), words.trim());
    let fits =
        |text: &str, limit: usize| text.chars().count() <= limit && !text.chars().any(char::is_control);
    if id.is_empty() || !fits(id, SKILL_NAME_LIMIT) || !fits(words, SKILL_WORDS_LIMIT) {
        return Err(format!(
            "a skill is NAME: WHAT IT DOES, of at most {SKILL_NAME_LIMIT} and {SKILL_WORDS_LIMIT} characters"
        ));
    }
    Ok(Skill { id: id.to_owned(), description: words.to_owned(), ..Skill::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_is_read_from_a_line() {
        let skill = read_skill(" translate : German: to English ").unwrap();
        assert_eq!((skill.id.as_str(), skill.description.as_str()), ("translate", "German: to English"));
        assert_eq!(read_skill("search").unwrap().id, "search");
        for odd in ["", " : words", "a\u{1b}", &"x".repeat(65)] {
            assert!(read_skill(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_card_is_cut_to_its_limits_and_a_huge_one_is_none() {
        let skill = |id: &str| Skill { id: id.into(), tags: vec!["t".repeat(99); 99], ..Skill::default() };
        let card = Card { description: "d".repeat(9_999), skills: vec![skill(" "), skill("a")] };
        let kept = card.kept().unwrap();
        assert_eq!((kept.description.len(), kept.skills.len()), (DESCRIPTION_LIMIT, 1));
        assert_eq!((kept.skills[0].tags.len(), kept.skills[0].tags[0].len()), (TAGS_LIMIT, TAG_LIMIT));
        assert_eq!(kept.clone().kept(), Some(kept), "what is kept is kept as it is");
        assert_eq!(Card::default().kept(), None);
        let wide = Skill { id: "\u{1}".repeat(64), description: "\u{1}".repeat(200), ..Skill::default() };
        assert_eq!(Card { description: String::new(), skills: vec![wide; 16] }.kept(), None);
    }
}
