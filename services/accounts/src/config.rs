//! The section `accounts` of the config.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether someone with a valid token but no account gets one at the first sign-in.
    pub create_on_sign_in: bool,
    /// Partitions of the topic `accounts`. Never changes once the topic is there.
    pub partitions: u32,
    /// What the plans include, by name of the plan.
    pub plans: BTreeMap<String, Plan>,
    /// Plan of a subscriber for whom none is named.
    pub default_plan: String,
    /// The brands, by id.
    pub brands: BTreeMap<String, Brand>,
    /// Brand of a subscriber whose address is in no brand's domain.
    pub default_brand: String,
    /// Rows of an import that are worked on at once.
    pub import_concurrency: usize,
    /// Devices with a push token that a subscriber may have; one more removes the oldest.
    pub max_devices: usize,
    /// Take subscriptions with `http:` endpoints, which push sends to only if it may, too
    /// (`push.allow_http_endpoints`). For tests on one machine only.
    pub allow_http_endpoints: bool,
    /// After how many milliseconds a change that has not come to its end is driven on again.
    pub resume_ms: u64,
}

/// What a plan includes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// "pc", "mobile", "portal", "media", "sms", ...
    pub entitlements: Vec<String>,
}

/// How an operator and provider pair dresses the service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brand {
    /// Name to show.
    pub name: String,
    /// Domain of its subscribers' addresses; empty: any.
    pub domain: String,
    /// Where people find help.
    pub support_url: String,
}

impl Default for Config {
    fn default() -> Self {
        let standard = Plan {
            entitlements: ["pc", "mobile", "portal"].map(str::to_owned).into(),
        };
        let tandem = Brand {
            name: "Tandem".to_owned(),
            ..Brand::default()
        };
        Self {
            create_on_sign_in: false,
            partitions: 8,
            plans: BTreeMap::from([("standard".to_owned(), standard)]),
            default_plan: "standard".to_owned(),
            brands: BTreeMap::from([("tandem".to_owned(), tandem)]),
            default_brand: "tandem".to_owned(),
            import_concurrency: 64,
            max_devices: 32,
            allow_http_endpoints: false,
            resume_ms: 30_000,
        }
    }
}

impl Config {
    /// Says what is wrong, naming the key and the fix.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("partitions", self.partitions as usize),
            ("import_concurrency", self.import_concurrency),
            ("max_devices", self.max_devices),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(format!("accounts.{key} is 0: set it to at least 1"));
            }
        }
        if self.resume_ms < 100 {
            return Err("accounts.resume_ms is below 100: set it to 100 or more".to_owned());
        }
        if !self.plans.contains_key(&self.default_plan) {
            return Err(format!(
                "accounts.default_plan names `{}`, which accounts.plans does not have: add it there",
                self.default_plan
            ));
        }
        if !self.brands.contains_key(&self.default_brand) {
            return Err(format!(
                "accounts.default_brand names `{}`, which accounts.brands does not have: add it there",
                self.default_brand
            ));
        }
        Ok(())
    }

    /// Id of the brand of addresses in this domain.
    pub fn brand_of(&self, domain: &str) -> &str {
        let mut brands = self.brands.iter();
        brands
            .find(|(_, b)| b.domain == domain)
            .map_or(&self.default_brand, |(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_bad_value_is_refused_by_its_key() {
        let bad = Config {
            default_plan: "gold".into(),
            ..Config::default()
        };
        assert!(
            bad.validate()
                .unwrap_err()
                .contains("accounts.default_plan")
        );
        let bad = Config {
            partitions: 0,
            ..Config::default()
        };
        assert!(bad.validate().unwrap_err().contains("accounts.partitions"));
    }

    #[test]
    fn a_brand_is_found_by_its_domain() {
        let mut config = Config::default();
        let vega = Brand {
            domain: "vega.example".into(),
            ..Brand::default()
        };
        config.brands.insert("vega".into(), vega);
        assert_eq!(config.brand_of("vega.example"), "vega");
        assert_eq!(config.brand_of("other.example"), "tandem");
    }
}
