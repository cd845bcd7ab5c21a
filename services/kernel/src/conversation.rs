//! Conversation ids.
//!
//! One-to-one: `o:<a>,<b>` with the two addresses in order, so that nothing need be looked up.
//! Group: `g:<uuid>@<domain>`, the domain being the home of the conversation.

use std::fmt;

use smol_str::SmolStr;
use uuid::Uuid;

use crate::Address;

/// Why a text is not a conversation id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a conversation id is o:<address>,<address> in order, or g:<uuid>@<domain>")]
pub struct ConversationError;

/// A conversation's id. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(SmolStr);

impl ConversationId {
    /// The conversation of two people. `None` if they are the same person.
    pub fn one_to_one(a: &Address, b: &Address) -> Option<Self> {
        let (a, b) = match a.cmp(b) {
            std::cmp::Ordering::Less => (a, b),
            std::cmp::Ordering::Greater => (b, a),
            std::cmp::Ordering::Equal => return None,
        };
        Some(Self(SmolStr::from(format!("o:{a},{b}"))))
    }

    /// A group's conversation.
    pub fn group(id: Uuid, domain: &str) -> Self {
        Self(SmolStr::from(format!("g:{id}@{domain}")))
    }

    /// Reads an id; refuses what `one_to_one` and `group` would not have made.
    pub fn parse(text: &str) -> Result<Self, ConversationError> {
        let id = match text.get(..2) {
            Some("o:") => {
                let (a, b) = text[2..].split_once(',').ok_or(ConversationError)?;
                let a = Address::parse(a).map_err(|_| ConversationError)?;
                let b = Address::parse(b).map_err(|_| ConversationError)?;
                Self::one_to_one(&a, &b).ok_or(ConversationError)?
            }
            Some("g:") => {
                let (id, domain) = text[2..].split_once('@').ok_or(ConversationError)?;
                let id = Uuid::try_parse(id).map_err(|_| ConversationError)?;
                // an address' rules for the domain
                Address::parse(&format!("x@{domain}")).map_err(|_| ConversationError)?;
                Self::group(id, domain)
            }
            _ => return Err(ConversationError),
        };
        if id.as_str() == text {
            Ok(id)
        } else {
            Err(ConversationError)
        }
    }

    /// The two members of a one-to-one conversation; `None` for a group.
    pub fn pair(&self) -> Option<(Address, Address)> {
        let (a, b) = self.0.strip_prefix("o:")?.split_once(',')?;
        Some((Address::parse(a).ok()?, Address::parse(b).ok()?))
    }

    /// The other member of a one-to-one conversation of `user`; `None` if `user` is not in it.
    pub fn peer_of(&self, user: &Address) -> Option<Address> {
        match self.pair()? {
            (a, b) if a == *user => Some(b),
            (a, b) if b == *user => Some(a),
            _ => None,
        }
    }

    /// Whether it is a group.
    pub fn is_group(&self) -> bool {
        self.0.starts_with("g:")
    }

    /// As text; also the key of its records.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ConversationId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ConversationId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_people_have_one_conversation_whoever_begins() {
        let (a, b) = (
            Address::parse("a@x.test").unwrap(),
            Address::parse("b@x.test").unwrap(),
        );
        let ab = ConversationId::one_to_one(&a, &b).unwrap();
        assert_eq!(Some(&ab), ConversationId::one_to_one(&b, &a).as_ref());
        assert_eq!(ConversationId::parse(ab.as_str()).unwrap(), ab);
        assert_eq!(ab.peer_of(&a), Some(b));
        assert_eq!(ConversationId::one_to_one(&a, &a), None);
    }

    #[test]
    fn another_spelling_of_an_id_is_refused() {
        for bad in [
            "",
            "o:",
            "o:b@x,a@x",
            "o:A@x,b@x",
            "o:a@x,a@x",
            "g:1@x",
            "x:a@x,b@x",
            "o:a@x,b@x ",
        ] {
            assert!(ConversationId::parse(bad).is_err(), "{bad}");
        }
        let g = "g:018f4d2e-0000-7000-8000-000000000001@x.test";
        assert!(ConversationId::parse(g).unwrap().is_group());
        assert!(ConversationId::parse(&g.to_uppercase().replace("G:", "g:")).is_err());
    }
}
