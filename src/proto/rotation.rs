//! A key takes the place of another: what an agent keeps and announces of it (docs/protocol.md, section 1).
//!
//! Whether the signatures are right is a question of curves, and asked by `transport`.

use serde::{Deserialize, Serialize};

use super::{Hex, PublicKey};

/// Most statements that an agent keeps and announces, and that are looked at of another: the last four of its keys. A
/// statement is about 460 bytes, and the identity file has room for 4 KiB.
pub const ROTATIONS_LIMIT: usize = 4;

/// The statement that a key takes the place of another, signed by both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The key that goes.
    pub old: PublicKey,
    /// The key that comes.
    pub new: PublicKey,
    /// When, in seconds, by the agent's clock.
    pub at: u64,
    /// The old key's signature.
    pub sig: Hex<64>,
    /// The new key's signature.
    pub proof: Hex<64>,
}

/// The statements that lead to a key, the last one first: each names the key that the one before it replaced. Follows
/// what they say; whether it is true is another question.
pub fn leading_to(key: &PublicKey, rotations: &[Rotation]) -> Vec<Rotation> {
    let mut left: Vec<&Rotation> = rotations.iter().take(ROTATIONS_LIMIT).collect();
    let (mut chain, mut key) = (Vec::new(), *key);
    // Each is used once, so a circle ends.
    while let Some(place) = left.iter().position(|rotation| rotation.new == key) {
        let rotation = left.swap_remove(place);
        key = rotation.old;
        chain.push(rotation.clone());
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotation(old: u8, new: u8) -> Rotation {
        Rotation { old: Hex([old; 32]), new: Hex([new; 32]), at: 0, sig: Hex([0; 64]), proof: Hex([0; 64]) }
    }

    #[test]
    fn statements_are_followed_from_the_key_back_in_any_order() {
        let all = [rotation(2, 3), rotation(8, 9), rotation(1, 2), rotation(3, 4)];
        let chain = leading_to(&Hex([4; 32]), &all);
        assert_eq!(chain, [rotation(3, 4), rotation(2, 3), rotation(1, 2)]);
        assert_eq!(leading_to(&Hex([7; 32]), &all), []);
    }

    #[test]
    fn a_circle_ends_and_a_long_list_is_cut() {
        assert_eq!(leading_to(&Hex([1; 32]), &[rotation(1, 2), rotation(2, 1)]).len(), 2);
        let many: Vec<_> = (0..9).map(|n| rotation(n + 1, n)).collect();
        assert_eq!(leading_to(&Hex([0; 32]), &many).len(), ROTATIONS_LIMIT);
    }
}
