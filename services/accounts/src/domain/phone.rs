//! Phone numbers: whatever people write, in E.164 (ITU-T E.164, with the plus sign).

use phonelib::{ParseError, PhoneNumber};

/// Why a text is not a phone number, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a phone number ({reason}): write it with + and the country code, for example +44 7700 900123"
)]
pub struct PhoneError {
    reason: String,
}

/// Reads a number in any usual form: international with `+`, `00` or `tel:`, or a national one of
/// `country` (ISO 3166-1 alpha-2; empty: only international forms).
pub fn normalise(text: &str, country: &str) -> Result<String, PhoneError> {
    let refused = |e: ParseError| PhoneError {
        reason: e.to_string(),
    };
    if text.len() > 64 {
        return Err(PhoneError {
            reason: "longer than 64 characters".to_owned(),
        });
    }
    let number = if country.is_empty() {
        PhoneNumber::try_parse(text)
    } else {
        PhoneNumber::try_parse_with_country(text, country)
    };
    number.map(|n| n.e164().to_owned()).map_err(refused)
}

/// Whether this is the code of a country (ISO 3166-1 alpha-2, upper case).
pub fn is_country(code: &str) -> bool {
    code.len() == 2
        && code.bytes().all(|b| b.is_ascii_uppercase())
        && phonelib::country_by_code(code).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_usual_form_is_read() {
        for (text, country, e164) in [
            ("+44 7700 900123", "", "+447700900123"),
            ("0044 7700 900123", "", "+447700900123"),
            ("tel:+44-7700-900123", "", "+447700900123"),
            ("+44 (0) 7700 900123", "", "+447700900123"),
            ("07700 900123", "GB", "+447700900123"),
            ("(07700) 900-123", "GB", "+447700900123"),
            ("07700.900.123", "GB", "+447700900123"),
            ("+447700900123", "FR", "+447700900123"),
            ("06 12 34 56 78", "FR", "+33612345678"),
            ("0033612345678", "GB", "+33612345678"),
            ("612 34 56 78", "ES", "+34612345678"),
            ("+34 612 345 678", "FR", "+34612345678"),
            ("(202) 555-0173", "US", "+12025550173"),
            ("1-202-555-0173", "US", "+12025550173"),
            ("8 912 345-67-89", "RU", "+79123456789"),
            ("06 1 234 5678", "HU", "+3612345678"),
            ("010 44 7700 900123", "JP", "+447700900123"),
            ("0151 23456789", "DE", "+4915123456789"),
            ("\u{ff0b}44 7700 900123", "", "+447700900123"),
            ("  +44\u{a0}7700\u{a0}900123 ", "", "+447700900123"),
        ] {
            assert_eq!(
                normalise(text, country).as_deref(),
                Ok(e164),
                "{text:?} read in {country:?}"
            );
        }
    }

    #[test]
    fn what_is_not_a_number_is_refused_with_what_to_write() {
        for (text, country) in [
            ("", "GB"),
            ("alice", "GB"),
            ("12", "GB"),
            ("07700 900123", ""),
            ("+999 123456", ""),
            ("+44 7700 9001234567", ""),
            ("07700 900123", "ZZ"),
            (&"1".repeat(65), "GB"),
        ] {
            let refused = normalise(text, country).unwrap_err().to_string();
            assert!(refused.contains("+44 7700 900123"), "{refused}");
        }
    }

    #[test]
    fn a_normal_form_stays_as_it_is() {
        for country in ["", "GB", "US", "JP"] {
            assert_eq!(
                normalise("+447700900123", country).as_deref(),
                Ok("+447700900123")
            );
        }
    }
}
