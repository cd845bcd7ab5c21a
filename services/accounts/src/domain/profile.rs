//! What is known of a subscriber, and how provisioning and sign-in change it.

use serde::{Deserialize, Serialize};
use tandem_kernel::{Address, Code};
use tandem_proto::accounts::{Account, UpsertRequest, account};

use super::phone;
use crate::{config::Config, error::Error};

/// A subscriber as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Name to show.
    pub name: String,
    /// E.164; empty: none.
    pub phone: String,
    /// A number that is being taken and is not this subscriber's yet; empty: none.
    pub claiming: String,
    /// Email; empty: none.
    pub email: String,
    /// ISO 3166-1 alpha-2; empty: not known.
    pub country: String,
    /// Key of the config's brands.
    pub brand: String,
    /// Key of the config's plans.
    pub plan: String,
    /// Ended for good.
    pub closed: bool,
    /// Being created: not there yet for anybody else.
    pub draft: bool,
    /// Grows with each change.
    pub version: u64,
}

impl Profile {
    /// As the API shows it.
    pub fn account(&self, user: &Address) -> Account {
        let state = if self.closed {
            account::State::Closed
        } else {
            account::State::Active
        };
        Account {
            user: user.to_string(),
            name: self.name.clone(),
            phone: self.phone.clone(),
            email: self.email.clone(),
            country: self.country.clone(),
            brand: self.brand.clone(),
            plan: self.plan.clone(),
            state: state.into(),
            version: self.version,
        }
    }

    /// Whether it can be found, asked and signed in to.
    pub fn active(&self) -> bool {
        !self.closed && !self.draft
    }
}

/// The profile after `patch`; what is not set in it stays, and a new one gets the config's defaults.
pub fn apply(
    current: Option<&Profile>,
    user: &Address,
    patch: &UpsertRequest,
    config: &Config,
) -> Result<Profile, Error> {
    let mut p = current
        .filter(|c| !c.draft)
        .cloned()
        .unwrap_or_else(|| Profile {
            name: user.local().to_owned(),
            brand: config.brand_of(user.domain()).to_owned(),
            plan: config.default_plan.clone(),
            ..Profile::default()
        });
    p.draft = false;
    if let Some(name) = &patch.name {
        let name = name.trim();
        let name = if name.is_empty() { user.local() } else { name };
        check_name(name)?.clone_into(&mut p.name);
    }
    if let Some(country) = &patch.country {
        let country = country.trim().to_ascii_uppercase();
        if !country.is_empty() && !phone::is_country(&country) {
            return Err(invalid(
                "country is two letters of ISO 3166-1, for example GB",
            ));
        }
        p.country = country;
    }
    if let Some(email) = &patch.email {
        let email = email.trim();
        let fine = email
            .split_once('@')
            .is_some_and(|(l, d)| !l.is_empty() && !d.is_empty());
        let clean = !email.chars().any(|c| c.is_control() || c.is_whitespace());
        let usable = fine && clean && email.len() <= 254;
        if !email.is_empty() && !usable {
            return Err(invalid("email is local@domain of at most 254 characters"));
        }
        email.clone_into(&mut p.email);
    }
    if let Some(brand) = &patch.brand {
        if !config.brands.contains_key(brand) {
            let known = config.brands.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(invalid(&format!(
                "there is no such brand; there are: {known}"
            )));
        }
        p.brand.clone_from(brand);
    }
    if let Some(plan) = &patch.plan {
        if !config.plans.contains_key(plan) {
            let known = config.plans.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(invalid(&format!(
                "there is no such plan; there are: {known}"
            )));
        }
        p.plan.clone_from(plan);
    }
    if let Some(number) = &patch.phone {
        p.phone = if number.trim().is_empty() {
            String::new()
        } else {
            phone::normalise(number, &p.country).map_err(|e| invalid(&e.to_string()))?
        };
    }
    Ok(p)
}

/// A name to show, if it is one.
pub fn check_name(name: &str) -> Result<&str, Error> {
    let name = name.trim();
    if name.chars().count() > 128 || name.chars().any(char::is_control) {
        return Err(invalid(
            "a name is at most 128 characters without control characters",
        ));
    }
    Ok(name)
}

fn invalid(text: &str) -> Error {
    Error::refused(Code::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Address {
        Address::parse("alice@example.com").unwrap()
    }

    fn patch() -> UpsertRequest {
        UpsertRequest {
            user: user().to_string(),
            ..UpsertRequest::default()
        }
    }

    #[test]
    fn a_new_subscriber_gets_the_defaults() {
        let p = apply(None, &user(), &patch(), &Config::default()).unwrap();
        assert_eq!((p.name.as_str(), p.plan.as_str()), ("alice", "standard"));
        assert!(p.active());
    }

    #[test]
    fn what_is_not_set_stays() {
        let config = Config::default();
        let old = Profile {
            name: "Al".into(),
            email: "a@b.c".into(),
            ..Profile::default()
        };
        let new = UpsertRequest {
            country: Some("gb".into()),
            ..patch()
        };
        let p = apply(Some(&old), &user(), &new, &config).unwrap();
        assert_eq!(
            (p.name.as_str(), p.email.as_str(), p.country.as_str()),
            ("Al", "a@b.c", "GB")
        );
    }

    #[test]
    fn a_national_number_is_read_by_the_country_of_the_same_row() {
        let new = UpsertRequest {
            country: Some("FR".into()),
            phone: Some("06 12 34 56 78".into()),
            ..patch()
        };
        let p = apply(None, &user(), &new, &Config::default()).unwrap();
        assert_eq!(p.phone, "+33612345678");
    }

    #[test]
    fn bad_values_are_refused_with_what_to_write() {
        let refused = |p: UpsertRequest| {
            let e = apply(None, &user(), &p, &Config::default()).unwrap_err();
            assert_eq!(e.code(), Code::InvalidArgument);
            e.to_string()
        };
        assert!(
            refused(UpsertRequest {
                country: Some("XX".into()),
                ..patch()
            })
            .contains("GB")
        );
        assert!(
            refused(UpsertRequest {
                email: Some("a".into()),
                ..patch()
            })
            .contains("email")
        );
        assert!(
            refused(UpsertRequest {
                plan: Some("gold".into()),
                ..patch()
            })
            .contains("standard")
        );
        assert!(
            refused(UpsertRequest {
                brand: Some("x".into()),
                ..patch()
            })
            .contains("tandem")
        );
        assert!(
            refused(UpsertRequest {
                phone: Some("12".into()),
                ..patch()
            })
            .contains("+44")
        );
        assert!(
            refused(UpsertRequest {
                name: Some("a\u{7}".into()),
                ..patch()
            })
            .contains("128")
        );
    }
}
