//! What a subscriber is to others, as far as admission asks.

use tandem_kernel::Address;
use tandem_proto::{accounts::RelationsResponse, client::contact::State};

/// A subscriber's relations, compact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations {
    /// Whether there is an active account.
    pub exists: bool,
    /// Version of the account that this is of.
    pub version: u64,
    mutual: Box<[Address]>,
    blocked: Box<[Address]>,
}

impl Relations {
    /// Of an account with these contacts and blocked people.
    pub fn new(version: u64, mutual: Vec<Address>, blocked: Vec<Address>) -> Self {
        Self {
            exists: true,
            version,
            mutual: sorted(mutual),
            blocked: sorted(blocked),
        }
    }

    /// Reads what accounts said. An address that cannot be read is nobody's.
    pub fn from_response(response: &RelationsResponse) -> Self {
        let of = |state: State| {
            let contacts = response.contacts.iter().filter(|c| c.state() == state);
            contacts
                .filter_map(|c| Address::parse(&c.user).ok())
                .collect()
        };
        Self {
            exists: response.exists,
            ..Self::new(response.version, of(State::Mutual), of(State::Blocked))
        }
    }

    /// Whether `other` is a contact by mutual consent.
    pub fn is_mutual(&self, other: &Address) -> bool {
        self.mutual.binary_search(other).is_ok()
    }

    /// Whether this subscriber has blocked `other`.
    pub fn has_blocked(&self, other: &Address) -> bool {
        !self.blocked.is_empty() && self.blocked.binary_search(other).is_ok()
    }

    /// Whom this subscriber has blocked.
    pub fn blocked(&self) -> &[Address] {
        &self.blocked
    }
}

fn sorted(mut addresses: Vec<Address>) -> Box<[Address]> {
    addresses.sort_unstable();
    addresses.into_boxed_slice()
}
