//! What presence needs of a subscriber's relations.

use tandem_kernel::Address;
use tandem_proto::{accounts::RelationsResponse, client::contact::State};

/// Whom a user has consented to, at a version of the account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations {
    /// Version of the account that this was read at.
    pub version: u64,
    /// Contacts by mutual consent whom the user does not block, ordered.
    mutual: Box<[Address]>,
}

impl Relations {
    /// What accounts says. Addresses that cannot be read are nobody's.
    pub fn read(response: &RelationsResponse) -> Self {
        let mutual = response
            .contacts
            .iter()
            .filter(|c| c.state() == State::Mutual);
        Self::new(
            response.version,
            mutual.filter_map(|c| Address::parse(&c.user).ok()),
        )
    }

    /// Relations with these contacts.
    pub fn new(version: u64, mutual: impl IntoIterator<Item = Address>) -> Self {
        let mut mutual: Vec<Address> = mutual.into_iter().collect();
        mutual.sort_unstable();
        mutual.dedup();
        Self {
            version,
            mutual: mutual.into(),
        }
    }

    /// The contacts to whom this user is shown, ordered.
    pub fn mutual(&self) -> &[Address] {
        &self.mutual
    }

    /// Whether `other` is one of them.
    pub fn admits(&self, other: &Address) -> bool {
        self.mutual.binary_search(other).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tandem_proto::client::Contact;

    use super::*;

    #[test]
    fn only_contacts_by_mutual_consent_are_admitted() {
        let contact = |user: &str, state: State| Contact {
            user: user.to_owned(),
            state: state.into(),
            ..Contact::default()
        };
        let contacts = vec![
            contact("z@x.test", State::Mutual),
            contact("a@x.test", State::Mutual),
            contact("b@x.test", State::Blocked),
            contact("c@x.test", State::Asked),
            contact("d@x.test", State::AskedBy),
        ];
        let r = Relations::read(&RelationsResponse {
            contacts,
            ..RelationsResponse::default()
        });
        let admits = |user: &str| r.admits(&Address::parse(user).unwrap());
        assert!(admits("a@x.test") && admits("z@x.test"));
        assert!(!admits("b@x.test") && !admits("c@x.test") && !admits("d@x.test"));
    }
}
