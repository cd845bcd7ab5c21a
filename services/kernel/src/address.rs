//! Addresses of subscribers: `local@domain`.

use std::{fmt, str::FromStr};

use smol_str::SmolStr;

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`, or more than one.
    #[error("an address is local@domain")]
    Shape,
    /// The part before the `@`.
    #[error("the local part is 1 to 64 characters of a-z 0-9 . _ + -")]
    Local,
    /// The part after the `@`.
    #[error("the domain is 1 to 253 characters of a-z 0-9 . -")]
    Domain,
}

/// A subscriber's address, lower case. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SmolStr);

impl Address {
    /// Reads an address; upper case is folded.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.split_once('@').ok_or(AddressError::Shape)?;
        if domain.contains('@') {
            return Err(AddressError::Shape);
        }
        let local_ok = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if local.is_empty() || local.len() > 64 || !local.chars().all(local_ok) {
            return Err(AddressError::Local);
        }
        let domain_ok = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
        if domain.is_empty() || domain.len() > 253 || !domain.chars().all(domain_ok) {
            return Err(AddressError::Domain);
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Ok(Self(SmolStr::new(text.to_ascii_lowercase())))
        } else {
            Ok(Self(SmolStr::new(text)))
        }
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(l, _)| l)
    }

    /// The part after the `@`.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, d)| d)
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::parse(s)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Address {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_folded_to_lower_case() {
        let a: Address = "Alice@Example.COM".parse().unwrap();
        assert_eq!(a.as_str(), "alice@example.com");
        assert_eq!((a.local(), a.domain()), ("alice", "example.com"));
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_the_reason() {
        assert_eq!(Address::parse("alice"), Err(AddressError::Shape));
        assert_eq!(Address::parse("a@b@c"), Err(AddressError::Shape));
        assert_eq!(Address::parse("@b"), Err(AddressError::Local));
        assert_eq!(Address::parse("a b@c"), Err(AddressError::Local));
        assert_eq!(Address::parse("a@"), Err(AddressError::Domain));
        assert_eq!(Address::parse("a@b|c"), Err(AddressError::Domain));
    }
}
